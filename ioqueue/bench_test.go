package ioqueue

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// benchLog is the least a log does: writes under a lock, waits for durable.
type benchLog struct {
	stream *Stream
	file   vfs.File

	mu      sync.Mutex
	pos     int64
	waiters []benchWaiter // ascending by end
}

type benchWaiter struct {
	end int64
	ch  chan struct{}
}

func newBenchLog(b *testing.B, s *Scheduler, name string, opts StreamOptions) *benchLog {
	f, err := vfs.OS().Create(name)
	if err != nil {
		b.Fatal(err)
	}
	l := &benchLog{file: f}
	opts.OnDurable = l.onDurable
	l.stream = s.NewStream(opts)
	l.stream.SetFile(f)
	return l
}

func (l *benchLog) onDurable(end int64) {
	l.mu.Lock()
	n := 0
	for n < len(l.waiters) && l.waiters[n].end <= end {
		n++
	}
	ready := l.waiters[:n:n]
	l.waiters = append([]benchWaiter(nil), l.waiters[n:]...)
	l.mu.Unlock()
	for _, w := range ready {
		w.ch <- struct{}{}
	}
}

// append writes p and, with wait, returns when it is durable.
func (l *benchLog) append(b *testing.B, p []byte, ch chan struct{}, wait bool) {
	l.mu.Lock()
	if _, err := l.file.WriteAt(p, l.pos); err != nil {
		b.Error(err)
	}
	end := l.pos + int64(len(p))
	if wait {
		l.waiters = append(l.waiters, benchWaiter{end, ch})
	}
	l.stream.Written(l.file, l.pos, len(p), end)
	l.pos = end
	l.mu.Unlock()
	if wait {
		<-ch
	}
}

// BenchmarkGroupCommit has producers that send 1 KiB, wait until it is
// durable and send again. Compare appends/s with BenchmarkDiskBound at the
// same number of producers, which is what the disk can do.
func BenchmarkGroupCommit(b *testing.B) {
	for _, c := range []struct {
		partitions, producers int
		noCompany             bool
	}{
		{1, 1, false}, {1, 8, true}, {1, 8, false}, {1, 32, true}, {1, 32, false},
		{1, 128, false}, {8, 32, true}, {8, 32, false}, {8, 128, false}, {64, 128, false},
	} {
		name := fmt.Sprintf("partitions=%d/producers=%d/company=%v", c.partitions, c.producers, !c.noCompany)
		b.Run(name, func(b *testing.B) {
			s := NewScheduler(Options{Dir: b.TempDir(), NoCompany: c.noCompany})
			defer s.Close()
			logs := make([]*benchLog, c.partitions)
			for i := range logs {
				logs[i] = newBenchLog(b, s, filepath.Join(b.TempDir(), fmt.Sprint(i)), StreamOptions{})
				defer logs[i].file.Close()
				defer logs[i].stream.Close()
			}
			runProducers(b, logs, c.producers, true)
			stats := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(stats.Appends)/float64(max(stats.Groups, 1)), "appends/group")
			b.ReportMetric(stats.Latency.Quantile(0.5)*1e6, "fsync-p50-us")
			b.ReportMetric(stats.Latency.Sum/float64(max(stats.Latency.Count, 1))*1e6, "fsync-mean-us")
		})
	}
}

func runProducers(b *testing.B, logs []*benchLog, producers int, wait bool) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range producers {
		wg.Go(func() {
			p := make([]byte, 1024)
			ch := make(chan struct{}, 1)
			l := logs[i%len(logs)]
			for left.Add(-1) >= 0 {
				l.append(b, p, ch, wait)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// BenchmarkDiskBound writes n appends of 1 KiB, one call each, and fsyncs, in
// a loop: the most that group commit of n waiting producers can reach.
func BenchmarkDiskBound(b *testing.B) {
	for _, n := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("appends=%d", n), func(b *testing.B) {
			f, err := vfs.OS().Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, 1024)
			var pos int64
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				for range n {
					if _, err := f.WriteAt(p, pos); err != nil {
						b.Fatal(err)
					}
					pos += int64(len(p))
				}
				if err := f.Datasync(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkWritten is the cost of a Written call to the appender, without a
// disk.
func BenchmarkWritten(b *testing.B) {
	for _, policy := range []Policy{PolicyInterval, PolicyNever} {
		b.Run(policy.String(), func(b *testing.B) {
			s := NewScheduler(Options{WriteBackBytes: -1})
			defer s.Close()
			f, err := vfs.NewMem(vfs.MemOptions{}).Create("f")
			if err != nil {
				b.Fatal(err)
			}
			st := s.NewStream(StreamOptions{Policy: policy})
			defer st.Close()
			b.ReportAllocs()
			for i := range b.N {
				st.Written(f, int64(i), 1, int64(i+1))
			}
		})
	}
}
