package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/bench"
)

var slowDiskDuration = flag.Duration("slow-disk-duration", 5*time.Second, "how long BenchmarkGroupCommitOnASlowDisk measures each point")

// BenchmarkGroupCommitOnASlowDisk asks a broker in a process of its own, whose fdatasync calls strace makes longer, for durable acknowledgements of 1 KiB
// with one request in flight for each producer, and holds them against what the same disk gives without a broker: disk-p50-ms and disk-p99-ms are
// weir doctor's, under the same strace; bound/s is as many appends as there are producers for each of those p50; %bound is what share of it was
// acknowledged, and p99/disk-p99 how much longer an acknowledgement takes than an fdatasync.
func BenchmarkGroupCommitOnASlowDisk(b *testing.B) {
	if _, err := exec.LookPath("strace"); err != nil {
		b.Skip("making fdatasync slower needs strace")
	}
	for _, delay := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond} {
		dir := b.TempDir()
		p50, p99 := slowDisk(b, delay, dir)
		s := serveWith(b, slowed(delay), filepath.Join(dir, "data"))
		for _, producers := range []int{1, 8, 32, 128} {
			b.Run(fmt.Sprintf("delay=%s/producers=%d", delay, producers), func(b *testing.B) {
				var r *bench.RunResult
				for b.Loop() {
					r = groupCommit(b, s, producers)
				}
				bound := float64(producers) / p50.Seconds()
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(r.Records, "acks/s")
				b.ReportMetric(bound, "bound/s")
				b.ReportMetric(100*r.Records/bound, "%bound")
				b.ReportMetric(r.Broker.RecordsPerFlush, "acks/fsync")
				b.ReportMetric(float64(p50.Microseconds())/1000, "disk-p50-ms")
				b.ReportMetric(float64(p99.Microseconds())/1000, "disk-p99-ms")
				b.ReportMetric(r.Response.P50/1000, "p50-ms")
				b.ReportMetric(r.Response.P99/1000, "p99-ms")
				b.ReportMetric(r.Response.P99/float64(p99.Microseconds()), "p99/disk-p99")
			})
		}
		s.kill()
	}
}

// slowed runs a command with a pause after each fdatasync, in the thread that made it. strace runs beside the command, which so is the process that
// was started, and sees no other system calls.
func slowed(delay time.Duration) func(args []string) []string {
	return func(args []string) []string {
		if delay == 0 {
			return args
		}
		inject := fmt.Sprintf("inject=fdatasync:delay_exit=%d", delay.Microseconds())
		return append([]string{"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync", "-e", inject, "--"}, args...)
	}
}

// slowDisk is what weir doctor says of an fdatasync.
func slowDisk(b *testing.B, delay time.Duration, dir string) (p50, p99 time.Duration) {
	b.Helper()
	out, _ := wrapped(weir(b, "doctor", "--data-dir", dir, "--json"), slowed(delay)).Output() // its status is about all checks
	var checks []finding
	if err := json.Unmarshal(out, &checks); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, c := range checks {
		if c.Check == "fdatasync" {
			var p [2]string
			if _, err := fmt.Sscanf(strings.ReplaceAll(c.Found, ",", ""), "4 KiB: p50 %s p99 %s", &p[0], &p[1]); err != nil {
				b.Fatalf("%q: %v", c.Found, err)
			}
			var err50, err99 error
			p50, err50 = time.ParseDuration(p[0])
			p99, err99 = time.ParseDuration(p[1])
			if err50 == nil && err99 == nil {
				return p50, p99
			}
		}
	}
	b.Fatalf("no fdatasync among the checks:\n%s", out)
	return 0, 0
}

// groupCommit lets producers write to one partition, each with one request of one record in flight.
func groupCommit(b *testing.B, s *server, producers int) *bench.RunResult {
	b.Helper()
	out := b.TempDir()
	profile := filepath.Join(out, "slow-disk.profile")
	text := fmt.Sprintf("title: group commit on a slow disk\nrepeats: 1\nprewarm: 1s\nacks: 1\nfsync: commit\nvalue_bytes: 1KiB\nbatch_records: 1\npartitions: 1\n"+
		"connections: %d\nin_flight: 1\nrate: max\nwarmup: 1s\nduration: %s\n", producers, *slowDiskDuration)
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	target := fmt.Sprintf("slow=%s,pid=%d", s.address, s.cmd.Process.Pid)
	stdout, stderr, status := run(b, "", "bench", "run", profile, "--target", target, "--json", "--out", filepath.Join(out, "results"))
	if status != 0 && status != benchInvalidStatus {
		b.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	var res bench.Results
	if err := json.Unmarshal([]byte(stdout), &res); err != nil {
		b.Fatalf("%v\n%s", err, stdout)
	}
	r := res.Points[0].Runs[0]
	if len(r.Errors) > 0 || res.Faults != 0 || r.Broker == nil {
		b.Fatalf("errors %v, %d faults, broker %v", r.Errors, res.Faults, r.Broker)
	}
	if !r.Valid {
		b.Logf("INVALID: %s", strings.Join(r.Reasons, "; "))
	}
	return r
}
