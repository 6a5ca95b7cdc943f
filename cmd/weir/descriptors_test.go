package main

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestManyPartitionsUnderAFileLimit has five times as many partitions as the broker may open files: each takes records and gives them back, before
// and after a kill and a clean stop.
func TestManyPartitionsUnderAFileLimit(t *testing.T) {
	const partitions, limit = 3000, 600
	dir := t.TempDir()
	start := func() *server {
		return serveWith(t, underFileLimit(limit), dir, "--set", "fsync.policy=never", "--set", "log.flush.offset.checkpoint.interval.ms=100")
	}
	s := start()
	must(t, "", "topic", "create", "many", "--partitions", strconv.Itoa(partitions), "--brokers", s.address)
	for round, end := range []func(){func() { s.kill() }, func() { s.stop() }, func() { s.kill() }} {
		oneRecordEach(t, s.address, "many", partitions)
		if got, want := endOffsets(t, s.address, "many", partitions), int64(partitions*(round+1)); got != want {
			t.Fatalf("round %d: the partitions hold %d records, want %d", round, got, want)
		}
		checkOneRecordEach(t, s.address, "many", partitions, round+1)
		if got := s.openFiles(); got < 100 || got > limit {
			t.Errorf("round %d: %d open files, want some hundred, at most %d", round, got, limit)
		}
		if text := s.log.String(); strings.Contains(text, "too many open files") || strings.Contains(text, "offline") {
			t.Fatalf("round %d:\n%s", round, text)
		}
		end()
		s = start()
	}
	if got := endOffsets(t, s.address, "many", partitions); got != 3*partitions {
		t.Errorf("the partitions hold %d records after all, want %d", got, 3*partitions)
	}
	s.kill()
}

// checkOneRecordEach reads a topic to which oneRecordEach wrote so many times.
func checkOneRecordEach(t *testing.T, address, topic string, partitions, times int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	got := make([]int, partitions)
	for left := partitions * times; left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records were not read: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			if string(r.Value) != strconv.Itoa(int(r.Partition)) {
				t.Fatalf("partition %d has %q", r.Partition, r.Value)
			}
			got[r.Partition]++
		})
	}
	for p, n := range got {
		if n != times {
			t.Fatalf("partition %d gave %d records, want %d", p, n, times)
		}
	}
}
