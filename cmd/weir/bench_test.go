package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/bench"
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
	if status != 0 {
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
		{[]string{"compare", "/nowhere.json", "/nowhere.json"}, "/nowhere.json"},
	} {
		_, stderr, status := run(t, "", append([]string{"bench"}, c.args...)...)
		if status != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: status %d, %q; want 2 and %q", c.args, status, stderr, c.want)
		}
	}
}
