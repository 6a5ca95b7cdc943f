package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A worker is a generator on another host. The controller (cluster.go) drives it over HTTP:
//
//	GET  /v1/clock   the worker's clock, to measure its offset
//	POST /v1/start   workerJob: dial, then produce and consume by a schedule that starts at a given time; answers when dialled
//	POST /v1/stop    answers when the producers have ended: what was sent, counters, histograms
//	POST /v1/finish  what all workers sent: drain the readers, answers their truth
//
// One job at a time. Times are ns on the controller's clock; the worker shifts its own by the offset it is told.

// workerJob is one run's share.
type workerJob struct {
	Addr     string        `json:"addr"`
	Topic    string        `json:"topic"`
	RunID    uint32        `json:"run_id"`
	Spec     Spec          `json:"spec"` // with this worker's share of connections and readers, but the whole rate
	Base     int           `json:"base"`
	Total    int           `json:"total"`
	Offset   int64         `json:"offset"` // worker's clock less controller's, ns
	Lead     time.Duration `json:"lead"`
	FirstAt  int64         `json:"first_at"` // when the schedule starts
	From, To int64
}

// workerPart is what a worker reports when its producers have ended.
type workerPart struct {
	Sent       [][]uint64          `json:"sent"` // by producer (of this worker) and partition
	Failed     map[string][]uint64 `json:"failed"`
	Before     workerTotals        `json:"before"`
	After      workerTotals        `json:"after"`
	Histograms map[string][]byte   `json:"histograms"` // by metric, HdrHistogram V2 compressed
	Seconds    []Second            `json:"seconds"`
	Errors     map[string]int64    `json:"errors"`
	Clamped    int64               `json:"clamped"`
	GCs        int64               `json:"gc_count"`
	GCMaxUS    float64             `json:"gc_max_us"`
	Congestion string              `json:"congestion"`
	Host       HostLoad            `json:"host"`    // of the worker's host
	Boot       string              `json:"boot_id"` // which host that is
	Broken     bool                `json:"broken"`  // a connection failed
}

// workerTotals are the counters of a worker at one moment.
type workerTotals struct {
	At, Acked, Failed, AckBytes, Read, ReadBytes, CatchRead, CatchBytes, Fetches int64
	CPU                                                                          float64
}

func (t *totals) forWorker() workerTotals {
	return workerTotals{t.at, t.acked, t.failed, t.ackBytes, t.read, t.readBytes, t.catchRead, t.catchBytes, t.fetches, t.self.cpuSeconds}
}

// workerSent is what the controller tells every worker at the end.
type workerSent struct {
	Sent   [][]uint64          `json:"sent"`
	Failed map[string][]uint64 `json:"failed"`
	Ends   []int64             `json:"ends"`
}

// failedLists turns the map of failed sequences into something that JSON can hold.
func (s *sentLedger) failedLists() map[string][]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]uint64{}
	for key, seqs := range s.mu.failed {
		name := fmt.Sprintf("%d/%d", key[0], key[1])
		for seq := range seqs {
			out[name] = append(out[name], seq)
		}
	}
	return out
}

func (s *sentLedger) addFailed(lists map[string][]uint64) {
	for name, seqs := range lists {
		var producer, partition int
		if _, err := fmt.Sscanf(name, "%d/%d", &producer, &partition); err == nil {
			for _, seq := range seqs {
				s.fail(producer, int32(partition), seq)
			}
		}
	}
}

// workerServer holds the worker's current job.
type workerServer struct {
	ctx   context.Context
	alone bool
	mu    struct {
		sync.Mutex
		job *workerRun
	}
}

// workerRun is a job in progress.
type workerRun struct {
	r         *run
	cancel    context.CancelFunc
	ctx       context.Context
	col       *collector
	before    totals
	after     totals
	producing chan struct{}
	measured  chan struct{}
}

// ServeWorker serves jobs on listen until ctx ends; ready is told the address. alone says that this process does nothing else, so that a
// measurement may tune its runtime.
func ServeWorker(ctx context.Context, listen string, alone bool, ready func(addr string)) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	s := &workerServer{ctx: ctx, alone: alone}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/clock", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, time.Now().UnixNano()) })
	mux.HandleFunc("POST /v1/start", s.start)
	mux.HandleFunc("POST /v1/stop", s.stop)
	mux.HandleFunc("POST /v1/finish", s.finish)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	ready(ln.Addr().String())
	select {
	case err = <-done:
	case <-ctx.Done():
		err = srv.Close()
		<-done
	}
	s.abandon()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// abandon ends a job that a controller left behind.
func (s *workerServer) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.job != nil {
		s.mu.job.end()
		s.mu.job = nil
	}
}

func (j *workerRun) end() {
	j.cancel()
	<-j.producing
	<-j.measured
	j.r.quietProcess.restore() // unless stop did
	j.r.tasks.Wait()
	j.r.cleanup()
}

func readJSON(w http.ResponseWriter, req *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 256<<20)).Decode(v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the controller notices a cut answer
}

func (s *workerServer) start(w http.ResponseWriter, req *http.Request) {
	var job workerJob
	if !readJSON(w, req, &job) {
		return
	}
	s.abandon()
	j, err := startJob(s.ctx, &job, s.alone)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	s.mu.job = j
	s.mu.Unlock()
	writeJSON(w, struct{}{})
}

// startJob dials and starts the readers and the producers, which wait for the schedule's start.
func startJob(parent context.Context, job *workerJob, alone bool) (*workerRun, error) {
	clock := newRunClock()
	clock.wall -= job.Offset
	// No process has that pid: the controller samples the broker.
	r := newRun(&AddressTarget{name: "worker", addr: job.Addr, pid: math.MaxInt32}, &job.Spec, nil)
	r.alone = alone
	r.clock, r.id, r.topic, r.base, r.total = clock, job.RunID, job.Topic, job.Base, job.Total
	r.from.Store(job.From)
	r.to.Store(job.To)
	r.stopAt.Store(job.To)
	ctx, cancel := context.WithCancel(parent)
	j := &workerRun{r: r, ctx: ctx, cancel: cancel, producing: make(chan struct{}), measured: make(chan struct{})}
	err := func() (err error) {
		if r.admin, err = dialAdmin(ctx, job.Addr); err != nil {
			return err
		}
		r.closers = append(r.closers, r.admin.close)
		if r.parts, err = r.admin.waitLeaders(ctx, job.Topic, job.Spec.Partitions); err != nil {
			return err
		}
		return r.connect(ctx)
	}()
	if err != nil {
		cancel()
		r.cleanup()
		return nil, err
	}
	r.startReaders(ctx, 0)
	j.col = newCollector(r)
	go func() {
		defer close(j.producing)
		if r.spec.Conns > 0 {
			sleepUntil(ctx, r.clock, job.FirstAt)
			r.produceAll(ctx, func(i int) pace { return r.pace(job.FirstAt, i) })
		}
	}()
	go j.measure(job)
	return j, nil
}

func sleepUntil(ctx context.Context, c runClock, at int64) {
	t := time.NewTimer(time.Duration(at - c.now()))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// measure takes the totals at the two ends of the measurement and collects seconds between them.
func (j *workerRun) measure(job *workerJob) {
	defer close(j.measured)
	if j.r.alone {
		sleepUntil(j.ctx, j.r.clock, job.From-int64(100*time.Millisecond)) // a collection takes less
		j.r.quietProcess = quiet(j.r.sleepers())
	}
	sleepUntil(j.ctx, j.r.clock, job.From)
	j.before = j.r.snapshot(true)
	j.col.begin(job.From)
	j.col.wait(j.ctx, "measure", time.Duration(job.To-j.r.clock.now()))
	j.after = j.r.snapshot(true)
}

func (s *workerServer) current(w http.ResponseWriter) *workerRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.job == nil {
		http.Error(w, "no job", http.StatusConflict)
	}
	return s.mu.job
}

func (s *workerServer) stop(w http.ResponseWriter, _ *http.Request) {
	j := s.current(w)
	if j == nil {
		return
	}
	<-j.measured
	limit := time.NewTimer(j.r.spec.Drain)
	defer limit.Stop()
	select {
	case <-j.producing:
	case <-limit.C:
		j.r.fail(fmt.Errorf("producers still had requests without an answer %v after the end", j.r.spec.Drain))
		j.cancel()
		<-j.producing
	}
	j.r.quietProcess.restore()
	j.col.late(j.r)
	p := workerPart{Sent: j.r.sent.next[j.r.base : j.r.base+len(j.r.producers)], Failed: j.r.sent.failedLists(), Before: j.before.forWorker(),
		After: j.after.forWorker(), Seconds: j.col.seconds, Clamped: j.col.total.clamped, Congestion: j.r.congestion(), Boot: bootID(),
		Histograms: map[string][]byte{}, Broken: j.r.err() != nil}
	p.Host = hostLoad(&j.before, &j.after, float64(max(1, j.after.at-j.before.at))/1e9)
	p.GCs, p.GCMaxUS = j.after.self.gcCount-j.before.self.gcCount, float64(j.after.self.longestPause(&j.before.self).Microseconds())
	for m, h := range j.col.total.h {
		if h != nil {
			data, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			p.Histograms[metricNames[m]] = data
		}
	}
	p.Errors = j.r.errorCounts()
	writeJSON(w, &p)
}

func (s *workerServer) finish(w http.ResponseWriter, req *http.Request) {
	var sent workerSent
	if !readJSON(w, req, &sent) {
		return
	}
	j := s.current(w)
	if j == nil {
		return
	}
	all := newSentLedger(len(sent.Sent), len(sent.Ends))
	all.next = sent.Sent
	all.addFailed(sent.Failed)
	var truth Truth
	j.r.sent = all
	j.r.drainTo.Store(&sent.Ends)
	complete := j.r.waitReaders(j.ctx, j.cancel)
	for _, l := range j.r.ledgers {
		if complete {
			l.finish(all)
		}
		truth.add(&l.truth)
	}
	errs := j.r.errorCounts()
	s.abandon()
	writeJSON(w, workerEnd{Truth: truth, Errors: errs})
}

// workerEnd is the answer to finish.
type workerEnd struct {
	Truth  Truth            `json:"truth"`
	Errors map[string]int64 `json:"errors"`
}

// post sends v and decodes the answer into out.
func post(ctx context.Context, client *http.Client, url string, v, out any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, bytes.TrimSpace(data))
	}
	return json.Unmarshal(data, out)
}
