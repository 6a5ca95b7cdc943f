package broker

import (
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/timewheel"
	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// delayedProduce is a Produce request whose batches are in the log and not yet as durable as its acknowledgement
// promises. Each pending partition has a waiter on its log; the last one to fire, or the timeout, answers. No goroutine
// waits. Data whose acknowledgement timed out stays in the log, as in Kafka: REQUEST_TIMED_OUT says "unknown", not "no".
type delayedProduce struct {
	b     *Broker
	r     *request
	op    *produceOp
	links parkedLinks
	acks  []delayedAck
	// open counts the acks without an outcome, and one more while parkProduce is still arming them.
	open atomic.Int32
	done atomic.Bool // the response is being, or has been, made

	mu struct {
		sync.Mutex
		timer *timewheel.Timer
	}
}

// delayedAck is one partition's outcome.
type delayedAck struct {
	d       *delayedProduce
	waiter  engine.Waiter
	err     error       // written before outcome is set
	outcome atomic.Bool // the wait is over
}

// parkProduce makes the op wait for its pending partitions.
func (b *Broker) parkProduce(r *request, op *produceOp) {
	op.keep(b.node.Image())
	d := &delayedProduce{b: b, r: r, op: op, acks: make([]delayedAck, len(op.pending))}
	d.open.Store(int32(len(op.pending)) + 1)
	for i := range op.pending {
		p, ack := &op.pending[i], &d.acks[i]
		ack.d = d
		ack.waiter = engine.Waiter{For: p.wait, Offset: p.offset, Wake: ack.wake}
		if !p.log.Watch(&ack.waiter) {
			ack.wake(p.log.Err()) // reached meanwhile, or failed
		}
	}
	d.mu.Lock()
	d.mu.timer = b.wheel.After(produceTimeout(&op.request), d.expire)
	d.mu.Unlock()
	if !r.state.parked.add(&d.links, d) {
		d.abandon() // the connection has closed
	}
	if d.done.Load() { // it timed out before it was listed
		r.state.parked.remove(&d.links)
	}
	if d.open.Add(-1) == 0 {
		d.run(nil)
	}
}

// wake takes an outcome from the log. Broker.wakes is drained when the log has woken everybody, see StoreOptions.OnWoken.
func (a *delayedAck) wake(err error) {
	a.err = err
	a.outcome.Store(true)
	if a.d.open.Add(-1) == 0 {
		a.d.b.wakes.queue(a.d)
	}
}

// run implements operation: every partition has its outcome, or the time is up. Only the first call counts.
func (d *delayedProduce) run(later *netpoll.Batch) {
	if d.done.Swap(true) {
		return
	}
	d.r.later = later
	d.letGo()
	for i := range d.acks {
		ack := &d.acks[i]
		out := &d.op.partitions[d.op.pending[i].index]
		switch {
		case !ack.outcome.Load():
			d.op.fail(out, protocol.ErrRequestTimedOut, protocol.ErrRequestTimedOut)
			out.BaseOffset = -1
		case ack.err != nil:
			d.op.fail(out, d.b.errorCode(ack.err), ack.err)
			out.BaseOffset = -1
		}
	}
	d.b.replyProduce(d.r, &d.op.response)
}

// expire implements operation: what is not acknowledged by now times out.
func (d *delayedProduce) expire() { d.b.wakes.add(d) }

// abandon implements operation.
func (d *delayedProduce) abandon() {
	if d.done.Swap(true) {
		return
	}
	d.letGo()
	d.r.NoReply()
}

// letGo takes the op off its connection, its timer and its logs.
func (d *delayedProduce) letGo() {
	d.r.state.parked.remove(&d.links)
	d.mu.Lock()
	timer := d.mu.timer
	d.mu.Unlock()
	if timer != nil {
		timer.Stop()
	}
	for i := range d.acks {
		if ack := &d.acks[i]; !ack.outcome.Load() {
			d.op.pending[i].log.Unwatch(&ack.waiter)
		}
	}
}
