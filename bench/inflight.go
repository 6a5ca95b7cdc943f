package bench

import "sync"

// pending is one request that waits for its answer.
type pending struct {
	intended, sent int64 // ns on the run's clock
	seq            uint64
	partition      int32 // index into the run's partitions
	template       int32
	correlation    int32
}

// inflight is the queue of a connection's unanswered requests, in order: Kafka answers a connection in order. The sender
// pushes, the receiver pops; push blocks at the limit (bounded in-flight) and both end when it is closed.
type inflight struct {
	mu struct {
		sync.Mutex
		ring   []pending
		head   int
		n      int
		closed bool // no more pushes
	}
	limit int
	room  sync.Cond // signalled by pop and close
	more  sync.Cond // signalled by push and close
}

func newInflight(limit int) *inflight {
	q := &inflight{limit: limit}
	q.mu.ring = make([]pending, 16)
	q.room.L, q.more.L = &q.mu, &q.mu
	return q
}

// waitRoom blocks until fewer than limit requests are in flight and returns how many more fit; 0 when closed.
func (q *inflight) waitRoom() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mu.n >= q.limit && !q.mu.closed {
		q.room.Wait()
	}
	if q.mu.closed {
		return 0
	}
	return q.limit - q.mu.n
}

// push appends requests that are about to be sent; it never blocks.
func (q *inflight) push(ps []pending) {
	q.mu.Lock()
	for q.mu.n+len(ps) > len(q.mu.ring) {
		grown := make([]pending, 2*len(q.mu.ring))
		for i := 0; i < q.mu.n; i++ {
			grown[i] = q.mu.ring[(q.mu.head+i)&(len(q.mu.ring)-1)]
		}
		q.mu.ring, q.mu.head = grown, 0
	}
	for i := range ps {
		q.mu.ring[(q.mu.head+q.mu.n)&(len(q.mu.ring)-1)] = ps[i]
		q.mu.n++
	}
	q.mu.Unlock()
	q.more.Signal()
}

// pop removes the oldest request; ok is false when none is in flight.
func (q *inflight) pop() (p pending, ok bool) {
	q.mu.Lock()
	if q.mu.n == 0 {
		q.mu.Unlock()
		return p, false
	}
	p = q.mu.ring[q.mu.head]
	q.mu.head = (q.mu.head + 1) & (len(q.mu.ring) - 1)
	q.mu.n--
	q.mu.Unlock()
	q.room.Signal()
	return p, true
}

// waitMore blocks until a request is in flight; false when the queue is closed and empty.
func (q *inflight) waitMore() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.mu.n == 0 && !q.mu.closed {
		q.more.Wait()
	}
	return q.mu.n > 0
}

// closePush says that nothing more will be pushed; a blocked sender wakes too.
func (q *inflight) closePush() {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.room.Broadcast()
	q.more.Broadcast()
}

func (q *inflight) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.n
}
