package bench

import (
	"strings"
	"testing"
	"time"
)

// wholeResults is a series with something in every part of a report.
func wholeResults() *Results {
	lat := func(p50 float64) *Latency {
		return &Latency{Count: 1000, P50: p50, P90: 2 * p50, P99: 3 * p50, P999: 4 * p50, Max: 5 * p50}
	}
	curve := []CurvePoint{{50, 300}, {90, 600}, {99, 900}, {99.9, 1200}}
	r := hostResults()
	r.Points = nil
	r.Version, r.Profile, r.Started = "1.2.3", ProfileInfo{Name: "whole", Title: "whole"}, time.Unix(1e9, 0).UTC()
	r.Targets = []TargetInfo{{Name: "weir", Software: "weir 1.2.3", Local: true, FileSystem: "ext4 on /dev/vda (rw,discard)"}, {Name: "kafka", Software: "Apache Kafka 4.3.1", Local: true}}
	r.Environment.Kernel, r.Environment.CongestionControl = "6.18", "bbr"
	r.Environment.Sync = &SyncSummary{Count: 10, P50: 300, P99: 900, Times: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
	add := func(label string, spec map[string]string, params []Param, limit string, valid bool) *PointResult {
		p := &PointResult{Label: label, Case: "main", Spec: spec, Params: params}
		for i, t := range r.Targets {
			run := &RunResult{Target: t.Name, Valid: valid, Limit: limit, Congestion: "cubic", ValueBytes: 1e9, BoundShare: 0.5, Offered: 1000,
				Broker: &BrokerCost{Cores: 1.25, CPUPerGB: 0.7, RSSPeakBytes: 64 << 20}, Generator: GeneratorCost{Cores: 0.25, GCMaxUS: 40},
				Host: HostLoad{CPUs: 2, BusyCores: 1.75, KernelCores: 0.2, OtherCores: 0.05}, Response: lat(300), GeneratorLag: lat(7)}
			for s := range 4 {
				run.PerSecond = append(run.PerSecond, Second{At: float64(s + 1), Records: 100, P50: 10, P99: 20, Max: 300})
			}
			if !valid {
				run.Reasons = []string{"generator-bound: made up"}
			}
			p.Runs = append(p.Runs, run)
			s := &Summary{Target: t.Name, Runs: 1, ValueBytes: 1e9, BoundShare: 0.5, Response: lat(300 + float64(i)), ResponseCurve: curve, EndToEnd: lat(400),
				EndToEndCurve: curve, CPUPerGB: 0.7, RSSBytes: 64 << 20, Limit: limit}
			if valid {
				s.ValidRuns = 1
			}
			p.Summary = append(p.Summary, s)
		}
		p.Comparisons = []*Comparison{{Metric: "response p99", Base: "weir", Target: "kafka", Better: "lower", Ratio: 1.5, Low: 1.2, High: 1.9, Pairs: 7, Differ: true, Word: "worse"}}
		r.Points = append(r.Points, p)
		return p
	}
	f := func(acks, fsync, rate, limit string, valid bool) {
		params := []Param{{Name: "acks", Value: acks}, {Name: "fsync", Value: fsync}, {Name: "rate", Value: rate}}
		add("acks="+acks+" fsync="+fsync+" rate="+rate, map[string]string{"acks": acks, "fsync": fsync, "rate": rate, "connections": "2"}, params, limit, valid)
	}
	f("1", "commit", "1k", limitLoad, true)
	f("1", "never", "1k", limitLoad, true)
	f("1", "never", "2k", limitBroker, true)
	f("all", "never", "max", limitGenerator, false)
	r.finish()
	return r
}

func TestReportHasEveryPart(t *testing.T) {
	t.Parallel()
	r := wholeResults()
	html, err := RenderReport(r)
	if err != nil {
		t.Fatal(err)
	}
	text := string(html)
	for part, want := range map[string]string{
		"verdict":             r.Verdict[:20],
		"load curve":          "Latency against offered load acks=1 fsync=never",
		"percentiles":         ">99.9%</text>",
		"end to end":          "End-to-end latency by percentile",
		"seconds":             "Latency per second, weir acks=1 fsync=commit rate=1k",
		"throughput seconds":  "Records per second, kafka acks=1 fsync=commit rate=1k",
		"heat map":            `aria-label="Response time p99 weir rate=1k"`,
		"CPU bars":            "Broker CPU seconds per GB",
		"memory bars":         "Broker memory (resident, peak)",
		"throughput":          "1000 MB/s, 50.0 % of the bound",
		"ratios":              "1.200 to 1.900",
		"fdatasync histogram": "Bare append of 4 KiB and fdatasync",
		"bare fdatasync":      "p50 300 us, p99 900 us",
		"kernel":              "<dd>6.18</dd>",
		"mount options":       "ext4 on /dev/vda (rw,discard)",
		"congestion":          "bbr (host default); the generator&#39;s sockets: cubic",
		"open files":          "<dt>open files</dt>",
		"versions":            "Apache Kafka 4.3.1, on this host",
		"commit":              "1.2.3, commit unknown",
		"bounds":              "produce 2000 MB/s, fetch 10000 MB/s on the wire",
		"floor of commit":     "floor of commit: an fdatasync and a round trip",
		"floor of an answer":  "floor: a loopback round trip",
		"who was the limit":   "The generator was the limit of 2 of 8 runs, 0 of them counted as valid. Runs by limit: load 4, broker 2, generator 2.",
		"cores by run":        `weir acks=1 fsync=commit rate=1k #1</th><td>load</td><td>1.25</td><td>0.25</td><td>25.0 %</td><td>0.25</td><td>0.25</td><td>21 us</td><td>40 us</td><td>50.0 %</td><td>valid</td>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: the report lacks %q", part, want)
		}
	}
	if strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "NaN") {
		t.Error("the report has broken values")
	}
	fixed := 0
	for _, c := range newReport(r).Bars {
		if c.ID == "throughput" {
			fixed = len(c.Bars)
		}
	}
	if fixed != 2 {
		t.Errorf("%d bars of throughput, want those of the point that a schedule does not fix", fixed)
	}
}

func TestNoFloorWhereNothingComesBack(t *testing.T) {
	t.Parallel()
	rep := &report{R: hostResults()}
	f := func(acks, fsync string, want ...float64) {
		t.Helper()
		got := rep.latencyBounds([]*PointResult{{Spec: map[string]string{"acks": acks, "fsync": fsync}}})
		if len(got) != len(want) || len(want) == 1 && got[0].y != want[0] {
			t.Errorf("acks=%s fsync=%s: %+v, want %v", acks, fsync, got, want)
		}
	}
	f("0", "commit")
	f("1", "commit", 120)
	f("all", "never", 20)
}

func TestVerdictSaysWhenThereIsNoResult(t *testing.T) {
	t.Parallel()
	run := func(valid bool) *RunResult {
		res := &RunResult{Target: "weir", Valid: valid}
		if !valid {
			res.Reasons = []string{"cold memory: made up"}
		}
		return res
	}
	r := hostResults(run(false), run(false))
	r.finish()
	if want := "No result: all 2 runs are INVALID, most often because of this: cold memory: made up."; r.Verdict != want {
		t.Errorf("got %q", r.Verdict)
	}
	r = hostResults(run(false), run(true))
	r.Points[0].Summary = []*Summary{{Target: "weir", ValueBytes: 1e6}}
	r.finish()
	if !strings.HasSuffix(r.Verdict, "; 1 of 2 runs are INVALID and left out.") || strings.Count(r.Verdict, ". ") > 0 {
		t.Errorf("got %q", r.Verdict)
	}
}

func TestARunThatTheGeneratorLimitedIsInvalid(t *testing.T) {
	t.Parallel()
	res := &RunResult{Requests: 1, Broker: &BrokerCost{Cores: 0.8}, Generator: GeneratorCost{Cores: 0.84}, Host: HostLoad{CPUs: 2, BusyCores: 1.9}}
	spec := testSpec(nil)
	res.Limit = res.limit(spec)
	res.judge(spec)
	if res.Limit != limitGenerator || res.Valid || !strings.HasPrefix(res.Reasons[0], "generator-bound: the cores were used up") {
		t.Errorf("limit %s, valid %v, %v", res.Limit, res.Valid, res.Reasons)
	}
}
