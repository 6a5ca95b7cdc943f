package bench

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
)

// Comparison is one metric of one target against the base target, from paired runs.
type Comparison struct {
	Metric string  `json:"metric"`
	Base   string  `json:"base"`
	Target string  `json:"target"`
	Better string  `json:"better"` // "higher" or "lower"
	Ratio  float64 `json:"ratio"`  // median of target / base over the pairs
	Low    float64 `json:"low"`    // bootstrap 95 % interval; 0 and 0 when there are fewer than 3 pairs
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
	Noise  float64 `json:"noise"`  // largest deviation of base against itself (A/A), as a share; 0 when unknown
	Differ bool    `json:"differ"` // the interval excludes 1 and the difference exceeds the noise
	Word   string  `json:"word"`   // better, worse, "no difference shown", "too few repeats", "within noise", "invalid runs"
}

// comparedMetric is a number of a run that targets are compared by.
type comparedMetric struct {
	name, better string
	get          func(*RunResult) float64 // 0: not measured
}

func latencyOf(l *Latency, get func(*Latency) float64) float64 {
	if l == nil {
		return 0
	}
	return get(l)
}

// comparedMetrics lists what is compared; throughput counts only where it was not fixed by the schedule.
func comparedMetrics(spec *Spec) []comparedMetric {
	ms := []comparedMetric{
		{"response p50", "lower", func(r *RunResult) float64 { return latencyOf(r.Response, func(l *Latency) float64 { return l.P50 }) }},
		{"response p99", "lower", func(r *RunResult) float64 { return latencyOf(r.Response, func(l *Latency) float64 { return l.P99 }) }},
		{"response p99.9", "lower", func(r *RunResult) float64 { return latencyOf(r.Response, func(l *Latency) float64 { return l.P999 }) }},
		{"end-to-end p99", "lower", func(r *RunResult) float64 { return latencyOf(r.EndToEnd, func(l *Latency) float64 { return l.P99 }) }},
		{"broker CPU per GB", "lower", func(r *RunResult) float64 {
			if r.Broker == nil {
				return 0
			}
			return r.Broker.CPUPerGB
		}},
		{"memory", "lower", func(r *RunResult) float64 {
			if r.Broker == nil {
				return 0
			}
			return float64(r.Broker.RSSPeakBytes)
		}},
	}
	if spec.Rate.Kind == RateMax || spec.Rate.Kind == RateSearch {
		ms = append([]comparedMetric{{"throughput", "higher", func(r *RunResult) float64 {
			if r.ValueBytes > 0 {
				return r.ValueBytes
			}
			return r.ReadBytes + r.CatchUpBytes
		}}}, ms...)
	}
	return ms
}

// compare pairs the runs of two targets by round. Invalid runs are left out of the pairs.
func (p *PointResult) compare(base, target string) []*Comparison {
	byRound := func(name string) map[int]*RunResult {
		m := map[int]*RunResult{}
		for _, r := range p.Runs {
			if r.Target == name && r.Valid {
				m[r.Repeat] = r
			}
		}
		return m
	}
	a, b := byRound(base), byRound(target)
	rounds := make([]int, 0, len(a))
	for round := range a {
		if b[round] != nil {
			rounds = append(rounds, round)
		}
	}
	slices.Sort(rounds)
	var out []*Comparison
	for _, m := range comparedMetrics(&p.spec) {
		c := &Comparison{Metric: m.name, Base: base, Target: target, Better: m.better}
		var ratios, own []float64
		for _, round := range rounds {
			if x, y := m.get(a[round]), m.get(b[round]); x > 0 && y > 0 {
				ratios = append(ratios, y/x)
				own = append(own, x)
			}
		}
		if len(ratios) == 0 {
			if len(rounds) == 0 && len(p.Runs) > 0 && m.name == "response p99" {
				c.Word = "invalid runs"
				out = append(out, c)
			}
			continue
		}
		c.Pairs, c.Ratio = len(ratios), median(ratios)
		c.Noise = noiseFloor(own)
		c.judge(ratios, p.Label)
		out = append(out, c)
	}
	return out
}

// judge calls a difference one only when the interval excludes 1 and the ratio is farther from 1 than base is from itself.
func (c *Comparison) judge(ratios []float64, label string) {
	h := fnv.New64a()
	fmt.Fprint(h, label, c.Metric, c.Target)
	low, high := bootstrapMedian(ratios, h.Sum64())
	if math.IsInf(low, 0) {
		c.Word = "too few repeats"
		return
	}
	c.Low, c.High = low, high
	switch {
	case low <= 1 && high >= 1:
		c.Word = "no difference shown"
	case math.Abs(c.Ratio-1) <= c.Noise:
		c.Word = "within noise"
	case (c.Ratio < 1) == (c.Better == "lower"):
		c.Differ, c.Word = true, "better"
	default:
		c.Differ, c.Word = true, "worse"
	}
}

// noiseFloor is the A/A floor: the median deviation between successive runs of the same target, as a share.
func noiseFloor(xs []float64) float64 {
	if len(xs) < 2 {
		return 0
	}
	var dev []float64
	for i := 1; i < len(xs); i++ {
		dev = append(dev, math.Abs(xs[i]/xs[i-1]-1))
	}
	return median(dev)
}
