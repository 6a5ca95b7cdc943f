package bench

import (
	"context"
	"fmt"
	"math"
	"time"
)

// totals is a snapshot of all workers' counters and of the processes, at one moment.
type totals struct {
	at                            int64 // ns on the run's clock
	sent, acked, failed, ackBytes int64
	unsent                        int64
	read, readBytes               int64
	catchRead, catchBytes         int64
	fetches, fetchedOnWire        int64
	wireBytes                     int64
	broker                        ProcSample
	self                          selfSample
	host                          hostSample
	workers                       *workerCosts // nil when this process makes the load
}

// workerCosts are those of a run's workers: CPU seconds of the ones on this host and of the controller, and their collections.
type workerCosts struct {
	here, controller float64
	gcs              int
	gcMaxUS          float64
}

// progress is the number that tells whether the load is steady: whatever the spec moves.
func (t *totals) progress() int64 { return t.acked + t.read + t.catchRead }

// snapshot takes everything that the result needs; deep adds what is slow to read, for the two ends of the measurement.
func (r *run) snapshot(deep bool) totals {
	t := r.light()
	t.self = sampleSelf()
	if deep {
		t.broker = sampleProcs(r.pids(), true)
		t.host = sampleHost(r.pids())
	}
	return t
}

// pids are the target's processes. They are looked up once: finding who listens on a port reads a link per open file of the host.
func (r *run) pids() []int {
	if !r.pidsKnown {
		r.pidList, r.pidsKnown = r.target.PIDs(), true
	}
	return r.pidList
}

// light takes what a second of the measurement needs.
func (r *run) light() totals {
	t := totals{at: r.clock.now(), broker: sampleProcs(r.pids(), false)}
	for _, c := range r.cnts {
		t.sent += c.sent.Load()
		t.acked += c.acked.Load()
		t.failed += c.failed.Load()
		t.unsent += c.unsent.Load()
		t.ackBytes += c.ackedBytes.Load()
		t.read += c.read.Load()
		t.readBytes += c.readBytes.Load()
		t.catchRead += c.catchRead.Load()
		t.catchBytes += c.catchBytes.Load()
		t.fetches += c.fetches.Load()
		t.fetchedOnWire += c.fetchedOnWire.Load()
		t.wireBytes += c.wireBytes.Load()
	}
	return t
}

// execute runs fill, warm-up, measurement and drain, and makes the result.
func (r *run) execute(ctx context.Context) (*RunResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		r.tasks.Wait()
	}()
	res := &RunResult{Target: r.target.Name(), Started: time.Now(), Congestion: r.congestion()}
	conf, err := r.admin.inForce(ctx, r.topic, r.parts)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", r.target.Name(), err)
	}
	res.InForce = conf
	r.live(Progress{Target: r.target.Name(), Case: r.spec.Case, Step: "fill"})
	r.startReaders(ctx, 0)
	r.fill(ctx)
	if r.spec.DropCaches {
		if err := dropCaches(); err != nil {
			res.note("%v: the page cache is warm", err)
		}
	}
	if r.spec.Conns == 0 && r.spec.Consumers > 0 {
		r.waitRead(ctx) // tail readers without live producers: what they had to read is the fill itself
	}
	producing := make(chan struct{})
	go func() {
		defer close(producing)
		if r.spec.Conns > 0 && r.err() == nil {
			start := r.clock.now() + int64(10*time.Millisecond)
			r.produceAll(ctx, func(i int) pace { return r.pace(start, i) })
		}
	}()
	col := newCollector(r)
	r.warm(ctx, col, res)
	catchUp, err := r.dialCatchUp(ctx)
	if err != nil {
		cancel()
		<-producing
		return nil, err
	}
	before := r.measure(ctx, col, catchUp)
	after := r.snapshot(true)
	col.finish()
	r.stopProducers(ctx, cancel, producing)
	r.quietProcess.restore() // only now: answers to requests of the measurement may have come late
	r.finish(ctx, cancel, res)
	col.late(r)
	res.fill(r, col, &before, &after)
	if err := ctx.Err(); err != nil && context.Cause(ctx) != context.Canceled {
		return nil, err
	}
	return res, nil
}

func (r *run) congestion() string {
	for _, p := range r.producers {
		return p.congestion()
	}
	for _, c := range r.consumers {
		return c.congestion()
	}
	return ""
}

// pace gives producer i its share of the offered load.
func (r *run) pace(start int64, i int) pace {
	if r.spec.Rate.Kind != RateAbsolute {
		return pace{}
	}
	perConn := r.spec.Rate.Value / float64(r.unitRecords) / float64(r.total)
	return pace{schedule: NewSchedule(r.spec.Schedule, perConn, r.spec.Burst, start, r.base+i, r.total, r.spec.Seed)}
}

// waitRead waits for readers of a finished fill to have it, so that what follows measures an idle target.
func (r *run) waitRead(ctx context.Context) {
	deadline := time.Now().Add(r.spec.Drain)
	for last := int64(-1); time.Now().Before(deadline) && ctx.Err() == nil; {
		now := r.snapshot(false)
		if now.read == last {
			return
		}
		last = now.read
		time.Sleep(200 * time.Millisecond)
	}
}

// warmAgree is how much two windows of the warm-up may differ, as a share, where chance allows no more.
const warmAgree = 0.03

// steady reports whether the rates of two successive windows agree; n is the number of answers in the second. Random arrivals differ by the
// root of their number.
func steady(last, rate, n float64) bool {
	agree := math.Max(warmAgree, 4/math.Sqrt(n+1))
	return math.Abs(rate-last) <= agree*math.Max(rate, last)
}

// warmWindow is the length of a window of the warm-up.
func warmWindow(s *Spec) time.Duration { return max(s.Warmup/4, 500*time.Millisecond) }

// warm waits for Warmup and until two successive windows of it agree, at most for twice as long. A warm-up below a second has no windows,
// nor has one without producers.
func (r *run) warm(ctx context.Context, col *collector, res *RunResult) {
	window := warmWindow(r.spec)
	if r.spec.Conns == 0 || r.spec.Warmup < time.Second {
		col.wait(ctx, "warm-up", r.spec.Warmup)
		return
	}
	col.wait(ctx, "warm-up", r.spec.Warmup-2*window)
	last := math.NaN()
	for left := r.spec.Warmup + 2*window; left >= window && ctx.Err() == nil && r.err() == nil; left -= window {
		a := r.snapshot(false)
		col.wait(ctx, "warm-up", window)
		b := r.snapshot(false)
		n := float64(b.progress() - a.progress())
		rate := n / (float64(b.at-a.at) / 1e9)
		if steady(last, rate, n) {
			return
		}
		last = rate
	}
	res.note("the rate did not settle in warm-up: windows of %v kept differing by more than %.0f %%", window, 100*warmAgree)
}

// dialCatchUp adds the readers that will begin at the first offset when the measurement starts, and returns the index of the first.
func (r *run) dialCatchUp(ctx context.Context) (first int, err error) {
	first = len(r.consumers)
	if r.spec.CatchUp == 0 {
		return first, nil
	}
	goal := make([]int64, len(r.parts))
	addrs, byLeader := r.leaders()
	for _, addr := range addrs {
		a, err := dialAdmin(ctx, addr)
		if err != nil {
			return first, err
		}
		ends, err := a.endOffsets(ctx, r.topic, byLeader[addr])
		a.close()
		if err != nil {
			return first, err
		}
		for p, end := range ends {
			goal[p] = end
		}
	}
	dialReader := r.dialReader
	if r.spec.Engine == "kgo" {
		dialReader = r.openReader
	}
	for i := 0; i < r.spec.CatchUp; i++ {
		if err := dialReader(ctx, fmt.Sprintf("catch-up reader %d", i), goal); err != nil {
			return first, err
		}
	}
	r.behind.Store(int64(len(r.consumers) - first))
	return first, nil
}

// sleepers counts the threads that sleep until a request is due. A producer that sends as fast as it can has none: it waits in Go's scheduler, and slots
// that nobody fills cost it a wake-up of an idle thread for each answer.
func (r *run) sleepers() int {
	if r.spec.Rate.Kind != RateAbsolute {
		return 0
	}
	return len(r.producers)
}

// measure opens the measurement, starts the catch-up readers, waits for its end, and returns the totals at its start. Without producers
// it ends as soon as the catch-up readers have read everything.
func (r *run) measure(ctx context.Context, col *collector, catchUp int) totals {
	if r.alone {
		r.quietProcess = quiet(r.sleepers())
	}
	before := r.snapshot(true)
	from := r.clock.now()
	r.from.Store(from)
	r.to.Store(from + int64(r.spec.Duration))
	r.stopAt.Store(from + int64(r.spec.Duration))
	col.begin(from)
	r.startReaders(ctx, catchUp)
	if r.spec.Conns == 0 && r.spec.CatchUp > 0 {
		col.until = func() bool { return r.behind.Load() == 0 }
	}
	col.wait(ctx, "measure", r.spec.Duration)
	return before
}

// stopProducers waits for the producers, which stop by themselves at the end of the measurement; after Drain they are cut off.
func (r *run) stopProducers(ctx context.Context, cancel context.CancelFunc, producing <-chan struct{}) {
	r.live(Progress{Target: r.target.Name(), Case: r.spec.Case, Step: "drain"})
	limit := time.NewTimer(r.spec.Drain)
	defer limit.Stop()
	select {
	case <-producing:
	case <-ctx.Done():
		<-producing
	case <-limit.C:
		r.fail(fmt.Errorf("producers still had requests without an answer %v after the end", r.spec.Drain))
		cancel()
		<-producing
	}
}

// finish drains the readers and settles the truth.
func (r *run) finish(ctx context.Context, cancel context.CancelFunc, res *RunResult) {
	if ctx.Err() == nil {
		r.drain(ctx, &res.Truth)
	}
	complete := r.waitReaders(ctx, cancel)
	for _, l := range r.ledgers {
		if complete {
			l.finish(r.sent)
		}
		res.Truth.add(&l.truth)
	}
}

// waitReaders waits until every reader has drained, at most Drain; it reports whether no worker failed.
func (r *run) waitReaders(ctx context.Context, cancel context.CancelFunc) bool {
	done := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(done)
	}()
	limit := time.NewTimer(r.spec.Drain)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		r.noteError(errNotDrained)
		cancel()
		<-done
	case <-ctx.Done():
		<-done
	}
	return r.err() == nil
}

// Second is one second of the measurement.
type Second struct {
	At       float64 `json:"at_s"`
	Records  float64 `json:"records_per_s"`      // acknowledged
	Bytes    float64 `json:"value_bytes_per_s"`  // acknowledged
	Read     float64 `json:"read_records_per_s"` // by all readers
	P50      float64 `json:"p50_us"`             // response time
	P99      float64 `json:"p99_us"`
	Max      float64 `json:"max_us"`
	RSSBytes int64   `json:"rss_bytes"`
	CPU      float64 `json:"cpu_cores"`
}

// collector swaps the recorders' histograms every second. It runs on the goroutine that calls wait.
type collector struct {
	r       *run
	total   histSet
	perSec  []encodedSet // the first seconds of the measurement
	kept    []*histSet   // the seconds after those; late answers still count in the last one
	spare   *histSet
	seconds []Second
	last    totals
	begun   bool
	started int64
	rssPeak int64
	until   func() bool // ends a wait early; nil: never
}

func newCollector(r *run) *collector { return &collector{r: r, last: r.light()} }

// begin drops what was recorded so far and starts the series of seconds.
func (c *collector) begin(from int64) {
	c.begun, c.started = true, from
	c.last = c.r.light()
}

// wait lets d pass, ticking every second.
func (c *collector) wait(ctx context.Context, step string, d time.Duration) {
	start := time.Now()
	for left := d; left > 0; left = d - time.Since(start) {
		pause := min(left, time.Second-time.Since(start)%time.Second)
		if c.until != nil {
			pause = min(pause, 5*time.Millisecond)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		if c.r.err() != nil || c.until != nil && c.until() {
			return
		}
		if c.until != nil && c.r.clock.now()-c.last.at < int64(time.Second) {
			continue
		}
		c.tick(step, time.Since(start), d)
	}
}

func (c *collector) tick(step string, elapsed, total time.Duration) {
	now := c.r.light()
	dt := float64(now.at-c.last.at) / 1e9
	if dt < 0.2 {
		return
	}
	c.rssPeak = max(c.rssPeak, now.broker.RSSBytes)
	set := c.spare
	c.spare = nil
	if set == nil {
		set = &histSet{}
	}
	for _, rec := range c.r.recs {
		rec.take(set)
	}
	records := float64(c.r.unitRecords)
	s := Second{At: float64(now.at-c.started) / 1e9, Records: float64(now.acked-c.last.acked) * records / dt,
		Bytes: float64(now.ackBytes-c.last.ackBytes) / dt, RSSBytes: now.broker.RSSBytes,
		Read: float64(now.read+now.catchRead-c.last.read-c.last.catchRead) * records / dt,
		CPU:  (now.broker.CPUSeconds - c.last.broker.CPUSeconds) / dt}
	p := Progress{Target: c.r.target.Name(), Case: c.r.spec.Case, Step: step, Elapsed: elapsed, Total: total, Rate: s.Records, Bytes: s.Bytes}
	if c.r.spec.Conns == 0 {
		p.Rate, p.Bytes = s.Read, s.Read*float64(c.r.spec.ValueBytes)
	}
	if l := summarize(set.h[metricResponse]); l != nil {
		s.P50, s.P99, s.Max = l.P50, l.P99, l.Max
		p.P99 = time.Duration(l.P99 * 1e3)
	} else if l := summarize(set.h[metricEndToEnd]); l != nil {
		s.P50, s.P99, s.Max = l.P50, l.P99, l.Max
	}
	if c.begun {
		c.total.merge(set)
		c.keep(set)
		c.seconds = append(c.seconds, s)
	} else {
		set.reset()
		c.spare = set
	}
	c.last = now
	c.r.live(p)
}

// finish takes the rest of the last second.
func (c *collector) finish() { c.late(c.r) }

// late merges what was recorded after the last tick: answers to requests of the measurement that came after its end count.
func (c *collector) late(r *run) {
	set := &histSet{}
	for _, rec := range r.recs {
		rec.take(set)
	}
	c.total.merge(set)
	if n := len(c.kept); n > 0 {
		c.kept[n-1].merge(set)
	}
}

// keptMax is how many seconds stay as they are, 1 MiB each, until the measurement is over: encoding a histogram allocates a MiB, which
// would call for the collector in the middle of it.
const keptMax = 300

// keep adds the histograms of a second.
func (c *collector) keep(set *histSet) {
	c.kept = append(c.kept, set)
	if len(c.kept) > keptMax {
		c.perSec = append(c.perSec, c.kept[0].encode())
		c.kept[0].reset()
		c.spare = c.kept[0]
		c.kept = append(c.kept[:0], c.kept[1:]...)
	}
}

// seal encodes every second; they get no more values.
func (c *collector) seal() {
	for _, set := range c.kept {
		c.perSec = append(c.perSec, set.encode())
	}
	c.kept = nil
}
