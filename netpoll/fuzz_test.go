package netpoll

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/weirmq/weir/internal/clock"
)

// nullSocket is a connection without a network.
type nullSocket struct{ shuts int }

func (*nullSocket) notify(*Batch)  {}
func (*nullSocket) abort()         {}
func (*nullSocket) flush()         {}
func (*nullSocket) interest(bool)  {}
func (*nullSocket) backlog()       {}
func (*nullSocket) unsent() bool   { return false }
func (*nullSocket) shutdownWrite() {}
func (s *nullSocket) shut()        { s.shuts++ }

// frameLog is a Handler that keeps copies of the frames, taken at OnTurn, and the error.
type frameLog struct {
	turn, frames [][]byte
	err          error
	muteAfter    int // pauses after every so many frames; 0 never
}

func (*frameLog) OnOpen(Conn) {}
func (h *frameLog) OnFrame(c Conn, _ Ticket, frame []byte) {
	h.turn = append(h.turn, frame)
	if h.muteAfter > 0 && (len(h.frames)+len(h.turn))%h.muteAfter == 0 {
		c.(*conn).muteUntil.Store(1 << 62)
	}
}
func (h *frameLog) OnTurn(int) {
	for _, f := range h.turn {
		h.frames = append(h.frames, bytes.Clone(f))
	}
	h.turn = h.turn[:0]
}
func (h *frameLog) OnClose(_ Conn, err error) { h.err = err }

// framer is a loop with one connection and no network.
type framer struct {
	s    *Server
	l    *loop
	c    *conn
	a    *arena
	sock *nullSocket
}

func newFramer(h Handler, frameMax int, pool *bufferPool) *framer {
	s := &Server{opts: Options{Handler: h, FrameBytesMax: frameMax, Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler)}}
	s.opts.EnsureDefaults()
	s.epoch = s.opts.Clock.Now()
	s.drained = make(chan struct{})
	s.budget.limit = 1 << 40
	s.accept = &acceptor{srv: s}
	s.accept.mu.perIP = map[netip.Addr]int{}
	s.open.Store(2)
	f := &framer{s: s, l: newLoop(s, 0), sock: &nullSocket{}}
	f.c = &conn{loop: f.l, sock: f.sock, heapIndex: -1}
	f.c.in.frameMax = prefixBytes + frameMax
	f.a = &arena{pool: pool, wanted: readBytesMax, keep: true}
	f.l.open(f.c)
	return f
}

func (f *framer) endTurn() {
	f.l.endFrames()
	f.a.reset()
	for f.c.out.head != nil && f.c.out.end() == nil { // nobody answers
		f.c.out.pop()
	}
	if !f.c.closed {
		f.l.settle(f.c)
	}
}

// resume ends pauses and delivers what waits, as the sockets do.
func (f *framer) resume() {
	for !f.c.closed && f.c.muteUntil.Load() != 0 {
		f.c.muteUntil.Store(0)
		f.l.settle(f.c)
		f.l.deliverWaiting(f.c, f.a)
		f.endTurn()
	}
}

// feed gives the connection a stream in pieces whose sizes cuts decides.
func (f *framer) feed(t *testing.T, stream, cuts []byte) {
	arrived := 0
	for i, rest := 0, stream; len(rest) > 0 && !f.c.closed; i++ {
		own, extra, ok := f.c.in.windows(f.c, f.a, &f.s.budget, readBytesMax)
		if !ok || len(own)+len(extra) == 0 {
			t.Fatal("no window to read into")
		}
		n := len(own) + len(extra)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)])*int(cuts[i%len(cuts)]))
		}
		n = min(n, len(rest))
		copy(extra, rest[min(n, copy(own, rest[:n])):n])
		rest = rest[n:]
		arrived += n
		f.l.received(f.c, own, extra, n, f.a)
		if !f.c.closed {
			f.l.settle(f.c)
		}
		f.endTurn()
		f.resume()
		limit := 6*arrived + 2*bufferBytesMin
		if f.c.in.hint > 0 {
			limit += 6 * hintBytesMax
		}
		if len(f.c.in.buf) > limit {
			t.Fatalf("a buffer of %d bytes after %d bytes have arrived", len(f.c.in.buf), arrived)
		}
	}
}

// FuzzFraming cuts a stream at places that the input chooses, with pauses, and compares the frames with those of a parser that has the
// whole stream at once. Memory has to stay in proportion to what has arrived.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01a\x00\x00\x00\x02bc"), []byte{1, 2, 3}, uint8(0))
	f.Add([]byte("\x00\x00\x00\x00"), []byte{1}, uint8(1))
	f.Add([]byte("\x7f\xff\xff\xff abc"), []byte{200}, uint8(2))
	f.Add([]byte("\xff\xff\xff\xff"), []byte{}, uint8(0))
	f.Add(bytes.Repeat(append([]byte{0, 0, 1, 0}, make([]byte, 256)...), 20), []byte{7, 255, 1}, uint8(3))
	f.Add(append([]byte{0, 3, 0, 0}, make([]byte, 5<<16)...), []byte{255, 255, 3}, uint8(0))
	pool := &bufferPool{}
	f.Fuzz(func(t *testing.T, stream, cuts []byte, muteAfter uint8) {
		const frameMax = 1 << 18
		h := &frameLog{muteAfter: int(muteAfter)}
		fr := newFramer(h, frameMax, pool)
		fr.feed(t, stream, cuts)
		want, err := parseAll(stream, frameMax)
		if len(want) != len(h.frames) {
			t.Fatalf("%d frames, want %d", len(h.frames), len(want))
		}
		for i := range want {
			if !bytes.Equal(want[i], h.frames[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
		var size *FrameSizeError
		if errors.As(h.err, &size) != (err != nil) || (err != nil && *size != *err) {
			t.Fatalf("closed with %v, want %v", h.err, err)
		}
		if fr.c.closed != (fr.sock.shuts == 1) {
			t.Fatalf("closed: %v, shut %d times", fr.c.closed, fr.sock.shuts)
		}
		fr.c.in.drop(fr.a, &fr.s.budget)
		fr.a.keep = false
		fr.a.reset()
		if used := fr.s.budget.used.Load(); used != 0 {
			t.Fatalf("%d bytes are still charged", used)
		}
	})
}

// parseAll is the obvious way to cut a stream into frames.
func parseAll(stream []byte, frameMax int) ([][]byte, *FrameSizeError) {
	var frames [][]byte
	for len(stream) >= prefixBytes {
		size := int32(binary.BigEndian.Uint32(stream))
		if size <= 0 || int(size) > frameMax {
			return frames, &FrameSizeError{Got: size, Max: frameMax}
		}
		if len(stream) < prefixBytes+int(size) {
			break
		}
		frames = append(frames, stream[prefixBytes:prefixBytes+int(size)])
		stream = stream[prefixBytes+int(size):]
	}
	return frames, nil
}

func TestBufferClasses(t *testing.T) {
	last := 0
	for n := 1; n <= bufferBytesPooled; n += 1 + n/50 {
		class, size := bufferClass(n)
		if size < n || (n > bufferBytesMin && size > n+n/4+1) {
			t.Fatalf("class of %d bytes has %d", n, size)
		}
		if class < last || class >= bufferClasses {
			t.Fatalf("class of %d bytes is %d after %d, of %d", n, class, last, bufferClasses)
		}
		if again, same := bufferClass(size); again != class || same != size {
			t.Fatalf("class %d of %d bytes becomes class %d of %d", class, size, again, same)
		}
		last = class
	}
	var p bufferPool
	for _, n := range []int{1, 1024, 1025, 100_000, bufferBytesPooled, bufferBytesPooled + 1} {
		b := p.get(n)
		if len(b) < n || len(b) != cap(b) {
			t.Errorf("a buffer for %d bytes has %d, capacity %d", n, len(b), cap(b))
		}
		p.put(b)
	}
}
