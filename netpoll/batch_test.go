package netpoll

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

// Responses of a batch reach a sleeping loop with one wake-up, when it is flushed; one that is not in the batch does not wait for it.
func TestBatchWakesALoopOnce(t *testing.T) {
	const conns = 8
	tickets := make(chan Ticket, conns)
	r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	e := s.runner.(*epollRunner).loops[0]
	asleep := func() { eventually(t, "the loop sleeps", e.asleep.Load) }
	var clients []*client
	var held []Ticket
	for i := range conns {
		c := dial(t, s)
		c.send("wait")
		clients, held = append(clients, c), append(held, testkit.Receive(t, fmt.Sprint("ticket ", i), tickets))
	}
	var b Batch
	for range 2 { // a Batch may be used again
		asleep()
		before := s.Stats().Wakeups
		for i, tk := range held {
			tk.SendIn(respond(fmt.Sprint("answer ", i)), &b)
		}
		if got := s.Stats().Wakeups - before; got != 0 {
			t.Fatalf("%d wake-ups before Flush, want 0", got)
		}
		b.Flush()
		for i, c := range clients {
			c.expect(fmt.Sprint("answer ", i))
		}
		if got := s.Stats().Wakeups - before; got > 1 { // 0 when the loop was still about to sleep
			t.Fatalf("%d wake-ups for %d responses, want at most 1", got, conns)
		}
		held = held[:0]
		for i, c := range clients {
			c.send("again")
			held = append(held, testkit.Receive(t, fmt.Sprint("ticket ", i), tickets))
		}
	}
	asleep()
	held[0].SendIn(respond("in the batch"), &b)
	held[1].Send(respond("alone"))
	clients[1].expect("alone")
	clients[0].expect("in the batch") // the loop looked at all that was there
	b.Flush()
	for _, tk := range held[2:] {
		tk.Skip()
	}
}
