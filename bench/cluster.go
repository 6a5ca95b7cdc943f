package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// WorkerInfo says which generator took part, and how far its clock was off.
type WorkerInfo struct {
	Addr        string  `json:"addr"`
	OffsetUS    float64 `json:"clock_offset_us"`      // worker's clock less ours, corrected for
	Uncertainty float64 `json:"clock_uncertainty_us"` // half of the best round trip: end-to-end latencies are this uncertain
}

// workerPool is the controller's side of a set of workers.
type workerPool struct {
	client *http.Client
	addrs  []string
	infos  []WorkerInfo
	offset []int64
	lead   time.Duration // how far ahead a schedule starts, so that every worker has dialled
	// patience is how long a worker may take to answer, beside what its answer waits for. One that hangs must not hang us.
	patience time.Duration
}

// workerPatience is enough for a worker whose host is overloaded.
const workerPatience = 60 * time.Second

// dialWorkers measures every worker's clock.
func dialWorkers(ctx context.Context, addrs []string) (*workerPool, error) {
	p := &workerPool{client: &http.Client{}, addrs: addrs, lead: 3 * time.Second, patience: workerPatience}
	for _, addr := range addrs {
		info, offset, err := p.clock(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("worker %s: %w", addr, err)
		}
		p.infos, p.offset = append(p.infos, info), append(p.offset, offset)
	}
	return p, nil
}

func (p *workerPool) close() { p.client.CloseIdleConnections() }

func (p *workerPool) describe() []WorkerInfo { return p.infos }

// errNoAnswer is why a request to a worker is given up.
type errNoAnswer time.Duration

func (e errNoAnswer) Error() string {
	return fmt.Sprintf("no answer within %v: is `weir bench worker` still running there, and not stopped or cut off?", time.Duration(e))
}

// within calls f with a context that ends after d, and tells so.
func (p *workerPool) within(ctx context.Context, d time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errNoAnswer(d))
	defer cancel()
	err := f(ctx)
	if cause, late := context.Cause(ctx).(errNoAnswer); err != nil && late {
		return cause
	}
	return err
}

// clock asks for the worker's time 20 times and believes the fastest answer.
func (p *workerPool) clock(ctx context.Context, addr string) (info WorkerInfo, offset int64, err error) {
	err = p.within(ctx, p.patience, func(ctx context.Context) error {
		info, offset, err = p.measureClock(ctx, addr)
		return err
	})
	return info, offset, err
}

func (p *workerPool) measureClock(ctx context.Context, addr string) (WorkerInfo, int64, error) {
	best, offset := time.Duration(math.MaxInt64), int64(0)
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/clock", nil)
		if err != nil {
			return WorkerInfo{}, 0, err
		}
		sent := time.Now()
		resp, err := p.client.Do(req)
		if err != nil {
			return WorkerInfo{}, 0, err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64))
		took := time.Since(sent)
		resp.Body.Close()
		if err != nil {
			return WorkerInfo{}, 0, err
		}
		at, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return WorkerInfo{}, 0, fmt.Errorf("not a weir bench worker: %w", err)
		}
		if took < best {
			best, offset = took, at-(sent.UnixNano()+int64(took)/2)
		}
	}
	return WorkerInfo{addr, float64(offset) / 1e3, float64(best) / 2e3}, offset, nil
}

// run is Run with the load split over the workers. Warm-up is the fixed time that the spec names.
func (p *workerPool) run(ctx context.Context, target Target, spec Spec, live func(Progress)) (*RunResult, error) {
	spec.EnsureDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.FillBytes > 0 || spec.CatchUp > 0 {
		return nil, fmt.Errorf("workers cannot fill or catch up (case %s): run it without --worker", spec.Case)
	}
	r := newRun(target, &spec, live)
	defer r.cleanup()
	var err error
	if r.admin, err = dialAdmin(ctx, target.Addr()); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.admin.close)
	if r.parts, err = r.admin.createTopic(ctx, r.topic, r.spec); err != nil {
		return nil, fmt.Errorf("target %s: %w", target.Name(), err)
	}
	r.owner, r.total = true, spec.Conns
	r.sent = newSentLedger(r.total, len(r.parts))
	if r.templates, err = newTemplates(&spec); err != nil {
		return nil, err
	}
	res := &RunResult{Target: target.Name(), Started: time.Now()}
	if res.InForce, err = r.admin.inForce(ctx, r.topic, r.parts); err != nil {
		return nil, err
	}
	first := r.clock.now() + int64(p.lead)
	from := first + int64(spec.Warmup)
	to := from + int64(spec.Duration)
	jobs := p.split(r, first, from, to)
	if err := p.each(ctx, p.patience, func(ctx context.Context, i int) error {
		return post(ctx, p.client, p.url(i, "start"), jobs[i], &struct{}{})
	}); err != nil {
		return nil, err
	}
	r.from.Store(from)
	r.to.Store(to)
	col := newCollector(r)
	col.wait(ctx, "warm-up", time.Duration(from-r.clock.now()))
	before := r.snapshot(true)
	col.wait(ctx, "measure", time.Duration(to-r.clock.now()))
	after := r.snapshot(true)
	return res, p.collect(ctx, r, res, &before, &after, col)
}

func (p *workerPool) url(i int, verb string) string { return "http://" + p.addrs[i] + "/v1/" + verb }

// each calls f for every worker at once, for d at most, and returns the first error.
func (p *workerPool) each(ctx context.Context, d time.Duration, f func(ctx context.Context, i int) error) error {
	errs := make([]error, len(p.addrs))
	var wg sync.WaitGroup
	for i := range p.addrs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = p.within(ctx, d, func(ctx context.Context) error { return f(ctx, i) })
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("worker %s: %w", p.addrs[i], err)
		}
	}
	return nil
}

// split shares connections and readers out evenly; the schedule is one, each connection takes its own slots of it.
func (p *workerPool) split(r *run, first, from, to int64) []workerJob {
	n := len(p.addrs)
	share := func(total, i int) int { return (total*(i+1))/n - (total*i)/n }
	jobs := make([]workerJob, n)
	base := 0
	for i := range jobs {
		spec := *r.spec
		spec.Conns, spec.Consumers, spec.IdleConns = share(r.spec.Conns, i), share(r.spec.Consumers, i), share(r.spec.IdleConns, i)
		jobs[i] = workerJob{Addr: r.target.Addr(), Topic: r.topic, RunID: r.id, Spec: spec, Base: base, Total: r.total, Offset: p.offset[i],
			FirstAt: first, From: from, To: to}
		base += spec.Conns
	}
	return jobs
}

// collect gathers the parts, lets the workers finish, and merges everything into res.
func (p *workerPool) collect(ctx context.Context, r *run, res *RunResult, before, after *totals, col *collector) error {
	parts := make([]workerPart, len(p.addrs))
	if err := p.each(ctx, p.patience+r.spec.Drain, func(ctx context.Context, i int) error {
		return post(ctx, p.client, p.url(i, "stop"), struct{}{}, &parts[i])
	}); err != nil {
		return err
	}
	base := 0
	selfBefore, selfAfter := 0.0, 0.0
	before.workers, after.workers = &workerCosts{controller: before.self.cpuSeconds}, &workerCosts{controller: after.self.cpuSeconds}
	var disturbed []string
	for i := range parts {
		part := &parts[i]
		disturbed = append(disturbed, p.addCosts(r, part, p.addrs[i], before.workers, after.workers)...)
		for k, next := range part.Sent {
			r.sent.next[base+k] = next
		}
		base += len(part.Sent)
		r.sent.addFailed(part.Failed)
		before.addWorker(&part.Before)
		after.addWorker(&part.After)
		selfBefore, selfAfter = selfBefore+part.Before.CPU, selfAfter+part.After.CPU
		if err := col.total.decode(part); err != nil {
			return fmt.Errorf("worker %s: %w", p.addrs[i], err)
		}
		col.addSeconds(part.Seconds)
		res.Congestion = part.Congestion
		for text, n := range part.Errors {
			r.mu.Lock()
			r.mu.errors[text] += n
			r.mu.Unlock()
		}
	}
	r.drain(ctx, &res.Truth)
	sent := workerSent{Sent: r.sent.next, Failed: r.sent.failedLists(), Ends: *r.drainTo.Load()}
	ends := make([]workerEnd, len(p.addrs))
	if err := p.each(ctx, p.patience+r.spec.Drain, func(ctx context.Context, i int) error {
		return post(ctx, p.client, p.url(i, "finish"), sent, &ends[i])
	}); err != nil {
		return err
	}
	for i := range ends {
		res.Truth.add(&ends[i].Truth)
	}
	before.self.cpuSeconds, after.self.cpuSeconds = selfBefore, selfAfter
	res.fill(r, col, before, after)
	for _, reason := range disturbed {
		res.invalid("%s", reason)
	}
	for _, info := range p.infos {
		res.note("worker %s: clock offset %.0f us corrected, uncertain by %.0f us", info.Addr, info.OffsetUS, info.Uncertainty)
	}
	return nil
}

// addCosts adds a worker's CPU and collections, and gives the reasons why its host was not fit. A worker on this host is judged with it.
func (p *workerPool) addCosts(r *run, part *workerPart, addr string, before, after *workerCosts) (disturbed []string) {
	after.gcs += int(part.GCs)
	after.gcMaxUS = max(after.gcMaxUS, part.GCMaxUS)
	if part.Boot == bootID() {
		before.here, after.here = before.here+part.Before.CPU, after.here+part.After.CPU
		return nil
	}
	r.workerCPUs += part.Host.CPUs
	part.Host.disturbed(func(format string, args ...any) {
		disturbed = append(disturbed, "host disturbed: worker "+addr+": "+fmt.Sprintf(format, args...))
	})
	return disturbed
}

func (t *totals) addWorker(w *workerTotals) {
	t.acked += w.Acked
	t.failed += w.Failed
	t.ackBytes += w.AckBytes
	t.read += w.Read
	t.readBytes += w.ReadBytes
	t.fetches += w.Fetches
}

// decode merges a worker's histograms.
func (s *histSet) decode(part *workerPart) error {
	for name, data := range part.Histograms {
		for m, known := range metricNames {
			if known != name {
				continue
			}
			h, err := hdrhistogram.Decode(data)
			if err != nil {
				return err
			}
			s.get(metric(m)).Merge(h)
		}
	}
	s.clamped += part.Clamped
	return nil
}

// addSeconds adds a worker's series of seconds: rates add up, latencies take the worst of the workers.
func (c *collector) addSeconds(seconds []Second) {
	for i, s := range seconds {
		if i == len(c.seconds) {
			c.seconds = append(c.seconds, s)
			continue
		}
		d := &c.seconds[i]
		d.Records, d.Bytes, d.Read = d.Records+s.Records, d.Bytes+s.Bytes, d.Read+s.Read
		d.P50, d.P99, d.Max = max(d.P50, s.P50), max(d.P99, s.P99), max(d.Max, s.Max)
	}
}

// errorCounts copies the errors noted so far.
func (r *run) errorCounts() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.mu.errors)
}
