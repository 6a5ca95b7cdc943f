package engine

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func benchStore(b *testing.B) *Store {
	o := testStoreOptions(vfs.OS())
	o.Dirs = []string{b.TempDir()}
	return openTestStore(b, o)
}

// BenchmarkAppend appends batches of one size from one goroutine; under commit nobody waits for the fsync.
func BenchmarkAppend(b *testing.B) {
	for _, policy := range []ioqueue.Policy{ioqueue.PolicyNever, ioqueue.PolicyInterval, ioqueue.PolicyCommit} {
		for _, size := range []int{200, 4 << 10, 64 << 10, 512 << 10} {
			b.Run(fmt.Sprintf("%s/%d", policy, size), func(b *testing.B) {
				s := benchStore(b)
				defer s.crash()
				l := createTestLog(b, s, testTP, LogConfig{Fsync: policy, SegmentBytes: 256 << 20, RetentionBytes: 512 << 20, FileDeleteDelayMs: -1})
				batch := testBatch(1, size, 1)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					record.Batch(batch).SetBaseOffset(0)
					mustAppend(b, l, batch)
					if l.Size() > 1<<30 {
						b.StopTimer()
						s.RunRetention()
						b.StartTimer()
					}
				}
			})
		}
	}
}

// BenchmarkAppendAcked waits for each append's durability, from many goroutines: group commit.
func BenchmarkAppendAcked(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(producers), func(b *testing.B) {
			s := benchStore(b)
			defer s.crash()
			l := createTestLog(b, s, testTP, LogConfig{})
			b.SetParallelism(producers)
			b.RunParallel(func(pb *testing.PB) {
				batch := testBatch(1, 500, 1)
				done := make(chan error, 1)
				for pb.Next() {
					record.Batch(batch).SetBaseOffset(0)
					res := mustAppend(b, l, batch)
					w := Waiter{Offset: res.EndOffset, Wake: func(err error) { done <- err }}
					if l.Watch(&w) {
						if err := <-done; err != nil {
							b.Error(err)
						}
					}
				}
			})
			st := s.DirStats()[0].Queue
			b.ReportMetric(float64(b.N)/float64(max(st.Syncs, 1)), "appends/fsync")
		})
	}
}

// BenchmarkRead finds spans: at the tail, and at random offsets of sealed segments.
func BenchmarkRead(b *testing.B) {
	s := benchStore(b)
	defer s.crash()
	l := createTestLog(b, s, testTP, LogConfig{Fsync: ioqueue.PolicyNever, SegmentBytes: 16 << 20})
	batch := testBatch(10, 100, 1)
	for range 40_000 {
		record.Batch(batch).SetBaseOffset(0)
		mustAppend(b, l, batch)
	}
	end := l.Offsets().LogEnd
	read := func(b *testing.B, offset int64) {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true})
		if err != nil {
			b.Fatal(err)
		}
		res.Release()
	}
	b.Run("tail", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			read(b, end-10)
		}
	})
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		for i := int64(0); b.Loop(); i++ {
			read(b, i*7919%end)
		}
	})
}

// BenchmarkStart opens a store of 10,000 partitions after a clean stop and after a kill, and reports the memory of an idle partition.
func BenchmarkStart(b *testing.B) {
	const partitions = 10_000
	o := testStoreOptions(vfs.OS())
	o.Dirs = []string{b.TempDir()}
	s := openTestStore(b, o)
	for i := range int32(partitions) {
		l := createTestLog(b, s, TopicPartition{"t", i}, LogConfig{Fsync: ioqueue.PolicyNever})
		mustAppend(b, l, testBatch(1, 100, 1))
	}
	closeTestStore(b, s)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	b.Run("clean", func(b *testing.B) {
		before := heap()
		for b.Loop() {
			s := openTestStore(b, o)
			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/partitions, "B/partition")
			closeTestStore(b, s)
			b.StartTimer()
		}
	})
	b.Run("unclean", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			if err := removeCleanShutdown(o.FS, o.Dirs[0]); err != nil {
				b.Fatal(err)
			}
			before := heap()
			b.StartTimer()
			s := openTestStore(b, o)
			b.StopTimer()
			b.ReportMetric(float64(heap()-before)/partitions, "B/partition")
			closeTestStore(b, s)
			b.StartTimer()
		}
	})
}

// BenchmarkTailRead is a consumer that follows the log: an append, and the read of it from where the last read ended.
func BenchmarkTailRead(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := benchStore(b)
			defer s.crash()
			l := createTestLog(b, s, testTP, LogConfig{Fsync: ioqueue.PolicyNever, SegmentBytes: 256 << 20, RetentionBytes: 512 << 20, FileDeleteDelayMs: -1})
			batch := testBatch(1, size, 1)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for at := int64(0); b.Loop(); {
				record.Batch(batch).SetBaseOffset(0)
				mustAppend(b, l, batch)
				res, err := l.Read(at, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true})
				if err != nil || res.Bytes != int64(len(batch)) {
					b.Fatalf("read at %d: got %d bytes and %v, want %d", at, res.Bytes, err, len(batch))
				}
				at = res.NextOffset
				res.Release()
				if l.Size() > 1<<30 {
					b.StopTimer()
					s.RunRetention()
					b.StartTimer()
				}
			}
		})
	}
}
