package bench

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestMergedPercentilesAreThoseOfTheMergedSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	merged := &histSet{}
	var all []float64
	for worker := range 4 {
		rec := &recorder{}
		for range 5000 {
			ns := int64(math.Exp(rng.NormFloat64()+float64(worker)) * 1e5)
			rec.record(metricResponse, ns)
			all = append(all, float64(ns))
		}
		rec.take(merged)
	}
	slices.Sort(all)
	h := merged.h[metricResponse]
	if h.TotalCount() != int64(len(all)) {
		t.Fatalf("%d values of %d", h.TotalCount(), len(all))
	}
	for _, q := range []float64{50, 90, 99, 99.9} {
		rank := int(q / 100 * float64(len(all)))
		low, high := all[rank-2]*0.998, all[rank+1]*1.002 // the histogram keeps 3 digits, and may round the rank
		if got := float64(h.ValueAtQuantile(q)); got < low || got > high {
			t.Errorf("p%v: got %v, want %v to %v", q, got, low, high)
		}
	}
	if len(percentileCurve(h)) < 20 {
		t.Error("the curve has too few points")
	}
}

func TestValuesBeyondTheRangeAreCounted(t *testing.T) {
	rec, set := &recorder{}, &histSet{}
	rec.record(metricService, int64(2*time.Hour))
	rec.record(metricService, -5)
	rec.take(set)
	if set.clamped != 1 || set.h[metricService].TotalCount() != 2 {
		t.Fatalf("clamped %d, %d values", set.clamped, set.h[metricService].TotalCount())
	}
}

func TestSchedules(t *testing.T) {
	a, b := NewSchedule(ScheduleUniform, 100, 1, 1000, 0, 2, 1), NewSchedule(ScheduleUniform, 100, 1, 1000, 1, 2, 1)
	if a.Next() != 1000 || b.Next() != 5_001_000 || a.Next() != 10_001_000 {
		t.Error("uniform connections do not interleave")
	}
	burst := NewSchedule(ScheduleBurst, 100, 4, 0, 0, 1, 1)
	var times []int64
	for range 8 {
		times = append(times, burst.Next())
	}
	if times[0] != times[3] || times[4] != int64(40*time.Millisecond) || times[4] != times[7] {
		t.Errorf("bursts of 4 at 100/s: %v", times)
	}
	p, same := NewSchedule(SchedulePoisson, 1000, 1, 0, 3, 4, 9), NewSchedule(SchedulePoisson, 1000, 1, 0, 3, 4, 9)
	last, gaps := int64(0), []float64{}
	for range 20_000 {
		at := p.Next()
		if at != same.Next() || at < last {
			t.Fatal("the schedule is not fixed beforehand, or runs backwards")
		}
		gaps = append(gaps, float64(at-last))
		last = at
	}
	if mean := float64(last) / 20_000; math.Abs(mean-1e6) > 3e4 {
		t.Errorf("mean gap %v ns, want 1e6", mean)
	}
	if m := median(gaps); math.Abs(m-1e6*math.Ln2) > 3e4 {
		t.Errorf("median gap %v ns, want ln 2 of the mean", m)
	}
}

func TestBootstrapCoversTheMedianAndNeedsThree(t *testing.T) {
	if low, high := bootstrapMedian([]float64{1, 2}, 1); !math.IsInf(low, -1) || !math.IsInf(high, 1) {
		t.Error("two pairs must claim nothing")
	}
	low, high := bootstrapMedian([]float64{0.70, 0.72, 0.71, 0.69, 0.73, 0.70, 0.71}, 1)
	if low < 0.69 || high > 0.73 || low > high {
		t.Errorf("interval %v to %v", low, high)
	}
}

func resultOf(target string, round int, p99 float64) *RunResult {
	return &RunResult{Target: target, Repeat: round, Valid: true, Response: &Latency{P50: p99 / 10, P99: p99, P999: 2 * p99}}
}

func TestADifferenceNeedsAnIntervalBeyondOneAndBeyondTheNoise(t *testing.T) {
	word := func(base, other []float64) string {
		p := &PointResult{Label: "x"}
		for i := range base {
			p.Runs = append(p.Runs, resultOf("a", i, base[i]), resultOf("b", i, other[i]))
		}
		for _, c := range p.compare("a", "b") {
			if c.Metric == "response p99" {
				return c.Word
			}
		}
		return ""
	}
	steady := []float64{100, 101, 100, 99, 100, 101, 100}
	if got := word(steady, []float64{50, 51, 50, 50, 49, 50, 51}); got != "better" {
		t.Error("half the latency:", got)
	}
	if got := word(steady, []float64{200, 203, 199, 200, 202, 200, 200}); got != "worse" {
		t.Error("twice the latency:", got)
	}
	if got := word(steady, []float64{101, 99, 100, 101, 98, 102, 100}); got != "no difference shown" {
		t.Error("the same:", got)
	}
	noisy := []float64{100, 200, 100, 200, 100, 200, 100}
	other := []float64{110, 220, 110, 220, 110, 220, 110}
	if got := word(noisy, other); got != "within noise" {
		t.Error("10 % apart where the base differs from itself by half:", got)
	}
	if got := word(steady[:2], []float64{50, 50}); got != "too few repeats" {
		t.Error("two pairs:", got)
	}
}

func TestEachValidityReason(t *testing.T) {
	good := func() *RunResult {
		return &RunResult{Requests: 100, Seconds: 10, ValueBytes: 1e8, Response: &Latency{P99: 2000}, GeneratorLag: &Latency{P99: 100},
			Broker: &BrokerCost{CPUSeconds: 5, Cores: 0.5}, Generator: GeneratorCost{Cores: 0.3, CPUSeconds: 3},
			Host: HostLoad{CPUs: 2, BusyCores: 0.9}, MemoryRate: 4e9, FirstTouched: 1e9}
	}
	judge := func(change func(*RunResult)) *RunResult {
		r := good()
		change(r)
		r.judge(testSpec(nil))
		r.judgeMemory(0)
		return r
	}
	if r := judge(func(*RunResult) {}); !r.Valid {
		t.Fatal("a good run is called invalid:", r.Reasons)
	}
	cases := map[string]func(*RunResult){
		"its own lag":           func(r *RunResult) { r.GeneratorLag.P99 = 900 },
		"more than the target":  func(r *RunResult) { r.Generator.Cores = 0.95 },
		"a collector pause":     func(r *RunResult) { r.Generator.GCMaxUS = 700 },
		"stolen":                func(r *RunResult) { r.Host.StealCores = 0.1 },
		"something else":        func(r *RunResult) { r.Host.OtherCores = 0.5 },
		"cold memory":           func(r *RunResult) { r.MemoryRate = 0.4e9 },
		"target error":          func(r *RunResult) { r.Errors = map[string]int64{"boom": 2} },
		"truth":                 func(r *RunResult) { r.Truth.Lost = 1 },
		"no request was acknow": func(r *RunResult) { r.Requests = 0 },
	}
	for reason, change := range cases {
		if r := judge(change); r.Valid || !hasReason(r, reason) {
			t.Errorf("%s: valid %v, reasons %q", reason, r.Valid, r.Reasons)
		}
	}
}

// The search must end at the highest rate that a target with a sharp knee at 5,000/s can take.
func TestSearchFindsTheKnee(t *testing.T) {
	spec := *testSpec(func(s *Spec) { s.Rate = Rate{Kind: RateSearch} })
	one := func(_ context.Context, s Spec) (*RunResult, error) {
		if s.Rate.Kind == RateMax {
			return &RunResult{Records: 6000}, nil
		}
		r := &RunResult{Offered: s.Rate.Value, Records: s.Rate.Value, Response: &Latency{P99: 1000}}
		if s.Rate.Value > 5000 {
			r.Response.P99 = 1e6
		}
		return r, nil
	}
	res, err := search(context.Background(), spec, one)
	if err != nil {
		t.Fatal(err)
	}
	if res.Offered < 4500 || res.Offered > 5000 {
		t.Fatalf("found %v", res.Offered)
	}
}
