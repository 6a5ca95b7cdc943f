package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func TestReadBoundsAndLimits(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer closeTestStore(t, s)
	cfg := neverSync()
	cfg.SegmentBytes, cfg.IndexIntervalBytes = 3000, 300
	l := createTestLog(t, s, testTP, cfg)
	var batches [][]byte
	for i := range 50 {
		b := testBatch(3, 10+i, 1)
		mustAppend(t, l, b)
		batches = append(batches, b)
	}
	for offset := range int64(150) {
		i := int(offset / 3)
		for _, limit := range []int64{1, int64(len(batches[i])), int64(len(batches[i])) + 1, 1000, 100_000} {
			res, err := l.Read(offset, ReadOptions{MaxBytes: limit, MinOneBatch: true})
			must(t, err)
			got, err := spanBytes(&res)
			must(t, err)
			n := 1
			for size := int64(len(batches[i])); i+n < len(batches) && size+int64(len(batches[i+n])) <= limit; n++ {
				size += int64(len(batches[i+n]))
			}
			if !bytes.Equal(got, bytes.Join(batches[i:i+n], nil)) || res.NextOffset != int64(3*(i+n)) || res.Bytes != int64(len(got)) {
				t.Fatalf("read at %d of %d bytes: got %d bytes up to %d, want %d batches", offset, limit, len(got), res.NextOffset, n)
			}
		}
	}
	res, err := l.Read(0, ReadOptions{MaxBytes: 10})
	if err != nil || len(res.Spans) != 0 {
		t.Fatalf("a batch above MaxBytes without MinOneBatch: %d spans, %v", len(res.Spans), err)
	}
	res, err = l.Read(150, ReadOptions{MaxBytes: 1000, MinOneBatch: true})
	if err != nil || len(res.Spans) != 0 || res.HighWatermark != 150 {
		t.Fatalf("at the log end: %+v, %v", res, err)
	}
	for _, offset := range []int64{-1, 151} {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 1000})
		wantErr(t, err, ErrOffsetOutOfRange)
		if res.HighWatermark != 150 {
			t.Fatalf("out of range result lacks the offsets: %+v", res)
		}
	}
}

// TestCommitHidesWhatIsNotDurable: under commit nobody but the writer sees what a power cut could take back.
func TestCommitHidesWhatIsNotDurable(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, testBatch(2, 50, 1))
	waitDurable(t, l, 2)
	release := make(chan struct{})
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(vfs.Op, string) { <-release }})
	res := mustAppend(t, l, testBatch(2, 50, 1))
	if o := l.Offsets(); o.LogEnd != 4 || o.HighWatermark != 2 || o.Durable != 2 || res.EndOffset != 4 {
		t.Fatalf("offsets before the fsync: %+v", o)
	}
	for _, isolation := range []Isolation{ReadUncommitted, ReadCommitted, ReadLogEnd} {
		if _, next, _ := checkBatches(t, readAll(t, l, 0, ReadOptions{Isolation: isolation})); next != 2 {
			t.Fatalf("isolation %d reads up to %d", isolation, next)
		}
	}
	if _, next, _ := checkBatches(t, readAll(t, l, 0, ReadOptions{Isolation: ReadAll})); next != 4 {
		t.Fatalf("the writer reads up to %d", next)
	}
	woken := make(chan error, 1)
	if !l.Watch(&Waiter{Offset: 4, Wake: func(err error) { woken <- err }}) {
		t.Fatal("not watched")
	}
	remove()
	close(release)
	must(t, testkit.Receive(t, "high watermark 4", woken))
	if _, next, _ := checkBatches(t, readAll(t, l, 0, ReadOptions{})); next != 4 {
		t.Fatalf("reads up to %d after the fsync", next)
	}
	closeTestStore(t, s)
}

// OnWoken comes once for all waiters that an append reached, after they were told, and not at all when there was none.
func TestOnWokenComesAfterAllWakes(t *testing.T) {
	var got []string
	o := testStoreOptions(vfs.NewMem(vfs.MemOptions{}))
	o.OnWoken = func() { got = append(got, "all") }
	s := openTestStore(t, o)
	l := createTestLog(t, s, testTP, neverSync())
	mustAppend(t, l, testBatch(1, 10, 1))
	for range 20 {
		if !l.Watch(&Waiter{Offset: 2, Wake: func(error) { got = append(got, "one") }}) {
			t.Fatal("not watched")
		}
	}
	mustAppend(t, l, testBatch(1, 10, 1))
	if want := append(slices.Repeat([]string{"one"}, 20), "all"); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	closeTestStore(t, s)
}

func TestWaiters(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	l := createTestLog(t, s, testTP, neverSync())
	var got []string
	watch := func(name string, offset int64) *Waiter {
		w := &Waiter{Offset: offset, Wake: func(err error) { got = append(got, fmt.Sprint(name, " ", err)) }}
		if !l.Watch(w) {
			t.Fatalf("%s was not watched", name)
		}
		return w
	}
	watch("one", 1)
	two := watch("two", 2)
	three := watch("three", 3)
	if !l.Unwatch(two) || l.Unwatch(two) {
		t.Fatal("unwatch")
	}
	mustAppend(t, l, testBatch(1, 10, 1))
	if !slices.Equal(got, []string{"one <nil>"}) {
		t.Fatalf("woken: %q", got)
	}
	if l.Watch(&Waiter{Offset: 1, Wake: func(error) { t.Error("woken") }}) {
		t.Fatal("watched an offset that is reached")
	}
	mustAppend(t, l, testBatch(5, 10, 1))
	if l.Unwatch(three) || len(got) != 2 {
		t.Fatalf("woken: %q", got)
	}
	// A waiter may be used again, and is told when its records are truncated or the log is deleted.
	three.Offset = 7
	if !l.Watch(three) {
		t.Fatal("not watched again")
	}
	must(t, l.TruncateTo(1))
	if len(got) != 3 || !bytes.Contains([]byte(got[2]), []byte("out of range")) {
		t.Fatalf("woken: %q", got)
	}
	watch("four", 100)
	must(t, s.DeleteLog(testTP))
	if len(got) != 4 || !bytes.Contains([]byte(got[3]), []byte("closed")) {
		t.Fatalf("woken: %q", got)
	}
	if l.Watch(three) {
		t.Fatal("a deleted log was watched")
	}
	_, err := l.Append(testBatch(1, 10, 1), AppendOptions{})
	wantErr(t, err, ErrClosed)
	_, err = l.Read(0, ReadOptions{MaxBytes: 10})
	wantErr(t, err, ErrClosed)
	closeTestStore(t, s)
}

// TestOffsetForTimestamp compares searches by time with a walk over all records, for times that rise and fall.
func TestOffsetForTimestamp(t *testing.T) {
	seed := testkit.Seed(t, 11)
	for run := range 20 {
		rng := testkit.Rand(seed + uint64(run))
		fsys := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, testStoreOptions(fsys))
		cfg := neverSync()
		cfg.SegmentBytes, cfg.IndexIntervalBytes = 2000, []int64{-1, 500, 4096}[run%3]
		l := createTestLog(t, s, testTP, cfg)
		type rec struct{ offset, ts int64 }
		var all []rec
		for range 80 {
			b := record.NewBuilder()
			for range 1 + rng.IntN(4) {
				ts := int64(len(all)) * 3 / 2
				if run%2 == 0 {
					ts = max(0, ts+int64(rng.IntN(60)-30))
				}
				b.Append(ts, nil, make([]byte, rng.IntN(80)))
				all = append(all, rec{int64(len(all)), ts})
			}
			mustAppend(t, l, b.Finish(nil))
		}
		if run%4 == 3 {
			closeTestStore(t, s)
			s = openTestStore(t, testStoreOptions(fsys))
			l = createTestLog(t, s, testTP, cfg)
		}
		start := int64(0)
		if run%5 == 4 {
			start = 40
			_, err := l.DeleteRecords(start)
			must(t, err)
		}
		for ts := int64(-2); ts < 320; ts += 3 {
			want := rec{-1, -1}
			for _, r := range all {
				if r.offset >= start && r.ts >= ts {
					want = r
					break
				}
			}
			got, err := l.OffsetForTimestamp(ts, ReadUncommitted)
			must(t, err)
			if got.Offset != want.offset || got.Timestamp != want.ts || got.Found != (want.offset >= 0) {
				t.Fatalf("seed %d run %d: time %d: got %+v, want %+v", seed, run, ts, got, want)
			}
		}
		want := rec{-1, -1}
		for _, r := range all {
			if r.offset >= start && r.ts > want.ts {
				want = r
			}
		}
		got, err := l.MaxTimestampOffset()
		must(t, err)
		if got.Offset != want.offset || got.Timestamp != want.ts {
			t.Fatalf("seed %d run %d: max timestamp: got %+v, want %+v", seed, run, got, want)
		}
		closeTestStore(t, s)
	}
}

func TestTransactionsBoundReads(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	cfg := neverSync()
	cfg.SegmentBytes = 400
	l := createTestLog(t, s, testTP, cfg)
	marker := func(id int64, commit bool) {
		t.Helper()
		_, err := l.Append(record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: commit, ProducerID: id, CoordinatorEpoch: 1, TimestampMs: 5}), AppendOptions{Origin: OriginInternal})
		must(t, err)
	}
	stable := func(want int64) {
		t.Helper()
		if o := l.Offsets(); o.LastStable != want {
			t.Fatalf("last stable offset: got %d, want %d (%+v)", o.LastStable, want, o)
		}
	}
	mustAppend(t, l, testBatch(2, 20, 1))              // 0, 1
	mustAppend(t, l, producerTestBatch(1, 0, 0, true)) // 2
	mustAppend(t, l, producerTestBatch(2, 0, 0, true)) // 3
	mustAppend(t, l, testBatch(1, 20, 1))              // 4
	stable(2)
	marker(2, false) // 5: aborts 3
	stable(2)
	res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
	must(t, err)
	res.Release()
	if res.NextOffset != 2 || len(res.Aborted) != 0 {
		t.Fatalf("read committed: %+v", res)
	}
	marker(1, true) // 6
	stable(7)
	check := func() {
		t.Helper()
		res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
		must(t, err)
		res.Release()
		if res.NextOffset != 7 || len(res.Aborted) != 1 || res.Aborted[0].ProducerID != 2 || res.Aborted[0].FirstOffset != 3 {
			t.Fatalf("read committed: next %d, aborted %+v", res.NextOffset, res.Aborted)
		}
	}
	check()
	mustAppend(t, l, producerTestBatch(1, 0, 1, true)) // 7 stays open
	stable(7)
	for _, clean := range []bool{false, true, false} {
		if clean {
			closeTestStore(t, s)
		} else {
			s.crash()
		}
		s = openTestStore(t, testStoreOptions(fsys))
		l = createTestLog(t, s, testTP, cfg)
		stable(7)
		check()
	}
	must(t, l.TruncateTo(5))
	stable(2)
	marker(2, true) // 5
	marker(1, true) // 6
	stable(7)
	res, err = l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
	must(t, err)
	res.Release()
	if len(res.Aborted) != 0 {
		t.Fatalf("a truncated abort is still there: %+v", res.Aborted)
	}
	closeTestStore(t, s)
}

func TestIdempotence(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer closeTestStore(t, s)
	l := createTestLog(t, s, testTP, neverSync())
	for seq := range int32(8) {
		mustAppend(t, l, producerTestBatch(1, 0, seq, false))
	}
	res := mustAppend(t, l, producerTestBatch(1, 0, 5, false))
	if !res.Duplicate || res.BaseOffset != 5 || res.LastOffset != 5 || res.EndOffset != 6 {
		t.Fatalf("repeat: %+v", res)
	}
	_, err := l.Append(producerTestBatch(1, 0, 10, false), AppendOptions{})
	wantErr(t, err, ErrOutOfOrderSequence)
	mustAppend(t, l, producerTestBatch(1, 1, 0, false))
	_, err = l.Append(producerTestBatch(1, 0, 8, false), AppendOptions{})
	wantErr(t, err, ErrInvalidProducerEpoch)
	if end := l.Offsets().LogEnd; end != 9 {
		t.Fatalf("log end: got %d, want 9", end)
	}
}

func TestRefusedBatches(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer closeTestStore(t, s)
	now := time.Now().UnixMilli()
	cfg := neverSync()
	cfg.MessageBytesMax, cfg.TimestampAfterMaxMs, cfg.TimestampBeforeMaxMs = 2000, 3_600_000, 3_600_000
	l := createTestLog(t, s, testTP, cfg)
	compacted := cfg
	compacted.Cleanup = CleanupCompact
	c := createTestLog(t, s, TopicPartition{"c", 0}, compacted)
	noKey := record.NewBuilder()
	noKey.Append(now, nil, []byte("v"))
	keyless := noKey.Finish(nil)
	with := func(pos int, value byte, fixCRC bool) []byte {
		b := record.Batch(testBatch(1, 10, now))
		b[pos] = value
		if fixCRC {
			b.SetCRC()
		}
		return b
	}
	for name, x := range map[string]struct {
		log   *Log
		batch []byte
		want  error
	}{
		"nothing":         {l, nil, ErrInvalidRecord},
		"truncated":       {l, testBatch(1, 10, now)[:70], ErrCorrupt},
		"wrong crc":       {l, with(70, 0xff, false), ErrCorrupt},
		"old magic":       {l, with(record.PosMagic, 1, true), ErrUnsupportedFormat},
		"unknown codec":   {l, with(record.PosAttributes+1, 7, true), ErrUnsupportedCodec},
		"too large":       {l, testBatch(3, 900, now), ErrTooLarge},
		"future":          {l, testBatch(1, 10, now+7_200_000), ErrInvalidTimestamp},
		"past":            {l, testBatch(1, 10, now-7_200_000), ErrInvalidTimestamp},
		"control":         {l, record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: true, ProducerID: 1, CoordinatorEpoch: 1, TimestampMs: now}), ErrInvalidRecord},
		"no key":          {c, keyless, ErrInvalidRecord},
		"lying count":     {l, with(record.PosRecordCount+3, 9, true), ErrInvalidRecord},
		"several, second": {l, append(testBatch(1, 10, now), with(70, 0xff, false)...), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := x.log.Append(x.batch, AppendOptions{})
			if !errors.Is(err, x.want) && !(name == "lying count" && errors.Is(err, ErrCorrupt)) {
				t.Fatalf("got %v, want %v", err, x.want)
			}
			if end := x.log.Offsets().LogEnd; end != 0 {
				t.Fatalf("log end moved to %d", end)
			}
		})
	}
	mustAppend(t, l, keyless)
	if _, err := l.Append(testBatch(1, 10, now), AppendOptions{LeaderEpoch: 3}); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append(testBatch(1, 10, now), AppendOptions{LeaderEpoch: 2})
	wantErr(t, err, ErrStaleLeaderEpoch)
	if epoch, end := l.EndOffsetForEpoch(0); epoch != 0 || end != 1 {
		t.Fatalf("end of epoch 0: got %d at %d, want 0 at 1", epoch, end)
	}
}

func TestLogAppendTime(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer closeTestStore(t, s)
	cfg := neverSync()
	cfg.TimestampType = record.LogAppendTime
	l := createTestLog(t, s, testTP, cfg)
	res := mustAppend(t, l, testBatch(2, 10, 5))
	_, _, batches := checkBatches(t, readAll(t, l, 0, ReadOptions{}))
	if b := batches[0]; b.TimestampType() != record.LogAppendTime || b.MaxTimestamp() != res.LogAppendTimeMs || res.LogAppendTimeMs <= 5 {
		t.Fatalf("batch: type %v, time %d; result %+v", b.TimestampType(), b.MaxTimestamp(), res)
	}
}

// TestReplicaAppends: a follower keeps the leader's offsets and epochs, and takes gaps but no step back.
func TestReplicaAppends(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer closeTestStore(t, s)
	l := createTestLog(t, s, testTP, neverSync())
	l.SetReplicated(true)
	batch := func(base int64, epoch int32) []byte {
		b := record.Batch(testBatch(2, 10, 1))
		b.SetBaseOffset(base)
		b.SetPartitionLeaderEpoch(epoch)
		return b
	}
	o := AppendOptions{Origin: OriginReplica}
	for _, b := range [][]byte{batch(0, 1), batch(2, 1), batch(10, 4), batch(math.MaxInt32*2, 5)} {
		if _, err := l.Append(b, o); err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.Append(batch(11, 5), o)
	wantErr(t, err, ErrOffsetOutOfRange)
	if epoch, end := l.EndOffsetForEpoch(3); epoch != 1 || end != 10 {
		t.Fatalf("end of epoch 3: got epoch %d at %d", epoch, end)
	}
	if off := l.Offsets(); off.HighWatermark != 0 {
		t.Fatalf("the high watermark of a replica moved by itself: %+v", off)
	}
	l.SetHighWatermark(4)
	if _, next, _ := checkBatches(t, readAll(t, l, 0, ReadOptions{})); next != 4 {
		t.Fatalf("read up to %d, want 4", next)
	}
	l.SetHighWatermark(2)
	if off := l.Offsets(); off.HighWatermark != 4 {
		t.Fatalf("the high watermark went back: %+v", off)
	}
	if n := len(l.segments()); n != 2 {
		t.Fatalf("segments: got %d, want 2, as offsets are 32 bits in a segment", n)
	}
}
