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

// SendIn implements netpoll.Ticket.
func (t *testTicket) SendIn(r netpoll.Response, _ *netpoll.Batch) { t.Send(r) }

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

// changeJob queues a request of the given key that is held and gets its answer by the function that it sends to held.
func changeJob(w *workers, state *connState, key int16, together bool, held chan<- func()) error {
	r := &request{ticket: &testTicket{}, state: state, key: key}
	h := handler{key: key, together: together, handle: func(r *request, _ []byte) error {
		w.hold(r)
		held <- func() { w.resume(r, func() {}) }
		return nil
	}}
	return w.submit(state, job{h: h, r: r, body: make([]byte, 10)})
}

func TestWorkersHoldRequests(t *testing.T) {
	w := newWorkers(2, 45)
	w.start()
	defer w.stop()
	c := &connState{}
	held := make(chan func(), 10)
	for _, key := range []int16{19, 19, 20, 19} {
		if err := changeJob(w, c, key, true, held); err != nil {
			t.Fatal(err)
		}
	}
	if err := changeJob(w, c, 19, true, held); !errors.Is(err, errBacklogFull) {
		t.Errorf("beyond the backlog, which held requests count in: got %v", err)
	}
	first, second := <-held, <-held
	// Another connection is served although more requests are held than there are workers.
	done := make(chan struct{})
	if err := testJob(w, &connState{}, 1, func() { close(done) }); err != nil {
		t.Fatal(err)
	}
	testkit.Closed(t, "the job of another connection", done)
	quiet := func(when string, queued int) {
		t.Helper()
		testkit.Eventually(t, when, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(c.queue) == queued && !c.placed
		})
		if len(held) > 0 || !c.busy.Load() {
			t.Errorf("%s: %d more requests are held, busy is %v", when, len(held), c.busy.Load())
		}
	}
	quiet("two held, one of another key behind them", 2)
	first()
	quiet("one held, one of another key behind it", 2)
	second()
	third := <-held
	quiet("one of the other key held, one behind it", 1)
	third()
	(<-held)()
	testkit.Eventually(t, "an idle connection", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !c.busy.Load() && w.mu.held == 0 && w.mu.backlogBytes == 0
	})
}

func TestWorkersHoldOneAtATime(t *testing.T) {
	f := func(what string, prepare func(w *workers), together bool) {
		t.Helper()
		w := newWorkers(2, 1<<20)
		prepare(w)
		w.start()
		defer w.stop()
		c, held := &connState{}, make(chan func(), 10)
		for range 3 {
			if err := changeJob(w, c, 19, together, held); err != nil {
				t.Fatal(err)
			}
		}
		for left := 2; left >= 0; left-- {
			resume := <-held
			testkit.Eventually(t, what, func() bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return len(c.queue) == left && !c.placed
			})
			resume()
		}
	}
	f("a key that does not go together", func(*workers) {}, false)
	f("as many held as there may be", func(w *workers) { w.mu.held = heldMax }, true)
}

func TestWorkersPostponeUntilAlone(t *testing.T) {
	w := newWorkers(2, 1<<20)
	w.start()
	defer w.stop()
	c, held := &connState{}, make(chan func(), 10)
	if err := changeJob(w, c, 19, true, held); err != nil {
		t.Fatal(err)
	}
	resume := <-held
	var alone []bool
	done := make(chan struct{})
	h := handler{key: 19, together: true, handle: func(r *request, _ []byte) error {
		if alone = append(alone, r.alone); r.alone {
			close(done)
		} else {
			r.postpone()
		}
		return nil
	}}
	if err := w.submit(c, job{h: h, r: &request{ticket: &testTicket{}, state: c, key: 19}, body: make([]byte, 10)}); err != nil {
		t.Fatal(err)
	}
	if err := changeJob(w, c, 19, true, held); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the postponed request before the last", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(c.queue) == 2 && c.queue[0].alone && !c.placed
	})
	resume()
	testkit.Closed(t, "the postponed request", done)
	if len(alone) != 2 || alone[0] || !alone[1] {
		t.Errorf("served with alone=%v, want false and then true", alone)
	}
	(<-held)()
}

func TestWorkersAnswerAfterTheStop(t *testing.T) {
	w := newWorkers(1, 1<<20)
	w.start()
	c, held := &connState{}, make(chan func(), 1)
	if err := changeJob(w, c, 19, true, held); err != nil {
		t.Fatal(err)
	}
	resume := <-held
	w.stop()
	resume()
	if w.mu.held != 0 || c.busy.Load() {
		t.Errorf("%d requests are held, busy is %v", w.mu.held, c.busy.Load())
	}
}
