package netpoll

import (
	"runtime"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

// onPs has that many Ps for the time of the test.
func onPs(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestRestByHowLongALoopWasIdle: short system calls first, then one that keeps the P, then one without an end.
func TestRestByHowLongALoopWasIdle(t *testing.T) {
	onPs(t, int(keptSpare)+1)
	const now = int64(time.Hour)
	ms := int64(time.Millisecond)
	for _, c := range []struct {
		idle    int64
		timeout int
		kept    bool
	}{
		{0, 4, false}, {restShort - 1, 4, false},
		{restShort, 97, true}, {50 * ms, 51, true}, {restKept - 1, 1, true},
		{restKept, -1, false}, {30_000 * ms, -1, false},
	} {
		r := rest{event: now - c.idle}
		timeout, kept := r.begin(now)
		if timeout != c.timeout || kept != c.kept {
			t.Errorf("idle for %v: timeout %d, kept %v, want %d, %v", time.Duration(c.idle), timeout, kept, c.timeout, c.kept)
		}
		r.end(now+1, kept, false)
		if r.event != now-c.idle {
			t.Errorf("idle for %v: a wait that found nothing counts as an event", time.Duration(c.idle))
		}
		if r.end(now+2, false, true); r.event != now+2 {
			t.Errorf("idle for %v: a wait that found something does not count as an event", time.Duration(c.idle))
		}
	}
	if n := keptPs.Load(); n != 0 {
		t.Errorf("%d Ps are kept after all waits, want none", n)
	}
}

// TestLoopsLeaveSparePs: no more loops keep their Ps than leave keptSpare to others, and those give them back.
func TestLoopsLeaveSparePs(t *testing.T) {
	onPs(t, int(keptSpare)+2)
	for round := range 2 {
		for i, want := range []bool{true, true, false, false} {
			if got := keepP(); got != want {
				t.Errorf("round %d, loop %d of %d Ps keeps its P: %v, want %v", round, i, keptSpare+2, got, want)
			}
		}
		dropP()
		dropP()
	}
	onPs(t, 2)
	if keepP() {
		t.Error("a loop keeps one of two Ps, want both left to others")
		dropP()
	}
}

// TestSparePs: a P for each core is left to others, and all of them where nothing but a signal would end the sleep of who keeps one.
func TestSparePs(t *testing.T) {
	for _, c := range []struct {
		cores int
		debug string
		want  int32
	}{{1, "", 4}, {2, "gctrace=1", 4}, {16, "", 16}, {64, "asyncpreemptoff=0", 64}} {
		if got := sparePs(c.cores, c.debug); got != c.want {
			t.Errorf("%d cores, GODEBUG=%q: %d spare Ps, want %d", c.cores, c.debug, got, c.want)
		}
	}
	if got := sparePs(2, "gctrace=1,asyncpreemptoff=1"); got < 1<<20 {
		t.Errorf("%d spare Ps without the runtime's signals, want more than there are", got)
	}
}

// TestALoopThatKeepsItsPAnswers: while it sleeps in the kernel with its P it still serves events and posts, lets the world be stopped, and in the end
// gives the P up.
func TestALoopThatKeepsItsPAnswers(t *testing.T) {
	onPs(t, int(keptSpare)+2)
	now := newFake()
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: newRecorder(t, echo), Clock: now, IdleTimeout: -1, FrameTimeout: -1})
	c := dial(t, s)
	keeps := func(want int32) {
		t.Helper()
		testkit.Eventually(t, "the loop keeping its P, or not", func() bool { return keptPs.Load() == want })
	}
	for range 3 {
		c.send("one")
		c.expect("one")
		now.Advance(time.Duration(restShort))
		keeps(1)
		runtime.GC()
		settled(s) // posts
		c.send("two")
		c.expect("two")
		keeps(0) // the clock stands: it was busy just now
		now.Advance(time.Duration(restShort))
		keeps(1)
		now.Advance(time.Duration(restKept))
		keeps(0)
	}
}
