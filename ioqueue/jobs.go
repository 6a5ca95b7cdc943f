package ioqueue

import "sync"

// jobQueue runs functions that may block on the disk, a few at a time, in the
// order they came. Its goroutines exist only while there is work.
type jobQueue struct {
	limit int

	mu struct {
		sync.Mutex
		queue   []func()
		running int
		closed  bool
	}
	workers sync.WaitGroup
}

// Go runs f on one of the directory's workers: deletes, preallocation, all
// that may block on the disk. It never blocks and never refuses; the queue is
// unbounded, so callers must bound what they hand in. After Close f runs in
// the caller's goroutine.
func (s *Scheduler) Go(f func()) {
	if !s.jobs.add(f, false) {
		f()
	}
}

// add queues f. With idleOnly it does so only when a worker is free. It
// reports whether f will be run.
func (q *jobQueue) add(f func(), idleOnly bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed || idleOnly && (len(q.mu.queue) > 0 || q.mu.running >= q.limit) {
		return false
	}
	q.mu.queue = append(q.mu.queue, f)
	if q.mu.running < q.limit {
		q.mu.running++
		q.workers.Go(q.work)
	}
	return true
}

func (q *jobQueue) work() {
	for {
		q.mu.Lock()
		if len(q.mu.queue) == 0 {
			q.mu.queue = nil
			q.mu.running--
			q.mu.Unlock()
			return
		}
		f := q.mu.queue[0]
		q.mu.queue[0] = nil
		q.mu.queue = q.mu.queue[1:]
		q.mu.Unlock()
		f()
	}
}

// pending returns how many jobs are queued or running.
func (q *jobQueue) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.queue) + q.mu.running
}

// close lets the queued jobs finish and waits for them.
func (q *jobQueue) close() {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	q.workers.Wait()
}
