package netpoll

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/testkit"
)

// Tickets completed in random order by other goroutines, some skipped: responses leave in order of the frames.
func TestResponseOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		type job struct {
			tk Ticket
			n  int
		}
		const frames, workers = 3000, 4
		jobs := make(chan job, frames)
		r := newRecorder(t, nil)
		var delivered atomic.Int64
		r.onFrame = func(_ Conn, tk Ticket, frame []byte) {
			defer delivered.Add(1)
			n, _ := strconv.Atoi(string(frame))
			if n%10 == 0 { // at once, ahead of its turn
				tk.Send(respond(string(frame)))
				return
			}
			jobs <- job{tk, n}
		}
		var releases atomic.Int64
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, InflightMax: 300})
		finish := func(j job) {
			if j.n%7 == 0 {
				j.tk.Skip()
				return
			}
			resp := respond(fmt.Sprint(j.n))
			resp.Release = func() { releases.Add(1) }
			j.tk.Send(resp)
		}
		var wg sync.WaitGroup
		seed := testkit.Seed(t, 7)
		for w := range workers {
			wg.Go(func() {
				rnd := testkit.Rand(seed + uint64(w))
				for j := range jobs {
					batch := takeUpTo(20, j, jobs)
					rnd.Shuffle(len(batch), func(a, b int) { batch[a], batch[b] = batch[b], batch[a] })
					for _, j := range batch {
						finish(j)
					}
				}
			})
		}
		c := dial(t, s)
		go func() {
			for n := range frames {
				if _, err := c.Write(framed(fmt.Sprint(n))); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		}()
		sent := 0
		for n := range frames {
			if n%10 != 0 && n%7 == 0 {
				continue
			}
			c.expect(fmt.Sprint(n))
			if n%10 != 0 {
				sent++
			}
		}
		eventually(t, "all frames are delivered", func() bool { return delivered.Load() == frames })
		close(jobs)
		wg.Wait()
		eventually(t, "all responses are released once", func() bool { return releases.Load() == int64(sent) })
	})
}

// takeUpTo returns first and what else ch has at once, up to n values.
func takeUpTo[T any](n int, first T, ch <-chan T) []T {
	got := []T{first}
	for len(got) < n {
		select {
		case v, ok := <-ch:
			if !ok {
				return got
			}
			got = append(got, v)
		default:
			return got
		}
	}
	return got
}

// Responses of one turn leave in few system calls.
func TestResponsesOfOneTurnAreCoalesced(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		var tickets []Ticket
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets = append(tickets, tk) })
		const frames = 500
		r.onTurn = func(int) {
			if len(tickets) < frames {
				return
			}
			for i := len(tickets) - 1; i >= 0; i-- {
				tickets[i].Send(respond(fmt.Sprint(i)))
			}
		}
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		for range frames {
			c.send("x")
		}
		for i := range frames {
			c.expect(fmt.Sprint(i))
		}
		if st := s.Stats(); st.Writes > frames/10 {
			t.Errorf("%d writes for %d responses of one turn", st.Writes, frames)
		}
	})
}

// More buffers than one writev takes: in one response, and in many.
func TestMoreBuffersThanOneCallTakes(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		const parts = 5000
		var want []byte
		big := Response{Parts: []Part{{Bytes: binary.BigEndian.AppendUint32(nil, 4*parts)}}}
		for i := range parts {
			b := binary.BigEndian.AppendUint32(nil, uint32(i))
			want = append(want, b...)
			big.Parts = append(big.Parts, Part{Bytes: b}, Part{}) // with empty ones between
		}
		var held []Ticket
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			if string(frame) == "big" {
				tk.Send(big)
				return
			}
			if held = append(held, tk); len(held) == 3000 {
				for _, tk := range held {
					tk.Send(respond("small"))
				}
			}
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, InflightMax: 10_000})
		c := dial(t, s)
		c.send("big")
		c.expect(string(want))
		for range 3000 {
			c.send("s")
		}
		for range 3000 {
			c.expect("small")
		}
	})
}

// pattern is data in which no two places look alike.
func pattern(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := uint64(0); len(b) < n; i++ {
		b = binary.LittleEndian.AppendUint64(b, i*0x9E3779B97F4A7C15)
	}
	return b[:n]
}

// Large file ranges to a reader with a small window: partial sendfiles and EAGAIN, headers between, exact bytes at the end.
func TestSendfile(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		data := pattern(9<<20 + 123)
		f := tempFile(t, data)
		ranges := []FileRange{{Pos: 0, Len: 5 << 20}, {Pos: 17, Len: 1}, {Pos: 1 << 20, Len: 8<<20 + 123}, {Pos: 3, Len: 70_000}}
		var released atomic.Int64
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) {
			var resp Response
			resp.Release = func() { released.Add(1) }
			total := int64(0)
			for _, fr := range ranges {
				total += fr.Len + 5
			}
			resp.Parts = []Part{{Bytes: binary.BigEndian.AppendUint32(nil, uint32(total))}}
			for _, fr := range ranges {
				fr.Fd = int(f.Fd())
				resp.Parts = append(resp.Parts, Part{Bytes: []byte("head:"), File: fr})
			}
			tk.Send(resp)
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		if err := c.SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		var want []byte
		for _, fr := range ranges {
			want = append(want, "head:"...)
			want = append(want, data[fr.Pos:fr.Pos+fr.Len]...)
		}
		c.send("1", "2")
		for range 2 {
			if got := c.receive(); got != string(want) {
				t.Fatalf("%d bytes differ from the %d expected", len(got), len(want))
			}
		}
		eventually(t, "both responses are released", func() bool { return released.Load() == 2 })
		st := s.Stats()
		if st.FileBytesOut != 2*int64(len(want)-5*len(ranges)) {
			t.Errorf("%d bytes sent from files, want %d", st.FileBytesOut, 2*(len(want)-5*len(ranges)))
		}
		if st.BytesOut != 2*int64(len(want)+4) {
			t.Errorf("%d bytes sent, want %d", st.BytesOut, 2*(len(want)+4))
		}
	})
}

// Ranges that are not in memory are read by others; the loop serves its other connections meanwhile, and a connection that closes
// keeps its file until the reader has finished.
func TestColdFileRanges(t *testing.T) {
	data := pattern(3<<20 + 5)
	f := tempFile(t, data)
	var released atomic.Int64
	r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
		if string(frame) == "ping" {
			tk.Send(respond("pong"))
			return
		}
		tk.Send(Response{
			Parts: []Part{{Bytes: binary.BigEndian.AppendUint32(nil, uint32(len(data)+3)),
				File: FileRange{Fd: int(f.Fd()), Len: int64(len(data))}}, {Bytes: []byte("end")}},
			Release: func() { released.Add(1) },
		})
	})
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	var asked atomic.Int64
	onLoop(s, func(*epollLoop) {
		s.cold.override = func(FileRange) bool { asked.Add(1); return true }
	})
	for range coldReadersMax { // so that nothing is read before the test allows it
		s.cold.slots <- struct{}{}
	}
	c, gone, other := dial(t, s), dial(t, s), dial(t, s)
	c.send("cold")
	gone.send("cold", "cold")
	eventually(t, "both are noticed", func() bool { return s.Stats().ColdReads == 2 })
	other.send("ping")
	other.expect("pong")
	_ = gone.Close()
	if err := r.nextClose(); err == nil {
		t.Error("closed without an error")
	}
	if released.Load() != 0 {
		t.Error("a file was released while it is being read")
	}
	for range coldReadersMax {
		<-s.cold.slots
	}
	c.expect(string(data) + "end")
	eventually(t, "all responses are released", func() bool { return released.Load() == 3 })
	if got := asked.Load(); got != s.Stats().ColdReads {
		t.Errorf("asked %d times about %d reads: a range was asked for again after it had been read", got, s.Stats().ColdReads)
	}
}

// The kernel's answer about the page cache.
func TestColdProbe(t *testing.T) {
	r := newColdReader(&bufferPool{})
	data := pattern(2<<20 + 100)
	f := tempFile(t, data)
	whole := FileRange{Fd: int(f.Fd()), Pos: 5000, Len: int64(len(data)) - 5000}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	r.warm(whole, func() { close(done) })
	testkit.Closed(t, "the range is read", done)
	for _, noStat := range []bool{false, true} {
		r.noStat.Store(noStat)
		if r.cold(whole) {
			t.Errorf("a range that has just been read is cold (cachestat missing: %v)", noStat)
		}
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	r.noStat.Store(false)
	t.Logf("cold after FADV_DONTNEED: %v (the file system may refuse to forget)", r.cold(whole))
	if r.cold(FileRange{Fd: -1, Len: 10}) {
		t.Error("a bad descriptor is cold")
	}
}

func TestFileShorterThanRange(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		f := tempFile(t, make([]byte, 1000))
		var released atomic.Int64
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) {
			tk.Send(Response{
				Parts:   []Part{{Bytes: []byte{0, 0, 8, 0}, File: FileRange{Fd: int(f.Fd()), Pos: 10, Len: 2048}}},
				Release: func() { released.Add(1) },
			})
		})
		s := startServer(t, Options{Impl: impl, Handler: r})
		c := dial(t, s)
		c.send("x")
		if got := len(c.expectEnd()); got != 994 {
			t.Errorf("got %d bytes before the end, want 994", got)
		}
		err := r.nextClose()
		if !errors.Is(err, ErrFileTruncated) || !strings.Contains(err.Error(), "position 1000, 1058 bytes were left") {
			t.Errorf("closed with %v", err)
		}
		eventually(t, "the response is released", func() bool { return released.Load() == 1 })
	})
}

// A peer that goes away in the middle of a sendfile, and a handler that closes then: the file is released once, and not before
// the last use.
func TestCloseWhileSendfileInFlight(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		f := tempFile(t, pattern(32<<20))
		for _, byHandler := range []bool{false, true} {
			released := make(chan bool, 10)
			r := newRecorder(t, func(c Conn, tk Ticket, _ []byte) {
				tk.Send(Response{
					Parts: []Part{{Bytes: []byte{2, 0, 0, 0}, File: FileRange{Fd: int(f.Fd()), Len: 32 << 20}}},
					Release: func() {
						if sock, ok := c.(*conn).sock.(*goSock); ok && sock.writing {
							t.Error("released while a write may use the file")
						}
						released <- true
					},
				})
			})
			s := startServer(t, Options{Impl: impl, Handler: r, OutputBytesMax: 1 << 30})
			for range 10 {
				c := dial(t, s)
				if err := c.SetReadBuffer(64 << 10); err != nil {
					t.Fatal(err)
				}
				c.send("x", "y", "z")
				if _, err := io.ReadFull(c, make([]byte, 100_000)); err != nil {
					t.Fatal(err)
				}
				if len(released) != 0 {
					t.Fatal("released while the peer has read 100,000 bytes of 32 MiB")
				}
				conn := testkit.Receive(t, "OnOpen", r.opened)
				reason := errors.New("enough")
				if byHandler {
					conn.Close(reason)
				} else {
					_ = c.Close()
				}
				for range 3 {
					testkit.Receive(t, "release", released)
				}
				if err := r.nextClose(); byHandler && !errors.Is(err, reason) {
					t.Errorf("closed with %v, want %v", err, reason)
				}
				_ = c.Close()
			}
			if len(released) != 0 {
				t.Errorf("%d responses released twice", len(released))
			}
		}
	})
}

// A reader that never reads: its queue stops growing, others do not notice, and all is there when it reads at last.
func TestSlowReaderIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		const responses, size, limit = 100, 512 << 10, 4 << 20
		payload := bytes.Repeat([]byte{'r'}, size)
		var served atomic.Int64
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			if string(frame) == "ping" {
				tk.Send(respond("pong"))
				return
			}
			served.Add(1)
			tk.Send(respond(string(payload)))
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, OutputBytesMax: limit})
		slow, other := dial(t, s), dial(t, s)
		if err := slow.SetReadBuffer(256 << 10); err != nil {
			t.Fatal(err)
		}
		go func() {
			for range responses {
				if _, err := slow.Write(framed("big")); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		}()
		eventually(t, "reading the slow one pauses", func() bool { return s.Stats().OutputPauses > 0 })
		for range 100 {
			other.send("ping")
			other.expect("pong")
		}
		if got := served.Load(); got > responses/2 {
			t.Errorf("%d requests were served to a peer that reads nothing", got)
		}
		if got := s.Stats().BufferBytes; got > limit+2*size {
			t.Errorf("%d bytes are queued, want at most %d", got, limit+2*size)
		}
		for range responses {
			if got := slow.receive(); len(got) != size {
				t.Fatalf("got a response of %d bytes, want %d", len(got), size)
			}
		}
	})
}

// Output that waits for EPOLLOUT goes on although another connection keeps the loop busy with input.
func TestOutputGoesOnUnderInput(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		payload := strings.Repeat("o", 4<<20)
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			if string(frame) == "big" {
				tk.Send(respond(payload))
			} else {
				tk.Skip()
			}
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		stop := make(chan bool)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		flood := func(c *client) {
			noise := bytes.Repeat(framed("noise"), 1000)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Write(noise); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		}
		noisy := dial(t, s)
		wg.Go(func() { flood(noisy) })
		c := dial(t, s)
		c.send("big", "noise", "big")
		c.expect(payload, payload)
	})
}

// A peer that has shut down its sending side still gets the responses it waits for.
func TestHalfCloseWithPendingReplies(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Handler: r})
		for _, partial := range []bool{false, true} {
			c := dial(t, s)
			c.send("a", "b")
			if partial {
				c.write([]byte{0, 0, 0, 9, 'x'})
			}
			a, b := testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server sees the half-close", func() bool {
				seen := make(chan bool, 1)
				s.runner.each(func(l *loop) {
					for c := range l.conns {
						if c.eof {
							seen <- true
						}
					}
				})
				return len(seen) > 0
			})
			big := strings.Repeat("B", 8<<20)
			b.Send(respond(big))
			a.Send(respond("A"))
			c.expect("A", big)
			if rest := c.expectEnd(); len(rest) > 0 {
				t.Errorf("%d more bytes", len(rest))
			}
			err := r.nextClose()
			if partial && !errors.Is(err, io.ErrUnexpectedEOF) || !partial && err != io.EOF {
				t.Errorf("partial %v: closed with %v", partial, err)
			}
		}
	})
}

func TestTicketAfterClose(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Handler: r})
		c := dial(t, s)
		c.send("a", "b", "c")
		a, b, third := testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets)
		released := make(chan string, 10)
		resp := func(name string) Response {
			r := respond(name)
			r.Release = func() { released <- name }
			return r
		}
		b.Send(resp("b")) // has to wait for a, which will not come in time
		conn := testkit.Receive(t, "OnOpen", r.opened)
		conn.Close(nil)
		if err := r.nextClose(); !errors.Is(err, errClosedByHandler) {
			t.Errorf("closed with %v", err)
		}
		if got := testkit.Receive(t, "release", released); got != "b" {
			t.Errorf("released %s, want b", got)
		}
		a.Send(resp("a"))
		if got := testkit.Receive(t, "release", released); got != "a" {
			t.Errorf("released %s, want a", got)
		}
		third.Skip()
		conn.Mute(1)
		conn.Close(io.EOF)
		mustPanic(t, func() { a.Send(resp("again")) })
		if len(released) != 0 {
			t.Errorf("%d responses were released twice", len(released))
		}
	})
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}
