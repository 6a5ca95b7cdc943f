package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// manyDeadline bounds what the tests and benchmarks with many partitions or many bytes wait for in one step.
const manyDeadline = 20 * time.Minute

// underFileLimit prepares the broker's command to run under a limit of so many open files, soft and hard.
func underFileLimit(limit int) func(args []string) []string {
	return func(args []string) []string {
		return append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(limit)}, args...)
	}
}

// manyClient is a client that writes uncompressed records to the partitions that they name.
func manyClient(tb testing.TB, address string, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()),
		kgo.ProducerBatchMaxBytes(1 << 20), kgo.MaxBufferedRecords(1 << 20)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

// oneRecordEach writes a record to each of a topic's partitions.
func oneRecordEach(tb testing.TB, address, topic string, partitions int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), manyDeadline)
	defer cancel()
	client := manyClient(tb, address)
	defer client.Close()
	const step = 2000
	for from := 0; from < partitions; from += step {
		var records []*kgo.Record
		for p := from; p < min(from+step, partitions); p++ {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(strconv.Itoa(p))})
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			tb.Fatalf("writing to partitions from %d on: %v", from, err)
		}
	}
}

// endOffsets sums the end offsets of a topic, and fails unless it has so many partitions, all of which answer.
func endOffsets(tb testing.TB, address, topic string, partitions int) (sum int64) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), manyDeadline)
	defer cancel()
	client := manyClient(tb, address)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		tb.Fatal(err)
	}
	if got := len(ends[topic]); got != partitions {
		tb.Fatalf("%d partitions answer, want %d", got, partitions)
	}
	ends.Each(func(end kadm.ListedOffset) { sum += end.Offset })
	return sum
}

// writeBytes writes records of a million bytes, each a batch, round the partitions of a topic until so many bytes are acknowledged; then it calls
// then, while more are under way, and returns when that has. Records that fail after that are nobody's concern.
func writeBytes(tb testing.TB, address, topic string, partitions int, bytes int64, then func()) {
	tb.Helper()
	const size, workers = 1_000_000, 4
	ctx, cancel := context.WithTimeout(context.Background(), manyDeadline)
	defer cancel()
	value := []byte(strings.Repeat("0123456789abcdef", size/16))
	var acked, next atomic.Int64
	var over atomic.Bool
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			client := manyClient(tb, address, kgo.MaxBufferedRecords(8), kgo.RecordRetries(0))
			defer client.Close()
			for ctx.Err() == nil {
				r := &kgo.Record{Topic: topic, Partition: int32(next.Add(1) % int64(partitions)), Value: value}
				client.Produce(ctx, r, func(_ *kgo.Record, err error) {
					if err != nil {
						if !over.Load() {
							tb.Errorf("after %d bytes: %v", acked.Load(), err)
							cancel()
						}
						return
					}
					if now := acked.Add(size); now >= bytes && now-size < bytes {
						close(enough)
					}
				})
			}
		})
	}
	select {
	case <-enough:
		over.Store(true)
		then()
	case <-ctx.Done():
		tb.Errorf("%d of %d bytes were acknowledged", acked.Load(), bytes)
	}
	cancel()
	wg.Wait()
	if tb.Failed() {
		tb.FailNow()
	}
}

// openFiles counts the descriptors of a broker.
func (s *server) openFiles() int {
	s.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(names)
}

// residentBytes is the memory of a broker that is not shared with a file.
func (s *server) residentBytes() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " x")[0], 10, 64)
	if err != nil {
		s.t.Fatalf("RssAnon in the status of the broker: %v", err)
	}
	return kib << 10
}

// cpuSeconds is the CPU time that a broker has used, in user and in kernel mode.
func (s *server) cpuSeconds() float64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		s.t.Fatalf("the broker's stat has %d fields behind its name", len(fields))
	}
	ticks := 0.0
	for _, field := range fields[11:13] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100 // USER_HZ
}
