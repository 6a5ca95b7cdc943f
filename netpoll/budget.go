package netpoll

import (
	"sync"
	"sync/atomic"
)

// budget accounts for the memory of all requests and responses of a server. Charging never fails: whoever wants to read asks
// admit first. While the budget is spent, one connection at a time (the favoured one) may go on, so that frames which
// together fill the budget without any being whole cannot lock up the server.
type budget struct {
	limit    int64
	used     atomic.Int64
	favoured atomic.Pointer[conn]
	waiting  atomic.Int64 // number of mu.waiters
	mu       struct {
		sync.Mutex
		waiters map[*conn]struct{}
	}
}

// charge adds n bytes, or gives back -n.
func (b *budget) charge(n int64) {
	used := b.used.Add(n)
	if n < 0 && used < b.limit && b.waiting.Load() > 0 {
		b.wake()
	}
}

// admit reports whether c may read more. If not, c gets a notify as soon as it is worth asking again.
func (b *budget) admit(c *conn) bool {
	if b.used.Load() < b.limit || b.favoured.Load() == c || b.favoured.CompareAndSwap(nil, c) {
		return true
	}
	b.mu.Lock()
	if b.mu.waiters == nil {
		b.mu.waiters = make(map[*conn]struct{})
	}
	b.mu.waiters[c] = struct{}{}
	b.waiting.Store(int64(len(b.mu.waiters)))
	b.mu.Unlock()
	// Whoever freed memory before it could see us waiting did not wake us.
	if b.used.Load() < b.limit || b.favoured.CompareAndSwap(nil, c) {
		b.forget(c)
		return true
	}
	return false
}

// settle ends the favour for c: it has no partial frame any more.
func (b *budget) settle(c *conn) {
	if b.favoured.Load() == c && b.favoured.CompareAndSwap(c, nil) && b.waiting.Load() > 0 {
		b.wake()
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

// wake lets everybody who waits ask again.
func (b *budget) wake() {
	b.mu.Lock()
	waiters := b.mu.waiters
	b.mu.waiters = nil
	b.waiting.Store(0)
	b.mu.Unlock()
	for c := range waiters {
		c.notify()
	}
}
