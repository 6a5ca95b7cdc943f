package broker

import (
	"errors"
	"sync"
	"sync/atomic"
)

// errBacklogFull closes a connection whose requests would need more backlog memory than workers allow.
var errBacklogFull = errors.New("broker: too many bytes of requests wait for a worker")

// workers runs the requests that may block, a bounded number at a time, and keeps the requests of each
// connection in their order: while one of a connection's requests is on a worker, the later ones queue
// behind it, whatever their place, so that a client that pipelines sees what Kafka would show it.
//
// Loops only ever append to a queue. Memory is bounded by backlogBytesMax: a request that finds the backlog
// full is refused, and its connection closed.
type workers struct {
	count           int
	backlogBytesMax int64

	wg sync.WaitGroup

	mu struct {
		sync.Mutex
		cond         *sync.Cond
		ready        []*connState // connections with queued jobs that no worker has
		backlogBytes int64
		stopped      bool
	}
}

// job is one queued request. body is owned by the job.
type job struct {
	h    handler
	r    *request
	body []byte
}

// connState is what the broker keeps of one connection: netpoll.Conn.Value.
type connState struct {
	// queue is guarded by workers.mu. busy is set, under that lock, from the first queued job until a worker
	// finds the queue empty; the connection's loop reads it without the lock.
	queue []job
	busy  atomic.Bool

	parked parkedList // requests that wait for bytes or for an fsync

	clientID string // of the last request; touched on the connection's loop only
}

func newWorkers(count int, backlogBytesMax int64) *workers {
	w := &workers{count: count, backlogBytesMax: backlogBytesMax}
	w.mu.cond = sync.NewCond(&w.mu)
	return w
}

func (w *workers) start() {
	for range w.count {
		w.wg.Add(1)
		go w.work()
	}
}

// stop lets the queued jobs finish and returns when the workers have ended. Jobs offered later are refused.
func (w *workers) stop() {
	w.mu.Lock()
	w.mu.stopped = true
	w.mu.cond.Broadcast()
	w.mu.Unlock()
	w.wg.Wait()
}

// submit queues j behind the other jobs of its connection.
func (w *workers) submit(c *connState, j job) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.stopped {
		return errStopping
	}
	if w.mu.backlogBytes > 0 && w.mu.backlogBytes+int64(len(j.body)) > w.backlogBytesMax {
		return errBacklogFull
	}
	w.mu.backlogBytes += int64(len(j.body))
	c.queue = append(c.queue, j)
	if !c.busy.Load() {
		c.busy.Store(true)
		w.mu.ready = append(w.mu.ready, c)
		w.mu.cond.Signal()
	}
	return nil
}

// drop forgets the queued jobs of a connection that has closed or is about to; the one that runs goes on.
func (w *workers) drop(c *connState) {
	w.mu.Lock()
	queue := c.queue
	c.queue = nil
	for _, j := range queue {
		w.mu.backlogBytes -= int64(len(j.body))
	}
	w.mu.Unlock()
	for _, j := range queue {
		j.r.NoReply()
	}
}

func (w *workers) work() {
	defer w.wg.Done()
	for {
		c, j, ok := w.next()
		if !ok {
			return
		}
		j.run()
		w.finished(c, j)
	}
}

// next waits for a connection with a queued job and takes that job; ok is false when the workers stop.
func (w *workers) next() (c *connState, j job, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.mu.ready) == 0 {
			if w.mu.stopped {
				return nil, job{}, false
			}
			w.mu.cond.Wait()
		}
		c = w.mu.ready[0]
		w.mu.ready[0] = nil
		w.mu.ready = w.mu.ready[1:]
		if len(c.queue) > 0 {
			j = c.queue[0]
			c.queue[0] = job{}
			c.queue = c.queue[1:]
			return c, j, true
		}
		c.busy.Store(false) // its queue was dropped: the connection has closed
	}
}

// finished puts the connection back in line when it has more jobs.
func (w *workers) finished(c *connState, j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.backlogBytes -= int64(len(j.body))
	if len(c.queue) == 0 {
		c.queue = nil
		c.busy.Store(false)
		return
	}
	w.mu.ready = append(w.mu.ready, c)
	w.mu.cond.Signal()
}

// run serves the job's request.
func (j job) run() {
	j.r.onWorker = true
	if err := j.h.handle(j.r, j.body); err != nil {
		j.r.Fail(err)
	}
}
