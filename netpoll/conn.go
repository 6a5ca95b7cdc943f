package netpoll

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Why a connection is not read, as bits.
const (
	pauseMute   uint8 = 1 << iota // Conn.Mute
	pauseOutput                   // too much output or too many unanswered frames
	pauseBudget                   // the server's budget is spent
	pauseDrain                    // the server is stopping
	pauseEnd                      // Ticket.Close, or a frame length that is refused
)

// conn is what both implementations have in common of a connection. Fields are loop-owned unless they are atomic or set once.
type conn struct {
	id            uint64
	loop          *loop
	remote, local netip.AddrPort
	sock          socket // set once
	value         any

	queuedBytes atomic.Int64          // bytes of responses from Send to their release
	muteUntil   atomic.Int64          // loop.nanos until which reading pauses; 0 is not muted
	closeReason atomic.Pointer[error] // set by Conn.Close
	ending      atomic.Bool           // set by Ticket.Close: no frame is delivered any more

	in     input
	out    output
	paused uint8
	eof    bool // the peer has closed its side
	// What was dropped then: bytes of a frame that was not whole, and that frame's size, 0 if that was not whole either.
	cutAt, cutFrame int
	closed          bool

	lingerEnd  int64 // not 0: nothing is left but to wait for the peer, until then
	activeAt   int64 // when a byte last moved
	frameAt    int64 // when the partial frame began; 0 if none, or while reading is paused
	deadlineAt int64 // place in loop.deadlines
	heapIndex  int   // -1 if not in loop.deadlines
}

// socket is the part of a connection that differs between the implementations. All but notify and abort are called by the loop.
type socket interface {
	// notify has the loop call process soon, or after b.Flush at the latest unless b is nil. Any goroutine may call it, also after the connection has
	// closed.
	notify(b *Batch)
	// abort has the loop call process soon, even if the socket waits for its peer. Any goroutine may call it.
	abort()
	// flush writes what is ready, or arranges that it is written.
	flush()
	// interest says that reading is wanted or not.
	interest(read bool)
	// backlog says that bytes which were read earlier wait for delivery.
	backlog()
	// unsent reports whether the kernel still holds bytes that the peer has not received.
	unsent() bool
	// shutdownWrite tells the peer that no more comes.
	shutdownWrite()
	// shut closes the socket and, as soon as no call uses them, drops input and output.
	shut()
}

func (c *conn) notify() { c.sock.notify(nil) }

// ID implements Conn.
func (c *conn) ID() uint64 { return c.id }

// RemoteAddr implements Conn.
func (c *conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr implements Conn.
func (c *conn) LocalAddr() netip.AddrPort { return c.local }

// Loop implements Conn.
func (c *conn) Loop() int { return c.loop.n }

// Value implements Conn.
func (c *conn) Value() any { return c.value }

// SetValue implements Conn.
func (c *conn) SetValue(v any) { c.value = v }

// Mute implements Conn.
func (c *conn) Mute(d time.Duration) {
	if d <= 0 {
		return
	}
	until := c.loop.srv.nanos() + int64(d)
	for {
		old := c.muteUntil.Load()
		if old >= until {
			return
		}
		if c.muteUntil.CompareAndSwap(old, until) {
			break
		}
	}
	c.notify()
}

// Close implements Conn.
func (c *conn) Close(err error) {
	if err == nil {
		err = errClosedByHandler
	}
	c.closeReason.CompareAndSwap(nil, &err)
	c.sock.abort()
}

// halted reports whether the next frame has to wait: reading is paused, or the connection is about to close.
func (c *conn) halted() bool {
	return c.paused != 0 || c.closed || c.muteUntil.Load() != 0 || c.closeReason.Load() != nil || c.ending.Load() ||
		c.out.count >= c.loop.srv.opts.InflightMax || c.queuedBytes.Load() > c.loop.srv.opts.OutputBytesMax
}

// dueAt is the time of the next thing that has to happen by time alone, 0 if there is none.
func (c *conn) dueAt() int64 {
	o := &c.loop.srv.opts
	var due int64
	sooner := func(at int64) {
		if due == 0 || at < due {
			due = at
		}
	}
	if c.lingerEnd != 0 {
		return c.loop.now + int64(lingerStep)
	}
	if mute := c.muteUntil.Load(); mute != 0 {
		sooner(mute)
	}
	if c.frameAt != 0 && o.FrameTimeout > 0 {
		sooner(c.frameAt + int64(o.FrameTimeout))
	}
	// A connection that waits for our response is not idle; one that does not take our response is.
	if o.IdleTimeout > 0 && (c.out.head == nil || c.out.ready()) {
		sooner(c.activeAt + int64(o.IdleTimeout))
	}
	return due
}
