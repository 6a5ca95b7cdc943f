package broker

import (
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/netpoll"
)

// operation is a request that waits: a delayed fetch or produce.
type operation interface {
	// run looks whether the operation is complete and answers it if so, in the batch if that is not nil. It is called by whoever drains the wakes.
	run(later *netpoll.Batch)
	// expire makes the operation complete now, with what there is.
	expire()
	// abandon makes the operation let go of what it holds: nobody reads its response any more.
	abandon()
}

// wakes gathers operations whose logs have moved and runs them. A wake that happens while a loop handles frames
// (an append woke a parked fetch) runs at the end of that turn, so that all appends of the turn are answered by one
// fetch response; a wake at any other time (an fsync finished, a timer fired) runs at once, on the goroutine that
// brought it. Those that one fsync woke are answered together, and the loops of their connections woken once.
type wakes struct {
	// turns counts the loops that are handling frames. A waker first queues, then looks at turns; a loop first
	// leaves turns, then drains: so an operation is never left in the queue.
	turns atomic.Int32

	mu struct {
		sync.Mutex
		queue []operation
	}
	lots sync.Pool // of *wakeLot
}

// wakeLot is what one drain takes at a time.
type wakeLot struct {
	ops   []operation
	later netpoll.Batch
}

// wakeLotMax is after how many operations their responses leave, while others are still being made.
const wakeLotMax = 64

func (w *wakes) beginTurn() { w.turns.Add(1) }

func (w *wakes) endTurn() {
	w.turns.Add(-1)
	w.drain()
}

// add queues op to be run soon.
func (w *wakes) add(op operation) {
	w.queue(op)
	w.drainUnlessTurn()
}

// queue is add by someone who calls drainUnlessTurn later.
func (w *wakes) queue(op operation) {
	w.mu.Lock()
	w.mu.queue = append(w.mu.queue, op)
	w.mu.Unlock()
}

// drainUnlessTurn drains the queue, or leaves it to a loop that handles frames.
func (w *wakes) drainUnlessTurn() {
	if w.turns.Load() == 0 {
		w.drain()
	}
}

func (w *wakes) drain() {
	lot, _ := w.lots.Get().(*wakeLot)
	if lot == nil {
		lot = &wakeLot{}
	}
	for w.take(lot) {
		for i, op := range lot.ops {
			op.run(&lot.later)
			if i%wakeLotMax == wakeLotMax-1 {
				lot.later.Flush()
			}
		}
		lot.later.Flush()
	}
	w.lots.Put(lot)
}

// take moves the queue into lot; false when it is empty.
func (w *wakes) take(lot *wakeLot) bool {
	clear(lot.ops)
	lot.ops = lot.ops[:0]
	w.mu.Lock()
	defer w.mu.Unlock()
	lot.ops, w.mu.queue = w.mu.queue, lot.ops
	return len(lot.ops) > 0
}

// parkedLinks places an operation in the list of its connection.
type parkedLinks struct {
	prev, next *parkedLinks
	op         operation
	list       *parkedList // nil while not listed; guarded by list.mu
}

// parkedList is the operations of one connection that wait.
type parkedList struct {
	mu     sync.Mutex
	first  *parkedLinks
	closed bool
}

// add lists op; false when the connection has closed meanwhile.
func (l *parkedList) add(links *parkedLinks, op operation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	links.op, links.list, links.prev, links.next = op, l, nil, l.first
	if l.first != nil {
		l.first.prev = links
	}
	l.first = links
	return true
}

// remove takes an operation off the list, if it is on it.
func (l *parkedList) remove(links *parkedLinks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if links.list == nil {
		return
	}
	if links.prev != nil {
		links.prev.next = links.next
	} else {
		l.first = links.next
	}
	if links.next != nil {
		links.next.prev = links.prev
	}
	links.prev, links.next, links.list = nil, nil, nil
}

// operations returns what is listed now.
func (l *parkedList) operations(closing bool) []operation {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = l.closed || closing
	var ops []operation
	for links := l.first; links != nil; links = links.next {
		ops = append(ops, links.op)
	}
	return ops
}

// abandon lets every listed operation go, and refuses further ones.
func (l *parkedList) abandon() {
	for _, op := range l.operations(true) {
		op.abandon()
	}
}

// expire completes every listed operation.
func (l *parkedList) expire() {
	for _, op := range l.operations(false) {
		op.expire()
	}
}
