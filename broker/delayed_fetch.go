package broker

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/timewheel"
	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// fetchOp is a fetch request from its arrival to its response. It looks at its partitions; when they hold less than the client
// wants, it watches their logs and looks again when one has moved. No goroutine waits for it.
//
// Whoever moves signals from 0 runs the op, alone, until it has brought signals back to 0 or answered; everybody else
// only counts up. So nothing here needs a lock, but for what belongs to the session.
type fetchOp struct {
	b *Broker
	r *request

	session  *fetchSession // nil without one
	full     bool          // the response names every partition asked for, news or not
	own      []fetchPartition
	minBytes int64
	maxBytes int64
	wait     time.Duration
	isolated engine.Isolation
	follower bool

	signals   atomic.Int32
	expired   atomic.Bool
	abandoned atomic.Bool

	// Touched by whoever runs the op.
	listed bool
	links  parkedLinks
	timer  *timewheel.Timer

	// The outcome of the last look, in response order.
	results []fetchResult
	bytes   int64
	misfits int // partitions whose next batch is larger than what was left of maxBytes
	failed  bool
	// checking: a worker checks old records, see engine.Log.Verified.
	checking bool
}

// misfitsMax is how many partitions a look reads in vain when little is left of the response. The header of each one's next batch is read
// from its file for that: behind on thousands of partitions, a reader paid for all of them with each response. What is not read comes first
// in the session's next response.
const misfitsMax = 16

// fetchResult is what one look at a partition found. Its read holds span references.
type fetchResult struct {
	p        *fetchPartition
	code     protocol.ErrorCode
	offsets  engine.Offsets
	read     engine.ReadResult
	cut      bool // there was no budget left to read it
	diverged bool
	epoch    int32 // with diverged: the largest epoch that both have, and where it ends
	epochEnd int64
}

// start runs the op for the first time.
func (op *fetchOp) start() {
	op.signals.Store(1)
	op.run(nil)
}

// signal makes the op look again soon.
func (op *fetchOp) signal() {
	if op.signals.Add(1) == 1 {
		op.b.wakes.add(op)
	}
}

// moved is signal from a log that wakes its waiters: the op runs when it has woken them all.
func (op *fetchOp) moved() {
	if op.signals.Add(1) == 1 {
		op.b.wakes.queue(op)
	}
}

// run implements operation. An op that is answered keeps its signals, so that late wakes go nowhere.
func (op *fetchOp) run(later *netpoll.Batch) {
	op.r.later = later
	for {
		seen := op.signals.Load()
		if op.step() || op.signals.CompareAndSwap(seen, 0) {
			return
		}
	}
}

// expire implements operation.
func (op *fetchOp) expire() {
	op.expired.Store(true)
	op.signal()
}

// abandon implements operation.
func (op *fetchOp) abandon() {
	op.abandoned.Store(true)
	op.signal()
}

// step looks at the partitions and answers, or waits; it reports whether the request is done with.
func (op *fetchOp) step() (done bool) {
	if op.abandoned.Load() {
		op.letGo()
		op.r.NoReply()
		return true
	}
	expired := op.expired.Load() || op.wait <= 0 || op.b.stopping.Load()
	if op.session != nil {
		done = op.stepSession(expired)
	} else {
		op.results = slices.Grow(op.results, len(op.own))
		for i := range op.own {
			op.look(&op.own[i])
		}
		if done = op.enough(expired) || len(op.own) == 0; !done {
			op.parkOwn()
		}
	}
	if done {
		op.letGo()
		op.reply()
		return true
	}
	return !op.listed && op.list()
}

// stepSession is step's look and decision under the session's lock.
func (op *fetchOp) stepSession(expired bool) (done bool) {
	s := op.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	s.news.Lock()
	s.news.op = op // from here on every wake signals the op
	s.news.Unlock()
	ready := s.takeReadyLocked()
	op.results = slices.Grow(op.results, len(ready))
	for _, p := range ready {
		op.look(p)
	}
	if op.enough(expired) {
		op.settleLocked()
		return true
	}
	op.parkLocked()
	return false
}

func (op *fetchOp) enough(expired bool) bool {
	if op.checking && op.bytes == 0 && !op.failed && !op.b.stopping.Load() {
		return false // an answer without records would look like the end of the log to a client that does not wait
	}
	return expired || op.failed || op.bytes >= op.minBytes
}

// look finds what a partition holds for the client and adds it to the results.
func (op *fetchOp) look(p *fetchPartition) {
	op.results = append(op.results, fetchResult{p: p})
	res := &op.results[len(op.results)-1]
	p.resolve(op.b, op.b.node.Image())
	if res.code = p.code; res.code == protocol.ErrNone && op.follower {
		res.code = protocol.ErrNotLeaderOrFollower
	}
	if res.code == protocol.ErrNone {
		op.read(p, res)
	}
	if res.code != protocol.ErrNone || res.diverged {
		op.failed = true
	}
	op.bytes += res.read.Bytes
}

// read reads a partition within what is left of the budget.
func (op *fetchOp) read(p *fetchPartition, res *fetchResult) {
	log := p.ref.log
	res.offsets = log.Offsets()
	if p.lastFetchedEpoch >= 0 && op.diverges(p, res) {
		return
	}
	switch {
	case p.offset < res.offsets.LogStart || p.offset > res.offsets.LogEnd:
		res.code = protocol.ErrOffsetOutOfRange
		return
	case p.offset >= op.bound(&res.offsets):
		if err := log.Err(); p.offset >= res.offsets.LogEnd && errors.Is(err, engine.ErrCorrupt) {
			res.code = protocol.ErrKafkaStorageError // records follow that are damaged: this is not the end
		}
		return
	}
	left, wanted := op.maxBytes-op.bytes, int64(max(p.maxBytes, 0))
	budget := min(left, wanted)
	if op.bytes > 0 && (budget <= 0 || op.misfits >= misfitsMax || op.b.store.FilesCrowded()) {
		res.cut = true // every span of the response keeps a file open until it is sent
		return
	}
	read, err := log.Read(p.offset, engine.ReadOptions{MaxBytes: budget, MinOneBatch: op.bytes == 0, Isolation: op.isolated})
	if err != nil {
		read.Release()
		if errors.Is(err, engine.ErrClosed) {
			p.image = nil // the topic was deleted: look it up again
		}
		if res.code = op.b.errorCode(err); res.code == protocol.ErrCorruptMessage {
			res.code = protocol.ErrKafkaStorageError // the bytes on our disk, not the client's
		}
		return
	}
	if read.Bytes > 0 && !log.Verified(p.offset, read.NextOffset, op.signal) {
		read.Release()
		res.cut, op.checking = true, true // a worker checks the bytes, and signals
		return
	}
	res.read, res.cut = read, read.Bytes == 0
	if res.cut && left <= wanted {
		op.misfits++
	}
	res.offsets.HighWatermark, res.offsets.LastStable, res.offsets.LogStart = read.HighWatermark, read.LastStable, read.LogStart
}

// diverges holds the epoch of the last record that the client has against the log (KIP-595).
func (op *fetchOp) diverges(p *fetchPartition, res *fetchResult) bool {
	epoch, end := p.ref.log.EndOffsetForEpoch(p.lastFetchedEpoch)
	switch {
	case epoch < 0 || end < 0:
		res.code = protocol.ErrOffsetOutOfRange
		return true
	case epoch < p.lastFetchedEpoch || end < p.offset:
		res.diverged, res.epoch, res.epochEnd = true, epoch, end
		return true
	}
	return false
}

// bound is the exclusive end of what the client may read.
func (op *fetchOp) bound(o *engine.Offsets) int64 {
	if op.isolated == engine.ReadCommitted {
		return o.LastStable
	}
	return o.HighWatermark
}

// watch arms the partition's waiter for the first record that this look did not see. It returns false when that record has
// come meanwhile, so that the op must look again.
func (op *fetchOp) watch(res *fetchResult) bool {
	p := res.p
	p.unwatch()
	p.waiter.For = engine.WaitHighWatermark
	if op.isolated == engine.ReadCommitted {
		p.waiter.For = engine.WaitLastStable
	}
	p.waiter.Offset = max(op.bound(&res.offsets), p.offset) + 1
	p.watched = p.ref.log.Watch(&p.waiter)
	return p.watched || p.ref.log.Err() != nil
}

// drop releases what the last look found.
func (op *fetchOp) drop() {
	for i := range op.results {
		op.results[i].read.Release()
		op.results[i] = fetchResult{}
	}
	op.results, op.bytes, op.misfits, op.failed, op.checking = op.results[:0], 0, 0, false, false
}

// parkOwn watches every partition of a fetch without a session.
func (op *fetchOp) parkOwn() {
	for i := range op.results {
		if !op.watch(&op.results[i]) {
			op.signals.Add(1)
		}
	}
	op.drop()
}

// parkLocked watches the partitions that were looked at. Those with some bytes stay ready, to be counted at the next look.
func (op *fetchOp) parkLocked() {
	s := op.session
	for i := range op.results {
		res := &op.results[i]
		current := op.watch(res)
		if !current {
			op.signals.Add(1)
		}
		if current && res.read.Bytes == 0 && !res.cut {
			res.p.queued = false
		} else {
			s.ready = append(s.ready, res.p)
		}
	}
	op.drop()
}

// settleLocked notes what the response tells of each partition, drops from the results what is no news, and orders the ready
// list: first the partitions that got nothing for want of budget, last those that got records.
func (op *fetchOp) settleLocked() {
	s := op.session
	var served []*fetchPartition
	kept := op.results[:0]
	for i := range op.results {
		res := op.results[i]
		p := res.p
		switch {
		case res.code != protocol.ErrNone || res.diverged || res.read.Bytes > 0:
			served = append(served, p)
		case !res.cut && op.watch(&res) && p.watched:
			p.queued = false
		default:
			s.ready = append(s.ready, p)
		}
		news := op.full || res.code != protocol.ErrNone || res.diverged || res.read.Bytes > 0 ||
			p.highWatermark != res.offsets.HighWatermark || p.logStart != res.offsets.LogStart
		p.highWatermark, p.logStart = res.offsets.HighWatermark, res.offsets.LogStart
		if res.code != protocol.ErrNone {
			p.highWatermark = -1 // the next response tells it again
		}
		if news {
			kept = append(kept, res)
		}
	}
	clear(op.results[len(kept):])
	op.results = kept
	s.ready = append(s.ready, served...)
	s.news.Lock()
	if s.news.op == op {
		s.news.op = nil
	}
	s.news.Unlock()
}

// list gives the op its timer and its place among the connection's waiting requests. It reports that the request is done with
// when the connection has closed.
func (op *fetchOp) list() (done bool) {
	op.listed = true
	if !op.r.state.parked.add(&op.links, op) {
		op.letGo()
		op.r.NoReply()
		return true
	}
	op.timer = op.b.wheel.After(op.wait, op.expire)
	if op.b.stopping.Load() { // the broker may have passed the list before this op was on it
		op.expire()
	}
	return false
}

// letGo takes the op off its connection, its timer and its logs. Without a session its partitions are not watched any more; a
// session's stay watched, for the next request.
func (op *fetchOp) letGo() {
	if op.listed {
		op.r.state.parked.remove(&op.links)
	}
	if op.timer != nil {
		op.timer.Stop()
	}
	for i := range op.own {
		op.own[i].unwatch()
	}
	if s := op.session; s != nil {
		s.news.Lock()
		if s.news.op == op {
			s.news.op = nil
		}
		s.news.Unlock()
	}
	if op.abandoned.Load() {
		op.drop()
	}
}
