package timewheel

import (
	"math/bits"
	"sync"
	"time"

	"github.com/weirmq/weir/internal/clock"
)

const (
	slotBits = 6
	slots    = 1 << slotBits
	levels   = 7
	// maxTicks is the longest delay in ticks: 139 years at a tick of 1 ms.
	maxTicks = 1<<(slotBits*levels) - 1
)

// Wheel is a set of pending timers. It is safe for concurrent use.
type Wheel struct {
	clock clock.Clock
	tick  time.Duration
	start time.Time
	wake  chan struct{} // capacity 1: an earlier timer was added, or Close
	done  chan struct{}

	mu struct {
		sync.Mutex
		cur      uint64 // the tick up to which timers have been fired
		armed    uint64 // the tick the goroutine sleeps until; 0 = not asleep
		occupied [levels]uint64
		slot     [levels][slots]*Timer // heads of circular lists
		expired  *Timer                // due timers, waiting for their callback
		count    int
		closed   bool
	}
}

// Timer is one pending callback of a Wheel.
type Timer struct {
	wheel      *Wheel
	fn         func()
	due        uint64 // tick
	next, prev *Timer // circular list; nil when not pending
	level      int8   // -1: in the expired list
	index      uint8
}

// New starts a wheel that fires with a resolution of tick: never early, at
// most one tick late (plus the time earlier callbacks take). A tick of zero or less means one
// millisecond.
func New(c clock.Clock, tick time.Duration) *Wheel {
	if tick <= 0 {
		tick = time.Millisecond
	}
	w := &Wheel{
		clock: c,
		tick:  tick,
		start: c.Now(),
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	go w.run()
	return w
}

// After calls fn once on the wheel's goroutine when d has passed. A negative d counts as
// zero. On a closed wheel fn is never called.
func (w *Wheel) After(d time.Duration, fn func()) *Timer {
	t := &Timer{wheel: w, fn: fn}
	now := w.clock.Since(w.start)
	w.mu.Lock()
	if w.mu.closed {
		w.mu.Unlock()
		return t
	}
	// Round up, so that no timer fires early.
	due := uint64(max(now+max(d, 0)+w.tick-1, 0) / w.tick)
	t.due = min(max(due, w.mu.cur+1), w.mu.cur+maxTicks)
	w.insertLocked(t)
	w.mu.count++
	notify := t.due < w.mu.armed
	if notify {
		w.mu.armed = 0 // one notification is enough
	}
	w.mu.Unlock()
	if notify {
		w.notify()
	}
	return t
}

// Stop cancels the timer and reports whether it did: false when the callback
// has started, has run, or was stopped before. Stop does not wait for a
// running callback.
func (t *Timer) Stop() bool {
	w := t.wheel
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.next == nil {
		return false
	}
	w.unlinkLocked(t)
	w.mu.count--
	t.fn = nil // let go of what the closure holds
	return true
}

// Len returns how many timers are pending.
func (w *Wheel) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.count
}

// Close stops the wheel and waits for its goroutine, and so for a running
// callback: it must not be called from one. Pending timers are dropped. Further calls do nothing.
func (w *Wheel) Close() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	w.notify()
	<-w.done
}

func (w *Wheel) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// insertLocked places t by the highest digit in which its due tick differs
// from the current one.
func (w *Wheel) insertLocked(t *Timer) {
	diff := t.due ^ w.mu.cur
	level := 0
	if diff != 0 {
		level = min((bits.Len64(diff)-1)/slotBits, levels-1)
	}
	index := (t.due >> (slotBits * level)) & (slots - 1)
	t.level, t.index = int8(level), uint8(index)
	link(&w.mu.slot[level][index], t)
	w.mu.occupied[level] |= 1 << index
}

func (w *Wheel) unlinkLocked(t *Timer) {
	head := &w.mu.expired
	if t.level >= 0 {
		head = &w.mu.slot[t.level][t.index]
	}
	if t.next == t {
		*head = nil
		if t.level >= 0 {
			w.mu.occupied[t.level] &^= 1 << t.index
		}
	} else {
		t.prev.next, t.next.prev = t.next, t.prev
		if *head == t {
			*head = t.next
		}
	}
	t.next, t.prev = nil, nil
}

func link(head **Timer, t *Timer) {
	if *head == nil {
		t.next, t.prev = t, t
		*head = t
		return
	}
	first := *head
	t.next, t.prev = first, first.prev
	first.prev.next, first.prev = t, t
}

// nextLocked returns the tick at which the next slot needs work. Within a
// level every occupied slot lies after the current digit (timers that share
// the digit lie in a lower level), except in the top level, whose digits may
// wrap around.
func (w *Wheel) nextLocked() (tick uint64, level int, ok bool) {
	for l := range levels {
		occ := w.mu.occupied[l]
		if occ == 0 {
			continue
		}
		shift := slotBits * l
		digit := (w.mu.cur >> shift) & (slots - 1)
		base := w.mu.cur >> shift &^ (slots - 1)
		if later := occ &^ (1<<(digit+1) - 1); later != 0 {
			return (base | uint64(bits.TrailingZeros64(later))) << shift, l, true
		}
		return (base + slots | uint64(bits.TrailingZeros64(occ))) << shift, l, true
	}
	return 0, 0, false
}

// advanceLocked moves the wheel to tick now and collects what is due.
func (w *Wheel) advanceLocked(now uint64) {
	for {
		tick, level, ok := w.nextLocked()
		if !ok || tick > now {
			break
		}
		w.mu.cur = tick
		index := (tick >> (slotBits * level)) & (slots - 1)
		head := &w.mu.slot[level][index]
		for t := *head; t != nil; t = *head {
			w.unlinkLocked(t)
			if t.due <= tick {
				t.level = -1
				link(&w.mu.expired, t)
			} else {
				w.insertLocked(t)
			}
		}
	}
	w.mu.cur = max(w.mu.cur, now)
}

func (w *Wheel) run() {
	defer close(w.done)
	timer := w.clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wakeAt, ok := w.turn()
		if !ok {
			return
		}
		if wakeAt == never {
			<-w.wake
			continue
		}
		timer.Reset(wakeAt - w.clock.Since(w.start))
		// The clock may have moved between the two calls of the line above; a
		// Fake would then never reach the timer.
		if w.clock.Since(w.start) >= wakeAt {
			continue
		}
		select {
		case <-timer.C():
		case <-w.wake:
		}
	}
}

// never is turn's answer when nothing is pending.
const never = time.Duration(-1)

// turn fires what is due and returns when to run again, counted from the
// wheel's start. It reports false when the wheel is closed.
func (w *Wheel) turn() (wakeAt time.Duration, ok bool) {
	for {
		now := w.clock.Since(w.start)
		w.mu.Lock()
		if w.mu.closed {
			w.mu.Unlock()
			return 0, false
		}
		w.advanceLocked(uint64(max(now, 0) / w.tick))
		if t := w.mu.expired; t != nil {
			w.unlinkLocked(t)
			w.mu.count--
			fn := t.fn
			t.fn = nil
			w.mu.Unlock()
			fn()
			continue
		}
		next, _, pending := w.nextLocked()
		if !pending {
			w.mu.armed = ^uint64(0)
			w.mu.Unlock()
			return never, true
		}
		w.mu.armed = next
		w.mu.Unlock()
		return time.Duration(next) * w.tick, true
	}
}
