package bench

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const tinyProfile = `
title: tiny
acks: 1
partitions: 2
connections: 1
consumers: 1
value_bytes: 64
batch_records: 2
warmup: 100ms
duration: 300ms
fetch_wait: 20ms
fsync: commit, never
rate: 2k
`

func tinySeries(t *testing.T, text string, repeats int, targets ...Target) *Results {
	t.Helper()
	p, err := ParseProfile("tiny.profile", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p.Repeats = repeats
	var seen []SeriesProgress
	var res *Results
	if err := within(t, "the series", func(ctx context.Context) (err error) {
		res, err = RunSeries(ctx, SeriesOptions{Profile: p, Targets: targets, Version: "test",
			Live: func(p SeriesProgress) { seen = append(seen, p) }})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) == 0 {
		t.Error("no progress was shown")
	}
	return res
}

func TestSeriesInterleavesTargetsAndReportsThem(t *testing.T) {
	t.Parallel()
	fast, slow := startFake(t), startFake(t)
	slow.onProduce = func(int64) { time.Sleep(5 * time.Millisecond) }
	res := tinySeries(t, strings.ReplaceAll(tinyProfile, "rate: 2k", "rate: 100"), 2, fast.target("fast"), slow.target("slow"))
	if len(res.Points) != 2 || res.Faults != 0 {
		t.Fatalf("%d points, %d faults", len(res.Points), res.Faults)
	}
	var order []string
	for _, r := range res.Points[0].Runs {
		order = append(order, r.Target)
	}
	if got := strings.Join(order, " "); got != "fast slow slow fast" {
		t.Errorf("order %s, want ABBA", got)
	}
	for _, p := range res.Points {
		if len(p.Summary) != 2 || p.Summary[0].Response == nil || p.Summary[1].Response.P50 < 4_900 {
			t.Fatalf("%s: %+v", p.Label, p.Summary)
		}
	}
	dir := t.TempDir()
	if err := res.Write(dir); err != nil {
		t.Fatal(err)
	}
	checkHlog(t, dir, res)
	back, err := ReadResults(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, res)
	for i := range 5 {
		run := back.Points[0].Runs[0]
		run.PerSecond = append(run.PerSecond, Second{At: float64(i + 1), Records: 100, P50: 10, P99: 20, Max: 300})
	}
	checkReport(t, back, "Second by second")
	var table bytes.Buffer
	WriteTable(&table, back)
	for _, want := range []string{"fsync", "commit", "never", "fast", "slow", "p99.9", res.Verdict} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}

// checkHlog reads every interval of the first log back and compares the counts with the result.
func checkHlog(t *testing.T, dir string, res *Results) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "hlog", "*.hlog"))
	if err != nil || len(files) != 8 {
		t.Fatalf("%d logs, want 8 (%v)", len(files), err)
	}
	run := res.Points[0].Runs[0]
	f, err := os.Open(filepath.Join(dir, "hlog", "001-fsync=commit-fast-0.hlog"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader := hdrhistogram.NewHistogramLogReader(f)
	var n int64
	for {
		h, err := reader.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		if h.Tag() == metricNames[metricResponse] {
			n += h.TotalCount()
		}
	}
	if n == 0 || n > run.Response.Count {
		t.Fatalf("%d responses in the log, %d in the result", n, run.Response.Count)
	}
}

func checkReport(t *testing.T, res *Results, more ...string) {
	t.Helper()
	html, err := RenderReport(res)
	if err != nil {
		t.Fatal(err)
	}
	text := string(html)
	for _, want := range append(more, "<!doctype html>", "Response time by percentile", "Ratios against fast", "kernel", "prefers-color-scheme:dark") {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if m := regexp.MustCompile(`(?i)(src|href)\s*=\s*"?(https?:|//)|@import|url\(|<script`).FindString(text); m != "" {
		t.Errorf("the report is not one offline file: %s", m)
	}
	if strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "NaN") {
		t.Error("the report has broken values")
	}
	for _, tag := range []string{"svg", "table", "figure", "section", "div", "ul", "dl"} {
		if a, b := strings.Count(text, "<"+tag), strings.Count(text, "</"+tag+">"); a != b {
			t.Errorf("<%s> opened %d times, closed %d times", tag, a, b)
		}
	}
}

func TestPercentageIsOfTheFirstTargetsMaximum(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	res := tinySeries(t, strings.ReplaceAll(tinyProfile, "rate: 2k", "rate: 10%, 20%"), 1, f.target("a"))
	p := res.Points
	if len(p) != 4 || p[0].MaxRate == 0 || p[0].MaxRate != p[1].MaxRate {
		t.Fatalf("maxima %v %v", p[0].MaxRate, p[1].MaxRate)
	}
	if got, want := p[1].Runs[0].Offered, p[1].MaxRate/5; got < want*0.99 || got > want*1.01 {
		t.Fatalf("offered %v, want %v", got, want)
	}
	if len(newReport(res).Charts) == 0 {
		t.Error("no chart of latency against load")
	}
}

func TestSeriesEndsWithFaults(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.store = func(n int64, p *fakePartition, b []byte) int16 {
		p.append(b)
		if n%50 == 0 {
			p.append(b)
		}
		return 0
	}
	res := tinySeries(t, tinyProfile, 1, f.target("a"))
	if res.Faults == 0 || res.Valid || !strings.HasPrefix(res.Verdict, "FAILED") {
		t.Fatalf("faults %d, valid %v: %s", res.Faults, res.Valid, res.Verdict)
	}
}

func TestCompareFindsRegressionsAndWins(t *testing.T) {
	t.Parallel()
	result := func(p99s ...float64) *Results {
		p := &PointResult{Label: "acks=1", Spec: map[string]string{"rate": "1000"}}
		for i, v := range p99s {
			p.Runs = append(p.Runs, resultOf("a", i, v))
		}
		return &Results{Schema: 1, Targets: []TargetInfo{{Name: "a"}}, Points: []*PointResult{p}}
	}
	word := func(a, b *Results) string {
		for _, d := range CompareResults(a, b, 0.05) {
			if d.Metric == "response p99" {
				return d.Word
			}
		}
		return ""
	}
	base := result(100, 101, 99, 100, 100)
	for want, other := range map[string]*Results{"worse": result(150, 151, 149, 150, 152), "better": result(50, 51, 50, 52, 50),
		"same": result(101, 100, 102, 99, 100), "too few repeats": result(500, 500)} {
		if got := word(base, other); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var out bytes.Buffer
	WriteDifferences(&out, CompareResults(base, result(150, 151, 149, 150, 152), 0.05))
	if !strings.Contains(out.String(), "worse") {
		t.Error(out.String())
	}
}

func TestResultsOfAnotherSchemaAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	for text, want := range map[string]string{`{"schema":99}`: "schema 99", `{`: "results.json"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadResults(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFranzGoEngine(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	res := mustRun(t, f, quickSpec(func(s *Spec) { s.Engine, s.Acks, s.Codec = "kgo", 1, "lz4" }))
	if res.Truth.Faults() != 0 || len(res.Errors) != 0 || res.Requests == 0 || res.EndToEnd == nil || res.Truth.Records == 0 {
		t.Fatalf("%+v %v, %d records", res.Truth, res.Errors, res.Requests)
	}
}

func TestListenerIsFoundThroughProc(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	pids := listenerPIDs(f.ln.Addr().String())
	if len(pids) != 1 || pids[0] != os.Getpid() {
		t.Fatalf("found %v, want %d", pids, os.Getpid())
	}
	s := sampleProcs(pids, true)
	if s.RSSBytes == 0 || s.Threads == 0 || s.CtxVol == 0 {
		t.Fatalf("%+v", s)
	}
}

func TestProcessTargetFailsWithItsLastOutput(t *testing.T) {
	t.Parallel()
	p := &ProcessTarget{Label: "x", Parent: t.TempDir(), Command: func(string) []string { return []string{"sh", "-c", "echo cannot bind; exit 1"} }}
	err := within(t, "the start", p.Start)
	if err == nil || !strings.Contains(err.Error(), "cannot bind") {
		t.Fatal(err)
	}
}

func TestLimitsAreMeasured(t *testing.T) {
	t.Parallel()
	var l *Limits
	if err := within(t, "measuring", func(ctx context.Context) (err error) {
		l, err = measureLimits(ctx, t.TempDir(), 10*time.Millisecond, 16<<20)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	WriteLimits(&out, l)
	if l.CRC == 0 || l.LoopbackRate == 0 || l.SendfileRate == 0 || l.RoundTrip == 0 || l.WriteRate == 0 || l.SyncRewrite == 0 {
		t.Fatalf("%+v\n%s", l, out.String())
	}
	if b := l.Bounds(2); b.Produce <= 0 || b.Fetch <= 0 || b.Durable <= b.Answer {
		t.Errorf("%+v", b)
	}
	if known := congestions(l.Congestion); !slices.Contains(known, l.SendfileCongestion) || !slices.Contains(known, l.LoopbackCongestion) {
		t.Errorf("floors with %q and %q, of %q", l.LoopbackCongestion, l.SendfileCongestion, known)
	}
}
