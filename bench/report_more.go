package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// secondsMax is the number of runs whose seconds are drawn.
const secondsMax = 24

// addSeconds draws p50, p99, max and throughput over time for the first run of each point and target.
func (rep *report) addSeconds() {
	for i, p := range rep.R.Points {
		for _, t := range rep.R.targetNames() {
			at := slices.IndexFunc(p.Runs, func(r *RunResult) bool { return r.Target == t })
			if at < 0 || len(p.Runs[at].PerSecond) < 3 || len(rep.Seconds) >= 2*secondsMax {
				continue
			}
			id := fmt.Sprintf("sec%d-%d", i, rep.class(t))
			name := p.Label
			if len(rep.R.Targets) > 1 {
				name = t + " " + name
			}
			rep.addSecondCharts(id, name, p.Runs[at])
		}
	}
}

func (rep *report) addSecondCharts(id, name string, run *RunResult) {
	secText := func(v float64) string { return fmt.Sprintf("%.0f s", v) }
	lat := &lineChart{ID: id + "l", Title: "Latency per second, " + name, Desc: "Response time p50, p99 and maximum of each second.",
		XLabel: "time", YLabel: "latency", LogY: true, xText: secText, yText: micros}
	lines := []lineSeries{{Name: "p50", Class: 0}, {Name: "p99", Class: 1}, {Name: "max", Class: 2}}
	thr := &lineChart{ID: id + "t", Title: "Records per second, " + name, Desc: "Records acknowledged and read in each second.",
		XLabel: "time", YLabel: "records/s", xText: secText, yText: countText}
	flow := []lineSeries{{Name: "acknowledged", Class: 0}, {Name: "read by all consumers", Class: 3}}
	for _, s := range run.PerSecond {
		lines[0].pts = append(lines[0].pts, xy{s.At, s.P50})
		lines[1].pts = append(lines[1].pts, xy{s.At, s.P99})
		lines[2].pts = append(lines[2].pts, xy{s.At, s.Max})
		flow[0].pts = append(flow[0].pts, xy{s.At, s.Records})
		flow[1].pts = append(flow[1].pts, xy{s.At, s.Read})
	}
	lat.Lines, thr.Lines = lines, flow
	for _, c := range []*lineChart{lat, thr} {
		if c.layout() {
			rep.Seconds = append(rep.Seconds, c)
		}
	}
}

// addForest lists the comparisons with a drawing of each interval.
func (rep *report) addForest() {
	for _, p := range rep.R.Points {
		for _, c := range p.Comparisons {
			row := forestRow{Point: p.Label, Metric: c.Metric, Target: c.Target, Ratio: "-", Interval: c.interval(),
				Noise: fmt.Sprintf("%.1f %%", 100*c.Noise), Word: c.Word, Differ: c.Differ, One: forestX(1)}
			if c.Pairs > 0 {
				row.Ratio, row.X = fmt.Sprintf("%.3f", c.Ratio), forestX(c.Ratio)
			} else {
				row.Skipped = true
			}
			if c.Low > 0 && !math.IsInf(c.High, 1) {
				row.HasInterval, row.X1, row.X2 = true, forestX(c.Low), forestX(c.High)
			}
			rep.Forest = append(rep.Forest, row)
		}
	}
}

// addEnvironment fills the card of the host and the list of what every point has in common.
func (rep *report) addEnvironment() {
	e := &rep.R.Environment
	add := func(name, format string, args ...any) {
		if v := fmt.Sprintf(format, args...); strings.TrimSpace(v) != "" {
			rep.Env = append(rep.Env, [2]string{name, v})
		}
	}
	add("weir", "%s, commit %s", rep.R.Version, map[bool]string{true: "unknown", false: rep.R.Commit}[rep.R.Commit == ""])
	add("Go", "%s", e.GoVersion)
	add("kernel", "%s", e.Kernel)
	add("processor", "%d x %s", e.CPUs, e.CPU)
	add("virtualization", "%s", e.Virtual)
	add("memory", "%s", sizeText(e.MemoryBytes))
	add("memory, first touch", "%.1f GB/s%s", e.MemoryRate/1e9, map[bool]string{true: " (cold)"}[e.MemoryRate < coldMemoryRate])
	if e.WarmedBytes > 0 {
		add("memory warmed", "%s, then %.1f GB/s", sizeText(e.WarmedBytes), e.WarmMemoryRate/1e9)
	}
	add("huge pages", "%s", e.THP)
	add("dirty ratio, background / all", "%s", e.DirtyRatio)
	add("TCP congestion control", "%s (host default)%s", e.CongestionControl, rep.congestion())
	add("open files", "%d (at most %d)", e.OpenFiles, e.OpenFilesMax)
	add("clock", "%s", e.ClockSource)
	if s := e.Sync; s != nil {
		add("fdatasync, bare", "p50 %s, p99 %s, max %s over %d. %s", micros(s.P50), micros(s.P99), micros(s.Max), s.Count, s.Note)
	}
	if l := rep.R.Limits; l != nil {
		add("loopback", "%.1f GB/s, %.2f CPU s/GB on both sides%s; round trip %s", l.LoopbackRate/1e9, l.LoopbackCost,
			with(l.LoopbackCongestion), micros(l.RoundTrip))
		add("page cache write", "%.1f GB/s, %.2f CPU s/GB", l.WriteRate/1e9, l.WriteCost)
		add("sendfile", "%.1f GB/s, %.2f CPU s/GB on both sides%s", l.SendfileRate/1e9, l.SendfileCost, with(l.SendfileCongestion))
		add("crc32c", "%.1f GB/s", l.CRC/1e9)
		if l.SyncRewrite > 0 {
			add("fdatasync, no new block", "p50 %s", micros(l.SyncRewrite))
		}
	}
	if b := rep.R.bounds(); b != nil {
		add("physical bounds", "produce %s MB/s, fetch %s MB/s on the wire; durable answer %s, any answer %s", mb(b.Produce), mb(b.Fetch),
			micros(b.Durable), micros(b.Answer))
	}
	for _, t := range rep.R.Targets {
		software := t.Software
		if software == "" {
			software = "version unknown"
		}
		add("target "+t.Name, "%s, %s, answered after %.2f s, data on %s", software, map[bool]string{true: "on this host", false: "remote"}[t.Local],
			t.StartSeconds, map[bool]string{true: "?", false: t.FileSystem}[t.FileSystem == ""])
	}
	rep.addWorkload()
}

// congestion names what the generator's sockets used, where it is known.
func (rep *report) congestion() string {
	var names []string
	for _, p := range rep.R.Points {
		for _, run := range p.Runs {
			if run.Congestion != "" && !slices.Contains(names, run.Congestion) {
				names = append(names, run.Congestion)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; the generator's sockets: " + strings.Join(names, ", ")
}

// with puts what a floor was reached with into brackets.
func with(congestion string) string {
	if congestion == "" {
		return ""
	}
	return " (" + congestion + ")"
}

// addWorkload lists the fields that have one value at every point.
func (rep *report) addWorkload() {
	if len(rep.R.Points) == 0 {
		return
	}
	names := []string{}
	for _, f := range Fields() {
		names = append(names, f.Name)
	}
	for name := range rep.R.Points[0].Spec {
		if strings.HasPrefix(name, "topic.") {
			names = append(names, name)
		}
	}
	slices.Sort(names[len(Fields()):])
	for _, name := range names {
		v, same := rep.R.Points[0].Spec[name], true
		for _, p := range rep.R.Points[1:] {
			same = same && p.Spec[name] == v
		}
		if same {
			rep.Workload = append(rep.Workload, [2]string{name, v})
		}
	}
}
