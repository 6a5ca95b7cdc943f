package bench

import (
	"context"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

// testWorkers are workers in the test's process.
type testWorkers struct {
	t     *testing.T
	addrs []string
	end   context.CancelFunc
	ended chan error
}

func startWorkers(t *testing.T, n int) *testWorkers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel) // a test that has failed does not wait for them
	w := &testWorkers{t: t, end: cancel, ended: make(chan error, n)}
	for range n {
		ready := make(chan string, 1)
		go func() {
			defer close(ready)
			w.ended <- ServeWorker(ctx, "127.0.0.1:0", false, func(addr string) { ready <- addr })
		}()
		w.addrs = append(w.addrs, testkit.Receive(t, "a worker's address", ready))
	}
	return w
}

// stop ends the workers, which have to do so of themselves.
func (w *testWorkers) stop() {
	w.t.Helper()
	w.end()
	for range w.addrs {
		if err := testkit.Receive(w.t, "the end of a worker that was told to", w.ended); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestWorkersShareOneSchedule(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	workers := startWorkers(t, 2)
	spec := quickSpec(func(s *Spec) { s.Conns, s.Consumers, s.Warmup = 3, 2, 100*time.Millisecond })
	var res *RunResult
	if err := within(t, "a run of two workers", func(ctx context.Context) error {
		pool, err := dialWorkers(ctx, workers.addrs)
		if err != nil {
			return err
		}
		defer pool.close()
		pool.lead = time.Second
		res, err = pool.run(ctx, f.target("fake"), spec, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if res.Truth.Faults() != 0 || len(res.Errors) != 0 {
		t.Fatalf("%+v %v", res.Truth, res.Errors)
	}
	if res.Response == nil || res.EndToEnd == nil || res.Response.Count < 300 || res.Response.Count > 500 {
		t.Fatalf("response %+v: want about 400 requests in a second", res.Response)
	}
	if res.Truth.Checked < 2*400 {
		t.Fatalf("two readers checked %d batches", res.Truth.Checked)
	}
	workers.stop()
}
