package netpoll

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/internal/clock"
)

// Free tickets kept per loop.
const freeTicketsMax = 4096

// How long a stopping server waits for the peer to take what the kernel holds, and how often it looks.
const (
	lingerMax  = time.Second
	lingerStep = 20 * time.Millisecond
)

// loop is the state machine of the connections of one loop: framing, order, pauses, time-outs. It makes no system call: sockets
// do. One goroutine at a time runs it, the loop's own (epoll) or the holder of the loop's mutex (go).
type loop struct {
	srv       *Server
	sys       kernel
	n         int
	conns     map[*conn]struct{}
	connCount atomic.Int64 // of conns and those on the way; the acceptor reads it
	now       int64        // nanos at the start of the turn
	frames    int          // delivered in this turn
	draining  bool
	free      *ticket
	freeCount int
	deadlines deadlines
	timer     clock.Timer
	timerAt   int64  // when timer fires; 0 if it is not armed
	onTimer   func() // runs expire in the loop's context soon
	stats     counters
}

func newLoop(s *Server, n int) *loop {
	return &loop{srv: s, sys: s.opts.kernel, n: n, conns: make(map[*conn]struct{})}
}

// open takes over a new connection.
func (l *loop) open(c *conn) {
	l.conns[c] = struct{}{}
	c.activeAt, c.heapIndex = l.now, -1
	l.srv.opts.Handler.OnOpen(c)
	if l.draining {
		c.paused |= pauseDrain
	}
	c.sock.interest(c.paused == 0)
	l.schedule(c)
	l.settle(c)
}

// newTicket gives the next place in c's order.
func (l *loop) newTicket(c *conn) *ticket {
	t := l.free
	if t == nil {
		t = &ticket{}
	} else {
		l.free, t.next = t.next, nil
		l.freeCount--
	}
	t.conn = c
	t.state.Store(ticketPending)
	c.out.push(t)
	return t
}

// retire releases a ticket whose response has been written.
func (l *loop) retire(t *ticket) {
	if t.total > 0 {
		l.stats.framesOut.Add(1)
	}
	t.release()
	t.conn = nil
	t.state.Store(ticketFree)
	if l.freeCount < freeTicketsMax {
		t.next, l.free = l.free, t
		l.freeCount++
	}
}

// received takes n bytes that were read into the windows own and extra, and delivers the frames that are whole.
func (l *loop) received(c *conn, own, extra []byte, n int, a *arena) {
	l.stats.reads.Add(1)
	l.stats.bytesIn.Add(int64(n))
	c.activeAt = l.now
	if c.lingerEnd != 0 {
		return // thrown away
	}
	if k := min(n, len(own)); k > 0 {
		c.in.end += k
		n -= k
		l.deliverWaiting(c, a)
	}
	if n == 0 || c.closed {
		return
	}
	a.commit(n)
	rest := extra[:n]
	if c.in.buf == nil {
		rest = l.deliver(c, rest)
	}
	if len(rest) > 0 && !c.closed {
		c.in.favoured = l.srv.budget.favours(c) // with ImplGo, it may have lost the favour since it was read
		c.in.keep(rest, a, &l.srv.budget)
	}
}

// deliverWaiting delivers the whole frames that c has collected.
func (l *loop) deliverWaiting(c *conn, a *arena) {
	rest := l.deliver(c, c.in.waiting())
	if c.closed {
		return
	}
	if len(rest) == 0 {
		c.in.drop(a, &l.srv.budget)
		return
	}
	c.in.start = c.in.end - len(rest)
	l.dropCut(c, a)
}

// dropCut drops the beginning of a frame whose end will never come, since the peer sends no more.
func (l *loop) dropCut(c *conn, a *arena) {
	if !c.eof || c.in.buf == nil || c.in.wholeFrame() {
		return
	}
	waiting := c.in.waiting()
	c.cutAt, c.cutFrame = len(waiting), frameBytes(waiting)
	c.in.drop(a, &l.srv.budget)
	l.srv.budget.settle(c)
}

// deliver hands the whole frames of data to the handler, up to the first one that has to wait, and returns the rest.
func (l *loop) deliver(c *conn, data []byte) []byte {
	for !c.halted() {
		if len(data) < prefixBytes {
			break
		}
		size := int32(binary.BigEndian.Uint32(data))
		if size <= 0 || int64(size) > int64(l.srv.opts.FrameBytesMax) {
			l.newTicket(c).Close(&FrameSizeError{Got: size, Max: l.srv.opts.FrameBytesMax})
			return nil
		}
		total := prefixBytes + int(size)
		if len(data) < total {
			break
		}
		c.frameAt = 0
		c.in.hint = 0
		if total >= bigFrameBytes {
			c.in.hint = min(total, hintBytesMax)
		}
		l.frames++
		l.srv.opts.Handler.OnFrame(c, l.newTicket(c), data[prefixBytes:total:total])
		data = data[total:]
	}
	if c.ending.Load() {
		return nil // nobody wants the rest
	}
	return data
}

// endFrames ends the handler's use of the frames of this turn.
func (l *loop) endFrames() {
	if l.frames == 0 {
		return
	}
	l.stats.framesIn.Add(int64(l.frames))
	l.stats.turns.Add(1)
	l.frames = 0
	l.srv.opts.Handler.OnTurn(l.n)
}

// process looks at everything that may have changed about c: it is what notify asks for, and ends each read and write.
func (l *loop) process(c *conn) {
	if c.closed {
		return
	}
	if reason := c.closeReason.Load(); reason != nil {
		l.close(c, *reason)
		return
	}
	if c.out.ready() {
		c.sock.flush()
		if c.closed {
			return
		}
	}
	l.settle(c)
}

// settle decides whether c is read, and whether it is at its end.
func (l *loop) settle(c *conn) {
	if c.lingerEnd != 0 {
		if !l.finish(c) {
			l.schedule(c)
		}
		return
	}
	o := &l.srv.opts
	paused := c.paused &^ (pauseMute | pauseOutput)
	if until := c.muteUntil.Load(); until > l.now || until != 0 && !c.muteUntil.CompareAndSwap(until, 0) {
		paused |= pauseMute
	}
	queued := c.queuedBytes.Load()
	if c.paused&pauseOutput != 0 { // resume at half, so that it does not toggle with every response
		if queued > o.OutputBytesMax/2 || c.out.count > o.InflightMax/2 {
			paused |= pauseOutput
		}
	} else if queued > o.OutputBytesMax || c.out.count >= o.InflightMax {
		paused |= pauseOutput
		l.stats.outputPauses.Add(1)
	}
	if c.ending.Load() {
		paused |= pauseEnd
	}
	if paused&pauseBudget != 0 && c.in.admitted(c, &l.srv.budget, false) {
		paused &^= pauseBudget
	}
	l.repause(c, paused)
	if !l.finish(c) {
		l.schedule(c)
	}
}

// repause sets the reasons not to read c.
func (l *loop) repause(c *conn, paused uint8) {
	was := c.paused
	c.paused = paused
	if (was == 0) != (paused == 0) && !c.eof {
		c.sock.interest(paused == 0)
	}
	partial := c.in.buf != nil && !c.in.wholeFrame() && !c.eof && paused&(pauseDrain|pauseEnd) == 0
	over := partial && c.in.over
	// The time of a frame runs on while it waits for the budget, or for whatever if it is favoured, or if there is little room and the peer takes none of
	// our output: beginnings of frames could hold both for ever.
	runs := paused&^pauseBudget == 0 || over || paused&pauseMute == 0 && !l.srv.budget.roomy(0)
	if !partial || !runs {
		c.frameAt = 0
	} else if c.frameAt == 0 {
		c.frameAt = l.now
	}
	if (paused != 0 || c.in.buf == nil) && !over {
		c.in.repay(&l.srv.budget)
		l.srv.budget.settle(c)
	} else if paused == 0 && c.in.wholeFrame() {
		c.sock.backlog()
	}
}

// starve pauses c because the budget is spent.
func (l *loop) starve(c *conn) {
	l.stats.budgetPauses.Add(1)
	l.srv.warnOfBudget(l.now)
	l.repause(c, c.paused|pauseBudget)
	l.schedule(c)
}

// finish closes c if it is at its end: the peer, the handler or the server has finished, and all responses before that have been written.
func (l *loop) finish(c *conn) bool {
	end := c.out.end()
	if c.out.head != nil && end == nil {
		return false
	}
	if end == nil && l.draining {
		end = ErrServerStopped
	}
	if end != nil {
		if l.linger(c) {
			return false
		}
		l.close(c, end)
		return true
	}
	if !c.eof {
		return false
	}
	switch {
	case len(c.in.waiting()) > 0:
		return false // frames still wait to be delivered
	case c.cutAt == 0:
		l.close(c, io.EOF)
	case c.cutFrame == 0:
		l.close(c, fmt.Errorf("%w: %d of %d bytes of a frame's length", io.ErrUnexpectedEOF, c.cutAt, prefixBytes))
	default:
		l.close(c, fmt.Errorf("%w: %d of %d bytes of a frame", io.ErrUnexpectedEOF, c.cutAt-prefixBytes, c.cutFrame-prefixBytes))
	}
	return true
}

// linger reports whether c, whose last response is with the kernel, has to stay open a little: closing a socket that has unread input
// resets it, and what the peer has not received by then is lost. So our side is shut down, and what the peer still
// sends is thrown away, until it has everything, or has closed, or lingerMax has passed.
func (l *loop) linger(c *conn) bool {
	if c.eof || !c.sock.unsent() {
		return false
	}
	if c.lingerEnd == 0 {
		c.lingerEnd = l.now + int64(lingerMax)
		c.frameAt = 0
		c.sock.shutdownWrite()
		c.sock.interest(true)
	}
	return l.now < c.lingerEnd
}

// readClosed records that the peer sends no more.
func (l *loop) readClosed(c *conn, a *arena) {
	c.eof = true
	c.frameAt = 0
	c.sock.interest(false)
	l.dropCut(c, a)
}

// close ends c. Open tickets become orphans: their responses are dropped when they come.
func (l *loop) close(c *conn, err error) {
	if c.closed {
		return
	}
	c.closed = true
	delete(l.conns, c)
	l.deadlines.remove(c)
	c.sock.shut()
	l.srv.budget.forget(c)
	l.srv.budget.settle(c)
	l.stats.closed.Add(1)
	l.srv.opts.Handler.OnClose(c, err)
	l.srv.accept.forget(c.remote.Addr())
	l.connCount.Add(-1)
	l.srv.closedConn()
}

// fail closes c because of err, unless there already is another reason to close it.
func (l *loop) fail(c *conn, err error) {
	c.closeReason.CompareAndSwap(nil, &err)
	l.close(c, *c.closeReason.Load())
}

// dropOutput releases all responses of a closed connection. Its socket calls it when no write uses them any more.
func (l *loop) dropOutput(c *conn) {
	for c.out.head != nil {
		t := c.out.pop()
		if !t.state.CompareAndSwap(ticketPending, ticketOrphan) {
			t.release()
		}
	}
}

// drain begins the end of the loop: nothing is read any more.
func (l *loop) drain() {
	l.draining = true
	for c := range l.conns {
		l.repause(c, c.paused|pauseDrain)
		l.process(c)
	}
}

// closeAll closes what is left.
func (l *loop) closeAll(err error) {
	for c := range l.conns {
		l.close(c, err)
	}
}

// schedule keeps c's place in deadlines early enough. A deadline that moved back is left: expire looks again.
func (l *loop) schedule(c *conn) {
	if due := c.dueAt(); due != 0 && (c.heapIndex < 0 || due < c.deadlineAt) {
		l.deadlines.set(c, due)
	}
}

// expire does what the time asks for.
func (l *loop) expire() {
	l.timerAt = 0
	for {
		c := l.deadlines.first()
		if c == nil || c.deadlineAt > l.now {
			return
		}
		l.deadlines.remove(c)
		if l.expired(c) {
			continue
		}
		l.process(c) // ends a mute
		if !c.closed {
			l.schedule(c)
		}
	}
}

// expired closes c if one of its time-outs has passed.
func (l *loop) expired(c *conn) bool {
	o := &l.srv.opts
	if c.frameAt != 0 && o.FrameTimeout > 0 && l.now-c.frameAt >= int64(o.FrameTimeout) {
		l.stats.frameTimeouts.Add(1)
		waiting := c.in.waiting()
		l.close(c, frameTimeoutError(len(waiting), frameBytes(waiting), o.FrameTimeout))
		return true
	}
	if o.IdleTimeout > 0 && (c.out.head == nil || c.out.ready()) && c.muteUntil.Load() == 0 &&
		l.now-c.activeAt >= int64(o.IdleTimeout) {
		l.stats.idleCloses.Add(1)
		l.close(c, idleError(c.queuedBytes.Load(), o.IdleTimeout))
		return true
	}
	return false
}

// armTimer makes sure that onTimer runs when the first deadline is due. It ends every turn.
func (l *loop) armTimer() {
	first := l.deadlines.first()
	if first == nil || (l.timerAt != 0 && l.timerAt <= first.deadlineAt) {
		return
	}
	l.timerAt = first.deadlineAt
	d := l.srv.until(first.deadlineAt)
	if l.timer == nil {
		l.timer = l.srv.opts.Clock.AfterFunc(d, l.onTimer)
	} else {
		l.timer.Reset(d)
	}
}

func (l *loop) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
	}
}
