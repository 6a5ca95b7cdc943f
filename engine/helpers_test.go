package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// testDir is the log directory of tests on a vfs.Mem.
const testDir = "/data"

// testTP is the partition of tests that need one.
var testTP = TopicPartition{Topic: "t", Partition: 0}

// testStoreOptions are options for tests: no background work, quiet, repeatable.
func testStoreOptions(fsys vfs.FS) StoreOptions {
	return StoreOptions{
		FS: fsys, Logger: slog.New(slog.DiscardHandler), Seed: 1, Dirs: []string{testDir}, ClusterID: "test",
		CheckpointInterval: -1, RetentionInterval: -1, DiskCheckInterval: -1, CleanerBackoff: -1, RecoveryThreads: 1,
	}
}

func openTestStore(t testing.TB, o StoreOptions) *Store {
	t.Helper()
	s, err := OpenStore(o)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	return s
}

func closeTestStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatalf("close store: %v", err)
	}
}

func createTestLog(t testing.TB, s *Store, tp TopicPartition, cfg LogConfig) *Log {
	t.Helper()
	l, err := s.CreateLog(tp, TopicID{1}, cfg)
	if err != nil {
		t.Fatalf("create log: %v", err)
	}
	return l
}

// neverSync is a configuration whose high watermark is the log end at once.
func neverSync() LogConfig { return LogConfig{Fsync: ioqueue.PolicyNever} }

// testBatch builds a batch of n records with the given time and values of size bytes.
func testBatch(n, size int, timestampMs int64) []byte {
	b := record.NewBuilder()
	for i := range n {
		b.Append(timestampMs, fmt.Appendf(nil, "key-%d", i), bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	return b.Finish(nil)
}

// producerTestBatch is a batch of one record of an idempotent producer.
func producerTestBatch(id int64, epoch int16, seq int32, transactional bool) []byte {
	b := record.NewBuilder()
	b.SetProducer(id, epoch, seq)
	b.SetTransactional(transactional)
	b.Append(1, []byte("k"), fmt.Appendf(nil, "%d/%d", id, seq))
	return b.Finish(nil)
}

func mustAppend(t testing.TB, l *Log, batch []byte) AppendResult {
	t.Helper()
	res, err := l.Append(batch, AppendOptions{})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return res
}

// readAll returns the bytes of all batches from offset on, with reads of at most maxBytes, and checks that they follow on.
func readAll(t testing.TB, l *Log, offset int64, o ReadOptions) []byte {
	t.Helper()
	data, err := tryReadAll(l, offset, o)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return data
}

func tryReadAll(l *Log, offset int64, o ReadOptions) ([]byte, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	o.MinOneBatch = true
	var out []byte
	for {
		res, err := l.Read(offset, o)
		if err != nil {
			return out, err
		}
		if len(res.Spans) == 0 {
			return out, nil
		}
		data, err := spanBytes(&res)
		if err != nil {
			return out, err
		}
		if res.NextOffset <= offset {
			return out, fmt.Errorf("read at %d did not advance: next %d", offset, res.NextOffset)
		}
		offset = res.NextOffset
		out = append(out, data...)
	}
}

// spanBytes copies the spans of a result and releases it.
func spanBytes(res *ReadResult) ([]byte, error) {
	defer res.Release()
	var out []byte
	for _, sp := range res.Spans {
		b := make([]byte, sp.Len)
		if n, err := sp.File.ReadAt(b, sp.Pos); int64(n) != sp.Len {
			return out, fmt.Errorf("span of %d bytes at %d gave %d: %w", sp.Len, sp.Pos, n, err)
		}
		out = append(out, b...)
	}
	return out, nil
}

// checkBatches verifies that data is whole, valid batches with rising offsets, and returns the first and the next offset.
func checkBatches(t testing.TB, data []byte) (first, next int64, batches []record.Batch) {
	t.Helper()
	first = -1
	for rest := data; len(rest) > 0; {
		b, r, err := record.Next(rest)
		if err != nil {
			t.Fatalf("batch at byte %d of %d: %v", len(data)-len(rest), len(data), err)
		}
		if err := b.CheckCRC(); err != nil {
			t.Fatal(err)
		}
		if first < 0 {
			first = b.BaseOffset()
		} else if b.BaseOffset() < next {
			t.Fatalf("base offset %d after %d", b.BaseOffset(), next)
		}
		next = b.NextOffset()
		batches = append(batches, b)
		rest = r
	}
	return first, next, batches
}

// waitDurable waits until the log is durable up to offset.
func waitDurable(t testing.TB, l *Log, offset int64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("durable offset %d", offset), func() bool { return l.Offsets().Durable >= offset })
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error: got %v, want %v", got, want)
	}
}

var _ io.ReaderAt = (*FileRef)(nil)
var _ clock.Clock = (*clock.Fake)(nil)
