package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	rotRecords      = 20 // of a batch
	rotBatches      = 24 // of a partition
	rotSegmentBytes = 1 << 20
)

// rotTemplate makes a data directory with a topic of two partitions of three segments each, all of it fsynced. It is stopped cleanly, or
// killed when a checkpoint covers everything.
func rotTemplate(t *testing.T, clean bool) string {
	t.Helper()
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "topic", "create", "rot", "--partitions", "2", "--set", fmt.Sprint("segment.bytes=", rotSegmentBytes), "--brokers", s.address)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(512<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
	defer cancel()
	for partition := range int32(2) {
		for batch := range rotBatches {
			var records []*kgo.Record
			for i := range rotRecords {
				value := rotValue(partition, int64(batch*rotRecords+i))
				records = append(records, &kgo.Record{Topic: "rot", Partition: partition, Value: []byte(value)})
			}
			if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if clean {
		s.stop()
		return dir
	}
	point := fmt.Sprintf("rot 0 %d\n", rotRecords*rotBatches)
	eventually(t, func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "recovery-point-offset-checkpoint")) // it may not be there yet
		return strings.Contains(string(b), point)
	}, "a checkpoint of everything")
	s.kill()
	return dir
}

// rotValue is the value of the record at an offset: 5000 bytes that no other record has.
func rotValue(partition int32, offset int64) string {
	return strings.Repeat(fmt.Sprintf("partition %d offset %d;", partition, offset), 500)[:5000]
}

// rotDir is a copy of a template, to be damaged.
type rotDir struct {
	t    *testing.T
	path string
}

func (d *rotDir) file(name string) string { return filepath.Join(d.path, name) }

// segments are the paths of partition 0's segments, the oldest first.
func (d *rotDir) segments() []string {
	d.t.Helper()
	paths, err := filepath.Glob(d.file("rot-0/*.log"))
	if err != nil || len(paths) != 3 {
		d.t.Fatalf("segments %q, %v: want three", paths, err)
	}
	return paths
}

// change rewrites a file in place.
func (d *rotDir) change(path string, change func(b []byte) []byte) {
	d.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	after := change(bytes.Clone(b))
	if bytes.Equal(after, b) {
		d.t.Fatalf("%s: nothing was damaged", path)
	}
	if err := os.WriteFile(path, after, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// flip flips a bit.
func (d *rotDir) flip(path string, pos int) {
	d.t.Helper()
	d.change(path, func(b []byte) []byte { b[pos] ^= 0x10; return b })
}

// zero puts zeros over n bytes.
func (d *rotDir) zero(path string, pos, n int) {
	d.t.Helper()
	d.change(path, func(b []byte) []byte { clear(b[pos : pos+n]); return b })
}

// setPoint gives partition 0 an older recovery point, as a crash a moment earlier would have left it.
func (d *rotDir) setPoint(offset int64) {
	d.t.Helper()
	d.change(d.file("recovery-point-offset-checkpoint"), func(b []byte) []byte {
		return []byte(strings.Replace(string(b), fmt.Sprintf("rot 0 %d\n", rotRecords*rotBatches), fmt.Sprintf("rot 0 %d\n", offset), 1))
	})
}

// rotBatch is where a batch lies.
type rotBatch struct{ offset, pos, end int64 }

// batches walks over the batches of a segment.
func (d *rotDir) batches(path string) (batches []rotBatch) {
	d.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	for pos := int64(0); pos < int64(len(b)); {
		end := pos + 12 + int64(binary.BigEndian.Uint32(b[pos+8:]))
		batches = append(batches, rotBatch{offset: int64(binary.BigEndian.Uint64(b[pos:])), pos: pos, end: end})
		pos = end
	}
	return batches
}

// read reads a partition from an offset on up to its end or the first error. Every record has to be the one that was written.
func (d *rotDir) read(address string, partition int32, from int64) (end int64, err error) {
	d.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.KeepRetryableFetchErrors(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"rot": {partition: kgo.NewOffset().At(from)}}))
	if err != nil {
		d.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
	defer cancel()
	end = from
	for {
		fetches := client.PollFetches(ctx)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			d.t.Fatalf("partition %d: nothing after offset %d, and no error", partition, end)
		}
		var mark int64
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			mark = p.HighWatermark
			for _, r := range p.Records {
				if r.Offset != end {
					d.t.Fatalf("partition %d: offset %d follows %d", partition, r.Offset, end-1)
				}
				if end < rotRecords*rotBatches && string(r.Value) != rotValue(partition, end) {
					d.t.Fatalf("partition %d offset %d: served %.80q", partition, r.Offset, r.Value)
				}
				end++
			}
			if p.Err != nil {
				err = p.Err
			}
		})
		if err != nil || end >= mark && mark > 0 {
			return end, err
		}
	}
}

// produce writes one record and returns the error.
func (d *rotDir) produce(address string, partition int32) error {
	d.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(0),
		kgo.DisableIdempotentWrite(), kgo.ProduceRequestTimeout(10*time.Second))
	if err != nil {
		d.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
	defer cancel()
	return client.ProduceSync(ctx, &kgo.Record{Topic: "rot", Partition: partition, Value: []byte("more")}).FirstErr()
}

// others: a fault in partition 0 does not touch partition 1.
func (d *rotDir) others(s *server) {
	d.t.Helper()
	if end, err := d.read(s.address, 1, 0); err != nil || end != rotRecords*rotBatches {
		d.t.Errorf("the other partition: read up to %d, %v", end, err)
	}
	if err := d.produce(s.address, 1); err != nil {
		d.t.Errorf("the other partition takes no records: %v", err)
	}
	must(d.t, "", "topic", "create", "another", "--brokers", s.address)
}

// dumped: `weir dump` shows a fault of a file at a position. A negative position is any.
func (d *rotDir) dumped(path string, pos int64) {
	d.t.Helper()
	out, _, status := run(d.t, "", "dump", path)
	want := "corrupt at byte "
	if pos >= 0 {
		want = fmt.Sprintf("corrupt at byte %d:", pos)
	}
	if status != 1 || !strings.Contains(out, want) {
		d.t.Errorf("weir dump: exit status %d, want 1 and %q\n%s", status, want, out)
	}
}

// told: a line of the log names the file and the position, and what else is given.
func (d *rotDir) told(s *server, words ...string) {
	d.t.Helper()
	for line := range strings.Lines(s.log.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return
		}
	}
	d.t.Errorf("no line of the log has all of %q\n%s", words, s.log)
}
