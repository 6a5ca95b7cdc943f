package record

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/compression"
)

// benchSizes are record value sizes and counts of about 100 KiB each.
var benchSizes = []struct{ value, count int }{{10, 4000}, {100, 1000}, {1000, 100}, {100_000, 1}}

// benchBatch returns a batch of count records.
func benchBatch(codec compression.Codec, valueBytes, count int) Batch {
	b := NewBuilder(codec)
	value := make([]byte, valueBytes)
	for i := range value {
		value[i] = byte(i * 7)
	}
	for range count {
		b.Append(1_700_000_000_000, nil, value)
	}
	return b.Finish(nil)
}

func BenchmarkValidate(b *testing.B) {
	for _, strict := range []bool{false, true} {
		for _, s := range benchSizes {
			b.Run(fmt.Sprintf("strict=%t/%dx%d", strict, s.count, s.value), func(b *testing.B) {
				batch := benchBatch(compression.None, s.value, s.count)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					if err := batch.Validate(ValidateOptions{Strict: strict}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkIterate(b *testing.B) {
	for _, codec := range allCodecs {
		b.Run(codec.String(), func(b *testing.B) {
			batch := benchBatch(codec, 100, 1000)
			var buf []byte
			b.SetBytes(100 * 1000)
			b.ReportAllocs()
			for b.Loop() {
				it := batch.Records(buf, 0)
				for it.Next() {
				}
				buf = it.Buffer()
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(fmt.Sprintf("%dx%d", s.count, s.value), func(b *testing.B) {
			builder := NewBuilder()
			value := make([]byte, s.value)
			var dst []byte
			b.SetBytes(int64(s.value * s.count))
			b.ReportAllocs()
			for b.Loop() {
				for range s.count {
					builder.Append(1_700_000_000_000, nil, value)
				}
				dst = builder.Finish(dst[:0])
			}
		})
	}
}

func BenchmarkStamp(b *testing.B) {
	batch := benchBatch(compression.None, 100, 100)
	for b.Loop() {
		batch.SetBaseOffset(12345)
		batch.SetPartitionLeaderEpoch(7)
	}
}
