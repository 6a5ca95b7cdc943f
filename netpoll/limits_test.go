package netpoll

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
)

// advance moves the clock, and lets timers run that are armed too late to see the move.
func advance(t testing.TB, fake *clock.Fake, d time.Duration, until string, cond func() bool) {
	t.Helper()
	fake.Advance(d)
	eventually(t, until, func() bool {
		fake.Advance(0)
		return cond()
	})
}

func newFake() *clock.Fake { return clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) }

// settled waits until every loop has finished what it was doing.
func settled(s *Server) {
	for range 2 {
		done := make(chan bool, s.Loops())
		s.runner.each(func(*loop) { done <- true })
		for range s.Loops() {
			<-done
		}
	}
}

// A peer that sends a byte now and then loses its connection when the frame takes too long, whatever it does in between.
func TestFrameTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r, Clock: fake, FrameTimeout: 30 * time.Second})
		c, other := dial(t, s), dial(t, s)
		c.send("whole")
		c.expect("whole")
		other.send("whole")
		other.expect("whole")
		sent := int64(2 * 9)
		for i, b := range []byte{0, 0, 0, 9, 'x', 'y'} {
			if i > 0 {
				fake.Advance(5 * time.Second)
			}
			c.write([]byte{b})
			sent++
			eventually(t, "the byte is read", func() bool { return s.Stats().BytesIn == sent })
			settled(s)
		}
		if got := s.Stats().Closed; got != 0 {
			t.Fatalf("%d connections closed after 25 of 30 s", got)
		}
		advance(t, fake, 5*time.Second, "the slow connection is closed", func() bool { return s.Stats().Closed == 1 })
		c.expectEnd()
		err := r.nextClose()
		if want := "frame took too long to arrive: 2 of 9 bytes after 30s"; !errors.Is(err, ErrFrameTimeout) || err.Error() != want {
			t.Errorf("closed with %v, want %s", err, want)
		}
		if got := s.Stats().FrameTimeouts; got != 1 {
			t.Errorf("%d frame time-outs are counted", got)
		}
		other.send("alive")
		other.expect("alive")
	})
}

// A frame that ends in time does not shorten the time of the next one.
func TestFrameTimeoutBeginsWithEachFrame(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r, Clock: fake, FrameTimeout: 30 * time.Second, IdleTimeout: -1})
		c := dial(t, s)
		c.write(framed("first")[:6])
		sent := int64(6)
		for range 5 {
			eventually(t, "the piece is read", func() bool { return s.Stats().BytesIn == sent })
			settled(s)
			fake.Advance(20 * time.Second)
			c.write(append(framed("first")[6:], framed("first")[:6]...)) // ends one frame and begins another
			sent += 9
			c.expect("first")
		}
		settled(s)
		if got := s.Stats().Closed; got != 0 {
			t.Errorf("%d connections closed", got)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		tickets := make(chan Ticket, 1)
		r := newRecorder(t, func(c Conn, tk Ticket, frame []byte) {
			if string(frame) == "park" {
				tickets <- tk
				return
			}
			echo(c, tk, frame)
		})
		s := startServer(t, Options{Impl: impl, Handler: r, Clock: fake, IdleTimeout: 10 * time.Minute})
		silent, active, waiting := dial(t, s), dial(t, s), dial(t, s)
		for _, c := range []*client{silent, active, waiting} {
			c.send("hello")
			c.expect("hello")
		}
		waiting.send("park")
		tk := testkit.Receive(t, "parked ticket", tickets)
		settled(s)
		fake.Advance(6 * time.Minute)
		active.send("here")
		active.expect("here")
		settled(s)
		advance(t, fake, 4*time.Minute, "the silent connection is closed", func() bool { return s.Stats().Closed == 1 })
		silent.expectEnd()
		if err := r.nextClose(); !errors.Is(err, ErrIdle) {
			t.Errorf("closed with %v", err)
		}
		settled(s)
		fake.Advance(5 * time.Minute)
		settled(s)
		tk.Send(respond("parked for 15 minutes"))
		waiting.expect("parked for 15 minutes")
		active.send("still here")
		active.expect("still here")
		if st := s.Stats(); st.IdleCloses != 1 || st.Connections != 2 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// A peer that does not take its response is idle, too.
func TestStuckReaderIsIdle(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		var released atomic.Int64
		f := tempFile(t, make([]byte, 64<<20))
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) {
			tk.Send(Response{
				Parts:   []Part{{Bytes: []byte{4, 0, 0, 0}, File: FileRange{Fd: int(f.Fd()), Len: 64 << 20}}},
				Release: func() { released.Add(1) },
			})
		})
		s := startServer(t, Options{Impl: impl, Handler: r, Clock: fake, IdleTimeout: time.Minute})
		c := dial(t, s)
		if err := c.SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		c.send("x")
		eventually(t, "the response is under way", func() bool { return s.Stats().BytesOut > 0 })
		closed := func() bool { return s.Stats().Closed == 1 }
		eventually(t, "the stuck connection is closed", func() bool { // how much fits into the kernel's buffers is not known
			advance(t, fake, 20*time.Second, "a moment", func() bool { return true })
			settled(s)
			return closed()
		})
		err := r.nextClose()
		if !errors.Is(err, ErrIdle) || !strings.Contains(err.Error(), "the peer took none of 67108868 response bytes for 1m0s") {
			t.Errorf("closed with %v", err)
		}
		eventually(t, "the response is released", func() bool { return released.Load() == 1 })
	})
}

// A muted connection's frames wait, also those that have been read already; its responses and other connections go on.
func TestMute(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		r := newRecorder(t, nil)
		r.onFrame = func(c Conn, tk Ticket, frame []byte) {
			if string(frame) == "mute" {
				c.Mute(time.Second)
			}
			echo(c, tk, frame)
		}
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, Clock: fake, FrameTimeout: 500 * time.Millisecond})
		c, other := dial(t, s), dial(t, s)
		rest := append(framed("a"), framed("b")[:3]...)
		c.write(append(framed("mute"), rest...)) // in one read, with a partial frame at the end
		c.expect("mute")
		other.send("x")
		other.expect("x")
		settled(s)
		if got := s.Stats().FramesIn; got != 2 {
			t.Fatalf("%d frames were delivered, want 2", got)
		}
		fake.Advance(999 * time.Millisecond)
		settled(s)
		if st := s.Stats(); st.FramesIn != 2 || st.Closed != 0 {
			t.Fatalf("before the end of the mute: %d frames, %d closed", st.FramesIn, st.Closed)
		}
		advance(t, fake, time.Millisecond, "the next frame is delivered", func() bool { return s.Stats().FramesIn == 3 })
		c.expect("a")
		c.write(framed("b")[3:])
		c.expect("b")

		conn := testkit.Receive(t, "OnOpen", r.opened)
		conn.Mute(time.Second) // from outside; the longer one wins
		conn.Mute(time.Millisecond)
		conn.Mute(-1)
		settled(s)
		if conn.RemoteAddr().String() != c.TCPConn.LocalAddr().String() {
			c, other = other, c
		}
		c.send("later")
		other.send("now")
		other.expect("now")
		fake.Advance(999 * time.Millisecond)
		settled(s)
		if got := s.Stats().FramesIn; got != 5 {
			t.Errorf("%d frames were delivered, want 5", got)
		}
		advance(t, fake, time.Millisecond, "the muted frame is delivered", func() bool { return s.Stats().FramesIn == 6 })
		c.expect("later")
	})
}

func TestConnectionLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		for _, o := range []Options{{MaxConnections: 3}, {MaxConnectionsPerIP: 3}, {MaxConnections: 4, MaxConnectionsPerIP: 3}} {
			o.Impl, o.Handler = impl, newRecorder(t, echo)
			s := startServer(t, o)
			var clients []*client
			for range 3 {
				c := dial(t, s)
				c.send("in")
				c.expect("in")
				clients = append(clients, c)
			}
			for range 5 {
				if got := dial(t, s).expectEnd(); len(got) != 0 {
					t.Errorf("a connection over the limit got %d bytes", len(got))
				}
			}
			if o.MaxConnections != 3 { // another address has its own count
				from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
				nc, err := from.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				c := &client{t, nc.(*net.TCPConn)}
				c.send("other address")
				c.expect("other address")
				_ = c.Close()
			}
			eventually(t, "refusals are counted", func() bool { return s.Stats().Refused == 5 })
			_ = clients[0].Close()
			eventually(t, "there is room again", func() bool { return s.Stats().Connections == 2 })
			c := dial(t, s)
			c.send("again")
			c.expect("again")
		}
	})
}

// Without free descriptors the acceptor closes what comes, keeps what is open, does not spin, and recovers.
func TestAcceptWithoutDescriptors(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r})
		old := dial(t, s)
		old.send("before")
		old.expect("before")

		const attempts = 40 // sockets are made first: connecting needs no descriptor
		fds := make([]int, attempts)
		highest := 0
		for i := range fds {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			fds[i], highest = fd, max(highest, fd)
			defer func() { _ = unix.Close(fd) }()
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		restore := func() {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
		}
		defer restore()
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 3), Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		addr := &unix.SockaddrInet4{Port: int(s.Addr().Port()), Addr: s.Addr().Addr().As4()}
		for _, fd := range fds {
			if err := unix.Connect(fd, addr); err != nil {
				t.Fatalf("connect: %v", err)
			}
		}
		eventually(t, "every connection is accepted or refused", func() bool {
			st := s.Stats()
			return st.Accepted+st.Refused == attempts+1
		})
		old.send("meanwhile")
		old.expect("meanwhile")
		st := s.Stats()
		if st.Refused == 0 {
			t.Errorf("no connection was refused: the test did not reach the limit")
		}
		if st.AcceptErrors > 2*attempts {
			t.Errorf("%d failed accepts for %d connections: the acceptor spins", st.AcceptErrors, attempts)
		}
		restore()
		c := dial(t, s)
		c.send("after")
		c.expect("after")
	})
}

// Frames that together exceed the budget: some have to wait, one may always go on, and in the end all arrive.
func TestBufferBudget(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, nil)
		r.onFrame = func(_ Conn, tk Ticket, frame []byte) { tk.Send(respond(fmt.Sprint(len(frame)))) }
		const budget, size = 5 << 20, 3 << 20
		s := startServer(t, Options{Impl: impl, Loops: 2, Handler: r, BufferBudget: budget, FrameTimeout: -1})
		frame := framed(strings.Repeat("f", size))
		beginning, end := frame[:len(frame)-1], frame[len(frame)-1:]
		a, b := dial(t, s), dial(t, s)
		a.write(beginning) // fits
		eventually(t, "the first is read", func() bool { return s.Stats().BytesIn == int64(len(beginning)) })
		b.write(beginning) // does not, but one may go on
		eventually(t, "both are read", func() bool { return s.Stats().BytesIn == int64(2*len(beginning)) })
		var rest []*client
		for range 8 {
			c := dial(t, s)
			rest = append(rest, c)
			go func() {
				if _, err := c.Write(frame); err != nil {
					t.Errorf("write: %v", err)
				}
			}()
		}
		eventually(t, "the others wait", func() bool { return s.Stats().BudgetPauses >= 8 })
		settled(s)
		if st := s.Stats(); st.BufferBytes > budget+size+size/4 {
			t.Errorf("%d bytes are charged, want at most the budget of %d and a frame of %d", st.BufferBytes, budget, size)
		}
		b.write(end)
		b.expect(fmt.Sprint(size))
		a.write(end)
		a.expect(fmt.Sprint(size))
		for _, c := range rest {
			c.expect(fmt.Sprint(size))
		}
		eventually(t, "all memory is given back", func() bool { return s.Stats().BufferBytes == 0 })
	})
}

// Beginnings of large frames without an end: small requests pass them by, those that wait for memory are closed when their time is over like the one that
// may go on, and then there is room again.
func TestBeginningsOfLargeFrames(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		const budget, size, timeout = 8 << 20, 3 << 20, 30 * time.Second
		s := startServer(t, Options{Impl: impl, Loops: 2, Handler: newRecorder(t, echo), BufferBudget: budget, Clock: fake, FrameTimeout: timeout, IdleTimeout: -1})
		beginning := framed(strings.Repeat("f", size))[:size]
		small := strings.Repeat("s", 10<<10)
		early := dial(t, s)
		var attackers []*client
		for n := range 160 {
			c := dial(t, s)
			attackers = append(attackers, c)
			some := beginning
			if n >= 12 {
				some = beginning[:20<<10] // enough of them would spend all, if the rest of a frame were reckoned with
			}
			go func() { _, _ = c.Write(some) }() // ends with the connection
		}
		eventually(t, "the others wait", func() bool { return s.Stats().BudgetPauses >= 100 })
		settled(s)
		for _, c := range []*client{early, dial(t, s), dial(t, s)} {
			for range 5 {
				c.send(small)
				c.expect(small)
			}
		}
		if n := s.Stats().FrameTimeouts; n != 0 {
			t.Fatalf("%d connections closed before their time", n)
		}
		advance(t, fake, timeout, "all of them to be closed", func() bool { return s.Stats().FrameTimeouts == int64(len(attackers)) })
		eventually(t, "all memory is given back", func() bool { return s.Stats().BufferBytes == 0 })
		large := strings.Repeat("l", size)
		early.send(large)
		early.expect(large)
	})
}

// The beginning of a frame gives its memory, and the favour, back when the peer says that no more comes, also while an answer is waited for.
func TestCutFramesGiveTheirMemoryBack(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		const budget, size = 8 << 20, 3 << 20
		parked := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			if string(frame) == "park" {
				parked <- tk
				return
			}
			tk.Send(respond(fmt.Sprint(len(frame))))
		})
		s := startServer(t, Options{Impl: impl, Loops: 2, Handler: r, BufferBudget: budget, FrameTimeout: -1, IdleTimeout: -1})
		frame := framed(strings.Repeat("f", size))
		var held []Ticket
		for range 3 { // without giving back, two spend the budget, and the third has the favour
			c := dial(t, s)
			c.send("park")
			held = append(held, testkit.Receive(t, "the request", parked))
			c.write(frame[:size/2])
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the memory to be given back", func() bool { return s.Stats().BufferBytes == 0 })
		}
		honest := dial(t, s)
		honest.write(frame)
		honest.expect(fmt.Sprint(size))
		for _, tk := range held {
			tk.Send(respond("late"))
		}
		for range held {
			want := fmt.Sprintf("%d of %d bytes of a frame", size/2-prefixBytes, size)
			if got := testkit.Receive(t, "the end of a connection", r.closed); !errors.Is(got.err, io.ErrUnexpectedEOF) || !strings.Contains(got.err.Error(), want) {
				t.Errorf("closed with %v, want unexpected EOF at %s", got.err, want)
			}
		}
	})
}

// A favoured connection that then pauses for another reason keeps the favour, so that no second one overdraws the budget beside it, and its time runs on.
func TestFavouredConnectionThatPauses(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		fake := newFake()
		const budget, size, timeout = 4 << 20, 8 << 20, 30 * time.Second
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, BufferBudget: budget, Clock: fake, FrameTimeout: timeout, IdleTimeout: -1})
		half := framed(strings.Repeat("f", size))[:size/2]
		for n := range 3 {
			c := dial(t, s)
			go func() { _, _ = c.Write(half) }() // ends with the connection
			eventually(t, "half a frame to be read, or to wait", func() bool {
				st := s.Stats()
				return st.BudgetPauses >= int64(n) || st.BufferBytes > budget+size+size/4
			})
			if n == 0 {
				eventually(t, "half a frame to be read", func() bool { return s.Stats().BytesIn == size/2 })
			}
			testkit.Receive(t, "the connection", r.opened).Mute(time.Hour)
			settled(s)
		}
		if got := s.Stats().BufferBytes; got > budget+size+size/4 {
			t.Errorf("%d bytes are charged, want at most the budget of %d and a frame of %d", got, budget, size)
		}
		advance(t, fake, timeout, "the favoured one to be closed", func() bool { return s.Stats().FrameTimeouts > 0 })
	})
}

// Responses that nobody reads spend the budget; requests of others are still served, one after the other.
func TestBudgetSpentByOutput(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			if string(frame) == "big" {
				tk.Send(respond(strings.Repeat("B", 32<<20)))
			} else {
				tk.Send(respond(string(frame)))
			}
		})
		s := startServer(t, Options{Impl: impl, Loops: 2, Handler: r, BufferBudget: 1 << 20})
		stuck := dial(t, s)
		stuck.send("big")
		eventually(t, "the budget is spent", func() bool { return s.Stats().BufferBytes > 1<<20 })
		var clients []*client
		for range 10 {
			clients = append(clients, dial(t, s))
		}
		for range 20 {
			for _, c := range clients {
				c.send("small")
			}
			for _, c := range clients {
				c.expect("small")
			}
		}
		if got := len(stuck.receive()); got != 32<<20 {
			t.Errorf("got %d bytes", got)
		}
	})
}

// A connection is not read while it has InflightMax unanswered frames.
func TestInflightMax(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		for _, limit := range []int{1, 2, 7} {
			tickets := make(chan Ticket, 1000)
			r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
			s := startServer(t, Options{Impl: impl, Handler: r, InflightMax: limit})
			c := dial(t, s)
			const frames = 100
			c.write(bytes.Repeat(framed("frame"), frames))
			for n := range frames {
				tk := testkit.Receive(t, "ticket", tickets)
				if open := s.Stats().FramesIn - int64(n); open > int64(limit) {
					t.Fatalf("%d frames are open, want at most %d", open, limit)
				}
				tk.Send(respond(fmt.Sprint(n)))
				c.expect(fmt.Sprint(n))
			}
		}
	})
}

// Stop answers what was asked before, reads nothing more, and ends.
func TestStopDrains(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, InflightMax: 2})
		idle, busy := dial(t, s), dial(t, s)
		busy.send("one", "two", "read but not", "delivered")
		one, two := testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets)
		// The server's kernel takes the whole response while the peer takes little: closing in front of the unread third frame would
		// reset the connection, and lose it.
		if err := busy.SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			setSendBuffer(t, testkit.Receive(t, "OnOpen", r.opened), 1<<20)
		}
		stopped := make(chan error)
		go func() { stopped <- s.Stop(context.Background()) }()
		idle.expectEnd()
		busy.send("three") // too late
		two.Send(respond("2"))
		big := strings.Repeat("1", 150<<10)
		one.Send(respond(big))
		eventually(t, "the kernel has both responses", func() bool { return s.Stats().FramesOut == 2 })
		busy.expect(big, "2")
		busy.expectEnd()
		if err := testkit.Receive(t, "Stop", stopped); err != nil {
			t.Errorf("stop: %v", err)
		}
		for range 2 {
			if err := r.nextClose(); !errors.Is(err, ErrServerStopped) {
				t.Errorf("closed with %v", err)
			}
		}
		if len(tickets) != 0 {
			t.Error("a frame was delivered after Stop")
		}
		if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
			t.Error("the stopped server still listens")
		}
	})
}

func setSendBuffer(t *testing.T, c Conn, bytes int) {
	t.Helper()
	var err error
	switch sock := c.(*conn).sock.(type) {
	case *epollSock:
		err = unix.SetsockoptInt(sock.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
	case *goSock:
		err = sock.tcp.SetWriteBuffer(bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestStopGivesUpWithContext(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Handler: r})
		c := dial(t, s)
		c.send("never answered in time")
		tk := testkit.Receive(t, "ticket", tickets)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("stop: %v", err)
		}
		c.expectEnd()
		released := make(chan bool, 1)
		resp := respond("late")
		resp.Release = func() { released <- true }
		tk.Send(resp)
		testkit.Receive(t, "release", released)
	})
}

// The prefix of a huge frame in pieces, closed in the middle: the error tells how far it came.
func TestEndInsideLength(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r})
		c := dial(t, s)
		c.write(binary.BigEndian.AppendUint32(nil, 5)[:3])
		_ = c.Close()
		if err := r.nextClose(); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "3 of 4 bytes of a frame's length") {
			t.Errorf("closed with %v", err)
		}
	})
}
