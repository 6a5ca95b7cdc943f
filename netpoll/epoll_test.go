package netpoll

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/testkit"
)

// onLoop runs f on the only loop of s and waits for it.
func onLoop(s *Server, f func(e *epollLoop)) {
	done := make(chan bool)
	e := s.runner.(*epollRunner).loops[0]
	e.post(func(*loop) {
		f(e)
		close(done)
	})
	<-done
}

// An event of a closed connection does not reach the one that got its slot and its descriptor.
func TestStaleEventAfterDescriptorReuse(t *testing.T) {
	r := newRecorder(t, echo)
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	first := dial(t, s)
	old := testkit.Receive(t, "OnOpen", r.opened)
	oldSock := old.(*conn).sock.(*epollSock)
	var tag uint64
	onLoop(s, func(*epollLoop) { tag = oldSock.tag() })
	_ = first.Close()
	if err := r.nextClose(); err != io.EOF {
		t.Fatalf("closed with %v", err)
	}
	second := dial(t, s)
	sock := testkit.Receive(t, "OnOpen", r.opened).(*conn).sock.(*epollSock)
	if sock.slot != oldSock.slot {
		t.Fatalf("the new connection is in slot %d, want the old one's, %d", sock.slot, oldSock.slot)
	}
	if uint32(tag>>32) == wakeTag {
		t.Errorf("tag %x of a connection looks like the eventfd's", tag)
	}
	onLoop(s, func(e *epollLoop) {
		if sock.tag() == tag {
			t.Errorf("both connections have the tag %x", tag)
		}
		for _, events := range []uint32{unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLIN | unix.EPOLLERR | unix.EPOLLHUP} {
			sock.blocked = true // an EPOLLOUT that is believed would reset it
			reads := e.stats.reads.Load()
			e.handle(&unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))})
			if !sock.blocked || e.stats.reads.Load() != reads || sock.conn.closed {
				t.Errorf("a stale event %x reached the new connection", events)
			}
			sock.blocked = false
		}
	})
	second.send("fine")
	second.expect("fine")
}

// An event that says both that there is input and that there is room for output serves both: input that never ends does not starve
// the output of its own connection.
func TestOutputIsNotStarvedByOwnInput(t *testing.T) {
	payload := strings.Repeat("o", 16<<20)
	var noise atomic.Int64
	r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
		if string(frame) == "big" {
			tk.Send(respond(payload))
			return
		}
		noise.Add(1)
		tk.Skip()
	})
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	c := dial(t, s)
	c.send("big")
	sock := testkit.Receive(t, "OnOpen", r.opened).(*conn).sock.(*epollSock)
	eventually(t, "the kernel's buffer is full", func() bool {
		blocked := false
		onLoop(s, func(*epollLoop) { blocked = sock.blocked })
		return blocked
	})
	// While the loop is here, the peer takes what the kernel holds, and sends.
	onLoop(s, func(e *epollLoop) {
		for polled := []unix.PollFd{{Fd: int32(sock.fd), Events: unix.POLLOUT}}; polled[0].Revents&unix.POLLOUT == 0; {
			buf := make([]byte, 64<<10)
			n, err := c.Read(buf)
			if err != nil {
				t.Errorf("read: %v", err)
				return
			}
			payload = payload[n:]
			if _, err := unix.Poll(polled, 0); err != nil && err != unix.EINTR {
				t.Errorf("poll: %v", err)
				return
			}
		}
		c.send("noise")
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(sock.fd), Events: unix.POLLIN}}, 10_000); err != nil && err != unix.EINTR {
			t.Errorf("poll: %v", err)
		}
		out := e.stats.bytesOut.Load()
		e.handle(&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(uint32(sock.tag())), Pad: int32(uint32(sock.tag() >> 32))})
		if e.stats.bytesOut.Load() == out || noise.Load() != 1 {
			t.Errorf("%d bytes written and %d frames delivered at one event, want some and 1", e.stats.bytesOut.Load()-out, noise.Load())
		}
	})
	left := len(payload) + prefixBytes
	if n, err := io.CopyN(io.Discard, c, int64(left)); err != nil {
		t.Errorf("%d of the last %d bytes: %v", n, left, err)
	}
}

// A slot's generation may wrap around, but never to the tag of the eventfd.
func TestGenerationWrapsAround(t *testing.T) {
	r := newRecorder(t, echo)
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	onLoop(s, func(e *epollLoop) {
		e.slots = append(e.slots, epollSlot{gen: 1<<32 - 1})
		e.unused = append(e.unused, 0)
	})
	for range 2 {
		c := dial(t, s)
		c.send("x")
		c.expect("x")
		_ = c.Close()
		if err := r.nextClose(); err != io.EOF {
			t.Errorf("closed with %v", err)
		}
	}
}

// Connections come and go, with resets and unread data, while others are served: none gets another's bytes.
func TestConnectionChurn(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, nil)
		var late sync.WaitGroup
		r.onFrame = func(_ Conn, tk Ticket, frame []byte) {
			payload := string(frame)
			late.Go(func() { tk.Send(respond(payload)) }) // often after the connection has gone
		}
		s := startServer(t, Options{Impl: impl, Loops: 2, Handler: r})
		defer late.Wait()
		const peers, each = 6, 150
		var wg sync.WaitGroup
		for w := range peers {
			wg.Go(func() {
				rnd := testkit.Rand(uint64(w))
				for i := range each {
					nc, err := net.Dial("tcp", s.Addr().String())
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					c := nc.(*net.TCPConn)
					want := fmt.Sprintf("%d/%d %s", w, i, strings.Repeat("z", rnd.IntN(3000)))
					_, err = c.Write(append(framed(want), framed(want)...))
					if err != nil {
						t.Errorf("write: %v", err)
					}
					switch rnd.IntN(3) {
					case 0:
						_ = c.SetLinger(0) // reset
					case 1:
						got := make([]byte, 4+len(want))
						if _, err := io.ReadFull(c, got); err != nil || string(got[4:]) != want {
							t.Errorf("got %.40q (%v), want %.40q", got, err, want)
						}
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		// One may be accepted, and bring frames, long after its peer has gone.
		eventually(t, "all connections have come and are closed", func() bool {
			st := s.Stats()
			return st.Accepted == peers*each && st.Connections == 0
		})
	})
}

// Signals of the kind that the runtime preempts with interrupt the loops' system calls; nothing is lost.
func TestSignalsDuringSystemCalls(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		s := startServer(t, Options{Impl: impl, Handler: newRecorder(t, echo)})
		stop := make(chan bool)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		var sent atomic.Int64
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Microsecond):
				}
				if err := unix.Kill(unix.Getpid(), unix.SIGURG); err != nil {
					t.Errorf("kill: %v", err)
					return
				}
				sent.Add(1)
			}
		})
		c := dial(t, s)
		payload := strings.Repeat("s", 1<<20)
		for i := 0; i < 30 || sent.Load() < 100; i++ {
			c.send("small", payload)
			c.expect("small", payload)
		}
	})
}

// Completions by other goroutines while the loop sleeps cost one wake-up each at most, and none while it runs.
func TestWakeups(t *testing.T) {
	tickets := make(chan Ticket, 1000)
	r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	c := dial(t, s)
	const frames = 500
	c.write([]byte(strings.Repeat(string(framed("x")), frames)))
	var held []Ticket
	for range frames {
		held = append(held, testkit.Receive(t, "ticket", tickets))
	}
	before := s.Stats().Wakeups
	onLoop(s, func(*epollLoop) { // the loop is awake: these wake nobody
		for _, tk := range held {
			tk.Send(respond("y"))
		}
	})
	for range frames {
		c.expect("y")
	}
	if got := s.Stats().Wakeups - before; got > 1 { // onLoop's own
		t.Errorf("%d wake-ups for %d completions in one turn", got, frames)
	}
}
