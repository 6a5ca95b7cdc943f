package clock

import (
	"container/heap"
	"sync"
	"time"
)

// Fake is a Clock that moves only when told to. Timers fire inside Advance,
// in the order of their due times, with Now equal to the due time of the one
// that fires. The zero value is not usable: call NewFake.
type Fake struct {
	mu struct {
		sync.Mutex
		now     time.Time
		pending fakeHeap
		seq     uint64 // orders timers due at the same instant by creation
	}
}

// NewFake returns a Fake that stands at start.
func NewFake(start time.Time) *Fake {
	f := &Fake{}
	f.mu.now = start
	return f
}

// Now returns the time the clock stands at.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.now
}

// Since returns Now minus t.
func (f *Fake) Since(t time.Time) time.Duration { return f.Now().Sub(t) }

// NewTimer returns a timer that fires when Advance reaches Now plus d; at
// once if d is zero or less.
func (f *Fake) NewTimer(d time.Duration) Timer {
	t := &fakeTimer{clock: f, ch: make(chan time.Time, 1), index: -1}
	t.arm(d)
	return t
}

// AfterFunc arranges for fn to run inside the Advance that reaches Now plus
// d. A d of zero or less runs at the next Advance, Advance(0) included, never
// inside this call: the caller may hold locks that fn takes.
func (f *Fake) AfterFunc(d time.Duration, fn func()) Timer {
	t := &fakeTimer{clock: f, fn: fn, index: -1}
	t.arm(d)
	return t
}

// Advance moves the clock by d (not negative) and fires what became due, also timers
// that callbacks arm on the way. Callbacks run in this goroutine, one after
// the other, with no lock held.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	target := f.mu.now.Add(d)
	for {
		if len(f.mu.pending) == 0 || f.mu.pending[0].due.After(target) {
			break
		}
		t := heap.Pop(&f.mu.pending).(*fakeTimer)
		if t.due.After(f.mu.now) {
			f.mu.now = t.due
		}
		if t.fn == nil {
			t.sendLocked(f.mu.now)
			continue
		}
		f.mu.Unlock()
		t.fn()
		f.mu.Lock()
	}
	if target.After(f.mu.now) {
		f.mu.now = target
	}
	f.mu.Unlock()
}

// Pending returns how many timers are armed. Tests use it to know that the
// code under test has reached its wait before they advance.
func (f *Fake) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.pending)
}

// Due returns how many of the armed timers Advance(d) will fire. Tests ask for it rather than for Pending
// where others have timers of their own on the same clock.
func (f *Fake) Due(d time.Duration) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.mu.pending {
		if !t.due.After(f.mu.now.Add(d)) {
			n++
		}
	}
	return n
}

type fakeTimer struct {
	clock *Fake
	ch    chan time.Time
	fn    func()
	due   time.Time // guarded by clock.mu, as all below
	seq   uint64
	index int // position in the heap, -1 when not pending
}

func (t *fakeTimer) C() <-chan time.Time { return t.ch }

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stopLocked()
}

func (t *fakeTimer) stopLocked() bool {
	if t.ch != nil {
		select {
		case <-t.ch:
		default:
		}
	}
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.mu.pending, t.index)
	return true
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	was := t.stopLocked()
	t.clock.mu.Unlock()
	t.arm(d)
	return was
}

func (t *fakeTimer) arm(d time.Duration) {
	f := t.clock
	f.mu.Lock()
	defer f.mu.Unlock()
	if d <= 0 && t.fn == nil {
		t.sendLocked(f.mu.now)
		return
	}
	f.mu.seq++
	t.seq = f.mu.seq
	t.due = f.mu.now.Add(max(d, 0))
	heap.Push(&f.mu.pending, t)
}

func (t *fakeTimer) sendLocked(now time.Time) {
	select {
	case t.ch <- now:
	default:
	}
}

type fakeHeap []*fakeTimer

func (h fakeHeap) Len() int { return len(h) }
func (h fakeHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}
func (h fakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *fakeHeap) Push(x any) {
	t := x.(*fakeTimer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *fakeHeap) Pop() any {
	old := *h
	n := len(old) - 1
	t := old[n]
	old[n] = nil
	*h = old[:n]
	t.index = -1
	return t
}
