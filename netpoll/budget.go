package netpoll

import (
	"sync"
	"sync/atomic"
)

// Sizes of frames by which the budget tells requests apart. What one record or a look at the metadata takes is small; what Kafka's producers send at
// most by default (max.request.size) is not large.
const (
	smallFrameBytes = 64 << 10
	largeFrameBytes = 1 << 20
)

// budget accounts for the memory of all requests and responses of a server. Charging never fails: whoever wants to read asks
// admit first. Large frames may fill three quarters of it, and seven eighths together with those that are neither large nor small: whoever sends
// beginnings of frames and no ends stops others who send frames of that size, and nobody else. While a share is spent, one connection at a time (the
// favoured one) may go on, on a separate account, so that frames which together fill the budget without any being whole cannot lock up the server.
type budget struct {
	limit    int64
	used     atomic.Int64
	over     atomic.Int64 // of the favoured
	favoured atomic.Pointer[conn]
	waiting  atomic.Int64 // number of mu.waiters
	wakeAt   atomic.Int64 // how much may be used so that one of mu.waiters may go on
	mu       struct {
		sync.Mutex
		waiters map[*conn]int64 // how much may be used so that it may go on
	}
}

// share is how much may be used so that a connection may read on in a frame of that size; 0 where the size is not known yet.
func (b *budget) share(frame int) int64 {
	switch {
	case frame <= smallFrameBytes:
		return b.limit
	case frame <= largeFrameBytes:
		return b.limit - b.limit/8
	default:
		return b.limit - b.limit/4
	}
}

// roomy reports whether n bytes more leave the shares of all sizes of frames as they are.
func (b *budget) roomy(n int) bool { return b.used.Load()+int64(n) <= b.share(largeFrameBytes+1) }

// charge adds n bytes, or gives back -n. over is for the favoured connection's.
func (b *budget) charge(n int64, over bool) {
	if over {
		b.over.Add(n)
		return
	}
	used := b.used.Add(n)
	if n < 0 && b.waiting.Load() > 0 && used <= b.wakeAt.Load() {
		b.wake(used)
	}
}

// bytes is what is charged.
func (b *budget) bytes() int64 { return b.used.Load() + b.over.Load() }

// favours reports whether c is the favoured connection.
func (b *budget) favours(c *conn) bool { return b.favoured.Load() == c }

// admit reports whether c may take need bytes to read on in a frame of that size. If not, c gets a notify as soon as it is worth asking again.
// With take they are charged at once, as taken says, unless c goes on as the favoured connection: two loops must not both get what is left.
func (b *budget) admit(c *conn, frame, need int, take bool) (ok, taken bool) {
	most := b.share(frame) - int64(need)
	fits := func() bool {
		for {
			used := b.used.Load()
			if used > most {
				return false
			}
			if !take || b.used.CompareAndSwap(used, used+int64(need)) {
				return true
			}
		}
	}
	if fits() {
		return true, take
	}
	if b.favours(c) || b.favoured.CompareAndSwap(nil, c) {
		return true, false
	}
	b.mu.Lock()
	if b.mu.waiters == nil {
		b.mu.waiters = make(map[*conn]int64)
	}
	b.mu.waiters[c] = most
	if len(b.mu.waiters) == 1 || most > b.wakeAt.Load() {
		b.wakeAt.Store(most)
	}
	b.waiting.Store(int64(len(b.mu.waiters)))
	b.mu.Unlock()
	// Whoever freed memory before it could see us waiting did not wake us.
	if fits() {
		b.forget(c)
		return true, take
	}
	if b.favoured.CompareAndSwap(nil, c) {
		b.forget(c)
		return true, false
	}
	return false, false
}

// settle ends the favour for c: it has no partial frame any more.
func (b *budget) settle(c *conn) {
	if b.favours(c) && b.favoured.CompareAndSwap(c, nil) && b.waiting.Load() > 0 {
		b.wake(-1)
	}
}

// forget removes c from those that wait.
func (b *budget) forget(c *conn) {
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	delete(b.mu.waiters, c)
	b.waiting.Store(int64(len(b.mu.waiters)))
	b.mu.Unlock()
}

// wake lets those ask again who may go on while that much is used, all if it is -1: then the favour is to be had.
func (b *budget) wake(used int64) {
	var woken []*conn
	b.mu.Lock()
	wakeAt, first := int64(0), true
	for c, most := range b.mu.waiters {
		switch {
		case used < 0 || used <= most:
			woken = append(woken, c)
			delete(b.mu.waiters, c)
		case first || most > wakeAt:
			wakeAt, first = most, false
		}
	}
	b.wakeAt.Store(wakeAt)
	b.waiting.Store(int64(len(b.mu.waiters)))
	b.mu.Unlock()
	for _, c := range woken {
		c.notify()
	}
}
