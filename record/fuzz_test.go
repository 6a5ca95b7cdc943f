package record

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzBatch feeds arbitrary bytes to the readers, once as they are and once with the CRC made right, so that the
// checks behind it are reached: no panic, and what Validate(Strict) accepts can be walked and rebuilt.
func FuzzBatch(f *testing.F) {
	for _, codec := range allCodecs {
		f.Add([]byte(good(codec)))
	}
	f.Add(AppendEndTxnMarker(nil, EndTxnMarker{ProducerID: 1, ProducerEpoch: 1}))
	files, _ := filepath.Glob("testdata/*.batch")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	const limit = 1 << 18
	f.Fuzz(func(t *testing.T, data []byte) {
		for range 8 {
			b, rest, err := Next(data)
			if err != nil || b == nil {
				return
			}
			_ = b.Validate(ValidateOptions{})
			b = bytes.Clone(b)
			b.SetCRC()
			for _, internal := range []bool{false, true} {
				err := b.Validate(ValidateOptions{Strict: true, Internal: internal, DecompressedBytesMax: limit})
				it := b.Records(nil, limit)
				n := int32(0)
				for ; it.Next(); n++ {
					if r := it.Record(); err == nil && (r.OffsetDelta < 0 || r.OffsetDelta > b.LastOffsetDelta()) {
						t.Fatalf("offset delta %d of %d accepted", r.OffsetDelta, b.LastOffsetDelta())
					}
				}
				if err == nil && (it.Err() != nil || n != b.RecordCount()) {
					t.Fatalf("valid, but the walk ends after %d of %d records: %v", n, b.RecordCount(), it.Err())
				}
			}
			data = rest
		}
	})
}
