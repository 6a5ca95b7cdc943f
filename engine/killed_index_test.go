package engine

import (
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// newKilledLog is a log of one segment with 24 batches of a million bytes, of which 20 lie below the recovery point, after kill -9.
func newKilledLog(t *testing.T) (fsys *vfs.Mem, path string) {
	t.Helper()
	fsys = vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, LogConfig{})
	for i := range 24 {
		waitDurable(t, l, mustAppend(t, l, testBatch(1, 1_000_000, int64(1000+i))).EndOffset)
		if i == 19 {
			must(t, s.Checkpoint())
		}
	}
	s.crash()
	return fsys.CrashClone(1, vfs.CrashKillProcess), filepath.Join(testDir, "t-0", segmentName(0, logSuffix))
}

// TestKilledBrokerScansFromTheRecoveryPoint damages bytes far below the recovery point: a start that scanned the whole segment would find them. Batches
// are so large that an index entry stands for a million bytes.
func TestKilledBrokerScansFromTheRecoveryPoint(t *testing.T) {
	fsys, path := newKilledLog(t)
	corrupt(t, fsys, path, 10_500_000)
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := s.Log(testTP)
	if err := l.Err(); err != nil {
		t.Fatalf("recovery looked at batch 10 of 24: %v", err)
	}
	if got := l.Offsets().LogEnd; got != 24 {
		t.Errorf("the log ends at %d, want 24", got)
	}
	for _, offset := range []int64{2, 17, 23} {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 1, MinOneBatch: true})
		if err != nil || res.NextOffset != offset+1 {
			t.Errorf("read at %d: next offset %d and %v", offset, res.NextOffset, err)
		}
		res.Release()
	}
}

// TestKilledBrokerScansAboveTheRecoveryPoint is its counterpart: above the point every byte is looked at.
func TestKilledBrokerScansAboveTheRecoveryPoint(t *testing.T) {
	fsys, path := newKilledLog(t)
	corrupt(t, fsys, path, 21_500_000)
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	if got := s.Log(testTP).Offsets().LogEnd; got != 21 {
		t.Errorf("the log ends at %d, want 21: the batch behind is damaged", got)
	}
}
