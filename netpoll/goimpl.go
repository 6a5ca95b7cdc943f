package netpoll

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// goRunner runs connections on package net: each has a goroutine that reads and delivers frames, and one that writes.
// A loop is a mutex: whoever holds it runs the loop's code. No goroutine waits for the network while it holds one.
type goRunner struct {
	srv   *Server
	loops []*goLoop
	wg    sync.WaitGroup
}

// goLoop is a loop's mutex.
type goLoop struct {
	mu sync.Mutex
	*loop
}

func newGoRunner(s *Server) *goRunner {
	r := &goRunner{srv: s}
	for _, l := range s.loops {
		g := &goLoop{loop: l}
		l.onTimer = func() { g.do((*loop).expire) }
		r.loops = append(r.loops, g)
	}
	return r
}

// do runs f in the loop's context.
func (g *goLoop) do(f func(*loop)) {
	g.enter()
	f(g.loop)
	g.leave()
}

func (g *goLoop) enter() {
	g.mu.Lock()
	g.now = g.srv.nanos()
}

func (g *goLoop) leave() {
	g.armTimer()
	g.mu.Unlock()
}

func (r *goRunner) adopt(c *conn, s acceptedSocket) error {
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return sockError("accept", err)
	}
	sock := &goSock{conn: c, loop: r.loops[c.loop.n], tcp: s.tcp, raw: raw}
	sock.wantRead.L = &sock.loop.mu
	sock.kick = make(chan struct{}, 1)
	sock.arena = arena{pool: &r.srv.pool, wanted: goReadBytes}
	c.sock = sock
	sock.goroutines.Store(2)
	r.wg.Go(sock.reader)
	r.wg.Go(sock.writer)
	return nil
}

func (r *goRunner) each(f func(*loop)) {
	for _, g := range r.loops {
		g.do(f)
	}
}

func (r *goRunner) stop() {
	r.wg.Wait()
	for _, g := range r.loops {
		g.do((*loop).stopTimer)
	}
}

// goReadBytes is the size of the buffer that a reader borrows from the pool once there is something to read.
const goReadBytes = 64 << 10

// goSock is a connection's socket with its two goroutines. Fields are guarded by the loop's mutex unless they say otherwise.
type goSock struct {
	conn *conn
	loop *goLoop
	tcp  *net.TCPConn
	raw  syscall.RawConn
	kick chan struct{} // capacity 1: the writer has to look

	wantRead sync.Cond // signalled when reading changes to true, when a backlog waits, and at the end
	readOn   bool
	resuming bool // a backlog waits for the reader
	reading  bool // the reader uses the input's memory without the mutex
	writing  bool // somebody uses the output's memory without the mutex
	flushing bool // somebody is in writeAll, and looks again before he leaves

	goroutines atomic.Int32
	turn       atomic.Uint32 // turnNone, turnRuns or turnNotified

	arena arena // the reader's, with the mutex or while reading is set
	iovs  [goIovs]unix.Iovec
}

// States of a reader's turn. A notify during a turn is left to the end of the turn instead of waking the writer.
const (
	turnNone uint32 = iota
	turnRuns
	turnNotified
)

// goIovs is how many buffers the writer sends in one call.
const goIovs = 64

// notify implements socket.
func (s *goSock) notify(*Batch) {
	if s.turn.CompareAndSwap(turnRuns, turnNotified) || s.turn.Load() == turnNotified {
		return // what was done before is seen by the process that follows the end of the turn
	}
	s.wakeWriter()
}

// abort implements socket.
func (s *goSock) abort() {
	s.unblock()
	s.notify(nil)
}

// unblock ends the waiting of both goroutines for good, by a deadline in the past.
func (s *goSock) unblock() {
	_ = s.tcp.SetDeadline(time.Unix(1, 0)) // fails if the socket is closed already
}

// leave is the end of one of the two goroutines.
func (s *goSock) leave() {
	if s.goroutines.Add(-1) == 0 {
		_ = s.tcp.Close() // nothing that was written can be lost by its result
	}
}

func (s *goSock) wakeWriter() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// flush implements socket: the writer does it, unless somebody is at it.
func (s *goSock) flush() {
	if !s.flushing {
		s.wakeWriter()
	}
}

// interest implements socket.
func (s *goSock) interest(read bool) {
	s.readOn = read
	s.wantRead.Broadcast()
}

// backlog implements socket.
func (s *goSock) backlog() {
	s.resuming = true
	s.wantRead.Broadcast()
}

// unsent implements socket.
func (s *goSock) unsent() bool {
	n := 0
	_ = s.raw.Control(func(fd uintptr) { n = unsentBytes(int(fd)) }) // a closed socket has nothing to send
	return n > 0
}

// shutdownWrite implements socket. It fails only if the peer has gone, which reading will tell.
func (s *goSock) shutdownWrite() { _ = s.tcp.CloseWrite() }

// shut implements socket. Memory that a goroutine is using is dropped by that goroutine, and the last one closes the
// socket: Close would wait for them, here with the mutex.
func (s *goSock) shut() {
	s.unblock()
	if !s.reading {
		s.dropInput()
	}
	if !s.writing {
		s.loop.dropOutput(s.conn)
	}
	s.wantRead.Broadcast()
	s.wakeWriter()
}

func (s *goSock) dropInput() {
	s.conn.in.drop(&s.arena, &s.loop.srv.budget)
	if s.loop.frames == 0 { // otherwise endTurn does it, after the handler's OnTurn
		s.arena.reset()
	}
}

// reader reads and delivers until the connection ends.
func (s *goSock) reader() {
	defer s.leave()
	g, c := s.loop, s.conn
	g.enter()
	g.open(c)
	for !c.closed {
		switch {
		case s.resuming:
			s.resuming = false
			s.turn.Store(turnRuns)
			g.deliverWaiting(c, &s.arena)
			s.endTurn()
		case !s.readOn:
			g.armTimer()
			s.wantRead.Wait()
			g.now = g.srv.nanos()
		default:
			s.readTurn()
		}
	}
	g.leave()
}

// endTurn ends a turn of the reader, which writes what has become ready as far as that needs no waiting.
func (s *goSock) endTurn() {
	s.loop.endFrames()
	s.arena.reset()
	s.turn.Store(turnNone)
	s.writeAll(false)
}

// readTurn reads once, waiting without the mutex, and delivers.
func (s *goSock) readTurn() {
	g, c := s.loop, s.conn
	var own, extra []byte
	var n int
	var errno syscall.Errno
	var admitted bool
	s.reading = true
	g.leave()
	err := s.raw.Read(func(fd uintptr) bool {
		// Memory is taken only now, and given back when nothing has come.
		g.mu.Lock()
		if admitted = !c.closed; admitted {
			own, extra, admitted = c.in.windows(c, &s.arena, &g.srv.budget, readBytesMax)
		}
		g.mu.Unlock()
		if !admitted {
			return true
		}
		if n, errno = g.sys.recv(int(fd), own, extra); errno != unix.EAGAIN {
			return true
		}
		g.mu.Lock()
		s.arena.reset()
		if c.in.buf == nil {
			g.srv.budget.settle(c)
		}
		g.mu.Unlock()
		return false
	})
	g.enter()
	s.reading = false
	s.turn.Store(turnRuns)
	switch {
	case c.closed:
		s.dropInput()
		return
	case err != nil:
		g.fail(c, sockError("read", err)) // the wait failed, which may be abort's work
	case !admitted:
		g.starve(c)
	case errno != 0:
		g.close(c, sockError("read", errno))
	case n == 0:
		g.readClosed(c, &s.arena)
	default:
		g.received(c, own, extra, n, &s.arena)
	}
	s.endTurn()
}

// writer processes the connection whenever it is kicked, and writes what is ready.
func (s *goSock) writer() {
	defer s.leave()
	g := s.loop
	for range s.kick {
		g.enter()
		s.writeAll(true)
		closed := s.conn.closed
		g.leave()
		if closed {
			return
		}
	}
}

// writeAll processes the connection and writes what is ready; without wait, the writer gets what the kernel does not take at once.
func (s *goSock) writeAll(wait bool) {
	g, c := s.loop, s.conn
	if s.flushing { // that one writes; only the rest is ours
		g.process(c)
		return
	}
	s.flushing = true
	g.process(c)
	for !c.closed && s.writeTurn(wait) {
		g.process(c)
	}
	s.flushing = false
	if !wait && !c.closed && c.out.ready() {
		s.wakeWriter()
	}
}

// writeTurn writes once, without the mutex. It reports whether it is worth going on.
func (s *goSock) writeTurn(wait bool) bool {
	g, c := s.loop, s.conn
	ch := c.out.gather(s.iovs[:0], writeBytesMax)
	if ch.bytes == 0 && ch.file.Len == 0 {
		ready := c.out.ready()
		c.out.advance(0, g.retire)
		return ready
	}
	s.writing = true
	g.leave()
	var n int
	var errno syscall.Errno
	err := s.raw.Write(func(fd uintptr) bool {
		n, errno = g.send(int(fd), ch)
		return errno != unix.EAGAIN || !wait
	})
	clear(ch.iovs)
	g.enter()
	s.writing = false
	switch {
	case c.closed:
		g.dropOutput(c)
	case err != nil:
		g.fail(c, sockError("write", err))
	case errno == unix.EAGAIN:
		return false
	case errno != 0:
		g.close(c, sockError("write", errno))
	case n == 0:
		g.close(c, truncatedError(ch.file))
	default:
		c.activeAt = g.now
		c.out.advance(int64(n), g.retire)
	}
	return true
}
