package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/bench"
	"github.com/weirmq/weir/scripts/peers"
)

func TestEveryProfileIsValidAndListed(t *testing.T) {
	names := profileNames()
	if len(names) < 8 {
		t.Fatalf("only %v", names)
	}
	out := must(t, "", "bench", "list")
	for _, name := range names {
		p, err := findProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Title == "" || p.About == "" || !strings.Contains(out, name) {
			t.Errorf("%s: title %q, about %q, listed %v", name, p.Title, p.About, strings.Contains(out, name))
		}
		if shown := must(t, "", "bench", "list", "--show", name); !strings.Contains(shown, p.Title) {
			t.Errorf("--show %s does not print the file", name)
		}
	}
}

// The whole path: embedded broker as a child, load on both sides, every record checked, results and report written.
func TestBenchMeasuresAnEmbeddedBroker(t *testing.T) {
	dir := t.TempDir()
	stdout, stderr, status := run(t, "", "bench", "--quick", "--duration", "500ms", "--warmup", "200ms", "--acks", "1", "--fsync", "commit,never",
		"--rate", "500", "--batch-records", "1", "--json", "--out", dir)
	if status != 0 && status != benchInvalidStatus { // the host may be busy
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	var res bench.Results
	if err := json.Unmarshal([]byte(stdout), &res); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if len(res.Points) != 2 || res.Faults != 0 {
		t.Fatalf("%d points, %d faults", len(res.Points), res.Faults)
	}
	for i, policy := range []string{"commit", "never"} {
		r := res.Points[i].Runs[0]
		if r.InForce["fsync.policy"] != policy {
			t.Errorf("in force: %v, want fsync.policy %s", r.InForce, policy)
		}
		if r.Broker == nil || r.Broker.RSSPeakBytes == 0 || r.Requests == 0 || r.Truth.Checked < r.Requests || len(r.Errors) > 0 {
			t.Errorf("%s: broker %+v, requests %d, truth %+v, errors %v", policy, r.Broker, r.Requests, r.Truth, r.Errors)
		}
	}
	for _, name := range []string{"results.json", "report.html"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "report.html")); err != nil {
		t.Fatal(err)
	}
	must(t, "", "bench", "report", dir)
	if _, err := os.Stat(filepath.Join(dir, "report.html")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "results.json")
	if out := must(t, "", "bench", "compare", file, file); !strings.Contains(out, "too few repeats") && !strings.Contains(out, "no valid runs") {
		t.Errorf("comparing one run with itself:\n%s", out)
	}
}

// The topics of an embedded broker lose their files a second after they are deleted, as those of the peers do: with the default a run's files would
// stay in memory for a minute, and be written back during the next runs. The user's own setting goes before that.
func TestTheEmbeddedBrokerRemovesDeletedTopicsSoon(t *testing.T) {
	t.Setenv("BE_WEIR", "1")
	for want, set := range map[string][]string{"1000": nil, "7000": {"log.segment.delete.delay.ms=7000"}} {
		t.Run(want, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
			defer cancel()
			broker := (&benchFlags{dataDir: t.TempDir(), set: set}).embedded("")
			if err := broker.Start(ctx); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := broker.Stop(); err != nil {
					t.Error(err)
				}
			}()
			client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			admin := kadm.NewClient(client)
			if _, err := admin.CreateTopic(ctx, 1, 1, nil, "bench"); err != nil {
				t.Fatal(err)
			}
			configs, err := admin.DescribeTopicConfigs(ctx, "bench")
			if err != nil || len(configs) != 1 || configs[0].Err != nil {
				t.Fatalf("%+v, %v", configs, err)
			}
			got := ""
			for _, config := range configs[0].Configs {
				if config.Key == "file.delete.delay.ms" {
					got = config.MaybeValue()
				}
			}
			if got != want {
				t.Errorf("with %v: file.delete.delay.ms of a topic is %q, want %s", set, got, want)
			}
		})
	}
}

// Every profile must be done in time on a small host, beside Kafka, with memory warmed, and with results kept (9 s for the host's floors).
func TestProfilesFitIntoTheirTime(t *testing.T) {
	const floors = 9 * time.Second
	limits := map[string]time.Duration{"acks-fsync": 13 * time.Minute, "saturation": 8 * time.Minute, "mixed-day": 24 * time.Minute}
	for _, name := range profileNames() {
		p, err := findProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		limit := limits[name]
		if limit == 0 {
			limit = 10 * time.Minute
		}
		_, most := p.Estimate(2, 12<<30)
		if most == 0 || most+floors > limit {
			t.Errorf("%s: up to %v beside Kafka, want at most %v", name, most+floors, limit)
		}
		points, err := p.Points()
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "acks-fsync": // 3 acks x 3 classes x 4 codecs, 2 brokers, 3 repeats: 216 runs of 2.8 s and 2 minutes for the rest make 12
			if len(points) != 36 || p.Repeats != 3 {
				t.Errorf("%s: %d points x %d", name, len(points), p.Repeats)
			}
			if d := points[0].Spec.Warmup + points[0].Spec.Duration; 216*(d+700*time.Millisecond) > 605*time.Second {
				t.Errorf("%s: 216 runs of %v and 0.7 s around each are %v", name, d, 216*(d+700*time.Millisecond))
			}
		case "mixed-day":
			if _, alone := p.Estimate(1, 12<<30); alone > 13*time.Minute || p.Repeats != 1 {
				t.Errorf("%s: up to %v alone, %d repeats", name, alone, p.Repeats)
			}
		default:
			if p.Repeats < 3 && name != "sustained" {
				t.Errorf("%s: %d repeats give no interval", name, p.Repeats)
			}
		}
	}
}

// Kafka must be able to do what the profiles ask for: flush.ms without a flusher, which is its default, does nothing.
func TestKafkaFlushesByTime(t *testing.T) {
	script, err := peers.Files.ReadFile("kafka/kafka.sh")
	if err != nil || !strings.Contains(string(script), "\nlog.flush.scheduler.interval.ms=") {
		t.Errorf("kafka.sh sets no interval of the flusher (%v)", err)
	}
}

func TestBenchStatusOfItsResults(t *testing.T) {
	valid, invalid := &bench.RunResult{Target: "a", Valid: true}, &bench.RunResult{Target: "a", Reasons: []string{"host disturbed: by a neighbour"}}
	results := func(faults int64, runs ...*bench.RunResult) *bench.Results {
		return &bench.Results{Faults: faults, Targets: []bench.TargetInfo{{Name: "a"}}, Points: []*bench.PointResult{{Label: "x", Runs: runs}}}
	}
	for _, c := range []struct {
		res    *bench.Results
		status int
		text   string
	}{
		{results(0, valid, invalid), 0, ""},
		{results(0, invalid, invalid), 4, "all 2 runs are INVALID, most often because of this: host disturbed: by a neighbour"},
		{results(2, invalid), 3, "2 faults"},
		{results(0), 0, ""},
	} {
		cmd := newBenchCmd()
		cmd.SetOut(io.Discard)
		err := (&benchFlags{}).publish(cmd, c.res)
		var exit *exitError
		status := 0
		if errors.As(err, &exit) {
			status = exit.status
		}
		if status != c.status || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("status %d, %v; want %d, %q", status, err, c.status, c.text)
		}
	}
	for _, args := range [][]string{{"bench", "--help"}, {"bench", "run", "--help"}} {
		if out := must(t, "", args...); !strings.Contains(out, "4 when every run is INVALID") {
			t.Errorf("%v does not tell the exit status", args)
		}
	}
}

func TestBenchCompareStatus(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, p99 float64) string {
		point := &bench.PointResult{Label: "x", Spec: map[string]string{"rate": "1000"}}
		for i := range 5 {
			point.Runs = append(point.Runs, &bench.RunResult{Target: "a", Repeat: i, Valid: true,
				Response: &bench.Latency{P50: 10, P99: p99 + float64(i)/10, P999: 300}})
		}
		data, err := json.Marshal(&bench.Results{Schema: bench.ResultsSchema, Targets: []bench.TargetInfo{{Name: "a"}}, Points: []*bench.PointResult{point}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	slow, fast := write("slow.json", 200), write("fast.json", 100)
	if stdout, _, status := run(t, "", "bench", "compare", fast, slow); status != 1 || !strings.Contains(stdout, "worse") {
		t.Errorf("twice the latency: status %d\n%s", status, stdout)
	}
	if stdout, _, status := run(t, "", "bench", "compare", slow, fast); status != 0 || !strings.Contains(stdout, "better") {
		t.Errorf("half the latency: status %d\n%s", status, stdout)
	}
}

func TestBenchUsageErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "mine.profile")
	if err := os.WriteFile(bad, []byte("acks: 1\nrate: quick\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "no-such"}, "acks-fsync"},
		{[]string{"run", bad}, "mine.profile:2: field rate"},
		{[]string{"--acks", "7"}, "field acks"},
		{[]string{"--target", "nonsense"}, "field address"},
		{[]string{"--warm-memory", "much"}, "--warm-memory"},
		{[]string{"--set", "fsync.polcy=never"}, `unknown key "fsync.polcy"; did you mean "fsync.policy"?`},
		{[]string{"run", "acks-fsync", "--set", "fsync.polcy=never"}, `unknown key "fsync.polcy"; did you mean "fsync.policy"?`},
		{[]string{"--set", "zookeeper.connect=x:1"}, "unknown key \"zookeeper.connect\"; `weir config keys` lists"},
		{[]string{"--set", "num.partitions=0"}, `num.partitions="0"`},
		{[]string{"--set", "num.partitions"}, "KEY=VALUE"},
		{[]string{"--set", "num.partitions=2", "--target", "127.0.0.1:1"}, "add --target embedded"},
		{[]string{"compare", "/nowhere.json", "/nowhere.json"}, "/nowhere.json"},
	} {
		_, stderr, status := run(t, "", append([]string{"bench"}, c.args...)...)
		if status != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, %q; want 2 and %q", c.args, status, stderr, c.want)
		}
	}
}
