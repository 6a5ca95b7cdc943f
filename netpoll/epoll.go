package netpoll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// writeBytesMax is how much one call may send, and how much a connection may be sent in a turn before it has to wait for the
	// next, so that one reader of large files cannot hold the loop.
	writeBytesMax = 1 << 20
	// turnBytesMax ends a turn early, so that responses leave soon and the memory of a turn stays in the processor's cache.
	turnBytesMax = 512 << 10
	// eventsMax is how many ready connections one epoll_wait reports.
	eventsMax = 256
	// yieldEvery is how long a loop keeps its P for itself at most, in nanoseconds.
	yieldEvery = int64(time.Millisecond)
	// sleptLeast tells a wait that slept from one that found events, in nanoseconds.
	sleptLeast = int64(10 * time.Microsecond)
	// wakeTag is the tag of the eventfd; those of connections have a generation above 0 in their upper half.
	wakeTag = 0
)

// epollRunner runs the loops on goroutines of their own.
type epollRunner struct {
	loops []*epollLoop
	wg    sync.WaitGroup
}

// epollLoop is one event loop. Its turn is the function turn. Other goroutines reach it by notify and post only: both put their
// wish where the loop looks at the end of each turn and, if the loop sleeps, wake it through the eventfd: a completion
// during a turn costs no system call, and any number of them while the loop sleeps cost one.
type epollLoop struct {
	*loop
	epfd  int
	event *os.File // the eventfd; an os.File, so that a late wake-up cannot hit a descriptor that was reused
	arena arena
	iovs  []unix.Iovec

	events      []unix.EpollEvent
	next, count int   // events[next:count] are still to be handled
	yielded     int64 // nanos when other goroutines were last let run
	rest        rest

	slots   []epollSlot
	unused  []uint32     // free slots
	warming int          // sockets that wait for cold file ranges
	delayed []*epollSock // that were cut off by writeBytesMax
	resumed []*epollSock // with frames that were read earlier

	asleep atomic.Bool
	inbox  atomic.Pointer[epollSock] // stack of those to process

	mu struct {
		sync.Mutex
		posted []func(*loop)
	}
	hasPosted atomic.Bool
	quit      bool
}

// epollSlot is what an event's tag leads to. A slot is used again after its connection closed, with the next generation,
// so that an event of the old connection, which may still be in events, is recognized.
type epollSlot struct {
	sock *epollSock
	gen  uint32
}

func newEpollRunner(s *Server) (*epollRunner, error) {
	r := &epollRunner{}
	for _, l := range s.loops {
		e, err := newEpollLoop(l)
		if err != nil {
			for _, e := range r.loops {
				e.free()
			}
			return nil, err
		}
		r.loops = append(r.loops, e)
	}
	for _, e := range r.loops {
		r.wg.Go(func() { e.run(s.opts.LockThreads) })
	}
	return r, nil
}

func newEpollLoop(l *loop) (*epollLoop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("netpoll: epoll_create1: %w", err)
	}
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("netpoll: eventfd: %w", err)
	}
	e := &epollLoop{loop: l, epfd: epfd, event: os.NewFile(uintptr(efd), "eventfd"), events: make([]unix.EpollEvent, eventsMax)}
	e.arena = arena{pool: &l.srv.pool, wanted: readBytesMax, keep: true}
	e.iovs = make([]unix.Iovec, 0, iovMax)
	l.onTimer = func() { e.post((*loop).expire) }
	// Edge-triggered and never read: every write to it is an edge.
	if errno := l.sys.epollCtl(epfd, unix.EPOLL_CTL_ADD, efd, unix.EPOLLIN|unix.EPOLLET, wakeTag); errno != 0 {
		e.free()
		return nil, fmt.Errorf("netpoll: epoll_ctl: %w", errno)
	}
	return e, nil
}

func (e *epollLoop) free() {
	_ = unix.Close(e.epfd)
	_ = e.event.Close()
}

func (r *epollRunner) adopt(c *conn, s acceptedSocket) error {
	e := r.loops[c.loop.n]
	sock := &epollSock{conn: c, loop: e, fd: s.fd}
	c.sock = sock
	e.post(func(l *loop) { e.add(sock) })
	return nil
}

func (r *epollRunner) each(f func(*loop)) {
	for _, e := range r.loops {
		e.post(f)
	}
}

func (r *epollRunner) stop() {
	for _, e := range r.loops {
		e.post(func(*loop) { e.quit = true })
	}
	r.wg.Wait()
}

// post has f run on the loop, soon.
func (e *epollLoop) post(f func(*loop)) {
	e.mu.Lock()
	e.mu.posted = append(e.mu.posted, f)
	e.mu.Unlock()
	e.hasPosted.Store(true)
	e.wake()
}

// wake ends the loop's sleep, if it sleeps and nobody else has woken it. The loop says that it is asleep before it looks for work a
// last time, and callers leave their work before they look whether it is asleep.
func (e *epollLoop) wake() {
	if e.asleep.Load() && e.asleep.CompareAndSwap(true, false) {
		e.stats.wakeups.Add(1)
		var one = [8]byte{1}
		_, _ = e.event.Write(one[:]) // fails only after the loop has ended
	}
}

func (e *epollLoop) run(lock bool) {
	if lock {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	for !e.quit || e.warming > 0 {
		if e.next == e.count {
			e.wait()
		}
		e.turn()
	}
	e.stopTimer()
	e.free()
}

// wait fills events. It sleeps if there is nothing to do.
func (e *epollLoop) wait() {
	if e.now-e.yielded > yieldEvery {
		// While there are always events, others who need this P would wait until we are preempted. Not every time: the scheduler wakes a thread for
		// it, to which this goroutine moves, and that cost more than a small request.
		e.yielded = e.now
		e.rest.yield(e.now)
	}
	before := e.srv.nanos()
	timeout, kept := 0, false
	if len(e.resumed) == 0 && len(e.delayed) == 0 {
		e.asleep.Store(true)
		if e.inbox.Load() == nil && !e.hasPosted.Load() {
			timeout, kept = e.rest.begin(before)
		}
	}
	n, errno := e.sys.epollWait(e.epfd, e.events, timeout, kept)
	e.asleep.Store(false)
	now := e.srv.nanos()
	e.rest.end(now, kept, n > 0 || timeout == 0)
	if now-before > sleptLeast {
		e.yielded = now // others had the P, or another, meanwhile
	}
	if errno != 0 {
		panic("BUG: epoll_wait: " + errno.Error())
	}
	e.next, e.count = 0, n
}

// turn handles ready connections up to turnBytesMax, hands the turn to the handler, and writes what has become ready.
func (e *epollLoop) turn() {
	e.now = e.srv.nanos()
	if e.hasPosted.Load() {
		e.runPosted()
	}
	e.resume()
	for before := e.stats.bytesIn.Load(); e.next < e.count && e.stats.bytesIn.Load()-before < turnBytesMax; e.next++ {
		e.handle(&e.events[e.next])
	}
	e.endFrames()
	e.arena.reset()
	e.drainInbox()
	e.writeDelayed()
	e.armTimer()
}

func (e *epollLoop) runPosted() {
	e.hasPosted.Store(false)
	e.mu.Lock()
	posted := e.mu.posted
	e.mu.posted = nil
	e.mu.Unlock()
	for _, f := range posted {
		f(e.loop)
	}
}

// resume delivers what was read before a pause.
func (e *epollLoop) resume() {
	if len(e.resumed) == 0 {
		return
	}
	resumed := e.resumed
	e.resumed = nil
	for _, s := range resumed {
		s.resuming = false
		if !s.conn.closed {
			e.deliverWaiting(s.conn, &e.arena)
		}
		if !s.conn.closed {
			e.settle(s.conn)
		}
	}
}

// handle does what one event asks for.
func (e *epollLoop) handle(ev *unix.EpollEvent) {
	tag := eventTag(ev)
	if tag == wakeTag {
		return // the work it announces is looked for in every turn
	}
	slot := &e.slots[uint32(tag)]
	if slot.gen != uint32(tag>>32) {
		return // of a connection that was closed earlier in this batch
	}
	s := slot.sock
	if ev.Events&unix.EPOLLOUT != 0 {
		s.blocked = false
		e.process(s.conn)
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 && !s.conn.closed {
		s.read(ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0)
	}
}

// drainInbox processes the connections that asked for it, until there are none.
func (e *epollLoop) drainInbox() {
	for {
		s := e.inbox.Swap(nil)
		if s == nil {
			return
		}
		for s != nil {
			next := s.inboxNext
			s.inboxNext = nil
			s.queued.Store(false)
			e.process(s.conn)
			s = next
		}
	}
}

// writeDelayed goes on with the connections that used up their share of the last turn.
func (e *epollLoop) writeDelayed() {
	if len(e.delayed) == 0 {
		return
	}
	delayed := e.delayed
	e.delayed = nil
	for _, s := range delayed {
		s.delayed = false
		e.process(s.conn)
	}
}

// add takes a new socket into the loop.
func (e *epollLoop) add(s *epollSock) {
	var i uint32
	if n := len(e.unused); n > 0 {
		i, e.unused = e.unused[n-1], e.unused[:n-1]
	} else {
		i = uint32(len(e.slots))
		e.slots = append(e.slots, epollSlot{gen: 1})
	}
	s.slot = i
	e.slots[i].sock = s
	if errno := e.sys.epollCtl(e.epfd, unix.EPOLL_CTL_ADD, s.fd, 0, s.tag()); errno != 0 {
		err := sockError("epoll_ctl", errno)
		s.conn.closeReason.Store(&err)
		e.open(s.conn)
		e.process(s.conn)
		return
	}
	e.open(s.conn)
}

// epollSock is a connection's socket in an epollLoop, which owns all but queued and inboxNext.
type epollSock struct {
	conn     *conn
	loop     *epollLoop
	fd       int
	slot     uint32
	events   uint32 // what epoll watches
	wantRead bool
	blocked  bool      // the kernel's buffer is full: wait for EPOLLOUT
	delayed  bool      // in loop.delayed
	warm     FileRange // was read last, and is not asked for again
	warming  bool      // the next file range is read into the page cache by another goroutine
	resuming bool      // in loop.resumed

	queued    atomic.Bool // in the inbox
	inboxNext *epollSock
}

func (s *epollSock) tag() uint64 { return uint64(s.loop.slots[s.slot].gen)<<32 | uint64(s.slot) }

// notify implements socket. The flag is cleared before the connection is looked at, so what is done after that is seen.
func (s *epollSock) notify(b *Batch) {
	if s.queued.Load() || s.queued.Swap(true) {
		return
	}
	e := s.loop
	for {
		head := e.inbox.Load()
		s.inboxNext = head
		if e.inbox.CompareAndSwap(head, s) {
			break
		}
	}
	if b != nil {
		b.add(e)
		return
	}
	e.wake()
}

// abort implements socket: the loop never waits for a peer.
func (s *epollSock) abort() { s.notify(nil) }

// interest implements socket.
func (s *epollSock) interest(read bool) {
	s.wantRead = read
	s.watch()
}

// watch tells epoll what is wanted, if that has changed.
func (s *epollSock) watch() {
	var want uint32
	if s.wantRead {
		want |= unix.EPOLLIN
	}
	if s.blocked {
		want |= unix.EPOLLOUT
	}
	if want == s.events || s.conn.closed {
		return
	}
	s.events = want
	if errno := s.loop.sys.epollCtl(s.loop.epfd, unix.EPOLL_CTL_MOD, s.fd, want, s.tag()); errno != 0 {
		s.loop.fail(s.conn, sockError("epoll_ctl", errno))
	}
}

// backlog implements socket.
func (s *epollSock) backlog() {
	if !s.resuming {
		s.resuming = true
		s.loop.resumed = append(s.loop.resumed, s)
	}
}

// unsent implements socket.
func (s *epollSock) unsent() bool { return unsentBytes(s.fd) > 0 }

// shutdownWrite implements socket. It fails only if the peer has gone, which reading will tell.
func (s *epollSock) shutdownWrite() { _ = unix.Shutdown(s.fd, unix.SHUT_WR) }

// shut implements socket. Closing the descriptor takes it out of epoll.
func (s *epollSock) shut() {
	e := s.loop
	_ = unix.Close(s.fd) // nothing that was written can be lost by its result
	e.slots[s.slot].gen++
	if e.slots[s.slot].gen == 0 {
		e.slots[s.slot].gen = 1
	}
	e.slots[s.slot].sock = nil
	e.unused = append(e.unused, s.slot)
	s.conn.in.drop(&e.arena, &e.srv.budget)
	if !s.warming { // otherwise the file is in use, and warmed does it
		e.dropOutput(s.conn)
	}
}

// read reads once, or as long as whole windows are filled within the budget of a turn. failed says that epoll reported
// an error or that both sides are closed.
func (s *epollSock) read(failed bool) {
	e, c := s.loop, s.conn
	if (c.paused != 0 && c.lingerEnd == 0) || c.eof || s.resuming { // if frames wait for the next turn, epoll reports this again
		if failed { // nobody will take our responses
			e.close(c, s.pendingError())
		}
		return
	}
	for budget := readBytesMax; budget > 0; {
		own, extra, ok := c.in.windows(c, &e.arena, &e.srv.budget, budget)
		if !ok {
			e.starve(c)
			return
		}
		n, errno := e.sys.recv(s.fd, own, extra)
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 {
			e.close(c, sockError("read", errno))
			return
		}
		if n == 0 {
			e.readClosed(c, &e.arena)
			break
		}
		budget -= n
		e.received(c, own, extra, n, &e.arena)
		if c.closed {
			return
		}
		if n < len(own)+len(extra) || c.halted() {
			break
		}
	}
	e.settle(c)
}

// pendingError fetches the socket's error.
func (s *epollSock) pendingError() error {
	code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	if err == nil {
		err = errors.New("both sides are closed")
	}
	return sockError("connection lost", err)
}

// flush implements socket: it writes what is ready, up to writeBytesMax.
func (s *epollSock) flush() {
	e, c := s.loop, s.conn
	if s.blocked || s.delayed || s.warming {
		return
	}
	for budget := writeBytesMax; ; {
		if budget <= 0 {
			s.delayed = true
			e.delayed = append(e.delayed, s)
			break
		}
		ch := c.out.gather(e.iovs, writeBytesMax)
		if ch.bytes == 0 && ch.file.Len == 0 {
			c.out.advance(0, e.retire) // tickets without a response
			if !c.out.ready() {
				break
			}
			continue
		}
		if ch.file.Len > 0 && ch.file != s.warm && e.srv.cold.cold(ch.file) {
			s.warmUp(ch.file)
			break
		}
		n, errno := e.send(s.fd, ch)
		clear(ch.iovs) // do not keep the responses alive
		if errno == unix.EAGAIN {
			s.blocked = true
			break
		}
		if errno != 0 {
			e.close(c, sockError("write", errno))
			return
		}
		if n == 0 {
			e.close(c, truncatedError(ch.file))
			return
		}
		budget -= n
		c.activeAt = e.now
		c.out.advance(int64(n), e.retire)
	}
	s.watch()
}

// warmUp has f read by another goroutine; flush goes on after that.
func (s *epollSock) warmUp(f FileRange) {
	e := s.loop
	s.warming = true
	e.warming++
	e.stats.coldReads.Add(1)
	e.srv.cold.warm(f, func() { e.post(func(*loop) { s.warmed(f) }) })
}

// warmed ends warmUp.
func (s *epollSock) warmed(f FileRange) {
	s.warming = false
	s.loop.warming--
	s.warm = f
	if s.conn.closed {
		s.loop.dropOutput(s.conn)
		return
	}
	s.loop.process(s.conn)
}

// send makes the system call for a chunk.
func (l *loop) send(fd int, ch chunk) (int, syscall.Errno) {
	if ch.bytes > 0 {
		n, errno := l.sys.send(fd, ch.iovs, ch.bytes, ch.more)
		l.stats.writes.Add(1)
		l.stats.bytesOut.Add(int64(n))
		return n, errno
	}
	n, errno := l.sys.sendFile(fd, ch.file.Fd, ch.file.Pos, int(ch.file.Len))
	l.stats.sendfiles.Add(1)
	l.stats.bytesOut.Add(int64(n))
	l.stats.fileBytesOut.Add(int64(n))
	return n, errno
}
