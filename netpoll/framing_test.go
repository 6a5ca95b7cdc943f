package netpoll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/weirmq/weir/internal/testkit"
)

func TestEcho(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r})
		c := dial(t, s)
		c.send("a", "bc", "def")
		c.expect("a", "bc", "def")
		conn := testkit.Receive(t, "OnOpen", r.opened)
		if got, want := conn.RemoteAddr().String(), c.TCPConn.LocalAddr().String(); got != want {
			t.Errorf("RemoteAddr is %s, want %s", got, want)
		}
		if got, want := conn.LocalAddr(), s.Addr(); got != want {
			t.Errorf("LocalAddr is %s, want %s", got, want)
		}
		_ = c.Close()
		if err := r.nextClose(); !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v, want EOF", err)
		}
		st := s.Stats()
		if st.FramesIn != 3 || st.FramesOut != 3 || st.BytesIn != 18 || st.BytesOut != 18 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Every way to cut a stream into two writes, also inside the length prefix.
func TestFramesCutAnywhere(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		s := startServer(t, Options{Impl: impl, Handler: newRecorder(t, echo)})
		c := dial(t, s)
		stream := append(framed("first"), framed("second")...)
		for cut := 1; cut < len(stream); cut++ {
			before := s.Stats().BytesIn
			c.write(stream[:cut])
			eventually(t, "the first piece is read", func() bool { return s.Stats().BytesIn == before+int64(cut) })
			c.write(stream[cut:])
			c.expect("first", "second")
		}
	})
}

func TestFramesByteByByte(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		s := startServer(t, Options{Impl: impl, Handler: newRecorder(t, echo)})
		c := dial(t, s)
		for _, b := range framed("slowly") {
			c.write([]byte{b})
		}
		c.expect("slowly")
	})
}

func TestFrameLengthRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r, FrameBytesMax: 1000})
		other := dial(t, s)
		for _, length := range []uint32{0, 1001, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			for _, ahead := range [][]byte{nil, framed("x")} { // at the start, and behind a good frame
				c := dial(t, s)
				c.write(append(binary.BigEndian.AppendUint32(ahead, length), "rest"...))
				c.expectEnd()
				err := r.nextClose()
				var size *FrameSizeError
				if !errors.As(err, &size) || size.Got != int32(length) || size.Max != 1000 {
					t.Errorf("length %d: closed with %v", length, err)
				}
				want := fmt.Sprintf("frame length %d: want 1 to 1000 bytes", int32(length))
				if err != nil && err.Error() != want {
					t.Errorf("error is %q, want %q", err, want)
				}
			}
		}
		other.send("still here")
		other.expect("still here")
		c := dial(t, s) // the limit itself is fine
		c.send(strings.Repeat("m", 1000))
		c.expect(strings.Repeat("m", 1000))
	})
}

// A buffer is as large as what has arrived asks for, not as the peer claims.
func TestClaimedLengthCostsNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Handler: r, FrameBytesMax: 1 << 30})
		clients := make([]*client, 20)
		for i := range clients {
			clients[i] = dial(t, s)
			clients[i].write(binary.BigEndian.AppendUint32(nil, 1<<30))
			clients[i].write([]byte("ten bytes."))
		}
		eventually(t, "all bytes are read", func() bool { return s.Stats().BytesIn == int64(14*len(clients)) })
		if got, limit := s.Stats().BufferBytes, int64(len(clients)*bufferBytesMin); got > limit {
			t.Errorf("%d bytes are charged for %d connections that sent 14 bytes each, want at most %d", got, len(clients), limit)
		}
		clients[0].write(make([]byte, 100_000))
		eventually(t, "more bytes are read", func() bool { return s.Stats().BytesIn == int64(14*len(clients)+100_000) })
		if got, limit := s.Stats().BufferBytes, int64((len(clients)-1)*bufferBytesMin+5*100_014); got > limit {
			t.Errorf("%d bytes are charged after 100,000 more, want at most %d", got, limit)
		}
		for _, c := range clients {
			_ = c.Close()
		}
		for range clients {
			if err := r.nextClose(); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "of 1073741824 bytes of a frame") {
				t.Errorf("closed with %v", err)
			}
		}
	})
}

func TestIdleConnectionOwnsNoBuffer(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		s := startServer(t, Options{Impl: impl, Handler: newRecorder(t, echo)})
		c := dial(t, s)
		big := strings.Repeat("b", 300_000)
		c.send("small", big)
		c.expect("small", big)
		eventually(t, "nothing is charged", func() bool { return s.Stats().BufferBytes == 0 })
		s.runner.each(func(l *loop) {
			for c := range l.conns {
				if c.in.buf != nil {
					t.Errorf("an idle connection owns a buffer of %d bytes", len(c.in.buf))
				}
			}
		})
		c.send("again")
		c.expect("again")
	})
	if got := unsafe.Sizeof(conn{}) + unsafe.Sizeof(epollSock{}); got > 512 {
		t.Errorf("an idle connection takes %d bytes, want at most 512", got)
	}
}

// Frames of all sizes in one stream, many connections, random cuts, with pauses and without: nothing is lost, reordered or
// overwritten before OnTurn.
func TestFramesStayValidUntilTurn(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) { framesStayValid(t, Options{Impl: impl, Loops: 2}) })
	onBoth(t, func(t *testing.T, impl Impl) { framesStayValid(t, Options{Impl: impl, Loops: 2, InflightMax: 3}) })
}

func framesStayValid(t *testing.T, o Options) {
	type held struct {
		frame []byte
		sum   uint32
		tk    Ticket
	}
	var turns [64][]held // by loop
	r := newRecorder(t, nil)
	r.onFrame = func(c Conn, tk Ticket, frame []byte) {
		turns[c.Loop()] = append(turns[c.Loop()], held{frame, crc32.ChecksumIEEE(frame), tk})
	}
	r.onTurn = func(loop int) {
		if len(turns[loop]) == 0 {
			t.Errorf("OnTurn without a frame")
		}
		for _, h := range turns[loop] {
			sum := crc32.ChecksumIEEE(h.frame)
			if sum != h.sum {
				t.Errorf("a frame of %d bytes changed before OnTurn", len(h.frame))
			}
			h.tk.Send(respond(fmt.Sprint(sum)))
		}
		turns[loop] = turns[loop][:0]
	}
	o.Handler = r
	s := startServer(t, o)
	const clients = 5
	seed := testkit.Seed(t, 1)
	done := make(chan bool, clients)
	for i := range clients {
		c := dial(t, s)
		go func() {
			defer func() { done <- true }()
			rnd := testkit.Rand(seed + uint64(i))
			var stream []byte
			var want []string
			for range 40 {
				p := testkit.Bytes(rnd, 1+randSize(rnd))
				want = append(want, fmt.Sprint(crc32.ChecksumIEEE(p)))
				stream = append(stream, framed(string(p))...)
			}
			go func() {
				for len(stream) > 0 {
					n := min(len(stream), 1+randSize(rnd))
					if _, err := c.Write(stream[:n]); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					stream = stream[n:]
				}
			}()
			for _, w := range want {
				head := make([]byte, 4+len(w))
				if _, err := io.ReadFull(c, head); err != nil || string(head[4:]) != w {
					t.Errorf("checksum %q (%v), want %q", head[4:], err, w)
					return
				}
			}
		}()
	}
	for range clients {
		<-done
	}
}

// randSize is spread over the sizes at which the code changes its ways.
func randSize(r *rand.Rand) int {
	return r.IntN(1 << (2 + r.IntN(18)))
}

// A frame that takes long to arrive does not keep others waiting, and its loop goes on.
func TestHugeFrameDoesNotBlockLoop(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, nil)
		r.onFrame = func(_ Conn, tk Ticket, frame []byte) { tk.Send(respond(fmt.Sprint(len(frame)))) }
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		const size = 100 << 20
		huge, other := dial(t, s), dial(t, s)
		head := binary.BigEndian.AppendUint32(nil, size)
		huge.write(head)
		piece := make([]byte, 10<<20)
		for range 10 {
			huge.write(piece)
			other.send("ping")
			other.expect("4")
		}
		huge.expect(fmt.Sprint(size))
		if st := s.Stats(); st.Reads < size/readBytesMax {
			t.Errorf("%d reads for %d bytes: more than %d at once", st.Reads, size, readBytesMax)
		}
	})
}

// A turn reads at most readBytesMax of a connection, and about turnBytesMax in all, however much is ready.
func TestTurnIsBounded(t *testing.T) {
	r := newRecorder(t, echo)
	var bytesInTurn, most int
	r.onFrame = func(_ Conn, tk Ticket, frame []byte) {
		bytesInTurn += len(frame)
		tk.Skip()
	}
	r.onTurn = func(int) {
		most = max(most, bytesInTurn)
		bytesInTurn = 0
	}
	block, blocked := make(chan bool), make(chan bool)
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r, InflightMax: 1 << 20})
	s.runner.each(func(*loop) { blocked <- true; <-block })
	<-blocked
	const conns, perConn = 40, 200 << 10
	payload := framed(strings.Repeat("p", 1020))
	for range conns {
		c := dial(t, s)
		if err := c.SetWriteBuffer(1 << 20); err != nil {
			t.Fatal(err)
		}
		go func() {
			for range perConn / len(payload) {
				if _, err := c.Write(payload); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		}()
	}
	close(block)
	eventually(t, "all frames are read", func() bool { return s.Stats().FramesIn == conns*perConn/1024 })
	done := make(chan int)
	s.runner.each(func(*loop) { done <- most })
	if got := <-done; got > turnBytesMax+readBytesMax {
		t.Errorf("%d bytes of frames in one turn, want at most %d", got, turnBytesMax+readBytesMax)
	}
}
