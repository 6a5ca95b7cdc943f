package bench

import (
	"fmt"
	"slices"
	"strings"
)

// limitRow is one run in the table of what bounded it.
type limitRow struct {
	Cells   []string
	Invalid bool
}

var limitHead = []string{"run", "limit", "broker cores", "generator cores", "of its share", "kernel, others",
	"idle", "own lag p99", "longest GC pause", "of the bound", "validity"}

// limitOpenMax is the number of runs up to which the table is unfolded.
const limitOpenMax = 30

// addLimits fills the table of what bounded each run and the sentence above it.
func (rep *report) addLimits() {
	count := map[string]int{}
	byGenerator, valid := 0, 0
	for _, p := range rep.R.Points {
		for _, run := range p.Runs {
			if run.Limit == "" { // of an older program
				continue
			}
			count[run.Limit]++
			if run.Limit == limitGenerator {
				byGenerator++
				if run.Valid {
					valid++
				}
			}
			rep.Limits = append(rep.Limits, limitRow{run.limitCells(rep.R, p), !run.Valid})
		}
	}
	var parts []string
	for _, name := range []string{limitLoad, limitBroker, limitLatency, limitHost, limitUnknown, limitGenerator} {
		if count[name] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, count[name]))
		}
	}
	rep.LimitHead, rep.LimitsOpen = limitHead, len(rep.Limits) <= limitOpenMax
	rep.LimitSays = fmt.Sprintf("The generator was the limit of %d of %d runs, %d of them counted as valid. Runs by limit: %s.",
		byGenerator, len(rep.Limits), valid, strings.Join(parts, ", "))
}

// limitCells are one run's numbers that show who was the limit.
func (res *RunResult) limitCells(r *Results, p *PointResult) []string {
	name := fmt.Sprintf("%s #%d", p.Label, res.Repeat+1)
	if len(r.Targets) > 1 {
		name = res.Target + " " + name
	}
	broker, validity := "-", "valid"
	if res.Broker != nil {
		broker = fmt.Sprintf("%.2f", res.Broker.Cores)
	}
	if !res.Valid {
		validity = "INVALID"
	}
	lag := "-"
	if res.GeneratorLag != nil {
		lag = micros(res.GeneratorLag.P99)
	}
	share := "-"
	if res.BoundShare > 0 && r.bounds() != nil {
		share = percent(res.BoundShare)
	}
	h := &res.Host
	return []string{name, res.Limit, broker, fmt.Sprintf("%.2f", res.Generator.Cores), percent(ratio(res.Generator.Cores, res.generatorShare())),
		fmt.Sprintf("%.2f", h.KernelCores+h.OtherCores), fmt.Sprintf("%.2f", max(0, float64(h.CPUs)-h.BusyCores-h.StealCores)), lag,
		micros(res.Generator.GCMaxUS), share, validity}
}

// percent formats a share.
func percent(v float64) string { return fmt.Sprintf("%.*f %%", precision(100*v), 100*v) }

// latencyBounds are the floors below which no response time of the points can lie.
func (rep *report) latencyBounds(points []*PointResult) (out []bound) {
	b := rep.R.bounds()
	if b == nil {
		return nil
	}
	any := func(cond func(spec map[string]string) bool) bool {
		return slices.ContainsFunc(points, func(p *PointResult) bool { return cond(p.Spec) })
	}
	durable := func(spec map[string]string) bool { return spec["fsync"] == "commit" && spec["acks"] != "0" }
	if any(durable) {
		out = append(out, bound{Name: "floor of commit: an fdatasync and a round trip", y: b.Durable})
	}
	// With acks=0 nothing comes back.
	if any(func(spec map[string]string) bool { return !durable(spec) && spec["acks"] != "0" }) {
		out = append(out, bound{Name: "floor: a loopback round trip", y: b.Answer})
	}
	return out
}

// addThroughput draws the throughput of the points whose load was not fixed, each with its share of what the host can do.
func (rep *report) addThroughput() {
	c := &barChart{ID: "throughput", Title: "Throughput of values, in and out",
		Desc: "Higher is better. Only points whose load was not fixed."}
	b := rep.R.bounds()
	for _, p := range rep.R.Points {
		for _, s := range p.Summary {
			v := s.ValueBytes + s.ReadBytes
			if !p.unfixed() || v <= 0 || len(c.Bars) >= barsMax {
				continue
			}
			text := mb(v) + " MB/s"
			mark := 0.0
			if b != nil && s.BoundShare > 0 {
				text += ", " + percent(s.BoundShare) + " of the bound"
				mark = v / s.BoundShare
			}
			c.Bars = append(c.Bars, bar{Label: seriesName(rep.R, p, s), Class: rep.class(s.Target), value: v, bound: mark, Text: text})
		}
	}
	if b != nil {
		c.Desc += fmt.Sprintf(" A tick, where it is near enough, is the physical bound of the point's mix of bytes in and out: this host can do"+
			" at most %s MB/s in (loopback, CRC, page cache) or %s MB/s out (sendfile to readers that drop the bytes), on the wire.", mb(b.Produce), mb(b.Fetch))
	}
	if c.layout() {
		rep.Bars = append(rep.Bars, c)
	}
}

// unfixed reports whether the load of the point was not fixed by a schedule, so that throughput is a result.
func (p *PointResult) unfixed() bool {
	return p.Spec["rate"] == "max" || p.Spec["rate"] == "search" || p.Spec["connections"] == "0"
}
