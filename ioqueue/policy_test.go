package ioqueue

import (
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// rig is a scheduler on a fake clock over an injector over memory.
type rig struct {
	t     *testing.T
	clock *clock.Fake
	mem   *vfs.Mem
	fs    *vfs.ErrorFS
	s     *Scheduler
}

func newRig(t *testing.T, opts Options) *rig {
	r := &rig{t: t, clock: clock.NewFake(time.Unix(1000, 0))}
	r.mem = vfs.NewMem(vfs.MemOptions{Clock: r.clock})
	r.fs = vfs.NewErrorFS(r.mem, vfs.ErrorFSOptions{Clock: r.clock})
	opts.Dir = "dir"
	opts.Clock = r.clock
	r.s = NewScheduler(opts)
	t.Cleanup(r.s.Close)
	return r
}

// gate makes each fsync wait until release is called, once per fsync; entered reports them. It opens when the test ends, failed or not.
func (r *rig) gate() (entered chan string, release chan struct{}) {
	entered, release = make(chan string, 1000), make(chan struct{})
	r.fs.Add(vfs.Rule{Ops: vfs.OpSync, Hook: func(_ vfs.Op, name string) {
		entered <- name
		select {
		case <-release:
		case <-r.t.Context().Done():
		}
	}})
	return entered, release
}

// settle waits until no stream is queued or running.
func (r *rig) settle() {
	r.t.Helper()
	testkit.Eventually(r.t, "scheduler at rest", func() bool {
		st := r.s.Stats()
		return st.Queued == 0 && st.Running == 0 && st.Jobs == 0
	})
}

func TestCommitMakesDurable(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	for range 10 {
		l.waitDurable(l.append(3))
	}
	r.settle()
	_, reported, _ := l.snapshot()
	if !slices.IsSorted(reported) || reported[len(reported)-1] != 30 {
		t.Fatalf("OnDurable reported %v, want an ascending list up to 30", reported)
	}
	if got := l.recovered(r.mem.CrashClone(1, vfs.CrashLoseUnsynced)); got != 30 {
		t.Fatalf("after a crash %d records, want 30", got)
	}
	if got := r.s.Stats(); got.UnsyncedBytes != 0 || got.Bytes != 30*recordBytes || got.Appends != 10 {
		t.Fatalf("stats %+v, want 0 bytes unsynced, 240 bytes in 10 appends synced", got)
	}
}

func TestAppendsDuringFsyncShareTheNext(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(1)
	testkit.Receive(t, "first fsync", entered)
	for range 20 {
		l.append(1)
	}
	if d := l.stream.Durable(); d != 0 {
		t.Fatalf("durable %d before the fsync is over, want 0", d)
	}
	release <- struct{}{}
	testkit.Receive(t, "second fsync", entered)
	if d := l.stream.Durable(); d != 1 {
		t.Fatalf("durable %d after the first fsync, want 1: the others came after it began", d)
	}
	release <- struct{}{}
	l.waitDurable(21)
	r.settle()
	if st := r.s.Stats(); st.Syncs != 2 || st.GroupAppends.Sum != 21 {
		t.Fatalf("%d fsyncs for %v appends, want 2 for 21", st.Syncs, st.GroupAppends.Sum)
	}
}

func TestOneFsyncPerStreamAndParallelAcrossStreams(t *testing.T) {
	r := newRig(t, Options{Parallel: 2})
	entered, release := r.gate()
	var logs []*testLog
	for range 3 {
		logs = append(logs, newTestLog(t, r.s, r.fs, StreamOptions{}))
		logs[len(logs)-1].roll() // also: two files of one stream
	}
	for _, l := range logs {
		l.append(1)
	}
	testkit.Receive(t, "one fsync", entered)
	testkit.Receive(t, "another", entered)
	testkit.Eventually(t, "the third stream queued", func() bool { return r.s.Stats().Queued == 1 })
	if st := r.s.Stats(); st.Running != 2 || len(entered) != 0 {
		t.Fatalf("%d streams run, %d more fsyncs, want 2 and 0", st.Running, len(entered))
	}
	close(release)
	for _, l := range logs {
		l.waitDurable(1)
	}
}

func TestIntervalByTime(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyInterval, Interval: 50 * time.Millisecond})
	l.append(5)
	r.settle()
	if d := l.stream.Durable(); d != 0 {
		t.Fatalf("durable %d before the interval has passed, want 0", d)
	}
	r.clock.Advance(49 * time.Millisecond)
	r.settle()
	if n := r.s.Stats().Syncs; n != 0 {
		t.Fatalf("%d fsyncs before the interval has passed, want 0", n)
	}
	r.clock.Advance(2 * time.Millisecond)
	l.waitDurable(5)
	// The second interval counts from the first write after the sync.
	r.settle()
	r.clock.Advance(time.Hour)
	l.append(1)
	r.settle()
	if d := l.stream.Durable(); d != 5 {
		t.Fatalf("durable %d, want 5: the interval begins with the first unsynced write", d)
	}
	r.clock.Advance(51 * time.Millisecond)
	l.waitDurable(6)
}

func TestIntervalByBytes(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyInterval, Interval: time.Hour, IntervalBytes: 10 * recordBytes})
	l.append(9)
	r.settle()
	if d := l.stream.Durable(); d != 0 {
		t.Fatalf("durable %d below IntervalBytes, want 0", d)
	}
	l.append(1)
	l.waitDurable(10)
}

func TestMaxDelayHoldsCommitBack(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{MaxDelay: 5 * time.Millisecond})
	l.append(1)
	l.append(1)
	r.settle()
	if n := r.s.Stats().Syncs; n != 0 {
		t.Fatalf("%d fsyncs before the delay has passed, want 0", n)
	}
	r.clock.Advance(6 * time.Millisecond)
	l.waitDurable(2)
	r.settle()
	if n := r.s.Stats().Syncs; n != 1 {
		t.Fatalf("%d fsyncs, want 1 for both appends", n)
	}
}

func TestNeverSyncsOnlyOnRoll(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyNever})
	l.append(7)
	r.clock.Advance(time.Hour)
	r.settle()
	if n := r.s.Stats().Syncs; n != 0 {
		t.Fatalf("%d fsyncs of the active file under never, want 0", n)
	}
	l.roll()
	l.append(1)
	l.waitDurable(7)
	r.settle()
	if d := l.stream.Durable(); d != 7 {
		t.Fatalf("durable %d, want 7: the end of the sealed file", d)
	}
	testkit.Eventually(t, "sealed file reported", func() bool { _, _, done := l.snapshot(); return done == 1 })
	if u := l.stream.UnsyncedBytes(); u != recordBytes {
		t.Fatalf("%d bytes unsynced, want %d", u, recordBytes)
	}
}

func TestSwitchingPolicies(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(1)
	testkit.Receive(t, "fsync under commit", entered)
	l.append(1) // waits for the next group
	l.stream.SetOptions(StreamOptions{Policy: PolicyNever})
	release <- struct{}{}
	testkit.Receive(t, "fsync for the append made under commit", entered)
	release <- struct{}{}
	l.waitDurable(2)
	r.settle()

	l.append(1)
	r.settle()
	if d := l.stream.Durable(); d != 2 {
		t.Fatalf("durable %d under never, want 2", d)
	}
	l.stream.SetOptions(StreamOptions{Policy: PolicyInterval, Interval: time.Minute})
	r.settle()
	r.clock.Advance(61 * time.Second)
	testkit.Receive(t, "fsync under interval", entered)
	release <- struct{}{}
	l.waitDurable(3)
	r.settle()

	l.append(1)
	l.stream.SetOptions(StreamOptions{Policy: PolicyInterval, Interval: time.Hour})
	r.clock.Advance(2 * time.Minute)
	r.settle()
	l.stream.SetOptions(StreamOptions{Policy: PolicyCommit})
	testkit.Receive(t, "fsync under commit again", entered)
	close(release)
	l.waitDurable(4)
	l.stream.Close()
}

func TestSyncNow(t *testing.T) {
	r := newRig(t, Options{})
	l := newTestLog(t, r.s, r.fs, StreamOptions{Policy: PolicyNever})
	l.append(3)
	if err := l.stream.SyncNow(); err != nil {
		t.Fatal(err)
	}
	if d := l.stream.Durable(); d != 3 {
		t.Fatalf("durable %d after SyncNow, want 3", d)
	}
	// A clean file is synced all the same: recovery after a process kill needs it.
	if err := l.stream.SyncNow(); err != nil {
		t.Fatal(err)
	}
	if n := r.s.Stats().Syncs; n != 2 {
		t.Fatalf("%d fsyncs, want 2", n)
	}
	empty := r.s.NewStream(StreamOptions{})
	if err := empty.SyncNow(); err != nil {
		t.Fatalf("SyncNow without a file: %v", err)
	}
	empty.Close()
	if err := empty.SyncNow(); err != ErrClosed {
		t.Fatalf("SyncNow after Close: %v, want ErrClosed", err)
	}
}

func TestRollKeepsOrder(t *testing.T) {
	r := newRig(t, Options{Parallel: 4})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	l.append(4)
	first := testkit.Receive(t, "fsync of the first file", entered)
	l.append(1) // still in the first file, next group
	l.roll()
	l.append(2)
	l.roll()
	l.append(2)
	release <- struct{}{}
	for i := 1; i <= 3; i++ {
		name := testkit.Receive(t, "next fsync", entered)
		if want := l.files[i-1].file.Name(); name != want {
			t.Fatalf("fsync %d is of %q, want %q: oldest first", i+1, name, want)
		}
		want := []int64{4, 5, 7}[i-1]
		if d := l.stream.Durable(); d != want {
			t.Fatalf("durable %d before fsync %d, want %d", d, i+1, want)
		}
		release <- struct{}{}
	}
	l.waitDurable(9)
	testkit.Eventually(t, "two sealed files reported", func() bool { _, _, done := l.snapshot(); return done == 2 })
	if l.done[0].Name() != first {
		t.Fatalf("first file reported as done is %q, want %q", l.done[0].Name(), first)
	}
}

// Ten thousand idle partitions must not open ten thousand files at the start.
func TestSetFileDoesNotTouchTheFile(t *testing.T) {
	r := newRig(t, Options{})
	f := create(t, r.fs, "f")
	r.fs.Add(vfs.Rule{Hook: func(op vfs.Op, _ string) { t.Errorf("%s on the file", op) }})
	st := r.s.NewStream(StreamOptions{InitialEnd: 7})
	st.SetFile(f)
	r.settle()
	if st.Durable() != 7 {
		t.Fatalf("durable %d, want 7", st.Durable())
	}
	st.Close()
}
