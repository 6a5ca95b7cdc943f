package ioqueue

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

func TestFailedFsyncIsFinal(t *testing.T) {
	offline := make(chan error, 10)
	r := newRig(t, Options{OnOffline: func(err error) { offline <- err }})
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	other := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyNever})
	l.waitDurable(l.append(1))
	r.settle()
	r.fs.Add(vfs.Rule{Ops: vfs.OpSync, Count: 1, Err: syscall.EIO}) // the next one would succeed
	l.append(1)
	err := testkit.Receive(t, "offline", offline)
	if !errors.Is(err, syscall.EIO) || !errors.Is(r.s.Err(), syscall.EIO) {
		t.Fatalf("offline with %v, Err %v, want EIO in both", err, r.s.Err())
	}
	r.settle()
	syncs := r.fs.Count(vfs.OpSync)
	l.append(1)
	other.append(1)
	other.roll()
	l.stream.SetOptions(StreamOptions{Policy: PolicyInterval, Interval: time.Millisecond})
	r.clock.Advance(time.Hour)
	for _, log := range []*testLog{l, other} {
		if err := log.stream.SyncNow(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("SyncNow after the failure: %v, want EIO", err)
		}
	}
	r.settle()
	if n := r.fs.Count(vfs.OpSync); n != syncs {
		t.Fatalf("%d fsyncs after the failed one, want none", n-syncs)
	}
	if d := l.stream.Durable(); d != 1 {
		t.Fatalf("durable %d after the failure, want 1", d)
	}
	if _, reported, _ := l.snapshot(); len(reported) != 1 {
		t.Fatalf("OnDurable calls %v, want only the one before the failure", reported)
	}
	if len(offline) != 0 {
		t.Fatal("OnOffline called twice")
	}
	if st := r.s.Stats(); st.SyncErrors != 1 || st.Syncs != 1 {
		t.Fatalf("%d fsyncs failed and %d succeeded, want 1 and 1", st.SyncErrors, st.Syncs)
	}
}

func TestWaitersGetTheError(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(1)
	testkit.Receive(t, "fsync", entered)
	results := make(chan error, 8)
	for range 8 {
		go func() { results <- l.stream.SyncNow() }()
	}
	testkit.Eventually(t, "all wait", func() bool {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		return len(l.stream.mu.waiters) == 8
	})
	r.fs.Clear()
	r.fs.Add(vfs.Rule{Ops: vfs.OpSync, Err: syscall.EIO})
	close(release)
	for range 8 {
		if err := testkit.Receive(t, "answer", results); !errors.Is(err, syscall.EIO) {
			t.Fatalf("SyncNow: %v, want EIO", err)
		}
	}
}

// A fsync that is in flight when another one fails may succeed; what it
// covers is not acknowledged any more.
func TestNothingAdvancesAfterFail(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(1)
	testkit.Receive(t, "fsync", entered)
	r.s.Fail(syscall.ENOSPC)
	r.s.Fail(syscall.EIO)
	close(release)
	r.settle()
	if _, reported, _ := l.snapshot(); l.stream.Durable() != 0 || len(reported) != 0 {
		t.Fatalf("durable %d, reported %v after Fail, want 0 and nothing", l.stream.Durable(), reported)
	}
	if !errors.Is(r.s.Err(), syscall.ENOSPC) || errors.Is(r.s.Err(), syscall.EIO) {
		t.Fatalf("Err %v, want the first error", r.s.Err())
	}
}

func TestTruncateVoidsTheFsyncInFlight(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(10)
	testkit.Receive(t, "fsync", entered)
	l.truncate(4)
	l.append(1)
	result := make(chan error, 1)
	go func() { result <- l.stream.SyncNow() }()
	release <- struct{}{}
	testkit.Receive(t, "fsync after the cut", entered)
	if d := l.stream.Durable(); d != 0 {
		t.Fatalf("durable %d by an fsync that began before the cut, want 0", d)
	}
	close(release)
	l.waitDurable(5)
	if err := testkit.Receive(t, "SyncNow", result); err != nil {
		t.Fatal(err)
	}
	r.settle()
	if d := l.stream.Durable(); d != 5 {
		t.Fatalf("durable %d, want 5", d)
	}
	if n := l.recovered(r.mem.CrashClone(1, vfs.CrashLoseUnsynced)); n != 5 {
		t.Fatalf("%d records after a crash, want 5", n)
	}
}

func TestTruncateLowersDurableAndDropsFiles(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(3)
	l.roll()
	l.waitDurable(l.append(3))
	testkit.Eventually(t, "first file reported", func() bool { _, _, done := l.snapshot(); return done == 1 })
	r.settle()
	l.truncate(2) // into the first file, which the stream has let go
	if d := l.stream.Durable(); d != 2 {
		t.Fatalf("durable %d right after the cut, want 2", d)
	}
	if err := l.stream.SyncNow(); err != nil {
		t.Fatal(err)
	}
	l.waitDurable(l.append(2))
	if n := l.recovered(r.mem.CrashClone(1, vfs.CrashLoseUnsynced)); n != 4 {
		t.Fatalf("%d records after a crash, want 4", n)
	}
	if u := l.stream.UnsyncedBytes(); u != 0 {
		t.Fatalf("%d bytes unsynced, want 0", u)
	}
}

func TestDropWaitsForTheFsync(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(2)
	testkit.Receive(t, "fsync", entered)
	l.roll()
	l.append(2)
	var dropped atomic.Bool
	done := make(chan struct{})
	go func() {
		l.stream.Drop(l.files[0].file)
		dropped.Store(true)
		close(done)
	}()
	testkit.Eventually(t, "Drop waits", func() bool {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		return l.stream.mu.changed != nil
	})
	if dropped.Load() {
		t.Fatal("Drop returned while the file is being synced")
	}
	close(release)
	testkit.Closed(t, "Drop", done)
	l.waitDurable(4)
	r.settle()
	if _, _, n := l.snapshot(); n != 0 {
		t.Fatalf("%d files reported as done, want none: the one was dropped", n)
	}
	if u := r.s.Stats().UnsyncedBytes; u != 0 {
		t.Fatalf("%d bytes unsynced, want 0", u)
	}
}

func TestCloseStreamWaitsAndForgets(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(2)
	testkit.Receive(t, "fsync", entered)
	l.append(2)
	result := make(chan error, 1)
	go func() { result <- l.stream.SyncNow() }()
	closed := make(chan struct{})
	go func() {
		l.stream.Close()
		close(closed)
	}()
	testkit.Eventually(t, "Close waits", func() bool {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		return l.stream.mu.changed != nil
	})
	close(release)
	testkit.Closed(t, "Close", closed)
	if err := testkit.Receive(t, "SyncNow", result); !errors.Is(err, ErrClosed) {
		t.Fatalf("SyncNow: %v, want ErrClosed", err)
	}
	if u := r.s.Stats().UnsyncedBytes; u != 0 {
		t.Fatalf("%d bytes unsynced, want 0", u)
	}
	l.stream.Written(l.files[0].file, 0, 1, 9)
	l.stream.SetFile(l.files[0].file)
	l.stream.TruncateTo(l.files[0].file, 1)
	l.stream.Close()
}

func TestCloseSchedulerAnswersEverybody(t *testing.T) {
	r := newRig(t, Options{Parallel: 1})
	entered, release := r.gate()
	first := newTestLog(t, r.s, r.fs, StreamOptions{})
	first.append(1)
	testkit.Receive(t, "fsync", entered)
	second := newTestLog(t, r.s, r.fs, StreamOptions{})
	result := make(chan error, 1)
	go func() { result <- second.stream.SyncNow() }()
	testkit.Eventually(t, "queued", func() bool { return r.s.Stats().Queued == 1 })
	closed := make(chan struct{})
	go func() {
		r.s.Close()
		close(closed)
	}()
	testkit.Eventually(t, "closing", func() bool { return errors.Is(r.s.stopped(), ErrClosed) })
	close(release)
	testkit.Closed(t, "Close", closed)
	if err := testkit.Receive(t, "SyncNow", result); !errors.Is(err, ErrClosed) {
		t.Fatalf("SyncNow: %v, want ErrClosed", err)
	}
	if d := first.stream.Durable(); d != 1 {
		t.Fatalf("durable %d, want 1: the fsync was in flight", d)
	}
	second.append(1)
	if err := second.stream.SyncNow(); !errors.Is(err, ErrClosed) {
		t.Fatalf("SyncNow after Close: %v, want ErrClosed", err)
	}
	ran := false
	r.s.Go(func() { ran = true })
	if !ran {
		t.Fatal("Go after Close did not run the job")
	}
}

func TestGoRunsInOrderAndBounded(t *testing.T) {
	s := NewScheduler(Options{Workers: 2})
	var running, most, total atomic.Int64
	gate := make(chan struct{})
	for range 50 {
		s.Go(func() {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-gate
			running.Add(-1)
			total.Add(1)
		})
	}
	testkit.Eventually(t, "two run", func() bool { return running.Load() == 2 })
	close(gate)
	s.Close()
	if most.Load() != 2 || total.Load() != 50 {
		t.Fatalf("%d jobs at once, %d in all, want 2 and 50", most.Load(), total.Load())
	}
}

func TestWriteBackIsAskedForOncePerStretch(t *testing.T) {
	r := newRig(t, Options{WriteBackBytes: 100 * recordBytes})
	var mu sync.Mutex
	calls := 0
	r.fs.Add(vfs.Rule{Ops: vfs.OpWriteBack, Hook: func(vfs.Op, string) {
		mu.Lock()
		calls++
		mu.Unlock()
	}})
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyInterval, Interval: time.Hour})
	for range 10 {
		l.append(50)
		r.settle()
	}
	mu.Lock()
	defer mu.Unlock()
	if calls != 5 || r.s.Stats().WriteBacks != 5 {
		t.Fatalf("%d write-backs, want 5: one per 100 records", calls)
	}
}

func TestValidation(t *testing.T) {
	for _, o := range []StreamOptions{
		{Policy: 3}, {Interval: -1}, {IntervalBytes: -1}, {MaxDelay: -1}, {InitialEnd: -1},
	} {
		o.EnsureDefaults()
		if o.Validate() == nil {
			t.Errorf("%+v is valid", o)
		}
	}
	for _, p := range []Policy{PolicyCommit, PolicyInterval, PolicyNever} {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("ParsePolicy(%q) = %v, %v", p.String(), got, err)
		}
	}
	if _, err := ParsePolicy("always"); err == nil {
		t.Error("ParsePolicy(always) succeeded")
	}
}

func TestQuantile(t *testing.T) {
	var h histogram
	h.init(1, 2, 4) // 1 2 4 8
	if q := h.snapshot().Quantile(0.5); q != 0 {
		t.Errorf("median of nothing %v, want 0", q)
	}
	for _, v := range []float64{1, 1, 3, 3, 3, 3, 7, 7, 7, 100} {
		h.observe(v)
	}
	s := h.snapshot()
	if s.Count != 10 || s.Sum != 135 {
		t.Errorf("count %d, sum %v, want 10, 135", s.Count, s.Sum)
	}
	for q, want := range map[float64]float64{0.2: 1, 0.4: 3, 0.6: 4, 0.9: 8, 1: 8} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v = %v, want %v", q, got, want)
		}
	}
}

func TestSyncNowOutlastsACut(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyNever})
	l.append(10)
	result := make(chan int64, 1)
	go func() {
		if err := l.stream.SyncNow(); err != nil {
			t.Error(err)
		}
		result <- l.stream.Durable()
	}()
	testkit.Receive(t, "fsync", entered)
	l.truncate(4)
	close(release)
	if d := testkit.Receive(t, "SyncNow", result); d != 4 {
		t.Fatalf("durable %d when SyncNow returned, want 4: the log after the cut", d)
	}
}
