package bench

import (
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// Difference is one metric at one point in two results.
type Difference struct {
	Point  string  `json:"point"`
	Target string  `json:"target"`
	Metric string  `json:"metric"`
	Before float64 `json:"before"` // medians over the valid runs
	After  float64 `json:"after"`
	Ratio  float64 `json:"ratio"`
	Low    float64 `json:"low"` // 95 % interval of the ratio; 0 and 0 with fewer than 3 runs on a side
	High   float64 `json:"high"`
	Word   string  `json:"word"` // better, worse, same, "too few repeats", "no valid runs", "only before", "only after"
}

// CompareResults compares points of the same label and targets of the same name. threshold is the least difference that
// counts, as a share. With one target in each result the names need not agree.
func CompareResults(before, after *Results, threshold float64) []Difference {
	var out []Difference
	rename := map[string]string{}
	if len(before.Targets) == 1 && len(after.Targets) == 1 {
		rename[before.Targets[0].Name] = after.Targets[0].Name
	}
	later := map[string]*PointResult{}
	for _, p := range after.Points {
		later[p.Label] = p
	}
	for _, p := range before.Points {
		q := later[p.Label]
		if q == nil {
			out = append(out, Difference{Point: p.Label, Word: "only before"})
			continue
		}
		delete(later, p.Label)
		for _, t := range before.Targets {
			name := t.Name
			if other, ok := rename[name]; ok {
				name = other
			}
			out = append(out, comparePoint(p, q, t.Name, name, threshold)...)
		}
	}
	for _, q := range after.Points {
		if later[q.Label] != nil {
			out = append(out, Difference{Point: q.Label, Word: "only after"})
		}
	}
	return out
}

func comparePoint(p, q *PointResult, beforeName, afterName string, threshold float64) []Difference {
	spec := p.readSpec()
	var out []Difference
	for _, m := range comparedMetrics(&spec) {
		a, b := p.valid(beforeName, m.get), q.valid(afterName, m.get)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		d := Difference{Point: p.Label, Target: afterName, Metric: m.name, Before: median(a), After: median(b)}
		d.Ratio = d.After / d.Before
		h := fnv.New64a()
		fmt.Fprint(h, p.Label, m.name, afterName)
		low, high := bootstrapRatio(b, a, h.Sum64())
		switch {
		case math.IsInf(low, 0):
			d.Word = "too few repeats"
		case (low <= 1 && high >= 1) || math.Abs(d.Ratio-1) < threshold:
			d.Low, d.High, d.Word = low, high, "same"
		case (d.Ratio < 1) == (m.better == "lower"):
			d.Low, d.High, d.Word = low, high, "better"
		default:
			d.Low, d.High, d.Word = low, high, "worse"
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		out = append(out, Difference{Point: p.Label, Target: afterName, Word: "no valid runs"})
	}
	return out
}

// valid collects a metric of a target's valid runs.
func (p *PointResult) valid(target string, get func(*RunResult) float64) []float64 {
	var xs []float64
	for _, r := range p.Runs {
		if r.Target == target && r.Valid {
			if x := get(r); x > 0 {
				xs = append(xs, x)
			}
		}
	}
	return xs
}

// readSpec rebuilds the Spec of a point that was read from a file; fields that this program does not know are left out.
func (p *PointResult) readSpec() Spec {
	var s Spec
	for name, v := range p.Spec {
		if f, ok := FieldNamed(name); ok {
			_ = f.Set(&s, v) // written by Get, so it parses
		}
	}
	return s
}

// WriteDifferences prints differences as a table.
func WriteDifferences(w io.Writer, diffs []Difference) {
	rows := [][]string{{"point", "target", "metric", "before", "after", "ratio", "95 % interval", ""}}
	for _, d := range diffs {
		row := []string{d.Point, d.Target, d.Metric, "-", "-", "-", "-", d.Word}
		if d.Metric != "" {
			row[3], row[4], row[5] = metricText(d.Metric, d.Before), metricText(d.Metric, d.After), fmt.Sprintf("%.3f", d.Ratio)
		}
		if d.Low != 0 || d.High != 0 {
			row[6] = fmt.Sprintf("%.3f to %.3f", d.Low, d.High)
		}
		rows = append(rows, row)
	}
	printColumns(w, rows, 3)
}

// metricText formats a value of a compared metric.
func metricText(metric string, v float64) string {
	switch metric {
	case "throughput":
		return mb(v) + " MB/s"
	case "broker CPU per GB":
		return fmt.Sprintf("%.*f s", precision(v), v)
	case "memory":
		return sizeText(int64(v))
	}
	return micros(v)
}
