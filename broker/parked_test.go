package broker

import (
	"slices"
	"testing"

	"github.com/weirmq/weir/netpoll"
)

// testOperation notes the batch that it is run with.
type testOperation struct{ ran func(*netpoll.Batch) }

func (o *testOperation) run(later *netpoll.Batch) { o.ran(later) }
func (o *testOperation) expire()                  {}
func (o *testOperation) abandon()                 {}

// What is queued runs when the waker is done with all of them, in order and in one batch; while a loop handles frames, at the end of its turn.
func TestWakesRunTogether(t *testing.T) {
	var w wakes
	var got []int
	var batches []*netpoll.Batch
	op := func(n int) *testOperation {
		return &testOperation{ran: func(later *netpoll.Batch) { got, batches = append(got, n), append(batches, later) }}
	}
	expect := func(what string, want ...int) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %v have run, want %v", what, got, want)
		}
	}
	w.queue(op(1))
	w.queue(op(2))
	expect("queued")
	w.drainUnlessTurn()
	expect("woken", 1, 2)
	if batches[0] == nil || batches[0] != batches[1] {
		t.Fatalf("run with batches %p and %p, want the same", batches[0], batches[1])
	}
	w.add(op(3))
	expect("added", 1, 2, 3)
	w.beginTurn()
	w.beginTurn()
	w.add(op(4))
	w.queue(&testOperation{ran: func(*netpoll.Batch) { w.queue(op(6)) }})
	w.queue(op(5))
	w.drainUnlessTurn()
	expect("in two turns", 1, 2, 3)
	w.endTurn()
	expect("after the first turn", 1, 2, 3, 4, 5, 6)
	w.endTurn()
	expect("after both", 1, 2, 3, 4, 5, 6)
}
