package netpoll

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

// Ticket.Close ends a connection in the order of its frames: the answers before it leave, however late they come, those after it are
// dropped, and no further frame is delivered.
func TestTicketCloseKeepsAnswersBeforeIt(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		wrong := errors.New("makes no sense")
		tickets := make(chan Ticket, 10)
		var frames atomic.Int64
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			frames.Add(1)
			tickets <- tk
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		c.send("1", "2", "3", "4")
		var held []Ticket
		for range 4 {
			held = append(held, testkit.Receive(t, "ticket", tickets))
		}
		dropped := make(chan struct{})
		last := respond("four")
		last.Release = func() { close(dropped) }
		held[3].Send(last)
		held[2].Close(wrong)
		c.send("never delivered")
		held[1].Send(respond("two"))
		settled(s)
		if len(r.closed) > 0 {
			t.Fatal("closed before the first answer")
		}
		held[0].Send(respond("one"))
		c.expect("one", "two")
		if rest := c.expectEnd(); len(rest) != 0 {
			t.Errorf("%d bytes after the end: %.50q", len(rest), rest)
		}
		if err := r.nextClose(); err != wrong {
			t.Errorf("closed with %v, want %v", err, wrong)
		}
		testkit.Closed(t, "the answer behind the end is released", dropped)
		if got := frames.Load(); got != 4 {
			t.Errorf("%d frames delivered, want 4", got)
		}
	})
}

// Called from OnFrame, Ticket.Close keeps the frames behind it in the same read from the handler.
func TestTicketCloseInOnFrame(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		wrong := errors.New("makes no sense")
		held := make(chan Ticket, 1)
		r := newRecorder(t, func(_ Conn, tk Ticket, frame []byte) {
			switch string(frame) {
			case "hold":
				held <- tk
			case "bad":
				tk.Close(wrong)
			case "after":
				t.Error("a frame behind the end was delivered")
				tk.Skip()
			default:
				tk.Send(respond(string(frame)))
			}
		})
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		big := strings.Repeat("b", 3<<20) // more than the kernel takes at once
		for _, ahead := range [][]string{nil, {"a"}, {"a", big, "b"}} {
			c := dial(t, s)
			c.send(append(append([]string{}, ahead...), "bad", "after")...)
			c.expect(ahead...)
			if rest := c.expectEnd(); len(rest) != 0 {
				t.Errorf("%d bytes after the end", len(rest))
			}
			if err := r.nextClose(); err != wrong {
				t.Errorf("closed with %v, want %v", err, wrong)
			}
		}
		c := dial(t, s)
		c.send("hold", "bad", "after")
		first := testkit.Receive(t, "ticket", held)
		settled(s)
		if got := s.Stats().BufferBytes; got != 0 {
			t.Errorf("%d bytes are kept of what is behind the end", got)
		}
		first.Send(respond("held"))
		c.expect("held")
		c.expectEnd()
	})
}

// A length that is refused behind good frames does not cost their answers.
func TestRefusedLengthKeepsAnswersBeforeIt(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		testkit.Receive(t, "OnOpen", r.opened)
		c.write(append(binary.BigEndian.AppendUint32(append(framed("1"), framed("2")...), 0), "what nobody wants"...))
		first, second := testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets)
		settled(s)
		if got := s.Stats().BufferBytes; got != 0 {
			t.Errorf("%d bytes are kept of what is behind the refused length", got)
		}
		if before := s.Stats().BytesIn; impl == ImplEpoll {
			c.write([]byte("even more"))
			settled(s)
			if got := s.Stats().BytesIn - before; got != 0 {
				t.Errorf("%d bytes were read behind the refused length", got)
			}
		}
		second.Send(respond("two"))
		first.Send(respond("one"))
		c.expect("one", "two")
		c.expectEnd()
		var size *FrameSizeError
		if err := r.nextClose(); !errors.As(err, &size) {
			t.Errorf("closed with %v", err)
		}
	})
}

// A connection that is to end may close first, or the server stop: the ticket's error or the earlier reason is told, once.
func TestTicketCloseAfterClose(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		tickets := make(chan Ticket, 10)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		c.send("1", "2")
		first, second := testkit.Receive(t, "ticket", tickets), testkit.Receive(t, "ticket", tickets)
		second.Close(nil)
		sooner := errors.New("sooner")
		testkit.Receive(t, "OnOpen", r.opened).Close(sooner)
		if err := r.nextClose(); err != sooner {
			t.Errorf("closed with %v, want %v", err, sooner)
		}
		first.Close(errors.New("too late"))
	})
}

// Tiny responses that nobody reads are charged with what they really take, not with their few bytes.
func TestTinyResponsesAreChargedInFull(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		const frames = 200
		tickets := make(chan Ticket, frames)
		r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r})
		c := dial(t, s)
		c.write([]byte(strings.Repeat(string(framed("x")), frames)))
		var first Ticket
		for i := range frames {
			tk := testkit.Receive(t, "ticket", tickets)
			if i == 0 {
				first = tk // holds the others back
				continue
			}
			tk.Send(respond("y"))
		}
		if got, want := s.Stats().BufferBytes, int64((frames-1)*(responseOverhead+5)); got != want {
			t.Errorf("%d bytes are charged for %d responses, want %d", got, frames-1, want)
		}
		first.Send(respond("y"))
		for range frames {
			c.expect("y")
		}
		eventually(t, "nothing is charged any more", func() bool { return s.Stats().BufferBytes == 0 })
	})
}
