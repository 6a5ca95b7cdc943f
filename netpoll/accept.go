package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long the acceptor waits after an error that will not go away by itself.
const acceptBackoff = 100 * time.Millisecond

// At most one warning about refused connections in this time.
const refuseLogInterval = 10 * time.Second

// acceptor is the one goroutine that accepts, checks the limits, and places connections on the least loaded loop.
type acceptor struct {
	srv        *Server
	ln         *net.TCPListener
	file       *os.File // the listener again, to accept descriptors from (ImplEpoll)
	raw        syscall.RawConn
	addr       netip.AddrPort
	spare      int    // a descriptor that is given up to accept (and close) a connection when no other is left
	congestion string // of loopback peers
	restore    string // congestion control that other peers get back; empty if theirs is not changed
	done       chan struct{}
	quit       chan struct{}
	lastLog    time.Time // of a refusal

	accepted, refused, failed atomic.Int64

	mu struct {
		sync.Mutex
		total int
		perIP map[netip.Addr]int
	}
}

// acceptedSocket is a new connection: a descriptor (ImplEpoll) or a net.TCPConn (ImplGo).
type acceptedSocket struct {
	fd            int
	tcp           *net.TCPConn
	remote, local netip.AddrPort
}

func (s acceptedSocket) close() {
	if s.tcp != nil {
		_ = s.tcp.Close() // nothing was written
	} else {
		_ = unix.Close(s.fd)
	}
}

func listen(s *Server) (*acceptor, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets have neither our congestion control nor the plain fast path
	ln, err := lc.Listen(context.Background(), "tcp", s.opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("netpoll: listen on %s: %w", s.opts.Listen, err)
	}
	a := &acceptor{srv: s, ln: ln.(*net.TCPListener), spare: -1, done: make(chan struct{}), quit: make(chan struct{})}
	a.addr = addrPortOf(ln.Addr())
	a.mu.perIP = make(map[netip.Addr]int)
	// A net.TCPListener does not let others wait for its descriptor; an os.File of the same socket does.
	if a.file, err = a.ln.File(); err == nil {
		if a.raw, err = a.file.SyscallConn(); err == nil {
			err = a.setCongestion()
		}
	}
	if err != nil {
		a.closeListener()
		return nil, err
	}
	a.openSpare()
	return a, nil
}

func addrPortOf(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// setCongestion sets the listener's congestion control, which accepted sockets inherit: changing it on a socket that began
// with BBR would leave that socket paced. Peers that are not on this host get the system's default back.
func (a *acceptor) setCongestion() error {
	var err error
	cerr := a.raw.Control(func(fd uintptr) {
		system, gerr := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if gerr != nil {
			return // a kernel without the option has nothing to choose
		}
		a.congestion = system
		want := a.srv.opts.Congestion
		switch want {
		case CongestionSystem:
			return
		case CongestionAuto:
			if unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") == nil {
				a.congestion, a.restore = "cubic", system
			}
		default:
			if serr := unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, want); serr != nil {
				err = fmt.Errorf("netpoll: option Congestion %q: the kernel refuses it (net.ipv4.tcp_allowed_congestion_control): %w",
					want, serr)
				return
			}
			a.congestion = want
		}
	})
	return errors.Join(err, cerr)
}

func (a *acceptor) openSpare() {
	if a.spare >= 0 {
		return
	}
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1 // tried again at the next accept
	}
	a.spare = fd
}

func (a *acceptor) start() { go a.run() }

// close ends the acceptor and waits for its goroutine.
func (a *acceptor) close() {
	close(a.quit)
	a.closeListener()
	<-a.done
	if a.spare >= 0 {
		_ = unix.Close(a.spare)
		a.spare = -1
	}
}

func (a *acceptor) closeListener() {
	_ = a.ln.Close() // closing a listener has no result that matters
	if a.file != nil {
		_ = a.file.Close()
	}
}

func (a *acceptor) run() {
	defer close(a.done)
	for {
		s, err := a.acceptOne()
		if err == nil {
			a.openSpare()
			a.place(s)
			continue
		}
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, unix.ECONNABORTED):
			continue // the peer was faster
		}
		a.failed.Add(1)
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			if a.shed() {
				a.refuse("no file descriptor left", netip.AddrPort{})
				continue
			}
		}
		a.srv.opts.Logger.Warn("accept failed", "listen", a.addr, "err", err)
		timer := a.srv.opts.Clock.NewTimer(acceptBackoff)
		select {
		case <-timer.C():
		case <-a.quit:
			timer.Stop()
			return
		}
	}
}

// acceptOne waits for the next connection.
func (a *acceptor) acceptOne() (acceptedSocket, error) {
	if a.srv.opts.Impl == ImplGo {
		tcp, err := a.ln.AcceptTCP()
		if err != nil {
			return acceptedSocket{}, err
		}
		return acceptedSocket{fd: -1, tcp: tcp, remote: addrPortOf(tcp.RemoteAddr()), local: addrPortOf(tcp.LocalAddr())}, nil
	}
	s := acceptedSocket{fd: -1}
	var err error
	rerr := a.raw.Read(func(fd uintptr) bool {
		s, err = a.acceptFd(int(fd))
		return err != unix.EAGAIN
	})
	if rerr != nil {
		return s, net.ErrClosed
	}
	return s, err
}

// acceptFd accepts without waiting.
func (a *acceptor) acceptFd(listener int) (acceptedSocket, error) {
	fd, sa, err := a.srv.opts.kernel.accept(listener)
	if err != nil {
		return acceptedSocket{fd: -1}, err
	}
	s := acceptedSocket{fd: fd, remote: sockaddrAddr(sa)}
	if sa, err = unix.Getsockname(fd); err == nil {
		s.local = sockaddrAddr(sa)
	}
	// Errors of these mean that the peer has gone, which the loop will find out.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	return s, nil
}

func sockaddrAddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// shed gives up the spare descriptor to take one connection off the queue and close it, so that its peer learns at once that
// there is no room, and accept does not spin. It reports whether it could.
func (a *acceptor) shed() bool {
	if a.spare < 0 {
		return false
	}
	_ = unix.Close(a.spare)
	a.spare = -1
	shed := false
	_ = a.raw.Control(func(fd uintptr) {
		if s, err := a.acceptFd(int(fd)); err == nil {
			s.close()
			shed = true
		}
	})
	a.openSpare()
	return shed
}

// refuse counts a connection that was closed at once, and warns now and then.
func (a *acceptor) refuse(why string, remote netip.AddrPort) {
	a.refused.Add(1)
	if now := a.srv.opts.Clock.Now(); a.lastLog.IsZero() || now.Sub(a.lastLog) >= refuseLogInterval {
		a.lastLog = now
		a.srv.opts.Logger.Warn("connection refused", "why", why, "remote", remote, "refused", a.refused.Load())
	}
}

// place checks the limits and gives the connection to the least loaded loop.
func (a *acceptor) place(s acceptedSocket) {
	if why := a.admit(s.remote.Addr()); why != "" {
		s.close()
		a.refuse(why, s.remote)
		return
	}
	if a.restore != "" && !s.remote.Addr().IsLoopback() && s.remote.Addr() != s.local.Addr() {
		a.setPeerCongestion(s)
	}
	l := a.srv.loops[0]
	for _, other := range a.srv.loops[1:] {
		if other.connCount.Load() < l.connCount.Load() {
			l = other
		}
	}
	c := &conn{id: a.srv.nextID.Add(1), loop: l, remote: s.remote, local: s.local, heapIndex: -1}
	c.in.frameMax = prefixBytes + a.srv.opts.FrameBytesMax
	l.connCount.Add(1)
	a.accepted.Add(1)
	a.srv.open.Add(1)
	if err := a.srv.runner.adopt(c, s); err != nil {
		s.close()
		a.accepted.Add(-1)
		a.forget(s.remote.Addr())
		l.connCount.Add(-1)
		a.srv.closedConn()
		a.refuse(err.Error(), s.remote)
	}
}

func (a *acceptor) setPeerCongestion(s acceptedSocket) {
	set := func(fd uintptr) {
		// It is the system's own default; a peer that has gone already is the only reason to fail.
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, a.restore)
	}
	if s.tcp == nil {
		set(uintptr(s.fd))
	} else if raw, err := s.tcp.SyscallConn(); err == nil {
		_ = raw.Control(set)
	}
}

// admit counts a connection from ip, or says why it may not be opened.
func (a *acceptor) admit(ip netip.Addr) string {
	o := &a.srv.opts
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.MaxConnections > 0 && a.mu.total >= o.MaxConnections {
		return fmt.Sprintf("limit of %d connections", o.MaxConnections)
	}
	if o.MaxConnectionsPerIP > 0 && a.mu.perIP[ip] >= o.MaxConnectionsPerIP {
		return fmt.Sprintf("limit of %d connections per address", o.MaxConnectionsPerIP)
	}
	a.mu.total++
	a.mu.perIP[ip]++
	return ""
}

// forget undoes admit.
func (a *acceptor) forget(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.total--
	if a.mu.perIP[ip]--; a.mu.perIP[ip] <= 0 {
		delete(a.mu.perIP, ip)
	}
}
