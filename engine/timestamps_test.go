package engine

import (
	"errors"
	"testing"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// A client's batch may carry a largest timestamp that is not the records': what is stored is repaired from the header alone, or from the
// records where they are looked at, and look-ups by time go by it.
func TestLargestTimestampIsRepaired(t *testing.T) {
	build := func(maxMs int64) []byte { // records of 1000, 5000 and 2000 ms
		b := record.NewBuilder()
		for _, ts := range []int64{1000, 5000, 2000} {
			b.Append(ts, []byte("k"), []byte("v"))
		}
		batch := record.Batch(b.Finish(nil))
		batch.SetMaxTimestamp(maxMs)
		return batch
	}
	strict, compacted := neverSync(), neverSync()
	strict.Strict = true
	compacted.Cleanup = CleanupCompact
	for _, test := range []struct {
		name      string
		cfg       LogConfig
		sent, got int64
	}{
		{"header, right", neverSync(), 5000, 5000},
		{"header, unset", neverSync(), record.NoTimestamp, 1000},
		{"header, below the first", neverSync(), 999, 1000},
		{"header, wrong but possible", neverSync(), 3000, 3000},
		{"strict, right", strict, 5000, 5000},
		{"strict, unset", strict, record.NoTimestamp, 5000},
		{"strict, too small", strict, 3000, 5000},
		{"strict, too large", strict, 8000, 5000},
		{"compacted, unset", compacted, record.NoTimestamp, 5000},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
			defer closeTestStore(t, s)
			l := createTestLog(t, s, testTP, test.cfg)
			batch := build(test.sent)
			if _, err := l.Append(batch, AppendOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := record.Batch(batch); got.MaxTimestamp() != test.got || got.CheckCRC() != nil {
				t.Errorf("stored the largest timestamp %d (%v), want %d", got.MaxTimestamp(), got.CheckCRC(), test.got)
			}
		})
	}
}

// Under strict validation every record is held against the window of timestamps, not only the first and the largest of the header.
func TestEveryTimestampIsHeldAgainstTheWindow(t *testing.T) {
	for _, test := range []struct {
		name   string
		deltas []int64 // from the broker's time, in ms
		maxMs  int64   // as the header says, from the broker's time
		strict bool
		ok     bool
	}{
		{"all in the window", []int64{0, -50, 50}, 50, true, true},
		{"too old in the middle", []int64{0, -2000, 50}, 50, true, false},
		{"too new, the header lies", []int64{0, 2000, 50}, 50, true, false},
		{"too new by the header alone", []int64{0, 10}, 2000, false, false},
		{"too old by the header alone", []int64{-2000, 10}, 10, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
			defer closeTestStore(t, s)
			cfg := neverSync()
			cfg.Strict, cfg.TimestampBeforeMaxMs, cfg.TimestampAfterMaxMs = test.strict, 1000, 1000
			l := createTestLog(t, s, testTP, cfg)
			now := l.store.nowMs()
			b := record.NewBuilder()
			for _, delta := range test.deltas {
				b.Append(now+delta, nil, []byte("v"))
			}
			batch := record.Batch(b.Finish(nil))
			batch.SetMaxTimestamp(now + test.maxMs)
			_, err := l.Append(batch, AppendOptions{})
			if test.ok && err != nil || !test.ok && !errors.Is(err, ErrInvalidTimestamp) {
				t.Errorf("append: %v", err)
			}
		})
	}
}
