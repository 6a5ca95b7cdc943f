package bench

import (
	"bytes"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed report.html.tmpl
var reportTemplate string

// report is what the template shows.
type report struct {
	R           *Results
	Runs        int
	Invalid     int
	Head        []string
	Rows        []reportRow
	Charts      []*lineChart
	Seconds     []*lineChart
	Bars        []*barChart
	Heat        []*heatMap
	Forest      []forestRow
	ForestWidth float64
	Limits      []limitRow
	LimitHead   []string
	LimitSays   string
	LimitsOpen  bool
	Reasons     []string
	InForce     []reportForce
	Env         [][2]string
	Workload    [][2]string
}

type reportRow struct {
	Cells   []string
	Invalid bool
}

type reportForce struct {
	Target string
	Same   []string
	Varied []string
	Disk   string
}

// WriteReport writes report.html into dir: one file that needs nothing else.
func WriteReport(dir string, r *Results) error {
	html, err := RenderReport(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.html"), html, 0o644)
}

// RenderReport makes the HTML of a series.
func RenderReport(r *Results) ([]byte, error) {
	t, err := htmltemplate.New("report").Funcs(htmltemplate.FuncMap{"add": func(a, b float64) float64 { return a + b },
		"size": sizeText, "time": func(us float64) string { return micros(us) }}).Parse(reportTemplate)
	if err != nil {
		return nil, fmt.Errorf("BUG: report template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, newReport(r)); err != nil {
		return nil, fmt.Errorf("BUG: report template: %w", err)
	}
	return out.Bytes(), nil
}

func newReport(r *Results) *report {
	rep := &report{R: r, ForestWidth: forestWidth, Head: tableHead(r), Reasons: reasonLines(r)}
	for _, p := range r.Points {
		for _, run := range p.Runs {
			rep.Runs++
			if !run.Valid {
				rep.Invalid++
			}
		}
		for _, s := range p.Summary {
			rep.Rows = append(rep.Rows, reportRow{tableRow(r, p, s), s.ValidRuns == 0})
		}
	}
	rep.addLoadCurve()
	rep.addPercentiles("response", "Response time by percentile", func(s *Summary) []CurvePoint { return s.ResponseCurve })
	rep.addPercentiles("e2e", "End-to-end latency by percentile", func(s *Summary) []CurvePoint { return s.EndToEndCurve })
	rep.addSync()
	rep.addHeat()
	rep.addBars()
	rep.addThroughput()
	rep.addLimits()
	rep.addSeconds()
	rep.addForest()
	for _, t := range r.Targets {
		same, varied := inForceOf(r, t.Name)
		rep.InForce = append(rep.InForce, reportForce{t.Name, same, varied, t.FileSystem})
	}
	rep.addEnvironment()
	return rep
}

// class gives a target or series its colour.
func (rep *report) class(target string) int {
	return max(0, slices.Index(rep.R.targetNames(), target)) % 6
}

// addLoadCurve draws latency against offered load for every group of points that differ in the rate only.
func (rep *report) addLoadCurve() {
	groups := map[string][]*PointResult{}
	var order []string
	for _, p := range rep.R.Points {
		if !slices.ContainsFunc(p.Params, func(v Param) bool { return v.Name == "rate" }) {
			continue
		}
		key := labelWithout(p, "rate")
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], p)
	}
	for i, key := range order {
		c := &lineChart{ID: fmt.Sprintf("load%d", i), Title: strings.TrimSpace("Latency against offered load " + key),
			Desc:   "Response time at p50, p99 and p99.9 on a logarithmic axis over the offered records per second.",
			XLabel: "offered records/s", YLabel: "response time", LogY: true, xText: countText, yText: micros}
		for _, t := range rep.R.targetNames() {
			for q, name := range []string{"p50", "p99", "p99.9"} {
				l := lineSeries{Name: t + " " + name, Class: (rep.class(t) + q*len(rep.R.Targets)) % 6, Dots: true}
				for _, p := range groups[key] {
					l.pts = append(l.pts, loadPoint(p, t, q)...)
				}
				c.Lines = append(c.Lines, l)
			}
		}
		c.Bounds = rep.latencyBounds(groups[key])
		if c.layout() {
			rep.Charts = append(rep.Charts, c)
		}
	}
}

// loadPoint gives the point of a target at one load: quantile 0 is p50, 1 p99, 2 p99.9.
func loadPoint(p *PointResult, target string, q int) []xy {
	for _, s := range p.Summary {
		if s.Target != target || s.Response == nil {
			continue
		}
		offered := s.Records
		for _, run := range p.Runs {
			if run.Target == target && run.Offered > 0 {
				offered = run.Offered
			}
		}
		return []xy{{offered, []float64{s.Response.P50, s.Response.P99, s.Response.P999}[q]}}
	}
	return nil
}

func labelWithout(p *PointResult, name string) string {
	var parts []string
	if p.Case != "main" {
		parts = append(parts, p.Case)
	}
	for _, v := range p.Params {
		if v.Name != name {
			parts = append(parts, v.Name+"="+v.Value)
		}
	}
	return strings.Join(parts, " ")
}

// curvesMax is the largest number of lines in one chart.
const curvesMax = 6

// addPercentiles draws percentile curves on the axis log(1/(1-q)), at most curvesMax lines per chart.
func (rep *report) addPercentiles(id, title string, curve func(*Summary) []CurvePoint) {
	var c *lineChart
	var drawn []*PointResult
	n := 0
	flush := func() {
		if c != nil {
			if c.Bounds = rep.latencyBounds(drawn); c.layout() {
				rep.Charts = append(rep.Charts, c)
			}
		}
		c, drawn = nil, nil
	}
	for _, p := range rep.R.Points {
		if c != nil && len(c.Lines)+len(p.Summary) > curvesMax {
			flush()
		}
		for _, s := range p.Summary {
			if len(curve(s)) == 0 {
				continue
			}
			if c == nil {
				n++
				c = &lineChart{ID: fmt.Sprintf("%s%d", id, n), Title: title, LogX: true, LogY: true,
					Desc:   "Latency over percentiles, with one more nine per step to the right.",
					XLabel: "percentile", YLabel: "latency", xText: percentileText, yText: micros, xTicks: []float64{1, 10, 100, 1000, 10_000}}
			}
			drawn = append(drawn, p)
			l := lineSeries{Name: strings.TrimSpace(seriesName(rep.R, p, s)), Class: len(c.Lines) % 6}
			for _, q := range curve(s) {
				if q.Percentile < 100 {
					l.pts = append(l.pts, xy{1 / (1 - q.Percentile/100), q.Micros})
				}
			}
			c.Lines = append(c.Lines, l)
		}
	}
	flush()
}

func seriesName(r *Results, p *PointResult, s *Summary) string {
	if len(r.Targets) > 1 {
		return s.Target + " " + p.Label
	}
	return p.Label
}

// percentileText names a position on the axis of percentile curves.
func percentileText(x float64) string {
	return strconv.FormatFloat(100*(1-1/x), 'f', -1, 64) + "%"
}

// addSync draws the distribution of the bare fdatasync.
func (rep *report) addSync() {
	s := rep.R.Environment.Sync
	if s == nil || len(s.Times) < 10 {
		return
	}
	c := &lineChart{ID: "sync", Title: "Bare append of 4 KiB and fdatasync on the target's disk", LogX: true, LogY: true,
		Desc:   "How long the disk takes to make 4 KiB durable, without a broker, over percentiles.",
		XLabel: "percentile", YLabel: "fdatasync", xText: percentileText, yText: micros, xTicks: []float64{1, 10, 100}}
	l := lineSeries{Name: "fdatasync", Class: 0}
	n := len(s.Times)
	for i, us := range s.Times {
		l.pts = append(l.pts, xy{1 / (1 - float64(i)/float64(n)), us})
	}
	c.Lines = []lineSeries{l}
	if c.layout() {
		rep.Charts = append(rep.Charts, c)
	}
}

// addHeat makes a map of acks x fsync, one per further combination and target.
func (rep *report) addHeat() {
	index := map[string]*heatMap{}
	values := map[string]map[[2]string]*Summary{}
	var order []string
	for _, p := range rep.R.Points {
		acks, fsync := paramOf(p, "acks"), paramOf(p, "fsync")
		if acks == "" || fsync == "" {
			continue
		}
		for _, s := range p.Summary {
			var rest []string
			if len(rep.R.Targets) > 1 {
				rest = append(rest, s.Target)
			}
			for _, v := range p.Params {
				if v.Name != "acks" && v.Name != "fsync" {
					rest = append(rest, v.Name+"="+v.Value)
				}
			}
			key := strings.Join(rest, " ")
			if index[key] == nil {
				index[key] = &heatMap{Title: strings.TrimSpace("Response time p99 " + key), RowName: "acks", ColName: "fsync"}
				values[key] = map[[2]string]*Summary{}
				order = append(order, key)
			}
			h := index[key]
			if !slices.Contains(h.Cols, fsync) {
				h.Cols = append(h.Cols, fsync)
			}
			if !slices.ContainsFunc(h.Rows, func(r heatRow) bool { return r.Name == acks }) {
				h.Rows = append(h.Rows, heatRow{Name: acks})
			}
			values[key][[2]string{acks, fsync}] = s
		}
	}
	low, high := math.Inf(1), 0.0
	for _, vs := range values {
		for _, s := range vs {
			if s.Response != nil {
				low, high = math.Min(low, s.Response.P99), math.Max(high, s.Response.P99)
			}
		}
	}
	for _, key := range order {
		h := index[key]
		for i := range h.Rows {
			for _, col := range h.Cols {
				h.Rows[i].Cells = append(h.Rows[i].Cells, newHeatCell(values[key][[2]string{h.Rows[i].Name, col}], low, high))
			}
		}
		rep.Heat = append(rep.Heat, h)
	}
}

func newHeatCell(s *Summary, low, high float64) heatCell {
	if s == nil || s.Response == nil {
		return heatCell{Empty: true, Text: "-"}
	}
	return heatCell{Text: micros(s.Response.P99), Sub: "p50 " + micros(s.Response.P50), Invalid: s.ValidRuns == 0,
		Heat: heatLevel(s.Response.P99, low, high)}
}

func paramOf(p *PointResult, name string) string {
	for _, v := range p.Params {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// barsMax is the largest number of bars in one chart.
const barsMax = 40

// addBars draws CPU per GB and memory.
func (rep *report) addBars() {
	kinds := []struct {
		id, title, desc string
		get             func(*Summary) float64
		text            func(float64) string
	}{
		{"cpu", "Broker CPU seconds per GB of values in and out", "Lower is better.", func(s *Summary) float64 { return s.CPUPerGB },
			func(v float64) string { return fmt.Sprintf("%.*f s", precision(v), v) }},
		{"rss", "Broker memory (resident, peak)", "Lower is better.", func(s *Summary) float64 { return float64(s.RSSBytes) },
			func(v float64) string { return sizeText(int64(v)) }},
	}
	for _, k := range kinds {
		c := &barChart{ID: k.id, Title: k.title, Desc: k.desc}
		for _, p := range rep.R.Points {
			for _, s := range p.Summary {
				if v := k.get(s); v > 0 && len(c.Bars) < barsMax {
					c.Bars = append(c.Bars, bar{Label: seriesName(rep.R, p, s), Class: rep.class(s.Target), value: v, Text: k.text(v)})
				}
			}
		}
		if c.layout() {
			rep.Bars = append(rep.Bars, c)
		}
	}
}
