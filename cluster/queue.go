package cluster

import (
	"fmt"
	"sync"
)

// proposal is one entry on its way through the log. done is called exactly once.
type proposal struct {
	data  []byte // the entry's payload
	count int    // its records
	index uint64 // 0 until raft has given it one; owned by the loop
	done  func([]Result, error)

	partitions int // that it adds if all its records are accepted
}

// refuse gives every record the same reason.
func (p *proposal) refuse(err error) {
	results := make([]Result, p.count)
	for i := range results {
		results[i].Err = err
	}
	p.done(results, nil)
}

// proposalQueue holds the proposals that wait for the loop. wake has a token when there is something to take.
type proposalQueue struct {
	wake chan struct{}
	max  int

	mu struct {
		sync.Mutex
		waiting []*proposal
		closed  error // why nothing is taken any more
	}
}

func newProposalQueue(max int) *proposalQueue {
	return &proposalQueue{wake: make(chan struct{}, 1), max: max}
}

// put adds a proposal, or says why not; then done was not called.
func (q *proposalQueue) put(p *proposal) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed != nil {
		return q.mu.closed
	}
	if len(q.mu.waiting) >= q.max {
		return fmt.Errorf("%w: %d wait already", ErrBusy, len(q.mu.waiting))
	}
	q.mu.waiting = append(q.mu.waiting, p)
	if len(q.mu.waiting) == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// take returns the next proposals: at least one if there is one, and no more than groupBytesMax of payload otherwise. What is left
// wakes the loop again.
func (q *proposalQueue) take() []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.mu.waiting) && (n == 0 || bytes+len(q.mu.waiting[n].data) <= groupBytesMax) {
		bytes += len(q.mu.waiting[n].data)
		n++
	}
	group := q.mu.waiting[:n:n]
	if q.mu.waiting = q.mu.waiting[n:]; len(q.mu.waiting) == 0 {
		q.mu.waiting = nil
	} else {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return group
}

// close refuses all later proposals with err and returns those that wait.
func (q *proposalQueue) close(err error) []*proposal {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed == nil {
		q.mu.closed = err
	}
	left := q.mu.waiting
	q.mu.waiting = nil
	return left
}
