package bench

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// rewarming is a series whose memory has the rates given, one per probe; the last one stays.
func rewarming(left time.Duration, rates ...float64) (*series, *[]int64) {
	var warmed []int64
	s := &series{opts: SeriesOptions{WarmMemory: 12 << 30}, res: &Results{}, rewarmLeft: left}
	s.probe = func() float64 {
		rate := rates[0]
		if len(rates) > 1 {
			rates = rates[1:]
		}
		return rate
	}
	s.warm = func(_ context.Context, n int64, limit time.Duration) int64 {
		if limit > left {
			panic("asked for more time than is left")
		}
		warmed = append(warmed, n)
		s.rewarmLeft -= left / 2 // as if it had taken so long
		return n
	}
	return s, &warmed
}

func TestMemoryIsWarmedAgainOnlyWhenColdAndWithinItsShare(t *testing.T) {
	ctx := context.Background()
	spec := quickSpec(func(s *Spec) {
		s.Rate.Value, s.ValueBytes, s.Warmup, s.Duration = 20_000, 1000, time.Second, 3*time.Second
	})
	s, warmed := rewarming(time.Hour, warmMemoryRate)
	if rate := s.memory(ctx, &spec); rate != warmMemoryRate || len(*warmed) != 0 {
		t.Errorf("warm memory: rate %v, warmed %v", rate, *warmed)
	}
	s, warmed = rewarming(time.Hour, 0.2e9, warmMemoryRate)
	if rate := s.memory(ctx, &spec); rate != warmMemoryRate || len(*warmed) != 1 {
		t.Fatalf("cold memory: rate %v, warmed %v", rate, *warmed)
	}
	if n := (*warmed)[0]; n != rewarmBytesMin && n != spec.fills() || n > 1<<30 {
		t.Errorf("%d bytes warmed for a run that writes 100 MB", n)
	}
	s, warmed = rewarming(time.Minute, 0.2e9)
	for range 20 {
		s.memory(ctx, &spec)
	}
	if len(*warmed) != 2 {
		t.Errorf("warmed %d times, want 2: then its time was spent", len(*warmed))
	}
	s, warmed = rewarming(time.Hour, 0.2e9)
	s.opts.WarmMemory = 0
	if s.memory(ctx, &spec); len(*warmed) != 0 {
		t.Error("warmed without being asked to")
	}
}

func TestOnlyMemoryThatTheRunTouchedFirstCounts(t *testing.T) {
	before, after := &totals{host: hostSample{memFree: 10 << 30}}, &totals{host: hostSample{memFree: 9 << 30}}
	res := &RunResult{Seconds: 10, StoredBytes: 200 << 20, Broker: &BrokerCost{CPUSeconds: 3, MinorFaults: 100}}
	most := int64(200<<20 + 10*residentSlack + 100*os.Getpagesize())
	if got := res.firstTouched(before, after); got != most {
		t.Errorf("%d bytes, want %d: a GiB went, but the run did not take it", got, most)
	}
	after.host.memFree = 10<<30 - 5<<20
	if got := res.firstTouched(before, after); got != 5<<20 {
		t.Errorf("%d bytes, want 5 MiB: the rest was memory in use before", got)
	}
	after.host.memFree = 11 << 30
	if got := res.firstTouched(before, after); got != 0 {
		t.Errorf("%d bytes, want none: memory was given back", got)
	}
	// 600 MB of values at 1 GB/s would be 0.45 s too many of 3 s, but the run took 5 MiB from the host.
	res.ValueBytes, res.MemoryRate, res.FirstTouched, res.Valid = 60e6, 1e9, 5<<20, true
	if res.judgeMemory(0); !res.Valid {
		t.Error(res.Reasons)
	}
	res.FirstTouched = 600e6
	if res.judgeMemory(0); res.Valid || !hasReason(res, "cold memory") {
		t.Error("600 MB touched first at 1 GB/s are not noticed")
	}
}

func TestWarmMemoryEndsInTime(t *testing.T) {
	var memory warmedMemory
	defer memory.free()
	if n := memory.warm(context.Background(), 1<<40, time.Nanosecond); n != 0 {
		t.Errorf("%d bytes in no time", n)
	}
	if n := memory.warm(context.Background(), 1<<20, time.Minute); n != 1<<20 {
		t.Errorf("%d bytes, want a MiB", n)
	}
	if rate := touchMemory(8 << 20); rate < 1e6 || math.IsInf(rate, 0) {
		t.Errorf("rate %v", rate)
	}
}

// What was warmed is free again, but for a page in each 256, by which no block of 2 MiB is free as a whole.
func TestWarmedMemoryKeepsAPageInEach256(t *testing.T) {
	var memory warmedMemory
	const size = 65<<20 + 12<<10
	if n := memory.warm(context.Background(), size, time.Minute); n != size {
		t.Fatalf("%d bytes, want %d", n, size)
	}
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	page := os.Getpagesize()
	pages, kept := 0, 0
	for _, mem := range memory.held {
		first := uintptr(unsafe.Pointer(&mem[0])) / uintptr(page)
		entries := make([]byte, 8*len(mem)/page)
		if _, err := pagemap.ReadAt(entries, 8*int64(first)); err != nil {
			t.Fatal(err)
		}
		for i := range len(entries) / 8 {
			present := entries[8*i+7]&0x80 != 0 // bit 63, Documentation/admin-guide/mm/pagemap.rst
			if pages++; present {
				kept++
			}
			if present != (i%pinnedEvery == 0) {
				t.Fatalf("page %d of %d: present %v", i, len(entries)/8, present)
			}
		}
	}
	if pages != size/page || kept < pages/pinnedEvery {
		t.Errorf("%d pages, %d kept", pages, kept)
	}
	if memory.free(); memory.held != nil {
		t.Error("not freed")
	}
}

func TestMemoryIsColdBesideWhatWarmingShowed(t *testing.T) {
	for _, c := range []struct {
		rate, warm float64
		want       bool
	}{{1.3e9, 0, false}, {1.1e9, 0, true}, {1.1e9, 1.4e9, false}, {0.9e9, 1.4e9, true}, {1.3e9, 4e9, true}, {0.4e9, 0.4e9, false}} {
		if got := cold(c.rate, c.warm); got != c.want {
			t.Errorf("first touch at %.1f GB/s, %.1f GB/s when warm: cold %v", c.rate/1e9, c.warm/1e9, got)
		}
	}
}

func TestWarmUpEndsWhenTwoWindowsAgree(t *testing.T) {
	for _, c := range []struct {
		last, rate, n float64
		want          bool
	}{{math.NaN(), 1000, 1e6, false}, {1000, 1020, 1e6, true}, {1000, 1040, 1e6, false}, {1000, 960, 1e6, false},
		{1000, 1040, 400, true}, {0, 0, 0, true}, {1000, 2000, 400, false}} {
		if got := steady(c.last, c.rate, c.n); got != c.want {
			t.Errorf("windows of %v and %v per second (%v answers): steady %v", c.last, c.rate, c.n, got)
		}
	}
}

// A plan counts every run, and its bound includes the warming.
func TestPlanCountsEverything(t *testing.T) {
	p, err := ParseProfile("x.profile", strings.NewReader("repeats: 3\nprewarm: 10s\nacks: 0, 1\nrate: 5%, 10%\nwarmup: 500ms\nduration: 2s\n"))
	if err != nil {
		t.Fatal(err)
	}
	points, err := p.Points()
	if err != nil {
		t.Fatal(err)
	}
	one := estimate(&points[0].Spec)
	if one < 2500*time.Millisecond || one > 3500*time.Millisecond {
		t.Errorf("a run of 2.5 s is planned with %v", one)
	}
	plan := p.plan(points, 2, 12<<30, true)
	if want := 4 * 3 * 2 * one; plan.runs != want {
		t.Errorf("runs take %v, want %v", plan.runs, want)
	}
	peak := points[0].maximumSpec()
	if want := 2*(planStart+10*time.Second) + planLimits + min(warmLimit, seconds(12*(1<<30)/planWarmRate)) + 2*estimate(&peak); plan.prepare != want {
		t.Errorf("preparation takes %v, want %v: one closed-loop maximum for each acks", plan.prepare, want)
	}
	if plan.most()-plan.total() != time.Duration(rewarmShare*float64(plan.runs)) {
		t.Errorf("%v at most, %v planned", plan.most(), plan.total())
	}
	s := &series{planned: 10 * time.Second, spent: 20 * time.Second}
	if got := s.pace(time.Minute); got != 2*time.Minute {
		t.Errorf("runs take twice what was planned, but %v are left", got)
	}
}

func TestLimitNamesWhatBoundedTheRun(t *testing.T) {
	spec := testSpec(nil)
	for want, res := range map[string]*RunResult{
		limitLoad:      {Offered: 1000, Records: 995, Requests: 1e6, Broker: &BrokerCost{Cores: 1}, Host: HostLoad{CPUs: 2, BusyCores: 1.9}},
		limitBroker:    {Offered: 1000, Records: 700, Requests: 1e6, Broker: &BrokerCost{Cores: 1}, Host: HostLoad{CPUs: 2, BusyCores: 1.9}},
		limitGenerator: {Broker: &BrokerCost{Cores: 0.6}, Generator: GeneratorCost{Cores: 1.2}, Host: HostLoad{CPUs: 2, BusyCores: 1.9}},
		limitHost: {Broker: &BrokerCost{Cores: 0.5}, Generator: GeneratorCost{Cores: 0.3},
			Host: HostLoad{CPUs: 2, BusyCores: 1.9, OtherCores: 1}},
		limitLatency: {Broker: &BrokerCost{Cores: 0.5}, Generator: GeneratorCost{Cores: 0.4}, Host: HostLoad{CPUs: 2, BusyCores: 1}},
		limitUnknown: {Generator: GeneratorCost{Cores: 0.4}, Host: HostLoad{CPUs: 2, BusyCores: 1}},
	} {
		if got := res.limit(spec); got != want {
			t.Errorf("got %s, want %s: %+v", got, want, res)
		}
	}
	saturated := &RunResult{Broker: &BrokerCost{Cores: 1.3}, Generator: GeneratorCost{Cores: 0.6}, Host: HostLoad{CPUs: 2, BusyCores: 1.95}}
	if got := saturated.limit(spec); got != limitBroker {
		t.Errorf("broker at 1.3 and generator at 0.6 of 2 cores: %s", got)
	}
	runs := []*RunResult{{Limit: "host"}, {Limit: "broker"}, {Limit: "broker"}}
	if got := commonLimit(runs); got != "broker" {
		t.Error(got)
	}
	remote := &RunResult{Generator: GeneratorCost{Cores: 3.6, CPUs: 4}, Host: HostLoad{CPUs: 2}}
	if got := remote.limit(spec); got != limitGenerator {
		t.Errorf("workers at 3.6 of their 4 cores: %s", got)
	}
}

// A target that takes no more than a fraction is not waited for: what was never sent counts as late.
func TestWhatIsNeverSentCountsAsLate(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.onProduce = func(int64) { time.Sleep(20 * time.Millisecond) }
	f.store = func(_ int64, p *fakePartition, _ []byte) int16 {
		p.end++
		return 0
	}
	res := mustRun(t, f, quickSpec(func(s *Spec) {
		s.Conns, s.Partitions, s.Records, s.Consumers, s.ValueBytes = 1, 1, 1, 0, 200_000
		s.Rate.Value, s.Warmup, s.Duration = 400, 100*time.Millisecond, time.Second
	}))
	if res.UnsentRequests < 50 || res.Truth.Faults() != 0 || len(res.Errors) != 0 {
		t.Fatalf("%d unsent, truth %+v, errors %v", res.UnsentRequests, res.Truth, res.Errors)
	}
	if n := res.Response.Count; n < 395 || n > 405 {
		t.Errorf("%d response times, want one for each of 400 requests that were due", n)
	}
	if res.Response.P90 < 900_000 || len(res.Notes) == 0 {
		t.Errorf("response %+v, notes %v", res.Response, res.Notes)
	}
}

func TestDurabilityIsAskedForInTheTargetsOwnWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ class, weir, kafka string }{
		{"commit", "map[fsync.policy:commit]", "map[flush.messages:1]"},
		{"interval", "map[fsync.interval.ms:1000 fsync.policy:interval]", "map[flush.ms:1000]"},
		{"never", "map[fsync.policy:never]", "map[]"},
	} {
		for i, want := range []string{c.weir, c.kafka} {
			f := startFake(t)
			var got string
			f.refuse = func(_ int32, conf map[string]string) int16 {
				if _, weirs := conf["fsync.policy"]; weirs && i == 1 {
					return 40 // INVALID_CONFIG
				}
				got = fmt.Sprint(conf)
				return 0
			}
			mustRun(t, f, quickSpec(func(s *Spec) { s.Fsync, s.Warmup, s.Duration = c.class, 20*time.Millisecond, 50*time.Millisecond }))
			if got != want {
				t.Errorf("%s: topic with %s, want %s", c.class, got, want)
			}
		}
	}
}

// A point that a target refuses is an invalid run, not the end of the series.
func TestARefusedPointDoesNotEndTheSeries(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.refuse = func(partitions int32, _ map[string]string) int16 {
		if partitions == 3 {
			return 37 // INVALID_PARTITIONS
		}
		return 0
	}
	text := strings.ReplaceAll(strings.ReplaceAll(tinyProfile, "partitions: 2", "partitions: 2, 3"), "fsync: commit, never", "fsync: never")
	res := tinySeries(t, text, 1, f.target("a"))
	if len(res.Points) != 2 || len(res.Points[1].Runs) != 1 || res.Points[0].Runs[0].Requests == 0 {
		t.Fatalf("%+v", res.Points)
	}
	if run := res.Points[1].Runs[0]; run.Valid || !hasReason(run, "INVALID_PARTITIONS") {
		t.Errorf("valid %v, %v", run.Valid, run.Reasons)
	}
	if _, err := RenderReport(res); err != nil {
		t.Error(err)
	}
	if err := res.Write(t.TempDir()); err != nil {
		t.Error(err)
	}
	WriteTable(&bytes.Buffer{}, res)
}

// Kafka's controller refuses more than some thousand partitions in one request, so a topic grows in steps.
func TestALargeTopicIsMadeInSteps(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	var asked []int32
	f.refuse = func(partitions int32, _ map[string]string) int16 {
		asked = append(asked, partitions)
		return 0
	}
	a, err := dialAdmin(t.Context(), f.target("a").Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.createOnce(t.Context(), "large", partitionsAtOnce, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.growTopic(t.Context(), "large", 12_000); err != nil {
		t.Fatal(err)
	}
	if want := []int32{5000, 5000, 2000}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v partitions, want %v", asked, want)
	}
	f.refuse = func(int32, map[string]string) int16 { return 44 }
	if err := a.growTopic(t.Context(), "large", 12_000); err == nil || !strings.Contains(err.Error(), "POLICY_VIOLATION") {
		t.Errorf("growing a topic that the target refuses to grow: %v", err)
	}
}

func TestPayloadOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := newPayloadSource("file:"+path, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 14)
	src.fill(got)
	if string(got) != "01234567890123" {
		t.Errorf("%q: the file does not go round", got)
	}
	if src.fill(got[:4]); string(got[:4]) != "4567" {
		t.Errorf("%q: the next value does not go on where the last one ended", got[:4])
	}
	p, err := ParseProfile("x.profile", strings.NewReader("payload: file:"+path+"\nvalue_bytes: 100\n"))
	if err != nil {
		t.Fatal(err)
	}
	points, _ := p.Points()
	templates, err := newTemplates(&points[0].Spec)
	if err != nil || !bytes.Contains(templates[0].batch, []byte("0123456789012")) {
		t.Errorf("the file is not in the batch (%v)", err)
	}
	if _, err := newPayloadSource("file:/nowhere", 1); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Error(err)
	}
}

func TestTheMostFrequentReasonIsNamed(t *testing.T) {
	run := func(reasons ...string) *RunResult { return &RunResult{Valid: len(reasons) == 0, Reasons: reasons} }
	r := &Results{Points: []*PointResult{{Runs: []*RunResult{run("generator-bound: lag of 5", "host disturbed: 0.4"), run("host disturbed: 0.5")}}}}
	if runs, valid, reason := r.CountValid(); runs != 2 || valid != 0 || reason != "host disturbed: 0.4" {
		t.Errorf("%d runs, %d valid, %q", runs, valid, reason)
	}
	busy := &Results{Points: []*PointResult{{Runs: []*RunResult{run("host disturbed: 0.1 cores stolen", "host disturbed: 1.1 cores busy"), run("host disturbed: 1.25 cores busy")}}}}
	if _, _, reason := busy.CountValid(); reason != "host disturbed: 1.1 cores busy" {
		t.Errorf("of two reasons of one rule: %q", reason)
	}
	r.Points[0].Runs = append(r.Points[0].Runs, run())
	if _, valid, _ := r.CountValid(); valid != 1 {
		t.Errorf("%d valid", valid)
	}
}

func TestLiveView(t *testing.T) {
	p := SeriesProgress{Progress: Progress{Target: "weir", Step: "measure", Elapsed: time.Second, Total: 2 * time.Second, Rate: 20_000, Bytes: 20e6,
		P99: 3 * time.Millisecond}, Label: "acks=1", Run: 2, Runs: 4, TimeLeft: 90 * time.Second}
	var plain, term bytes.Buffer
	v := NewLiveView(&plain, false)
	v.Show(p)
	v.Show(p) // the same run: no further line
	if got := plain.String(); got != "run 2 of 4: weir acks=1, about 1m30s left\n" {
		t.Errorf("%q", got)
	}
	v = NewLiveView(&term, true)
	v.Show(p)
	v.Clear()
	for _, want := range []string{"[#######.............]", "2/4", "20.0k rec/s", "20.0 MB/s", "p99 3.00 ms", "1m30s left", "\r\x1b[K"} {
		if !strings.Contains(term.String(), want) {
			t.Errorf("%q lacks %q", term.String(), want)
		}
	}
}

func TestWorkersCostsAndHostsAreJudged(t *testing.T) {
	pool := &workerPool{addrs: []string{"far:1", "here:1"}}
	r := newRun(&AddressTarget{name: "x", addr: "127.0.0.1:1", pid: 1 << 30}, testSpec(nil), nil)
	before, after := &workerCosts{}, &workerCosts{}
	far := &workerPart{Boot: "another", Host: HostLoad{CPUs: 4, StealCores: 1}, GCs: 2, GCMaxUS: 900, After: workerTotals{CPU: 7}}
	here := &workerPart{Boot: bootID(), Host: HostLoad{CPUs: 2, OtherCores: 2}, GCs: 1, GCMaxUS: 100, Before: workerTotals{CPU: 1}, After: workerTotals{CPU: 3}}
	reasons := append(pool.addCosts(r, far, "far:1", before, after), pool.addCosts(r, here, "here:1", before, after)...)
	if len(reasons) != 1 || !slices.ContainsFunc(reasons, func(s string) bool { return strings.Contains(s, "worker far:1: 1.00 of 4 cores were stolen") }) {
		t.Errorf("%q", reasons)
	}
	if r.workerCPUs != 4 || after.gcs != 3 || after.gcMaxUS != 900 || after.here-before.here != 2 {
		t.Errorf("cores %d, costs %+v", r.workerCPUs, after)
	}
	from, to := totals{workers: before}, totals{workers: after}
	to.host.busy, to.host.others = 2.5, 2.2 // 2 s of them the worker's here
	if l := hostLoad(&from, &to, 1); l.OtherCores < 0.19 || l.OtherCores > 0.51 {
		t.Errorf("%+v: the worker on this host counts as something else", l)
	}
}
