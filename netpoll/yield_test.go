package netpoll

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

// onePEnv says to a run of this test binary that GOMAXPROCS is 1.
const onePEnv = "WEIR_NETPOLL_ONE_P"

// onOneP runs f in a process of its own in which goroutines share one P, so that it is seen whether one lets the others run. The setting
// would slow the other tests down.
func onOneP(t *testing.T, f func(t *testing.T)) {
	if os.Getenv(onePEnv) != "" {
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Fatalf("GOMAXPROCS is %d, want 1", n)
		}
		f(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*testkit.Deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", onePEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("with one P: %v\n%s", err, out)
	}
}

// A loop with work in every turn lets other goroutines run once in a millisecond of work: not never, and not in each turn. The time is the
// test's, and what is counted is the turns before which another goroutine, which is always ready, got the P. Of itself the
// runtime takes it from the loop every ten milliseconds of real time, which are thousands of these turns.
func TestABusyLoopYieldsOnceInAMillisecond(t *testing.T) {
	onOneP(t, func(t *testing.T) {
		const turns = 20_000
		for _, c := range []struct {
			name        string
			work, sleep time.Duration // of each turn
			least, most int
		}{
			{"long turns", 2 * time.Millisecond, 0, turns / 2, turns},
			{"short turns", 10 * time.Microsecond, 0, turns / 200, turns / 10},
			{"turns after sleep", 10 * time.Microsecond, 2 * time.Millisecond, 0, turns / 2}, // once in restScheduled
		} {
			t.Run(c.name, func(t *testing.T) {
				if got := turnsAfterYields(t, turns, c.work, c.sleep); got < c.least || got > c.most {
					t.Errorf("another goroutine ran before %d of %d turns, want %d to %d", got, turns, c.least, c.most)
				}
			})
		}
	})
}

// turnsAfterYields keeps a loop busy for that many turns and counts those before which another goroutine ran. A frame that is read byte
// by byte is there from the start, so that the loop waits for nobody.
func turnsAfterYields(t *testing.T, turns int, work, sleep time.Duration) int {
	now := newFake()
	var runs atomic.Int64
	seen, reads, yields := int64(0), 0, 0 // the loop's
	done := make(chan int, 1)
	fault := func(c call, bytes int) (int, syscall.Errno) {
		if c == callWait && reads > 0 && reads < turns {
			now.Advance(sleep)
		}
		if c != callRead || bytes == 0 {
			return bytes, 0
		}
		now.Advance(work)
		n := runs.Load()
		if reads++; reads > 1 && n != seen {
			yields++
		}
		seen = n
		if reads == turns {
			done <- yields
		}
		return 1, 0
	}
	r := newRecorder(t, echo)
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r, Clock: now, IdleTimeout: -1, FrameTimeout: -1, kernel: kernel{fault: fault}})
	c := dial(t, s)
	testkit.Receive(t, "OnOpen", r.opened)
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !stop.Load() {
			runs.Add(1)
			runtime.Gosched()
		}
	}()
	defer stop.Store(true)
	frame := strings.Repeat("f", turns-prefixBytes)
	c.send(frame)
	got := testkit.Receive(t, "the last turn", done)
	stop.Store(true)
	testkit.Closed(t, "the other goroutine's end", ended)
	c.expect(frame)
	return got
}
