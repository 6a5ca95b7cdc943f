package ioqueue

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// wholeRig is a scheduler with whole syncs, and a number of logs.
func wholeRig(t *testing.T, min, logs int) (*rig, []*testLog) {
	r := &rig{t: t, clock: clock.NewFake(time.Unix(1000, 0))}
	r.mem = vfs.NewMem(vfs.MemOptions{Clock: r.clock})
	r.fs = vfs.NewErrorFS(r.mem, vfs.ErrorFSOptions{Clock: r.clock})
	r.s = NewScheduler(Options{Dir: "d", Clock: r.clock, Whole: wholeOf(t, r.fs), WholeMin: min})
	t.Cleanup(r.s.Close)
	out := make([]*testLog, logs)
	for i := range out {
		out[i] = newTestLog(t, r.s, dirFS{r.fs, fmt.Sprint(i)}, StreamOptions{})
		t.Cleanup(out[i].stream.Close)
	}
	return r, out
}

// dirFS gives each log files of its own.
type dirFS struct {
	vfs.FS
	prefix string
}

func (d dirFS) Create(name string) (vfs.File, error) { return d.FS.Create(d.prefix + name) }

// TestManyDueStreamsShareOneSync: while single fsyncs hold the workers, the streams that come due gather, and one sync of the whole
// file system answers them.
func TestManyDueStreamsShareOneSync(t *testing.T) {
	r, logs := wholeRig(t, 12, 30)
	entered, release := r.gate()
	for range soloParallelMax {
		logs[0].append(1) // only to have something dirty; each log is one stream
		logs = append(logs[1:], logs[0])
	}
	// Below the minimum: single fsyncs.
	for range soloParallelMax {
		testkit.Receive(t, "single fsync", entered)
	}
	if n := r.fs.Count(vfs.OpSyncFS); n != 0 {
		t.Fatalf("%d whole syncs for %d streams", n, soloParallelMax)
	}
	wholes, goOn := make(chan struct{}, 10), make(chan struct{})
	r.fs.Add(vfs.Rule{Ops: vfs.OpSyncFS, Hook: func(vfs.Op, string) { wholes <- struct{}{}; <-goOn }})
	for _, l := range logs[:22] {
		l.append(1)
	}
	testkit.Eventually(t, "all are in the queue or in the sync", func() bool { st := r.s.Stats(); return st.Queued+st.Running == 30 })
	probing := testkit.Receive(t, "probe", entered) // the first whole sync is compared with a single fsync
	close(release)
	testkit.Receive(t, "whole sync", wholes)
	close(goOn)
	for _, l := range logs {
		l.waitDurable(1)
	}
	st := r.s.Stats()
	if st.WholeSyncs < 1 || st.Syncs > soloParallelMax+1+4 {
		t.Fatalf("%d syncs for 30 streams, %d of them whole (probe %s)", st.Syncs, st.WholeSyncs, probing)
	}
}

// ownFile has more to do than an fsync, until its own Datasync has run once.
type ownFile struct {
	vfs.File
	named  atomic.Bool
	willed atomic.Int64
}

func (f *ownFile) NeedsOwnSync() bool { return !f.named.Load() }
func (f *ownFile) WillSync()          { f.willed.Add(1) }
func (f *ownFile) Datasync() error {
	if err := f.File.Datasync(); err != nil {
		return err
	}
	f.named.Store(true)
	return nil
}

// TestFilesThatNeedTheirOwnSync: a whole sync never stands for one, and whatever follows such a file waits for it.
func TestFilesThatNeedTheirOwnSync(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := NewScheduler(Options{Dir: "d", Whole: wholeOf(t, mem), WholeMin: 1})
	defer s.Close()
	st := s.NewStream(StreamOptions{})
	defer st.Close()
	write := func(f *ownFile, end int64) {
		if _, err := f.WriteAt([]byte{1}, end); err != nil {
			t.Fatal(err)
		}
		st.Written(f, end, 1, end+1)
		testkit.Eventually(t, "durable", func() bool { return st.Durable() == end+1 })
	}
	a, b := &ownFile{File: create(t, mem, "a")}, &ownFile{File: create(t, mem, "b")}
	write(a, 0)
	if n := s.Stats().WholeSyncs; n != 0 || !a.named.Load() {
		t.Fatalf("%d whole syncs, own sync %t: want the file's own", n, a.named.Load())
	}
	write(a, 1)
	if n := s.Stats().WholeSyncs; n != 1 || a.willed.Load() != 1 {
		t.Fatalf("%d whole syncs, told the file %d times, want 1 and 1", n, a.willed.Load())
	}
	write(b, 2) // a roll
	if n := s.Stats().WholeSyncs; !b.named.Load() {
		t.Fatalf("the new file's own sync did not run, %d whole syncs", n)
	}
}

// TestOwnSyncAfterTheQueue: a file that a roll brings while its stream is in the queue is left out of the snapshot.
func TestOwnSyncAfterTheQueue(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := NewScheduler(Options{Dir: "d"})
	defer s.Close()
	st := s.NewStream(StreamOptions{Policy: PolicyInterval})
	defer st.Close()
	a, b := create(t, mem, "a"), &ownFile{File: create(t, mem, "b")}
	st.Written(a, 0, 1, 1)
	st.mu.Lock()
	st.mu.state, st.mu.force = queued, true
	st.mu.Unlock()
	st.Written(b, 0, 1, 2)
	m := st.joinWhole()
	if len(m.shots) != 1 || m.shots[0].end != 1 || len(m.rest) != 1 || m.rest[0].file != vfs.File(b) {
		t.Fatalf("%d snapshots and %d files left, want 1 up to offset 1, and 1", len(m.shots), len(m.rest))
	}
	m.st.endSync(&m.g, &m.shots[0], nil)
	st.finishGroup(&m.g, time.Now(), nil)
}

// TestWholeSyncErrorIsFinal: one error for all, and no second try.
func TestWholeSyncErrorIsFinal(t *testing.T) {
	r, logs := wholeRig(t, 1, 5)
	r.fs.Add(vfs.Rule{Ops: vfs.OpSyncFS, Err: syscall.EIO, Count: 1})
	for _, l := range logs {
		l.append(1)
	}
	testkit.Eventually(t, "offline", func() bool { return r.s.Err() != nil })
	for i, l := range logs {
		if err := l.stream.SyncNow(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("log %d: %v, want EIO", i, err)
		}
		if d := l.stream.Durable(); d != 0 {
			t.Fatalf("log %d: durable %d after a failed sync", i, d)
		}
	}
	if n := r.fs.Count(vfs.OpSyncFS); n != 1 {
		t.Fatalf("%d whole syncs tried, want 1", n)
	}
	if err := r.s.Share(func() error { return nil }); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
}

// TestShare: callers at the same time share a whole sync that began after they came; its error reaches all and is final.
func TestShare(t *testing.T) {
	r, _ := wholeRig(t, 12, 0)
	hold, singles := make(chan struct{}), make(chan struct{}, 100)
	var wg sync.WaitGroup
	var failed atomic.Int64
	call := func() {
		wg.Go(func() {
			if r.s.Share(func() error { singles <- struct{}{}; <-hold; return nil }) != nil {
				failed.Add(1)
			}
		})
	}
	for range shareSingleMax {
		call()
		testkit.Receive(t, "single", singles)
	}
	wholes, goOn := make(chan struct{}, 100), make(chan struct{})
	remove := r.fs.Add(vfs.Rule{Ops: vfs.OpSyncFS, Hook: func(vfs.Op, string) { wholes <- struct{}{}; <-goOn }})
	call()
	testkit.Receive(t, "whole sync", wholes)
	// These come while it runs, so it does not count for them: the next one does, for all.
	for range 20 {
		call()
	}
	testkit.Eventually(t, "all wait", func() bool {
		r.s.whole.mu.Lock()
		defer r.s.whole.mu.Unlock()
		return r.s.whole.mu.turn != nil && r.s.whole.mu.turn.n == 20
	})
	goOn <- struct{}{}
	testkit.Receive(t, "second whole sync", wholes)
	goOn <- struct{}{}
	close(hold)
	wg.Wait()
	remove()
	if n, m := failed.Load(), r.fs.Count(vfs.OpSyncFS); n != 0 || m != 2 || len(singles) != 0 {
		t.Fatalf("%d failed, %d whole syncs, %d more single ones; want 0, 2, 0", n, m, len(singles))
	}
}

// TestShareError: a failed whole sync takes the directory offline, whoever asked for it.
func TestShareError(t *testing.T) {
	r, _ := wholeRig(t, 1, 0)
	r.fs.Add(vfs.Rule{Ops: vfs.OpSyncFS, Err: syscall.EIO})
	if err := r.s.Share(func() error { t.Error("single"); return nil }); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	if !errors.Is(r.s.Err(), syscall.EIO) {
		t.Fatalf("the directory is not offline: %v", r.s.Err())
	}
	// Never again: the kernel has told of the error once.
	if err := r.s.Share(func() error { return nil }); !errors.Is(err, syscall.EIO) {
		t.Fatalf("second call: got %v, want EIO", err)
	}
	if err := r.s.syncWhole(func() {}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("one that waited for the failed one: got %v, want EIO", err)
	}
	if n := r.fs.Count(vfs.OpSyncFS); n != 1 {
		t.Fatalf("%d whole syncs, want 1", n)
	}
}

// TestSlowWholeSyncsRest: they are left out for a while when they cost more than single ones, longer each time, unless the directory is
// being closed.
func TestSlowWholeSyncsRest(t *testing.T) {
	r, _ := wholeRig(t, 12, 0)
	s := r.s
	slow := func() time.Duration {
		s.whole.mu.cost = time.Millisecond
		for range 100 {
			s.judge(10, 50*time.Millisecond)
			if !s.wholeUsable() {
				return s.whole.mu.until.Sub(r.clock.Now())
			}
		}
		t.Fatal("five times the cost is not too slow")
		return 0
	}
	s.whole.mu.cost = time.Millisecond
	for range 100 {
		s.judge(10, 9*time.Millisecond)
	}
	s.judge(10, time.Second)
	if !s.wholeUsable() {
		t.Fatal("one that met a burst counts for too much")
	}
	first := slow()
	r.clock.Advance(first)
	if !s.wholeUsable() {
		t.Fatal("not tried again")
	}
	if second := slow(); second != 2*first {
		t.Fatalf("second rest %v, want twice the first, %v", second, first)
	}
	s.Drain()
	if !s.wholeUsable() {
		t.Fatal("not used at the close")
	}
	s.count.unsynced.Store(1 << 40)
	if !s.wholeUsable() {
		t.Fatal("not used at the close, with much to write")
	}
	s.whole.mu.draining, s.whole.mu.until = false, time.Time{}
	if s.wholeUsable() {
		t.Fatal("used with much to write")
	}
	s.count.unsynced.Store(0)
}
