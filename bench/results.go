package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ResultsSchema is the version of results.json. It grows when a field changes its meaning or goes; new fields do not change it.
const ResultsSchema = 1

// Results is the content of results.json: one series.
type Results struct {
	Schema      int            `json:"schema"`
	Version     string         `json:"weir_version"`
	Commit      string         `json:"weir_commit,omitempty"`
	Started     time.Time      `json:"started"`
	Finished    time.Time      `json:"finished"`
	Profile     ProfileInfo    `json:"profile"`
	Environment Environment    `json:"environment"`
	Targets     []TargetInfo   `json:"targets"` // the first is the base of every ratio
	Workers     []WorkerInfo   `json:"workers,omitempty"`
	Points      []*PointResult `json:"points"`
	Verdict     string         `json:"verdict"`
	Valid       bool           `json:"valid"`            // every run is
	Limits      *Limits        `json:"limits,omitempty"` // floors of the host, when they were measured
	Bounds      *Bounds        `json:"bounds,omitempty"` // what follows from them; absent when a run exceeded them
	Faults      int64          `json:"faults"`           // records lost, duplicated, reordered, corrupt: over all runs
}

// ProfileInfo says what was run.
type ProfileInfo struct {
	Name      string            `json:"name"`
	Title     string            `json:"title"`
	About     string            `json:"about"`
	Repeats   int               `json:"repeats"`
	Overrides map[string]string `json:"overrides,omitempty"` // fields set by flags
}

// TargetInfo describes a target.
type TargetInfo struct {
	Name         string  `json:"name"`
	Software     string  `json:"software,omitempty"` // what it is, with its version, when that is known
	Local        bool    `json:"local"`              // its processes run on this host
	StartSeconds float64 `json:"start_s"`
	FileSystem   string  `json:"file_system,omitempty"`
}

// PointResult is one combination of the varied fields, with all its runs.
type PointResult struct {
	Label       string            `json:"label"`
	Case        string            `json:"case"`
	Params      []Param           `json:"params"`
	Spec        map[string]string `json:"spec"`
	MaxRate     float64           `json:"max_records_per_s,omitempty"` // the maximum that a percentage refers to
	Runs        []*RunResult      `json:"runs"`
	Summary     []*Summary        `json:"summary"`     // by target
	Comparisons []*Comparison     `json:"comparisons"` // each further target against the first
	spec        Spec
}

// Summary is one target at one point, over its valid runs (over all when none is valid). Rates are medians, latencies come
// from the merged histograms.
type Summary struct {
	Target     string   `json:"target"`
	Runs       int      `json:"runs"`
	ValidRuns  int      `json:"valid_runs"`
	Records    float64  `json:"acked_records_per_s"`
	ValueBytes float64  `json:"acked_value_bytes_per_s"`
	ReadBytes  float64  `json:"read_value_bytes_per_s"`
	Response   *Latency `json:"response,omitempty"`
	EndToEnd   *Latency `json:"end_to_end,omitempty"`
	// The curves are sampled from the merged histograms.
	ResponseCurve []CurvePoint `json:"response_curve,omitempty"`
	EndToEndCurve []CurvePoint `json:"end_to_end_curve,omitempty"`
	CPUPerGB      float64      `json:"cpu_s_per_gb"`
	CPUPerReq     float64      `json:"cpu_us_per_request"`
	Cores         float64      `json:"cpu_cores"`
	RSSBytes      int64        `json:"rss_peak_bytes"`
	Generator     float64      `json:"generator_cpu_s_per_gb"`
	// GeneratorCores is what the generator used beside the target's Cores, Limit what bounded most runs (RunResult.Limit).
	GeneratorCores float64  `json:"generator_cpu_cores"`
	Limit          string   `json:"limit"`
	BoundShare     float64  `json:"bound_share"` // median of the runs'
	Errors         int64    `json:"errors"`
	Faults         int64    `json:"faults"`
	Reasons        []string `json:"invalid_reasons,omitempty"`
}

func newResults(o *SeriesOptions) *Results {
	return &Results{Schema: ResultsSchema, Version: o.Version, Commit: o.Commit, Started: time.Now().UTC(),
		Profile: ProfileInfo{Name: o.Profile.Name, Title: o.Profile.Title, About: o.Profile.About, Repeats: o.Profile.Repeats,
			Overrides: o.Profile.Overrides},
		Environment: readEnvironment()}
}

func (r *Results) addTarget(t Target, start time.Duration) {
	info := TargetInfo{Name: t.Name(), Local: len(t.PIDs()) > 0, StartSeconds: start.Seconds()}
	if v, ok := t.(interface{ Version() string }); ok {
		info.Software = v.Version()
	}
	if dir := t.DataDir(); dir != "" {
		info.FileSystem = describeMount(dir)
		if r.Environment.Sync == nil {
			r.Environment.measureSync(dir)
		}
	}
	r.Targets = append(r.Targets, info)
}

func (r *Results) targetNames() []string {
	names := make([]string, len(r.Targets))
	for i, t := range r.Targets {
		names[i] = t.Name
	}
	return names
}

func (r *Results) addPoint(p *Point) *PointResult {
	pr := &PointResult{Label: p.Label(), Case: p.Spec.Case, Params: p.Params, Spec: map[string]string{}, spec: p.Spec}
	for _, f := range Fields() {
		pr.Spec[f.Name] = f.Get(&p.Spec)
	}
	for k, v := range p.Spec.TopicConf {
		pr.Spec["topic."+k] = v
	}
	r.Points = append(r.Points, pr)
	return pr
}

// settle computes summaries and comparisons from the runs so far.
func (p *PointResult) settle(targets []string) {
	p.Summary, p.Comparisons = nil, nil
	for _, name := range targets {
		if s := p.summarize(name); s != nil {
			p.Summary = append(p.Summary, s)
		}
	}
	for _, name := range targets[min(1, len(targets)):] {
		p.Comparisons = append(p.Comparisons, p.compare(targets[0], name)...)
	}
}

// of returns a target's runs: the valid ones, or all when none is.
func (p *PointResult) of(target string) (runs []*RunResult, all int) {
	for _, onlyValid := range []bool{true, false} {
		all = 0
		for _, r := range p.Runs {
			if r.Target != target {
				continue
			}
			all++
			if r.Valid || !onlyValid {
				runs = append(runs, r)
			}
		}
		if len(runs) > 0 {
			return runs, all
		}
	}
	return nil, all
}

func (p *PointResult) summarize(target string) *Summary {
	runs, all := p.of(target)
	if len(runs) == 0 {
		return nil
	}
	s := &Summary{Target: target, Runs: all}
	med := func(get func(*RunResult) float64) float64 {
		var xs []float64
		for _, r := range runs {
			xs = append(xs, get(r))
		}
		return median(xs)
	}
	s.Records = med(func(r *RunResult) float64 { return r.Records })
	s.ValueBytes = med(func(r *RunResult) float64 { return r.ValueBytes })
	s.ReadBytes = med(func(r *RunResult) float64 { return r.ReadBytes + r.CatchUpBytes })
	s.Generator = med(func(r *RunResult) float64 { return r.Generator.CPUPerGB })
	s.GeneratorCores = med(func(r *RunResult) float64 { return r.Generator.Cores })
	s.BoundShare = med(func(r *RunResult) float64 { return r.BoundShare })
	s.Limit = commonLimit(runs)
	merged := &histSet{}
	for _, r := range runs {
		if err := r.hists.mergeInto(merged); err != nil {
			panic("BUG: own histogram cannot be decoded: " + err.Error())
		}
		if r.Broker != nil {
			s.RSSBytes = max(s.RSSBytes, r.Broker.RSSPeakBytes)
		}
	}
	if runs[0].Broker != nil {
		s.CPUPerGB = med(func(r *RunResult) float64 { return r.Broker.CPUPerGB })
		s.CPUPerReq = med(func(r *RunResult) float64 { return r.Broker.CPUPerRequest })
		s.Cores = med(func(r *RunResult) float64 { return r.Broker.Cores })
	}
	s.Response, s.EndToEnd = summarize(merged.h[metricResponse]), summarize(merged.h[metricEndToEnd])
	s.ResponseCurve, s.EndToEndCurve = percentileCurve(merged.h[metricResponse]), percentileCurve(merged.h[metricEndToEnd])
	for _, r := range p.Runs {
		if r.Target != target {
			continue
		}
		if r.Valid {
			s.ValidRuns++
		}
		s.Faults += r.Truth.Faults()
		for _, n := range r.Errors {
			s.Errors += n
		}
		s.Reasons = append(s.Reasons, r.Reasons...)
	}
	return s
}

// finish sets what is known only at the end.
func (r *Results) finish() {
	r.Finished, r.Valid, r.Faults = time.Now().UTC(), true, 0
	for _, p := range r.Points {
		for _, run := range p.Runs {
			r.Valid = r.Valid && run.Valid
			r.Faults += run.Truth.Faults()
		}
	}
	r.Bounds = r.bounds()
	r.Verdict = verdict(r)
}

// Write puts results.json and the raw histograms under dir, which is made.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "hlog"), 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	for i, p := range r.Points {
		for _, run := range p.Runs {
			name := fmt.Sprintf("%03d-%s-%s-%d.hlog", i+1, fileWord(p.Label), fileWord(run.Target), run.Repeat)
			if err := writeHlog(filepath.Join(dir, "hlog", name), p.Label, run); err != nil {
				return err
			}
		}
	}
	return nil
}

var notWord = regexp.MustCompile(`[^A-Za-z0-9.=]+`)

// fileWord makes text fit for a file name.
func fileWord(s string) string {
	s = strings.Trim(notWord.ReplaceAllString(s, "-"), "-")
	return s[:min(len(s), 80)]
}

// writeHlog writes a run's histograms as an HdrHistogram log, one interval per second and metric, tagged by metric. Values
// are ns.
func writeHlog(path, label string, run *RunResult) error {
	intervals, ends := run.perSec, []float64{}
	for i := range intervals {
		ends = append(ends, run.PerSecond[i].At)
	}
	if len(intervals) == 0 { // from workers: the whole measurement is one interval
		intervals, ends = []encodedSet{run.hists}, []float64{run.Seconds}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := hdrhistogram.NewHistogramLogWriter(f)
	if err := w.OutputLogFormatVersion(); err != nil {
		return err
	}
	if err := w.OutputComment(fmt.Sprintf("# weir bench: %s on %s, values in ns", label, run.Target)); err != nil {
		return err
	}
	base := run.Started.UnixMilli()
	if err := w.OutputStartTime(base); err != nil {
		return err
	}
	w.SetBaseTime(base)
	if err := w.OutputBaseTime(base); err != nil {
		return err
	}
	if err := w.OutputLegend(); err != nil {
		return err
	}
	for i, set := range intervals {
		for m := range set {
			h, err := set.decode(metric(m))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if h == nil {
				continue
			}
			at := base + int64(ends[i]*1000)
			h.SetTag(metricNames[m])
			h.SetStartTimeMs(at - 1000)
			h.SetEndTimeMs(at)
			if err := w.OutputIntervalHistogram(h); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return f.Close()
}

// ReadResults reads a results.json. The error names the path and what is wrong.
func ReadResults(path string) (*Results, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Results
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != ResultsSchema {
		return nil, fmt.Errorf("%s: schema %d, this program reads %d", path, r.Schema, ResultsSchema)
	}
	return &r, nil
}
