package ioqueue

import (
	"slices"
	"sync"
)

// readyQueue is the streams that are due, in the order in which they became so, in two rows: those with somebody who waits or a time that was
// promised, and those of the background, which have neither and may have no more than some of the workers. Without that bound partitions that roll
// under `never`, whose fsyncs take long behind a full disk, have every worker, and its queue, while a commit waits for one. But they come
// to one, or urgent streams without an end would keep them from ever being synced.
type readyQueue struct {
	backgroundMax int // workers

	mu struct {
		sync.Mutex
		urgent, background         []*Stream
		running, backgroundRunning int
		passedBy                   int // urgent streams taken since the last one of the background
		closed                     bool
		wake                       *sync.Cond // there is something that next may return, or closed
	}
}

// passedByMax is how many urgent streams may pass the background by before it has a worker.
const passedByMax = 8

// run is what a worker has taken on.
type run struct {
	stream     *Stream
	background bool
	alone      bool // no other urgent stream waited for a worker
}

func (q *readyQueue) init(backgroundMax int) {
	q.backgroundMax = backgroundMax
	q.mu.wake = sync.NewCond(&q.mu)
}

// add puts a stream that is due in a row. It reports false when no worker will come.
func (q *readyQueue) add(st *Stream, background bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed {
		return false
	}
	if background {
		q.mu.background = append(q.mu.background, st)
	} else {
		q.mu.urgent = append(q.mu.urgent, st)
	}
	q.mu.wake.Signal()
	return true
}

// hurry moves a stream out of the background's row, if it is there: somebody waits for it by now.
func (q *readyQueue) hurry(st *Stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.mu.background, st)
	if at < 0 {
		return
	}
	q.mu.background = slices.Delete(q.mu.background, at, at+1)
	q.mu.urgent = append(q.mu.urgent, st)
	q.mu.wake.Signal()
}

// next waits for a stream; done must follow. ok is false when the queue is closed and drained.
func (q *readyQueue) next() (r run, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if r, ok = q.takeLocked(); ok || q.mu.closed && len(q.mu.background) == 0 {
			return r, ok
		}
		q.mu.wake.Wait()
	}
}

// takeLocked takes the stream whose turn it is. ok is false when there is none that may have a worker now.
func (q *readyQueue) takeLocked() (r run, ok bool) {
	urgent := len(q.mu.urgent) > 0
	background := len(q.mu.background) > 0 && q.mu.backgroundRunning < q.backgroundMax
	switch {
	case background && (!urgent || q.mu.backgroundRunning == 0 && q.mu.passedBy >= passedByMax):
		r.stream, r.background = popFirst(&q.mu.background), true
		q.mu.backgroundRunning++
		q.mu.passedBy = 0
	case urgent:
		r.stream = popFirst(&q.mu.urgent)
		r.alone = len(q.mu.urgent) == 0
		q.mu.passedBy++
	default:
		return r, false
	}
	q.mu.running++
	return r, true
}

// done gives back what next has returned.
func (q *readyQueue) done(r run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.running--
	if !r.background {
		return
	}
	q.mu.backgroundRunning--
	if q.mu.closed {
		q.mu.wake.Broadcast() // the last one lets the others go
	} else if len(q.mu.background) > 0 {
		q.mu.wake.Signal()
	}
}

// close lets next drain the queue, and refuses what comes later.
func (q *readyQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.closed = true
	q.mu.wake.Broadcast()
}

// counts returns how many streams wait for a worker, and how many have one.
func (q *readyQueue) counts() (queued, running int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.urgent) + len(q.mu.background), q.mu.running
}

func popFirst(row *[]*Stream) *Stream {
	st := (*row)[0]
	(*row)[0] = nil
	*row = (*row)[1:]
	return st
}
