package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// tornTails are the ways in which the bytes from position at on have not arrived.
var tornTails = []struct {
	name string
	tear func(rng *rand.Rand, data []byte, at int) []byte
}{
	{"missing", func(_ *rand.Rand, data []byte, at int) []byte { return data[:at] }},
	{"zeros", func(_ *rand.Rand, data []byte, at int) []byte { clear(data[at:]); return data }},
	{"garbage", func(rng *rand.Rand, data []byte, at int) []byte {
		copy(data[at:], testkit.Bytes(rng, len(data)-at))
		return data
	}},
	{"a hole", func(rng *rand.Rand, data []byte, at int) []byte {
		clear(data[at : at+rng.IntN(len(data)-at+1)])
		return data
	}},
	{"a flipped bit", func(rng *rand.Rand, data []byte, at int) []byte {
		if at < len(data) {
			data[at] ^= byte(1 << rng.IntN(8))
		}
		return data
	}},
}

// TestEveryByteOfATail tears the unsynced tail of a log at each of its bytes, in every way: the whole batches before that are there, and
// nothing else, and they stay when the power goes again.
func TestEveryByteOfATail(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	rng := testkit.Rand(seed)
	mem := vfs.NewMem(vfs.MemOptions{})
	cfg := neverSync()
	cfg.IndexIntervalBytes = 100
	s := openTestStore(t, testStoreOptions(mem))
	l := createTestLog(t, s, testTP, cfg)
	var batches [][]byte
	add := func(b []byte, o AppendOptions) {
		if _, err := l.Append(b, o); err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
	}
	for i := range int32(3) {
		add(producerTestBatch(7, 0, i, false), AppendOptions{})
	}
	must(t, l.Sync())
	must(t, s.Checkpoint())
	synced := len(bytes.Join(batches, nil))
	add(producerTestBatch(7, 0, 3, false), AppendOptions{})
	add(testBatch(2, 20, 1), AppendOptions{LeaderEpoch: 4})
	add(producerTestBatch(8, 0, 0, true), AppendOptions{LeaderEpoch: 4})
	add(record.AppendEndTxnMarker(nil, record.EndTxnMarker{ProducerID: 8, TimestampMs: 1}), AppendOptions{LeaderEpoch: 4, Origin: OriginInternal})
	add(producerTestBatch(7, 0, 4, false), AppendOptions{LeaderEpoch: 5})
	whole := bytes.Join(batches, nil)
	s.crash()
	if got, _, err := mem.UnsyncedBytes(filepath.Join(testDir, "t-0", segmentName(0, logSuffix))); err != nil || got != int64(len(whole)-synced) {
		t.Fatalf("unsynced tail of the log: %d bytes, %v, want %d", got, err, len(whole)-synced)
	}
	for at := synced; at <= len(whole); at++ {
		for _, torn := range tornTails {
			tail := torn.tear(rng, bytes.Clone(whole), at)
			if err := recoverTail(mem.CrashClone(1, vfs.CrashKeepAll), tail, batches); err != nil {
				t.Fatalf("seed %d, %s from byte %d of %d on: %v", seed, torn.name, at, len(whole), err)
			}
		}
	}
}

// recoverTail recovers a log whose only segment holds data, of which whole batches at its begin are good.
func recoverTail(fsys *vfs.Mem, data []byte, batches [][]byte) error {
	if err := vfs.WriteFileAtomic(fsys, filepath.Join(testDir, "t-0", segmentName(0, logSuffix)), data); err != nil {
		return err
	}
	end, good := int64(0), 0
	for _, b := range batches {
		if !bytes.HasPrefix(data[good:], b) {
			break
		}
		good += len(b)
		end = record.Batch(b).NextOffset()
	}
	for _, when := range []string{"recovered", "recovered, and the power cut"} {
		s, err := OpenStore(testStoreOptions(fsys))
		if err != nil {
			return err
		}
		l := s.Log(testTP)
		err = l.load2()
		if err == nil {
			var got []byte
			if got, err = tryReadAll(l, 0, ReadOptions{Isolation: ReadAll}); err == nil && (!bytes.Equal(got, data[:good]) || l.Offsets().LogEnd != end) {
				err = fmt.Errorf("%d bytes up to offset %d, want %d up to %d", len(got), l.Offsets().LogEnd, good, end)
			}
		}
		s.crash()
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		fsys = fsys.CrashClone(1, vfs.CrashLoseUnsynced)
	}
	return nil
}
