package timewheel

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record notes when callbacks ran.
type record struct {
	mu sync.Mutex
	at map[int]time.Time
	n  int
}

func (r *record) note(i int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[i] = now
	r.n++
}

func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// TestAgainstModel adds and stops random timers of all magnitudes, moves the
// clock by random steps and compares what has fired with what must have.
func TestAgainstModel(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t, 1))
	const tick = time.Millisecond
	for range 30 {
		c := clock.NewFake(time.Unix(0, 0))
		begin := c.Now()
		w := New(c, tick)
		r := &record{at: map[int]time.Time{}}
		due := map[int]time.Time{} // pending in the model
		timers := map[int]*Timer{}
		fired := 0
		for i := range 300 {
			switch op := rng.IntN(10); {
			case op < 6:
				d := randomDelay(rng) + tick // zero would be this tick or the next
				due[i] = c.Now().Add(d)
				timers[i] = w.After(d, func() { r.note(i, c.Now()) })
			case op < 7 && len(timers) > 0:
				for k, tm := range timers { // any
					_, pending := due[k]
					if got := tm.Stop(); got != pending {
						t.Fatalf("Stop of timer %d reports %v, want %v", k, got, pending)
					}
					delete(due, k)
					delete(timers, k)
					break
				}
			default:
				// To a tick's boundary, where what is due is unambiguous.
				c.Advance((randomDelay(rng) / 3).Round(tick))
				want := fired
				for k, at := range due {
					// A due time is rounded up to a tick of the wheel.
					if roundUp(at.Sub(begin), tick) <= c.Since(begin) {
						want++
						delete(due, k)
					}
				}
				testkit.Eventually(t, "timers that are due", func() bool { return r.count() >= want })
				fired = want
				if n := w.Len(); n != len(due) || r.count() != fired {
					t.Fatalf("%d pending and %d fired, want %d and %d", n, r.count(), len(due), fired)
				}
			}
		}
		w.Close()
	}
}

func roundUp(d, tick time.Duration) time.Duration {
	return (d + tick - 1) / tick * tick
}

func randomDelay(rng *rand.Rand) time.Duration {
	return time.Duration(rng.Int64N(1<<rng.IntN(33))) * time.Millisecond
}

func TestCallbackMayUseTheWheel(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	w := New(c, time.Millisecond)
	defer w.Close()
	done, ready, ran := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var self *Timer
	self = w.After(time.Millisecond, func() {
		<-ready
		if self.Stop() {
			t.Error("Stop of the running timer reports true")
		}
		w.After(0, func() { close(done) })
		close(ran)
	})
	close(ready)
	c.Advance(time.Millisecond)
	testkit.Closed(t, "first callback", ran)
	c.Advance(time.Millisecond)
	testkit.Closed(t, "second callback", done)
}

func TestNeverEarlyOnTheRealClock(t *testing.T) {
	w := New(clock.Real(), 0)
	defer w.Close()
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, 1500 * time.Microsecond, 20 * time.Millisecond} {
		began := time.Now()
		took := make(chan time.Duration, 1)
		w.After(d, func() { took <- time.Since(began) })
		if got := testkit.Receive(t, "timer", took); got < d {
			t.Errorf("timer of %v fired after %v", d, got)
		}
	}
}

func TestClose(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	w := New(c, time.Millisecond)
	tm := w.After(time.Second, func() { t.Error("fired after Close") })
	w.Close()
	w.Close()
	c.Advance(time.Minute)
	tm.Stop()
	if w.After(0, func() { t.Error("added after Close and fired") }).Stop() {
		t.Error("a timer added after Close was pending")
	}
}

// An idle wheel does not tick.
func TestIdleWheelSleeps(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	w := New(c, time.Millisecond)
	defer w.Close()
	fired := make(chan struct{})
	w.After(time.Hour, func() { close(fired) })
	asleep := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.mu.armed > 0
	}
	testkit.Eventually(t, "asleep", asleep)
	w.mu.Lock()
	armed := w.mu.armed
	w.mu.Unlock()
	// The next stop is the slot that holds the timer, one level after the
	// other, not the next tick.
	if armed < 3600_000/slots {
		t.Fatalf("sleeps until tick %d, want a slot of the timer due at tick 3600000", armed)
	}
	c.Advance(time.Hour)
	testkit.Closed(t, "timer", fired)
}

func BenchmarkAfterStop(b *testing.B) {
	w := New(clock.Real(), 0)
	defer w.Close()
	for range 100_000 {
		w.After(time.Hour, func() {})
	}
	fn := func() {}
	b.ReportAllocs()
	for b.Loop() {
		w.After(500*time.Millisecond, fn).Stop()
	}
}
