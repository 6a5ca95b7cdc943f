package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// randomConfig picks what must not change what a fetch returns.
func randomConfig(rng *rand.Rand) LogConfig {
	return LogConfig{
		SegmentBytes:       []int64{4000, 20_000, 1 << 30}[rng.IntN(3)],
		IndexIntervalBytes: []int64{-1, 100, 1000, 4096}[rng.IntN(4)],
		IndexSizeMax:       []int64{120, 10 << 20}[rng.IntN(2)],
		Fsync:              ioqueue.Policy(rng.IntN(3)),
		FsyncInterval:      time.Millisecond,
		FsyncIntervalBytes: []int64{1, 1 << 20}[rng.IntN(2)],
		FileDeleteDelayMs:  -1,
		SegmentMs:          []int64{50, 1 << 40}[rng.IntN(2)],
		Preallocate:        rng.IntN(3) == 0,
	}
}

// anyCodec has each batch choose its codec.
const anyCodec = -1

// randomRun does operations on a log and keeps what they gave.
type randomRun struct {
	t    *testing.T
	fsys *vfs.Mem
	cfg  LogConfig
	s    *Store
	l    *Log
	// raw and records are all results: of reads the bytes, and the records in them.
	raw, records []byte
}

func (r *randomRun) observe(v int64) {
	r.raw = binary.BigEndian.AppendUint64(r.raw, uint64(v))
	r.records = binary.BigEndian.AppendUint64(r.records, uint64(v))
}

func (r *randomRun) open() {
	r.s = openTestStore(r.t, testStoreOptions(r.fsys))
	r.l = createTestLog(r.t, r.s, testTP, r.cfg)
}

// step does one operation, which depends on rng and what the log holds, not on how it is held.
func (r *randomRun) step(rng *rand.Rand, codec int) {
	o := r.l.Offsets()
	switch n := rng.IntN(12); {
	case n < 7:
		own := rng.IntN(5)
		if codec == anyCodec {
			codec = own
		}
		b := record.NewBuilder(compression.Codec(codec))
		for range 1 + rng.IntN(5) {
			b.Append(int64(rng.IntN(200)), testkit.Bytes(rng, 4), make([]byte, rng.IntN(400)))
		}
		r.observe(mustAppend(r.t, r.l, b.Finish(nil)).BaseOffset)
	case n == 7:
		must(r.t, r.l.TruncateTo(o.LogStart+rng.Int64N(o.LogEnd-o.LogStart+1)))
	case n == 8 && rng.IntN(2) == 0:
		must(r.t, r.l.Sync())
		start, err := r.l.DeleteRecords(o.LogStart + rng.Int64N((o.LogEnd-o.LogStart)/4+1))
		must(r.t, err)
		r.observe(start)
	case n == 9:
		at, err := r.l.OffsetForTimestamp(int64(rng.IntN(220)), ReadAll)
		must(r.t, err)
		r.observe(at.Offset)
	default:
		if o.LogEnd > o.LogStart {
			r.fetch(o.LogStart+rng.Int64N(o.LogEnd-o.LogStart), int64(1+rng.IntN(3000)))
		}
	}
}

func (r *randomRun) fetch(from, bytesMax int64) {
	data, err := tryReadAll(r.l, from, ReadOptions{Isolation: ReadAll, MaxBytes: bytesMax})
	must(r.t, err)
	r.raw = append(r.raw, data...)
	_, _, batches := checkBatches(r.t, data)
	for _, b := range batches {
		it := b.Records(nil, 0)
		for it.Next() {
			rec := it.Record()
			r.records = fmt.Appendf(r.records, "%d %d %x=%x;", it.Offset(), it.Timestamp(), rec.Key, rec.Value)
		}
		must(r.t, it.Err())
	}
}

// restart ends the store, cleanly, by kill -9 or by a power cut after an fsync, and opens what that leaves.
func (r *randomRun) restart(rng *rand.Rand) {
	switch rng.IntN(3) {
	case 0:
		closeTestStore(r.t, r.s)
	case 1:
		r.s.crash()
	default:
		must(r.t, r.l.Sync())
		r.fsys = r.fsys.CrashClone(rng.Uint64(), vfs.CrashRandom)
		r.s.crash()
	}
	r.open()
}

// runRandomOps does the same operations, whatever the configuration and the codec, and returns what they gave.
func runRandomOps(t *testing.T, seed uint64, cfg LogConfig, codec int, restarts *rand.Rand) *randomRun {
	rng := testkit.Rand(seed)
	r := &randomRun{t: t, fsys: vfs.NewMem(vfs.MemOptions{}), cfg: cfg}
	r.open()
	for range 120 {
		r.step(rng, codec)
		if restarts.IntN(20) == 0 {
			r.restart(restarts)
		}
	}
	o := r.l.Offsets()
	r.observe(o.LogStart)
	r.observe(o.LogEnd)
	r.fetch(o.LogStart, 1<<20)
	closeTestStore(t, r.s)
	return r
}

// TestSameBytesUnderAnyConfiguration: segment size, index interval, preallocation, policy, restarts and crashes change no byte that a
// client sees, and another codec no record.
func TestSameBytesUnderAnyConfiguration(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	for run := range uint64(6) {
		var want *randomRun
		for i := range uint64(8) {
			rng := testkit.Rand(seed + 100*run + i)
			cfg, codec := randomConfig(rng), anyCodec
			if i >= 5 {
				codec = rng.IntN(5)
			}
			got := runRandomOps(t, seed+run, cfg, codec, rng)
			if i == 0 {
				want = got
			}
			if codec == anyCodec && !bytes.Equal(got.raw, want.raw) {
				t.Fatalf("seed %d run %d: %+v gives other bytes", seed, run, cfg)
			}
			if !bytes.Equal(got.records, want.records) {
				t.Fatalf("seed %d run %d: %+v with codec %d gives other records", seed, run, cfg, codec)
			}
		}
	}
}

// TestInspectFindsNothingWrong verifies all files of logs that were closed, and of logs that were killed and recovered: the checks are
// those of Kafka's DumpLogSegments and more.
func TestInspectFindsNothingWrong(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	for run := range uint64(8) {
		rng := testkit.Rand(seed + run)
		cfg := randomConfig(rng)
		fsys := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, testStoreOptions(fsys))
		l := createTestLog(t, s, testTP, cfg)
		seq := int32(0)
		for range 150 {
			ts := int64(rng.IntN(500))
			switch rng.IntN(4) {
			case 0:
				mustAppend(t, l, producerTestBatch(5, 0, seq, true))
				seq++
			case 1:
				_, err := l.Append(record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: rng.IntN(2) == 0, ProducerID: 5, TimestampMs: ts}),
					AppendOptions{Origin: OriginInternal})
				must(t, err)
			default:
				mustAppend(t, l, testBatch(1+rng.IntN(4), rng.IntN(200), ts))
			}
			if rng.IntN(60) == 0 {
				s.crash()
				s = openTestStore(t, testStoreOptions(fsys))
				l = createTestLog(t, s, testTP, cfg)
			}
		}
		closeTestStore(t, s)
		reports, err := Inspect(fsys, testDir, InspectOptions{})
		must(t, err)
		if len(reports) < 6 {
			t.Fatalf("%d files inspected", len(reports))
		}
		for _, r := range reports {
			if r.Fault != nil {
				t.Errorf("seed %d run %d: %s: %v", seed, run, r.Path, r.Fault)
			}
		}
	}
}

// FuzzRecovery starts from arbitrary bytes: nothing panics, and what is read afterwards is whole batches.
func FuzzRecovery(f *testing.F) {
	whole := append(testBatch(3, 50, 10), testBatch(2, 30, 20)...)
	record.Batch(whole[len(testBatch(3, 50, 10)):]).SetBaseOffset(3)
	f.Add(whole, []byte{}, []byte{}, int64(0), int64(0), true)
	f.Add(whole[:len(whole)-10], []byte{0, 0, 0, 4, 0, 0, 0, 200}, make([]byte, 12), int64(3), int64(2), false)
	f.Add([]byte{1, 2, 3}, make([]byte, 7), make([]byte, 13), int64(1), int64(9), false)
	f.Fuzz(func(t *testing.T, log, offsets, times []byte, point, start int64, known bool) {
		fsys := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, testStoreOptions(fsys))
		closeTestStore(t, s)
		dir := filepath.Join(testDir, "t-0")
		must(t, fsys.MkdirAll(dir))
		for suffix, data := range map[string][]byte{logSuffix: log, indexSuffix: offsets, timeIndexSuffix: times} {
			must(t, vfs.WriteFileAtomic(fsys, filepath.Join(dir, segmentName(0, suffix)), data))
		}
		must(t, removeCleanShutdown(fsys, testDir))
		path := filepath.Join(testDir, recoveryPointCheckpointName)
		if known {
			must(t, writeOffsetCheckpoint(fsys, path, map[TopicPartition]int64{testTP: max(point, 0)}))
		} else {
			must(t, fsys.Remove(path))
		}
		must(t, writeOffsetCheckpoint(fsys, filepath.Join(testDir, logStartCheckpointName), map[TopicPartition]int64{testTP: max(start, 0)}))
		clean := start%3 == 0
		if clean {
			must(t, writeCleanShutdown(fsys, testDir, -1))
		}
		s = openTestStore(t, testStoreOptions(fsys))
		defer s.crash()
		l := s.Log(testTP)
		if l.load() != nil {
			return
		}
		data, err := tryReadAll(l, l.Offsets().LogStart, ReadOptions{MaxBytes: 100})
		if err != nil && l.Err() == nil {
			t.Fatalf("read: %v", err)
		}
		if !clean {
			checkBatches(t, data) // a clean start checks headers only; CRCs are the readers'
		}
		_, _ = l.OffsetForTimestamp(15, ReadUncommitted)
		if l.Err() == nil {
			if _, err := l.Append(testBatch(1, 10, 1), AppendOptions{LeaderEpoch: -1}); err != nil && !errors.Is(err, ErrOffsetOutOfRange) {
				t.Fatalf("append: %v", err)
			}
		}
	})
}
