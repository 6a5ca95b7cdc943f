package main

import (
	"flag"
	"strconv"
	"testing"
	"time"
)

var (
	restartPartitions = flag.Int("restart-partitions", 10_000, "partitions of BenchmarkCleanRestart")
	restartGiB        = flag.Float64("restart-gib", 20, "GiB of log of BenchmarkUncleanRestart")
	manyPartitions    = flag.Int("many-partitions", 100_000, "partitions of BenchmarkPartitionsUnderAFileLimit")
	manyFiles         = flag.Int("many-files", 20_000, "limit of open files of BenchmarkPartitionsUnderAFileLimit")
)

// BenchmarkCleanRestart starts the broker on partitions with a record each after a clean stop: from the start of the process to its ready line.
// s/all-offsets is how long all partitions then take to tell their end offsets, which loads every log; B/partition is the broker's anonymous
// memory, metadata included, beyond that of an empty broker, before that and after; s/stop is the first clean stop, which has everything to fsync.
// cpu-s/start is the CPU time of the start, which other processes of the host disturb less.
func BenchmarkCleanRestart(b *testing.B) {
	n := *restartPartitions
	empty := serve(b, b.TempDir())
	base := empty.residentBytes()
	empty.kill()
	dir := b.TempDir()
	s := serve(b, dir, "--set", "fsync.policy=never")
	must(b, "", "topic", "create", "many", "--partitions", strconv.Itoa(n), "--brokers", s.address)
	oneRecordEach(b, s.address, "many", n)
	begin := time.Now()
	s.stop()
	stop := time.Since(begin)
	for b.Loop() {
		s = serve(b, dir)
		b.StopTimer()
		b.ReportMetric(s.cpuSeconds(), "cpu-s/start")
		b.ReportMetric(float64(s.residentBytes()-base)/float64(n), "B/partition-idle")
		begin = time.Now()
		if got := endOffsets(b, s.address, "many", n); got != int64(n) {
			b.Fatalf("%d records, want %d", got, n)
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/all-offsets")
		b.ReportMetric(float64(s.residentBytes()-base)/float64(n), "B/partition-loaded")
		begin = time.Now()
		s.stop()
		b.ReportMetric(time.Since(begin).Seconds(), "s/stop-again")
		b.StartTimer()
	}
	b.ReportMetric(stop.Seconds(), "s/stop")
}

// BenchmarkUncleanRestart kills the broker in the middle of a GiB of load on top of a log of many GiB, over 40 partitions, and starts it again: from
// the start of the process to its ready line, which comes after recovery.
func BenchmarkUncleanRestart(b *testing.B) {
	const partitions, more = 40, 1 << 30
	dir := b.TempDir()
	total := int64(*restartGiB * (1 << 30))
	s := serve(b, dir)
	must(b, "", "topic", "create", "large", "--partitions", strconv.Itoa(partitions), "--brokers", s.address)
	begin := time.Now()
	writeBytes(b, s.address, "large", partitions, total, s.kill)
	b.Logf("%.1f GiB written in %.0f s", *restartGiB, time.Since(begin).Seconds())
	records := int64(0)
	for _, policy := range []string{"commit", "interval", "never"} {
		b.Run(policy, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := serve(b, dir, "--set", "fsync.policy="+policy)
				writeBytes(b, s.address, "large", partitions, more, s.kill)
				b.StartTimer()
				s = serve(b, dir, "--set", "fsync.policy="+policy)
				b.StopTimer()
				b.ReportMetric(s.cpuSeconds(), "cpu-s/start")
				got := endOffsets(b, s.address, "large", partitions)
				if least := max(records, total/1_000_000) + more/1_000_000; got < least {
					b.Fatalf("%d records are left, at least %d were acknowledged", got, least)
				}
				records = got
				s.kill()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkPartitionsUnderAFileLimit has more partitions than the broker may open files: a record to each, a kill, a start, all end offsets, a record
// to each again. The time is that of the start after the kill, which recovers them all.
func BenchmarkPartitionsUnderAFileLimit(b *testing.B) {
	n, dir := *manyPartitions, b.TempDir()
	start := func() *server { return serveWith(b, underFileLimit(*manyFiles), dir, "--set", "fsync.policy=never") }
	s := start()
	begin := time.Now()
	must(b, "", "topic", "create", "many", "--partitions", strconv.Itoa(n), "--brokers", s.address)
	create := time.Since(begin)
	records := int64(0)
	for b.Loop() {
		b.StopTimer()
		begin = time.Now()
		oneRecordEach(b, s.address, "many", n)
		records += int64(n)
		b.ReportMetric(time.Since(begin).Seconds(), "s/records")
		if got := s.openFiles(); got > *manyFiles {
			b.Errorf("%d open files", got)
		} else {
			b.ReportMetric(float64(got), "files")
		}
		s.kill()
		b.StartTimer()
		s = start()
		b.StopTimer()
		b.ReportMetric(s.cpuSeconds(), "cpu-s/start")
		begin = time.Now()
		if got := endOffsets(b, s.address, "many", n); got != records {
			b.Fatalf("%d records, want %d", got, records)
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/all-offsets")
		b.ReportMetric(float64(s.residentBytes()>>20), "MiB")
		b.StartTimer()
	}
	b.ReportMetric(create.Seconds(), "s/create")
	s.kill()
}
