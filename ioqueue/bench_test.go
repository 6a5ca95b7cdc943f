package ioqueue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
// same number of producers and files, which is what the disk can do.
func BenchmarkGroupCommit(b *testing.B) {
	for _, c := range []struct {
		partitions, producers int
		noCompany             bool
	}{
		{1, 1, false}, {1, 8, true}, {1, 8, false}, {1, 32, true}, {1, 32, false}, {1, 128, false},
		{8, 32, true}, {8, 32, false}, {8, 128, false}, {64, 128, false}, {64, 512, false},
	} {
		name := fmt.Sprintf("partitions=%d/producers=%d/company=%v", c.partitions, c.producers, !c.noCompany)
		b.Run(name, func(b *testing.B) {
			opts := Options{Dir: b.TempDir(), NoCompany: c.noCompany}
			s := NewScheduler(opts)
			defer s.Close()
			logs := make([]*benchLog, c.partitions)
			for i := range logs {
				logs[i] = newBenchLog(b, s, filepath.Join(opts.Dir, fmt.Sprint(i)), StreamOptions{})
				defer logs[i].file.Close()
				defer logs[i].stream.Close()
			}
			latency := runProducers(b, logs, c.producers, true)
			stats := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(stats.Appends)/float64(max(stats.Syncs, 1)), "appends/fsync")
			b.ReportMetric(stats.Latency.Quantile(0.5)*1e6, "fsync-p50-us")
			b.ReportMetric(stats.Latency.Quantile(0.99)*1e6, "fsync-p99-us")
			b.ReportMetric(float64(quantile(latency, 0.99).Microseconds()), "append-p99-us")
		})
	}
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

// runProducers returns how long each append took.
func runProducers(b *testing.B, logs []*benchLog, producers int, wait bool) (latency []time.Duration) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	var mu sync.Mutex
	b.ResetTimer()
	for i := range producers {
		wg.Go(func() {
			p := make([]byte, 1024)
			ch := make(chan struct{}, 1)
			l := logs[i%len(logs)]
			var mine []time.Duration
			for left.Add(-1) >= 0 {
				start := time.Now()
				l.append(b, p, ch, wait)
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			latency = append(latency, mine...)
		})
	}
	wg.Wait()
	b.StopTimer()
	return latency
}

// BenchmarkDiskBound writes n appends of 1 KiB, one call each, spread over
// files, and makes them durable in the cheapest way, in a loop: the most that
// group commit of n waiting producers can reach.
func BenchmarkDiskBound(b *testing.B) {
	for _, c := range []struct{ files, appends int }{{1, 1}, {1, 8}, {1, 32}, {1, 128}, {8, 32}, {8, 128}, {64, 128}, {64, 512}} {
		for _, how := range []syncMethod{{"single", 1}, {"single", 8}, {"syncfs", 1}} {
			if c.files == 1 && how != (syncMethod{"single", 1}) {
				continue
			}
			b.Run(fmt.Sprintf("files=%d/appends=%d/%s", c.files, c.appends, how), func(b *testing.B) {
				d := newDirtyFiles(b, c.files)
				var took []time.Duration
				b.ResetTimer()
				for i := 0; i < b.N; i += c.appends {
					d.write(c.appends, 1024)
					start := time.Now()
					d.sync(how)
					took = append(took, time.Since(start))
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				b.ReportMetric(float64(quantile(took, 0.99).Microseconds()), "sync-p99-us")
			})
		}
	}
}

// BenchmarkSyncMany compares ways to make 1 to 1000 files durable, each with 4 KiB more: single fdatasyncs, a few in parallel, and one
// sync of the whole file system. The ways take turns, so that a noisy host is
// noisy for all. With others=1 another program streams to the same file system meanwhile.
func BenchmarkSyncMany(b *testing.B) {
	ways := []syncMethod{{"single", 1}, {"single", 2}, {"single", 4}, {"single", 8}, {"syncfs", 1}}
	for _, c := range []struct{ files, others int }{{1, 0}, {4, 0}, {16, 0}, {64, 0}, {256, 0}, {1000, 0}, {4, 1}, {16, 1}, {64, 1}, {256, 1}} {
		files := c.files
		b.Run(fmt.Sprintf("files=%d/others=%d", files, c.others), func(b *testing.B) {
			if c.others > 0 {
				defer streamMeanwhile(b)()
			}
			d := newDirtyFiles(b, files)
			took := make([][]time.Duration, len(ways))
			b.ResetTimer()
			for range b.N {
				for w, way := range ways {
					d.write(files, 4096)
					start := time.Now()
					d.sync(way)
					took[w] = append(took[w], time.Since(start))
				}
			}
			for w, way := range ways {
				b.ReportMetric(float64(quantile(took[w], 0.5).Microseconds()), way.String()+"-p50-us")
				b.ReportMetric(float64(quantile(took[w], 0.99).Microseconds()), way.String()+"-p99-us")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// streamMeanwhile writes 256 KiB to a file of its own every millisecond, in turns of 256 MiB, until the function that it returns is called.
func streamMeanwhile(b *testing.B) (stop func()) {
	f, err := vfs.OS().Create(filepath.Join(b.TempDir(), "other"))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer f.Close()
		p := make([]byte, 256<<10)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for pos := int64(0); ; pos = (pos + int64(len(p))) % (256 << 20) {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if _, err := f.WriteAt(p, pos); err != nil {
				b.Error(err)
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// syncMethod is a way to sync many files.
type syncMethod struct {
	kind     string // single or syncfs
	parallel int
}

func (m syncMethod) String() string {
	if m.kind == "syncfs" {
		return m.kind
	}
	return fmt.Sprintf("%s-%d", m.kind, m.parallel)
}

type dirtyFiles struct {
	b     *testing.B
	files []vfs.File
	pos   []int64
	dir   *os.File
	next  int
}

func newDirtyFiles(b *testing.B, n int) *dirtyFiles {
	dir := b.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = root.Close() })
	d := &dirtyFiles{b: b, pos: make([]int64, n), dir: root}
	for i := range n {
		f, err := vfs.OS().Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		d.files = append(d.files, f)
	}
	return d
}

// write appends size bytes n times, to one file after the other.
func (d *dirtyFiles) write(n, size int) {
	p := make([]byte, size)
	for range n {
		i := d.next % len(d.files)
		d.next++
		if _, err := d.files[i].WriteAt(p, d.pos[i]); err != nil {
			d.b.Fatal(err)
		}
		d.pos[i] += int64(size)
	}
}

func (d *dirtyFiles) sync(how syncMethod) {
	if how.kind == "syncfs" {
		if err := unix.Syncfs(int(d.dir.Fd())); err != nil {
			d.b.Fatal(err)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range min(how.parallel, len(d.files)) {
		wg.Go(func() {
			for i := w; i < len(d.files); i += how.parallel {
				if err := d.files[i].Datasync(); err != nil {
					d.b.Error(err)
				}
			}
		})
	}
	wg.Wait()
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
