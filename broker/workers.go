package broker

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// errBacklogFull closes a connection whose requests would need more backlog memory than workers allow.
var errBacklogFull = errors.New("broker: too many bytes of requests wait for a worker")

// workers runs the requests that may block, a bounded number at a time, and keeps the requests of each
// connection in their order: while one of a connection's requests is on a worker, the later ones queue
// behind it, whatever their place, so that a client that pipelines sees what Kafka would show it.
//
// A request that waits for the metadata log gives its worker back (hold) and gets one again for its answer (resume). Until then only requests
// of the same key go on, where the dispatch table allows it: they do not look at what the others make.
//
// Loops only ever append to a queue. Memory is bounded by backlogBytesMax, in which a request counts until it is answered: one that
// finds the backlog full is refused, and its connection closed. heldMax bounds how many wait for the log, beyond one for each connection.
//
// Long requests, those that name thousands of partitions, run longMax at a time: they are dear in memory and would leave the loops
// no processor. The others wait aside, without a worker.
type workers struct {
	count           int
	longMax         int
	backlogBytesMax int64

	wg sync.WaitGroup

	mu struct {
		sync.Mutex
		cond         *sync.Cond
		ready        []*connState // connections whose next job may be served, and that no worker has
		resumed      []resumption // answers to make; they go first
		held         int          // requests between hold and the end of their resumption
		backlogBytes int64
		longRunning  int
		aside        []*connState // connections whose next job is long and has to wait for another long one
		stopped      bool
	}
}

// heldMax is the number of held requests from which on a connection has no more than one. It is far below the number of proposals that
// the metadata log lets wait.
const heldMax = 16 << 10

// resumption is a held request's answer.
type resumption struct {
	r      *request
	answer func()
}

// job is one queued request. body is owned by the job.
type job struct {
	h    handler
	r    *request
	body []byte
	// alone: the job waits for the held requests of its connection, whatever its key.
	alone bool
	// long: one of the few that run longMax at a time.
	long bool
}

// connState is what the broker keeps of one connection: netpoll.Conn.Value.
type connState struct {
	// queue is guarded by workers.mu. busy is set, under that lock, from the first queued job until a worker
	// finds the queue empty; the connection's loop reads it without the lock.
	queue []job
	busy  atomic.Bool
	// Guarded by workers.mu as well. placed: the connection is in ready or aside, or a worker has one of its jobs. held counts its held requests,
	// all of key heldKey; busy stays set as long as there are any.
	placed  bool
	held    int
	heldKey int16

	parked parkedList // requests that wait for bytes or for an fsync

	clientID string // of the last request; touched on the connection's loop only
}

func newWorkers(count int, backlogBytesMax int64) *workers {
	w := &workers{count: count, longMax: max(1, runtime.NumCPU()/2), backlogBytesMax: backlogBytesMax}
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
	c.busy.Store(true)
	if !c.placed {
		w.placeLocked(c)
	}
	return nil
}

// placeLocked puts a connection that is not placed in line, if its next job may be served now, and settles whether it is busy.
func (w *workers) placeLocked(c *connState) {
	if len(c.queue) == 0 {
		c.queue = nil
		c.busy.Store(c.held > 0)
		return
	}
	next := &c.queue[0]
	together := next.h.together && !next.alone && next.h.key == c.heldKey && w.mu.held < heldMax
	if c.held > 0 && !together {
		return // the end of the last held request comes back here
	}
	c.placed = true
	w.mu.ready = append(w.mu.ready, c)
	w.mu.cond.Signal()
}

// hold lets go of the worker that r is served on without r being answered: its handler returns, and resume is called later.
func (w *workers) hold(r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.held = true
	r.state.held++
	r.state.heldKey = r.key
	w.mu.held++
}

// resume has answer, which answers the held request r, called on a worker; when the workers have stopped, at once.
func (w *workers) resume(r *request, answer func()) {
	w.mu.Lock()
	if w.mu.stopped {
		w.mu.Unlock()
		w.answer(resumption{r, answer})
		return
	}
	w.mu.resumed = append(w.mu.resumed, resumption{r, answer})
	w.mu.cond.Signal()
	w.mu.Unlock()
}

// answer ends a held request.
func (w *workers) answer(res resumption) {
	c, bytes := res.r.state, int64(res.r.bodyBytes)
	res.answer()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.backlogBytes -= bytes
	w.mu.held--
	if c.held--; !c.placed {
		w.placeLocked(c)
	}
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
		c, j, res, ok := w.next()
		switch {
		case !ok:
			return
		case c != nil:
			j.run()
			w.finished(c, j)
		default:
			w.answer(res)
		}
	}
}

// next waits for an answer to make, or a connection with a job that may be served, which it takes; ok is false when the workers stop.
func (w *workers) next() (c *connState, j job, res resumption, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case len(w.mu.resumed) > 0:
			res = w.mu.resumed[0]
			w.mu.resumed[0] = resumption{}
			if w.mu.resumed = w.mu.resumed[1:]; len(w.mu.resumed) == 0 {
				w.mu.resumed = nil
			}
			return nil, job{}, res, true
		case len(w.mu.ready) > 0:
			c = w.mu.ready[0]
			w.mu.ready[0] = nil
			w.mu.ready = w.mu.ready[1:]
			if len(c.queue) > 0 && c.queue[0].long && w.mu.longRunning >= w.longMax {
				w.mu.aside = append(w.mu.aside, c)
				continue
			}
			if len(c.queue) > 0 {
				if j = c.queue[0]; j.long {
					w.mu.longRunning++
				}
				c.queue[0] = job{}
				c.queue = c.queue[1:]
				j.r.bodyBytes, j.r.alone = len(j.body), c.held == 0
				return c, j, resumption{}, true
			}
			c.placed = false // its queue was dropped: the connection has closed
			w.placeLocked(c)
		case w.mu.stopped:
			return nil, job{}, resumption{}, false
		default:
			w.mu.cond.Wait()
		}
	}
}

// finished puts the connection back in line when it has more jobs.
func (w *workers) finished(c *connState, j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case j.r.postponed:
		j.r.postponed, j.alone = false, true
		c.queue = append([]job{j}, c.queue...)
	case !j.r.held:
		w.mu.backlogBytes -= int64(len(j.body))
	}
	if j.long {
		w.mu.longRunning--
		if len(w.mu.aside) > 0 {
			w.mu.ready = append(w.mu.ready, w.mu.aside[0])
			w.mu.aside[0] = nil
			w.mu.aside = w.mu.aside[1:]
			w.mu.cond.Signal()
		}
	}
	c.placed = false
	w.placeLocked(c)
}

// postpone has the request, which its handler has neither answered nor held, served again when no earlier one of its connection is held.
func (r *request) postpone() { r.postponed = true }

// run serves the job's request.
func (j job) run() {
	j.r.onWorker = true
	if err := j.h.handle(j.r, j.body); err != nil {
		j.r.Fail(err)
	}
}
