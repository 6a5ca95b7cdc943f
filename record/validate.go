package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirmq/weir/compression"
)

// recordBytesMin is the size of the smallest record: seven one-byte fields.
const recordBytesMin = 7

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
	// Times, if not nil, is set to the range of the records' timestamps when the records are checked and good. Default: nil.
	Times *TimestampRange
}

// TimestampRange is the smallest and the largest timestamp of a batch's records, in ms; both NoTimestamp for no record.
type TimestampRange struct {
	MinMs, MaxMs int64
}

// add widens the range by one timestamp, the first one when first is set.
func (r *TimestampRange) add(timestampMs int64, first bool) {
	if first {
		r.MinMs, r.MaxMs = timestampMs, timestampMs
		return
	}
	r.MinMs, r.MaxMs = min(r.MinMs, timestampMs), max(r.MaxMs, timestampMs)
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
	size, err := PeekSize(b)
	if err != nil {
		return nil, b, err
	}
	if size > len(b) {
		return nil, b, fmt.Errorf("%w: batch of %d bytes, %d present", ErrTruncated, size, len(b))
	}
	return Batch(b[:size:size]), b[size:], nil
}

// PeekSize returns the size, in bytes, of the batch that starts at b, of which the first HeaderBytes suffice. It
// checks what Next checks of the header; b may be shorter than the batch.
func PeekSize(b []byte) (int, error) {
	if len(b) <= PosMagic {
		return 0, fmt.Errorf("%w: %d bytes, a header has %d", ErrTruncated, len(b), HeaderBytes)
	}
	length := int32(binary.BigEndian.Uint32(b[PosBatchLength:]))
	magic := b[PosMagic]
	switch {
	case length <= 0:
		return 0, fmt.Errorf("%w: length field %d", ErrCorrupt, length)
	case magic < Magic:
		return 0, fmt.Errorf("%w %d, want %d", ErrUnsupportedMagic, magic, Magic)
	case magic > Magic:
		return 0, fmt.Errorf("%w: magic %d, want %d", ErrCorrupt, magic, Magic)
	case length < HeaderBytes-OverheadBytes:
		return 0, fmt.Errorf("%w: length field %d, at least %d", ErrCorrupt, length, HeaderBytes-OverheadBytes)
	case len(b) < HeaderBytes:
		return 0, fmt.Errorf("%w: %d bytes, a header has %d", ErrTruncated, len(b), HeaderBytes)
	}
	return OverheadBytes + int(length), nil
}

// CheckCRC returns ErrCorrupt when the stored CRC is not that of the bytes.
func (b Batch) CheckCRC() error {
	if got, want := b.ComputeCRC(), b.CRC(); got != want {
		return fmt.Errorf("%w: CRC-32C %08x, header says %08x (base offset %d, %d bytes)", ErrCorrupt, got, want, b.BaseOffset(), len(b))
	}
	return nil
}

// Validate checks a batch that Next returned. It allocates nothing when the batch is good and Strict is off.
// Errors: ErrCorrupt, ErrTooLarge, ErrInvalid, ErrInvalidTimestamp, ErrUnsupportedMagic, ErrUnsupportedCodec; one
// that concerns a single record is a *RecordFault around these.
func (b Batch) Validate(opts ValidateOptions) error {
	size, err := PeekSize(b)
	if err != nil {
		return err
	}
	if size != len(b) {
		return fmt.Errorf("%w: length field says %d bytes, batch has %d", ErrCorrupt, size, len(b))
	}
	if opts.MaxBytes > 0 && size > opts.MaxBytes {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, size, opts.MaxBytes)
	}
	if !opts.SkipCRC {
		if err := b.CheckCRC(); err != nil {
			return err
		}
	}
	if err := b.checkAttributes(opts); err != nil {
		return err
	}
	if err := b.checkCounts(opts.Internal); err != nil {
		return err
	}
	if b.FirstTimestamp() < NoTimestamp || b.MaxTimestamp() < NoTimestamp {
		return fmt.Errorf("%w: base %d ms, max %d ms, at least %d", ErrInvalidTimestamp, b.FirstTimestamp(), b.MaxTimestamp(), NoTimestamp)
	}
	if err := b.checkProducer(opts.Internal); err != nil {
		return err
	}
	if opts.Strict || opts.KeyRequired {
		return b.checkRecords(opts)
	}
	return nil
}

// checkAttributes checks codec and flags.
func (b Batch) checkAttributes(opts ValidateOptions) error {
	codec := b.Codec()
	if !codec.Valid() {
		return fmt.Errorf("%w: codec bits %d", ErrUnsupportedCodec, int8(codec))
	}
	if codec == compression.Zstd && opts.ZstdForbidden {
		return fmt.Errorf("%w: zstd in a request of a version before 7", ErrUnsupportedCodec)
	}
	if opts.Internal {
		return nil
	}
	switch {
	case b.IsControl():
		return fmt.Errorf("%w: control batch from a client", ErrInvalid)
	case b.HasDeleteHorizon():
		return fmt.Errorf("%w: delete horizon from a client", ErrInvalid)
	case b.TimestampType() == LogAppendTime:
		return fmt.Errorf("%w: log append time from a client", ErrInvalidTimestamp)
	}
	return nil
}

// checkCounts checks base offset, record count and last offset delta against each other and the size.
func (b Batch) checkCounts(internal bool) error {
	count, delta := int64(b.RecordCount()), int64(b.LastOffsetDelta())
	payload := int64(len(b) - HeaderBytes)
	switch {
	case internal && (delta < 0 || count < 0 || count > delta+1 || b.BaseOffset() < 0):
		return fmt.Errorf("%w: record count %d, last offset delta %d, base offset %d", ErrInvalid, count, delta, b.BaseOffset())
	case !internal && b.BaseOffset() != 0:
		return fmt.Errorf("%w: base offset %d from a client, want 0", ErrInvalid, b.BaseOffset())
	case !internal && (count <= 0 || count != delta+1):
		return fmt.Errorf("%w: record count %d, last offset delta %d", ErrInvalid, count, delta)
	case b.Codec() == compression.None && count*recordBytesMin > payload:
		return fmt.Errorf("%w: record count %d in %d bytes", ErrInvalid, count, payload)
	case !internal && count*recordBytesMin > int64(DecompressedBytesMax(len(b))):
		// Offsets that nothing can be at would be given away.
		return fmt.Errorf("%w: record count %d in %d compressed bytes, of which at most %d are opened", ErrInvalid, count, payload, DecompressedBytesMax(len(b)))
	}
	return nil
}

// checkProducer checks producer id, epoch and sequence against each other. Without a producer id the other two do not
// matter: kafkajs sends zeros there.
func (b Batch) checkProducer(internal bool) error {
	id, epoch, seq := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	bad := false
	switch {
	case id < NoProducerID:
		bad = true
	case id == NoProducerID:
		bad = b.IsTransactional()
	case epoch < 0:
		bad = true
	case seq < 0:
		bad = !internal || seq < NoSequence
	}
	if bad {
		return fmt.Errorf("%w: producer id %d, epoch %d, base sequence %d, transactional %t", ErrInvalid, id, epoch, seq, b.IsTransactional())
	}
	return nil
}

// RecordFault says which record of a batch is at fault. Err is one of this package's errors.
type RecordFault struct {
	// Index counts the records of the batch from 0.
	Index int
	Err   error
}

// Error names the record and the fault.
func (f *RecordFault) Error() string { return fmt.Sprintf("record %d: %v", f.Index, f.Err) }

// Unwrap returns Err.
func (f *RecordFault) Unwrap() error { return f.Err }

// checkRecords opens the batch and walks its records. Offset deltas that rise from 0 or more to at most the last offset
// delta are consecutive in a client's batch, whose record count leaves no gap. What the iterator calls corrupt is the
// client's doing when the batch is a client's, since the CRC is right: ErrInvalid.
func (b Batch) checkRecords(opts ValidateOptions) error {
	if b.Codec() != compression.None {
		return b.checkCompressed(opts)
	}
	it := b.Records(nil, 0)
	return b.checkEach(&it, opts)
}

func (b Batch) checkCompressed(opts ValidateOptions) (err error) {
	b.Walk(opts.DecompressedBytesMax, func(it *Iterator) { err = b.checkEach(it, opts) })
	return err
}

func (b Batch) checkEach(it *Iterator, opts ValidateOptions) error {
	last := int32(-1)
	times := TimestampRange{NoTimestamp, NoTimestamp}
	for i := 0; it.Next(); i++ {
		r := it.Record()
		switch {
		case r.OffsetDelta <= last || r.OffsetDelta > b.LastOffsetDelta():
			err := fmt.Errorf("%w: offset delta %d after %d, last %d", ErrInvalid, r.OffsetDelta, last, b.LastOffsetDelta())
			return &RecordFault{i, err}
		case opts.KeyRequired && r.Key == nil && !b.IsControl():
			return &RecordFault{i, fmt.Errorf("%w: no key, which a compacted topic demands", ErrInvalid)}
		}
		last = r.OffsetDelta
		times.add(b.FirstTimestamp()+r.TimestampDelta, i == 0)
	}
	err := it.Err()
	if err == nil && opts.Times != nil {
		*opts.Times = times
	}
	if err != nil && !opts.Internal && errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %v", ErrInvalid, err) //nolint:errorlint // ErrCorrupt must not show through
	}
	return err
}
