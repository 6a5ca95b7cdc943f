package bench

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// SeriesOptions says what a series of runs is made of.
type SeriesOptions struct {
	Profile *Profile
	// Targets are compared with the first one. They are started and stopped by the series.
	Targets []Target
	// WarmMemory is how many bytes of memory are touched before the first run, and freed but for 1/256, which keeps the hypervisor from
	// taking them back until the series ends; before a run that would find memory cold, as much as the run may fill is touched again, for
	// at most rewarmShare of the runs' time. Default: 0, none.
	WarmMemory int64
	// Alone says that this process does nothing but the series, whose measurements may then tune its runtime: no collection, and
	// scheduler slots for the senders. Default: false.
	Alone bool
	// Version and Commit describe this program.
	Version, Commit string
	// Live is told the progress. Default: nil, silent.
	Live func(SeriesProgress)
	// Workers are generators on other hosts, host:port; the load is split over them. Default: none, this process.
	Workers []string
	// LimitsDir is a directory on the targets' disk in which the host's floors are measured first. Default: "", they are not.
	LimitsDir string
	// Done is called after every run, so that results can be kept as they come. Default: nil.
	Done func(*Results)
}

// SeriesProgress is Progress and where the series stands.
type SeriesProgress struct {
	Progress
	Label    string
	Run      int // from 1
	Runs     int
	TimeLeft time.Duration // estimate for the whole series
}

// series is the state of RunSeries.
type series struct {
	opts    SeriesOptions
	res     *Results
	maxima  map[string]float64 // case and parameters without rate -> records/s
	started time.Time
	left    time.Duration // of the plan, before correction
	probe   func() float64
	warm    func(ctx context.Context, n int64, limit time.Duration) int64
	order   int
	runs    int
	nRuns   int
	workers *workerPool

	rewarmLeft time.Duration // what warming again may still take
	planned    time.Duration // estimate of the runs that are done, and what they took
	spent      time.Duration
}

// RunSeries runs every point of the profile on every target, repeats interleaved in the order ABBA ABBA. The error says that
// the series could not start or was cancelled; the results so far come with it.
func RunSeries(ctx context.Context, opts SeriesOptions) (*Results, error) {
	if opts.Live == nil {
		opts.Live = func(SeriesProgress) {}
	}
	if opts.Done == nil {
		opts.Done = func(*Results) {}
	}
	points, err := opts.Profile.Points()
	if err != nil {
		return nil, err
	}
	if len(opts.Targets) == 0 {
		return nil, fmt.Errorf("no target")
	}
	var memory warmedMemory
	defer memory.free()
	s := &series{opts: opts, maxima: map[string]float64{}, started: time.Now(), probe: ProbeMemory, warm: memory.warm}
	s.res = newResults(&opts)
	s.nRuns = len(points) * opts.Profile.Repeats * len(opts.Targets)
	plan := opts.Profile.plan(points, len(opts.Targets), opts.WarmMemory, opts.LimitsDir != "")
	s.left, s.rewarmLeft = plan.total(), plan.rewarm
	if len(opts.Workers) > 0 {
		if s.workers, err = dialWorkers(ctx, opts.Workers); err != nil {
			return nil, err
		}
		defer s.workers.close()
		s.res.Workers = s.workers.describe()
	}
	if err := s.start(ctx); err != nil {
		return s.res, err
	}
	defer s.stop()
	s.prewarm(ctx, points[0].Spec)
	for i := range points {
		if err := s.point(ctx, &points[i]); err != nil {
			s.res.finish()
			return s.res, err
		}
	}
	s.res.finish()
	return s.res, nil
}

func (s *series) start(ctx context.Context) error {
	begin := time.Now()
	defer func() { s.left = max(0, s.left-time.Since(begin)) }()
	if s.opts.WarmMemory > 0 {
		s.opts.Live(SeriesProgress{Progress: Progress{Step: "warming memory"}, Runs: s.nRuns, TimeLeft: s.left})
		s.res.Environment.WarmedBytes = s.warm(ctx, s.opts.WarmMemory, warmLimit)
		s.res.Environment.WarmMemoryRate = s.probe()
	}
	if s.opts.LimitsDir != "" {
		s.opts.Live(SeriesProgress{Progress: Progress{Step: "measuring the host's floors"}, Runs: s.nRuns, TimeLeft: s.left})
		limits, err := MeasureLimits(ctx, s.opts.LimitsDir)
		if err != nil {
			return err
		}
		s.res.Limits = limits
	}
	for i, t := range s.opts.Targets {
		s.opts.Live(SeriesProgress{Progress: Progress{Target: t.Name(), Step: "starting"}, Runs: s.nRuns, TimeLeft: s.left})
		begin := time.Now()
		if err := t.Start(ctx); err != nil {
			for _, started := range s.opts.Targets[:i] {
				_ = started.Stop()
			}
			return err
		}
		s.res.addTarget(t, time.Since(begin))
	}
	return nil
}

// prewarm drives every target at full speed and forgets the result. A target that fails here fails again in its first run.
func (s *series) prewarm(ctx context.Context, spec Spec) {
	if s.opts.Profile.Prewarm <= 0 {
		return
	}
	begin := time.Now()
	defer func() { s.left = max(0, s.left-time.Since(begin)) }()
	spec.Rate, spec.Warmup, spec.Duration, spec.Fsync = Rate{Kind: RateMax}, 100*time.Millisecond, s.opts.Profile.Prewarm, "default"
	spec.FillBytes = min(spec.FillBytes, 256<<20)
	for _, t := range s.opts.Targets {
		s.opts.Live(SeriesProgress{Progress: Progress{Target: t.Name(), Step: "warming up"}, Runs: s.nRuns, TimeLeft: s.left})
		_, _ = Run(ctx, t, spec, nil)
	}
}

func (s *series) stop() {
	for _, t := range s.opts.Targets {
		_ = t.Stop() // a broker that will not stop was killed; its directory is temporary
	}
}

// point runs all repeats of one point.
func (s *series) point(ctx context.Context, p *Point) error {
	pr := s.res.addPoint(p)
	spec := p.Spec
	if spec.Rate.Kind == RatePercent {
		peak, err := s.maximum(ctx, p)
		if err != nil {
			return err
		}
		spec.Rate = Rate{Kind: RateAbsolute, Value: math.Max(1, peak*p.Spec.Rate.Value/100)}
		pr.MaxRate = peak
	}
	for round := range s.opts.Profile.Repeats {
		targets := slices.Clone(s.opts.Targets)
		if round%2 == 1 {
			slices.Reverse(targets)
		}
		for _, t := range targets {
			if err := ctx.Err(); err != nil {
				return err
			}
			run, err := s.run(ctx, t, spec, p)
			if err != nil {
				return err
			}
			run.Repeat, run.Order = round, s.order
			s.order++
			pr.Runs = append(pr.Runs, run)
			pr.settle(s.res.targetNames())
			s.opts.Done(s.res)
		}
	}
	return nil
}

// run does one measured run, with the memory probe before it.
func (s *series) run(ctx context.Context, t Target, spec Spec, p *Point) (*RunResult, error) {
	begin := time.Now()
	defer func() {
		planned := s.opts.Profile.runTime(&p.Spec)
		s.left -= planned
		s.planned, s.spent = s.planned+planned, s.spent+time.Since(begin)
	}()
	s.runs++
	live := s.live(p)
	if s.local() {
		syncDisks() // what the run before left is not written back during this one
	}
	settled := s.settle(ctx, t)
	memory := s.memory(ctx, &spec)
	var res *RunResult
	var err error
	switch {
	case spec.Rate.Kind == RateSearch:
		res, err = search(ctx, spec, func(ctx context.Context, sp Spec) (*RunResult, error) { return s.one(ctx, t, sp, live) })
	default:
		res, err = s.one(ctx, t, spec, live)
	}
	if err != nil {
		if res, err = s.failed(ctx, t, err); err != nil {
			return nil, err
		}
	}
	if !settled {
		res.note("the disks did not come to rest within %v before this run", s.opts.Profile.Settle)
	}
	res.MemoryRate = memory
	res.judgeMemory(s.res.Environment.WarmMemoryRate)
	if b := s.res.probedBounds(); b != nil {
		res.checkBounds(&spec, b)
	}
	return res, nil
}

// settle waits for the host's disks, if the profile asks for it and they are the target's too.
func (s *series) settle(ctx context.Context, t Target) bool {
	limit := s.opts.Profile.Settle
	if limit == 0 || !s.local() {
		return true
	}
	s.opts.Live(SeriesProgress{Progress: Progress{Target: t.Name(), Step: "waiting for the disks to come to rest"}, Run: s.runs, Runs: s.nRuns, TimeLeft: s.left})
	return settle(ctx, limit, settleQuiet, sampleDisks)
}

func (s *series) one(ctx context.Context, t Target, spec Spec, live func(Progress)) (*RunResult, error) {
	if s.workers != nil {
		return s.workers.run(ctx, t, spec, live)
	}
	return runOn(ctx, t, spec, live, s.opts.Alone)
}

func (s *series) live(p *Point) func(Progress) {
	label, begin := p.Label(), time.Now()
	return func(pr Progress) {
		s.opts.Live(SeriesProgress{Progress: pr, Label: label, Run: s.runs, Runs: s.nRuns, TimeLeft: max(0, s.pace(s.left-time.Since(begin)))})
	}
}

// pace corrects an estimate by how the runs so far kept to theirs.
func (s *series) pace(d time.Duration) time.Duration {
	if s.planned > 0 {
		d = time.Duration(float64(d) * min(4, max(0.5, s.spent.Seconds()/s.planned.Seconds())))
	}
	return d
}

// maximum finds the closed-loop maximum of the first target for a point's parameters without the rate; it is kept.
func (s *series) maximum(ctx context.Context, p *Point) (float64, error) {
	key := p.maximumKey()
	if peak, ok := s.maxima[key]; ok {
		return peak, nil
	}
	spec := p.maximumSpec()
	begin := time.Now()
	defer func() { s.left = max(0, s.left-time.Since(begin)) }()
	res, err := s.one(ctx, s.opts.Targets[0], spec, s.live(p))
	if err != nil {
		return 0, err
	}
	if res.Records <= 0 {
		return 0, fmt.Errorf("target %s: no record acknowledged at full speed (%v)", res.Target, slices.Collect(maps.Keys(res.Errors)))
	}
	s.maxima[key] = res.Records
	return res.Records, nil
}

// maximumSpec is the load by which a point's closed-loop maximum is found.
func (p *Point) maximumSpec() Spec {
	spec := p.Spec
	spec.Rate = Rate{Kind: RateMax}
	spec.Duration = min(spec.Duration, 5*time.Second)
	spec.Warmup = min(spec.Warmup, 3*time.Second)
	return spec
}

// maximumKey is the same for points that share a maximum.
func (p *Point) maximumKey() string { return fmt.Sprint(p.Spec.Case, p.paramsWithout("rate")) }

func (p *Point) paramsWithout(name string) []Param {
	return slices.DeleteFunc(slices.Clone(p.Params), func(q Param) bool { return q.Name == name })
}

// searchSteps is the number of runs of a search.
const searchSteps = 7

// search finds the highest rate that meets the rule: at least 99 % of the offered load is acknowledged in the measurement, the
// response time's p99 stays below P99Limit, and nothing fails. It starts from the closed-loop maximum and bisects between half of it and
// 1.1 times it. The result is the run at the rate found.
func search(ctx context.Context, spec Spec, one func(context.Context, Spec) (*RunResult, error)) (*RunResult, error) {
	probe := spec
	probe.Rate = Rate{Kind: RateMax}
	best, err := one(ctx, probe)
	if err != nil {
		return nil, err
	}
	peak := best.Records
	low, high := 0.0, 1.1*peak
	try := 0.8 * peak
	best = nil
	var last *RunResult
	for range searchSteps - 1 {
		probe.Rate = Rate{Kind: RateAbsolute, Value: math.Max(1, math.Round(try))}
		if last, err = one(ctx, probe); err != nil {
			return nil, err
		}
		ok := last.keptUp() && last.Response != nil && last.Response.P99 <= float64(spec.P99Limit.Microseconds()) &&
			len(last.Errors) == 0
		if ok {
			low, best = try, last
		} else {
			high = try
		}
		try = (max(low, 0.05*peak) + high) / 2
		if low == 0 {
			try = high / 2
		}
	}
	if best == nil {
		last.note("search: no rate met the rule; the last one tried is shown")
		return last, nil
	}
	best.note("search: highest of %d rates tried with 99 %% achieved and p99 below %v; the closed-loop maximum was %.0f records/s",
		searchSteps-1, spec.P99Limit, peak)
	return best, nil
}
