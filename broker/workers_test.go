package broker

import (
	"errors"
	"sync"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/netpoll"
)

// testTicket takes a response and drops it.
type testTicket struct{}

// Send implements netpoll.Ticket.
func (*testTicket) Send(r netpoll.Response) {
	if r.Release != nil {
		r.Release()
	}
}

// Skip implements netpoll.Ticket.
func (*testTicket) Skip() {}

// Close implements netpoll.Ticket.
func (*testTicket) Close(error) {}

func testJob(w *workers, state *connState, body int, run func()) error {
	h := handler{handle: func(*request, []byte) error { run(); return nil }}
	return w.submit(state, job{h: h, r: &request{ticket: &testTicket{}}, body: make([]byte, body)})
}

func TestWorkersKeepOrderOfAConnection(t *testing.T) {
	w := newWorkers(4, 1<<20)
	w.start()
	var mu sync.Mutex
	got := make([][]int, 8)
	states := make([]*connState, len(got))
	for i := range states {
		states[i] = &connState{}
	}
	for n := range 200 {
		for i, s := range states {
			err := testJob(w, s, 1, func() {
				mu.Lock()
				defer mu.Unlock()
				got[i] = append(got[i], n)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	w.stop()
	for i := range got {
		if len(got[i]) != 200 {
			t.Fatalf("connection %d: %d jobs ran, want 200", i, len(got[i]))
		}
		for n, v := range got[i] {
			if n != v {
				t.Fatalf("connection %d: job %d ran in place %d", i, v, n)
			}
		}
		if states[i].busy.Load() {
			t.Errorf("connection %d is still busy", i)
		}
	}
	if err := testJob(w, states[0], 1, func() {}); !errors.Is(err, errStopping) {
		t.Errorf("submit after stop: got %v", err)
	}
}

func TestWorkersBoundTheBacklog(t *testing.T) {
	w := newWorkers(1, 100)
	w.start()
	defer w.stop()
	a, b := &connState{}, &connState{}
	release, started := make(chan struct{}), make(chan struct{})
	if err := testJob(w, a, 1, func() { close(started); <-release }); err != nil {
		t.Fatal(err)
	}
	testkit.Closed(t, "the first job", started)
	if err := testJob(w, b, 99, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := testJob(w, b, 1, func() {}); !errors.Is(err, errBacklogFull) {
		t.Errorf("beyond the backlog: got %v, want errBacklogFull", err)
	}
	w.drop(b)
	done := make(chan struct{})
	if err := testJob(w, a, 50, func() { close(done) }); err != nil {
		t.Errorf("after the other connection closed: %v", err)
	}
	close(release)
	testkit.Closed(t, "the job after it", done)
	testkit.Eventually(t, "an empty backlog", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.mu.backlogBytes == 0 && !b.busy.Load()
	})
	// A frame larger than the whole backlog is taken when nothing else waits.
	big := make(chan struct{})
	if err := testJob(w, b, 1000, func() { close(big) }); err != nil {
		t.Fatal(err)
	}
	testkit.Closed(t, "the big job", big)
}
