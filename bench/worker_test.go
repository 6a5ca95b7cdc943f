package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
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

// A worker that hangs at any request ends the run with an error that names it, and does not hang the controller.
func TestWorkerThatHangs(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"clock", "start", "stop", "finish"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			workers := startWorkers(t, 1)
			pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: workers.addrs[0]})
			hung := make(chan struct{})
			between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.HasSuffix(req.URL.Path, "/"+verb) {
					<-hung
					return
				}
				pass.ServeHTTP(w, req)
			}))
			t.Cleanup(between.Close)
			t.Cleanup(func() { close(hung) })
			addr := between.Listener.Addr().String()
			err := within(t, "a run of a worker that hangs", func(ctx context.Context) error {
				p := &workerPool{client: between.Client(), addrs: []string{addr}, lead: time.Second, patience: 10 * time.Second}
				if verb == "clock" {
					p.patience = 50 * time.Millisecond
				}
				info, offset, err := p.clock(ctx, addr)
				if err != nil {
					return err
				}
				p.infos, p.offset, p.patience = []WorkerInfo{info}, []int64{offset}, 2*time.Second
				_, err = p.run(ctx, f.target("fake"), quickSpec(func(s *Spec) { s.Drain = time.Second }), nil)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "no answer within") || verb != "clock" && !strings.Contains(err.Error(), addr) {
				t.Fatalf("the run ended with %v", err)
			}
		})
	}
}
