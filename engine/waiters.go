package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// WaitFor names the offset that a Waiter watches.
type WaitFor uint8

// What a Waiter can watch.
const (
	// WaitHighWatermark: the high watermark, as consumers see it.
	WaitHighWatermark WaitFor = iota
	// WaitLastStable: the last stable offset, for read_committed.
	WaitLastStable
	// WaitDurable: the durable offset.
	WaitDurable
	// WaitLogEnd: the end of the log, for followers under policies other than commit.
	WaitLogEnd
)

// of gives the watched offset.
func (w WaitFor) of(o *Offsets) int64 {
	switch w {
	case WaitLastStable:
		return o.LastStable
	case WaitDurable:
		return o.Durable
	case WaitLogEnd:
		return o.LogEnd
	default:
		return o.HighWatermark
	}
}

// Waiter waits for one offset of one log, once. Fill the exported fields, then Watch. It may be used again after it
// fired or was unwatched. A fetch parked on many partitions uses one Waiter for each.
type Waiter struct {
	// For is the offset to watch.
	For WaitFor
	// Offset is reached when the watched offset is at least this.
	Offset int64
	// Wake is called at most once for each Watch, without any lock of the log held, on the goroutine that moved the
	// offset (an appender, or the directory's fsync worker): it must be short and must not block. err is nil when the
	// offset was reached; ErrOffline, ErrClosed, or ErrOffsetOutOfRange (the log was truncated below Offset) otherwise.
	Wake func(err error)

	// list is the list that holds the waiter, nil while it is not watched; guarded by that list's lock.
	list       *waiterList
	prev, next *Waiter
}

// waiterList holds the waiters of one log, in the order they came. Its lock is a leaf.
type waiterList struct {
	count atomic.Int32 // lets an append skip the lock when nobody waits
	mu    struct {
		sync.Mutex
		head, tail *Waiter
	}
}

// add registers w unless reached is true by then. Registering comes before the check, so that an offset that moves in
// between is seen by one of the two.
func (l *waiterList) add(w *Waiter, reached func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.list != nil {
		panic("BUG: Waiter is watched already")
	}
	l.count.Add(1)
	if reached() {
		l.count.Add(-1)
		return false
	}
	w.list, w.prev, w.next = l, l.mu.tail, nil
	if l.mu.tail != nil {
		l.mu.tail.next = w
	} else {
		l.mu.head = w
	}
	l.mu.tail = w
	return true
}

func (l *waiterList) remove(w *Waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.list != l {
		return false
	}
	l.unlinkLocked(w)
	return true
}

func (l *waiterList) unlinkLocked(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.mu.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.mu.tail = w.prev
	}
	w.list, w.prev, w.next = nil, nil, nil
	l.count.Add(-1)
}

// wake unlinks the waiters that fire says yes to, and calls them after the lock is released. It reports whether there were any.
// REQUIRES: no lock of the log held.
func (l *waiterList) wake(fire func(*Waiter) bool, err error) bool {
	if l.count.Load() == 0 {
		return false
	}
	var few [16]func(error)
	woken := few[:0]
	l.mu.Lock()
	for w := l.mu.head; w != nil; {
		next := w.next
		if fire(w) {
			// A waiter may be used again as soon as it is unlinked: only the function is kept.
			woken = append(woken, w.Wake)
			l.unlinkLocked(w)
		}
		w = next
	}
	l.mu.Unlock()
	for _, f := range woken {
		f(err)
	}
	return len(woken) > 0
}

// Watch registers w. It returns false, and does not call Wake, when the offset is already reached, or when the log takes
// no appends any more: Offsets and Err tell which. Watching a Waiter twice panics.
func (l *Log) Watch(w *Waiter) bool {
	if err := l.load(); err != nil {
		return false
	}
	return l.waiters.add(w, func() bool {
		return w.For.of(&l.off.load().Offsets) >= w.Offset || l.failure.Load() != nil
	})
}

// Unwatch takes w back. It returns false when Wake was or is being called, or w was never watched.
func (l *Log) Unwatch(w *Waiter) bool { return l.waiters.remove(w) }

// wake calls the waiters that fire says yes to. REQUIRES: no lock of the log held.
func (l *Log) wake(fire func(*Waiter) bool, err error) {
	if l.waiters.wake(fire, err) && l.store.o.OnWoken != nil {
		l.store.o.OnWoken()
	}
}

// wakeReached calls the waiters whose offset v reaches.
func (l *Log) wakeReached(v *offsetView) {
	l.wake(func(w *Waiter) bool { return w.For.of(&v.Offsets) >= w.Offset }, nil)
}

// wakeTruncated calls the waiters for offsets that the log has lost.
func (l *Log) wakeTruncated(end int64) {
	if l.waiters.count.Load() == 0 {
		return
	}
	err := fmt.Errorf("%w: %s was truncated to %d", ErrOffsetOutOfRange, l.tp, end)
	l.wake(func(w *Waiter) bool { return w.Offset > end }, err)
}
