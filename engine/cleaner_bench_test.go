package engine

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// BenchmarkCleaning is one pass over 32 MiB of 1 KiB records with 10,000 keys, in memory: bytes read per second.
func BenchmarkCleaning(b *testing.B) {
	for _, codec := range []compression.Codec{compression.None, compression.Lz4, compression.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			base := vfs.NewMem(vfs.MemOptions{})
			l := newFakeLog(b, base)
			l.cfg.SegmentBytes = 8 << 20
			r := testkit.Rand(1)
			builder := record.NewBuilder(codec)
			value := testkit.Bytes(r, 512)
			value = append(value, make([]byte, 512)...) // compresses to about half
			for raw := 0; raw < 32<<20; raw += 16 << 10 {
				builder.Reset()
				builder.SetBaseOffset(l.end)
				for range 16 {
					builder.Append(1, fmt.Appendf(nil, "key-%d", r.IntN(10_000)), value)
				}
				if len(l.segs) > 0 && l.segs[len(l.segs)-1].size.Load() > 8<<20 {
					l.must(l.Roll())
				}
				l.append(builder.Finish(nil))
			}
			l.must(l.Roll())
			l.must(base.SyncDir("p"))
			b.SetBytes(32 << 20)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				clone := reopenFake(b, base.CrashClone(1, vfs.CrashKeepAll), l)
				c := clone.cleaner(testClock())
				b.StartTimer()
				if clone.cleanAll(c) != 1 {
					b.Fatal("not cleaned")
				}
			}
		})
	}
}

// BenchmarkOffsetMap puts and gets keys of 20 bytes.
func BenchmarkOffsetMap(b *testing.B) {
	m := newOffsetMap(1<<20, 1<<30)
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%016d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key := keys[i%len(keys)]
		m.put(key, int64(i))
		if m.get(key) != int64(i) {
			b.Fatal("lost")
		}
	}
}
