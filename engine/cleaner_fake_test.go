package engine

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// fakeLog is a log without store: segments in directory "p", written directly. It is what the cleaner sees.
type fakeLog struct {
	t          testing.TB
	fs         *vfs.Mem
	cfg        LogConfig
	dir        *partitionDir
	segs       []*segment
	end        int64
	producers  *producerState
	txns       []*txnIndex // by segment
	err        error
	rolls      int
	beforeSwap func()
	logged     strings.Builder
}

func newFakeLog(t testing.TB, fs *vfs.Mem) *fakeLog {
	l := &fakeLog{t: t, fs: fs, cfg: LogConfig{Cleanup: CleanupCompact, SegmentBytes: 2000}.EnsureDefaults()}
	l.must(fs.MkdirAll("p"))
	l.must(fs.SyncDir("."))
	l.dir = &partitionDir{fs: fs, pool: vfs.NewPool(fs, 1000), path: "p"}
	l.producers = newProducerState(producerOptions{FS: fs, Dir: "p"})
	return l
}

func (l *fakeLog) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *fakeLog) Roll() error {
	if n := len(l.segs); n > 0 {
		if l.segs[n-1].size.Load() == 0 {
			return nil
		}
		l.segs[n-1].seal()
		l.must(l.segs[n-1].file.Sync())
		l.must(l.txns[n-1].sync())
	}
	s := newSegment(l.dir, l.end, 0, 200)
	l.must(s.file.create())
	l.must(s.file.Sync())
	s.resetIndexes()
	l.segs = append(l.segs, s)
	l.txns = append(l.txns, newTxnIndex(l.fs, l.dir.join(segmentName(l.end, txnIndexSuffix))))
	l.rolls++
	return nil
}

// append writes a batch that has its offsets.
func (l *fakeLog) append(b record.Batch) {
	if len(l.segs) == 0 {
		l.must(l.Roll())
	}
	s := l.segs[len(l.segs)-1]
	pos := s.size.Load()
	_, err := s.file.WriteAt(b, pos)
	l.must(err)
	s.note(b, pos)
	s.size.Store(pos + int64(len(b)))
	l.end = b.NextOffset()
	p, ok, err := producerBatchOf(b)
	l.must(err)
	if !ok {
		return
	}
	if txn, ended := l.producers.update(p, 0); ended && !txn.Committed {
		l.must(l.txns[len(l.txns)-1].append(txn.AbortedTxn))
	}
}

func (l *fakeLog) TopicPartition() TopicPartition { return TopicPartition{Topic: "p"} }
func (l *fakeLog) Config() *LogConfig             { return &l.cfg }
func (l *fakeLog) Err() error                     { return l.err }
func (l *fakeLog) settleBelow(int64) error        { return nil }
func (l *fakeLog) checkpointDir() string          { return "." }
func (l *fakeLog) ioError(err error) error        { l.err = err; return err }

func (l *fakeLog) cleanerView() (cleanerView, error) {
	n := len(l.segs) - 1
	v := cleanerView{
		sealed: slices.Clone(l.segs[:n]), sealedEnd: l.segs[n].base, activeFirstMs: noTimestamp, lastStable: l.end,
		producers: l.producers.activeProducers(),
	}
	v.logStart = l.segs[0].base
	if l.segs[n].size.Load() > 0 {
		v.activeFirstMs = l.segs[n].firstTimestamp.Load()
	}
	if first, ok := l.producers.firstUnstableOffset(math.MaxInt64); ok {
		v.lastStable = first
	}
	return v, nil
}

func (l *fakeLog) abortedIn(from, to int64) (out []AbortedTxn, err error) {
	for _, x := range l.txns {
		out, _ = x.collect(out, from, to)
	}
	slices.SortFunc(out, func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return out, nil
}

func (l *fakeLog) swapSegments(old []*segment, size int64) error {
	if l.beforeSwap != nil {
		l.beforeSwap()
	}
	at := slices.Index(l.segs, old[0])
	if at < 0 {
		return errCleaningStopped
	}
	if _, err := decideSwap(l.fs, "p", old[0].base); err != nil {
		return err
	}
	if err := completeSwap(l.fs, "p", old); err != nil {
		return err
	}
	s := newSegment(l.dir, old[0].base, size, 200)
	l.segs = slices.Replace(l.segs, at, at+len(old), s)
	l.txns = slices.Replace(l.txns, at, at+len(old), newTxnIndex(l.fs, l.dir.join(segmentName(s.base, txnIndexSuffix))))
	return nil
}

func (l *fakeLog) cleaner(c clock.Clock) *cleaner {
	logger := slog.New(slog.NewTextHandler(&l.logged, nil))
	return newCleaner(cleanerOptions{FS: l.fs, Clock: c, Logger: logger, Logs: func() []cleanerLog { return []cleanerLog{l} }})
}

// cleanAll cleans until there is nothing dirty.
func (l *fakeLog) cleanAll(c *cleaner) (passes int) {
	for c.cleanFilthiest() {
		if len(c.retryAt) > 0 {
			l.t.Fatalf("cleaning failed:\n%s", l.logged.String())
		}
		if passes++; passes > 1000 {
			l.t.Fatal("cleaning does not end")
		}
	}
	return passes
}

// seenRecord is a record as a reader gets it.
type seenRecord struct {
	offset, timestamp int64
	key, value        string
	headers           int
	null              bool // value is null
	committed         bool
}

// readLog reads all segment files of directory "p" in order, as a consumer would: records of aborted transactions are
// told by the transaction indexes and markers. It checks order, CRCs and contents on the way.
func readLog(t testing.TB, fs vfs.FS) (out []seenRecord, batches []record.Batch) {
	t.Helper()
	names, err := fs.List("p")
	if err != nil {
		t.Fatal(err)
	}
	var aborted []AbortedTxn
	for _, name := range names {
		if strings.HasSuffix(name, txnIndexSuffix) {
			x, err := openTxnIndex(fs, "p/"+name)
			if err != nil {
				t.Fatal(err)
			}
			aborted = append(aborted, x.load()...)
		}
	}
	slices.SortFunc(aborted, func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	dropping := map[int64]bool{}
	next := int64(0)
	for _, name := range names {
		base, ok := parseSegmentName(name, logSuffix)
		if !ok {
			continue
		}
		if base < next {
			t.Fatalf("segment %s begins below offset %d, the end of the one before", name, next)
		}
		data, err := readSmallFile(fs, "p/"+name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		s := newScanner(bytesReader(data), name, 0, int64(len(data)), base)
		for s.advance() {
			b := record.Batch(slices.Clone(s.cur))
			if err := b.Validate(record.ValidateOptions{Internal: true, Strict: true}); err != nil {
				t.Fatalf("%s at byte %d: %v", name, s.at, err)
			}
			if b.RecordCount() == 0 && b.MaxTimestamp() != record.NoTimestamp {
				t.Fatalf("batch without records at offset %d has timestamp %d", b.BaseOffset(), b.MaxTimestamp())
			}
			batches = append(batches, b)
			next = b.NextOffset()
			for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
				dropping[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			if b.IsControl() {
				if p, ok, _ := producerBatchOf(b); ok && !p.Commit {
					delete(dropping, b.ProducerID())
				}
				continue
			}
			it := b.Records(nil, 0)
			for it.Next() {
				r := it.Record()
				out = append(out, seenRecord{
					offset: it.Offset(), timestamp: it.Timestamp(), key: string(r.Key), value: string(r.Value), headers: len(r.Headers),
					null: r.Value == nil, committed: !b.IsTransactional() || !dropping[b.ProducerID()],
				})
			}
		}
		if s.err != nil {
			t.Fatal(s.err)
		}
	}
	return out, batches
}

type bytesReader []byte

// ReadAt implements io.ReaderAt.
func (b bytesReader) ReadAt(p []byte, pos int64) (int, error) {
	n := copy(p, b[min(pos, int64(len(b))):])
	if n < len(p) {
		return n, fmt.Errorf("short")
	}
	return n, nil
}

// latest is what the log means: the newest committed value of each key; deleted keys are not in it.
func latest(records []seenRecord) map[string]string {
	m := map[string]string{}
	for _, r := range records {
		switch {
		case !r.committed:
		case r.null:
			delete(m, r.key)
		default:
			m[r.key] = r.value
		}
	}
	return m
}

// fillRandom appends n random batches: few keys, tombstones, idempotent and transactional producers, all codecs.
func (l *fakeLog) fillRandom(r *rand.Rand, n int, nowMs int64) {
	codecs := []compression.Codec{compression.None, compression.None, compression.Lz4, compression.Zstd, compression.Gzip, compression.Snappy}
	for i := range n {
		if len(l.segs) == 0 || r.IntN(8) == 0 {
			l.must(l.Roll())
		}
		id := int64(r.IntN(4))
		e := l.producers.entries[id]
		if id == 3 || (e != nil && e.txnFirstOffset >= 0 && r.IntN(3) == 0) {
			if e == nil || e.txnFirstOffset < 0 {
				id = noProducerID // a plain batch below
			} else {
				m := record.Batch(record.AppendEndTxnMarker(nil, record.EndTxnMarker{
					Commit: r.IntN(2) == 0, ProducerID: id, ProducerEpoch: e.epoch, CoordinatorEpoch: 1, TimestampMs: nowMs,
				}))
				m.SetBaseOffset(l.end)
				l.append(m)
				continue
			}
		}
		b := record.NewBuilder(codecs[r.IntN(len(codecs))])
		b.SetBaseOffset(l.end + int64(r.IntN(2)*r.IntN(3))) // gaps
		b.SetPartitionLeaderEpoch(int32(i / 20))
		if r.IntN(5) == 0 {
			b.SetLogAppendTime(nowMs)
		}
		if id >= 0 {
			seq := int32(0)
			if e != nil && e.lastSequence() >= 0 {
				seq = addSequence(e.lastSequence(), 1)
			}
			b.SetProducer(id, 0, seq)
			b.SetTransactional(id > 0)
		}
		for range r.IntN(4) + 1 {
			value := []byte(fmt.Sprintf("v%d-%d", l.end, r.IntN(1000)))
			if r.IntN(6) == 0 {
				value = nil
			}
			b.Append(nowMs-int64(r.IntN(50)), []byte(fmt.Sprintf("key-%d", r.IntN(12))), value, record.Header{Key: []byte("h")})
		}
		l.append(b.Finish(nil))
	}
}

// settle ends all transactions and rolls, so that everything is sealed and may be cleaned, and makes it durable.
func (l *fakeLog) settle(nowMs int64) {
	for _, id := range slices.Sorted(maps.Keys(l.producers.entries)) {
		if e := l.producers.entries[id]; e.txnFirstOffset >= 0 {
			m := record.Batch(record.AppendEndTxnMarker(nil, record.EndTxnMarker{
				Commit: id%2 == 0, ProducerID: id, ProducerEpoch: e.epoch, TimestampMs: nowMs,
			}))
			m.SetBaseOffset(l.end)
			l.append(m)
		}
	}
	l.must(l.Roll())
	l.must(l.fs.SyncDir("p"))
}

func testClock() *clock.Fake { return clock.NewFake(time.UnixMilli(1_700_000_000_000)) }
