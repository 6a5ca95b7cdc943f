package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// newTxnLog writes transactions of several producers that overlap, some longer than a check, some without records, one without an end, over
// segments of 2 MiB, and stops cleanly.
func newTxnLog(t *testing.T) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, txnLogConfig())
	rng := rand.New(rand.NewPCG(1, 2))
	seq, left := map[int64]int32{}, map[int64]int{1: 2, 2: 30} // batches of the open transactions
	mark := func(id int64, commit bool) {
		_, err := l.Append(record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: commit, ProducerID: id}), AppendOptions{Origin: OriginInternal})
		must(t, err)
	}
	for i := range 300 {
		id := int64(1 + rng.IntN(6))
		if i == 280 {
			id = 9 // hangs
		}
		b := record.NewBuilder()
		b.SetProducer(id, 0, seq[id])
		b.SetTransactional(true)
		b.Append(1, nil, make([]byte, 50<<10+rng.IntN(10<<10)))
		seq[id]++
		mustAppend(t, l, b.Finish(nil))
		if left[id]--; left[id] <= 0 && id != 9 {
			mark(id, rng.IntN(2) == 0)
			left[id] = 1 + rng.IntN(2)*rng.IntN(20)
		}
		if i%20 == 0 {
			mark(int64(50+i), false) // of a transaction without records here
		}
	}
	must(t, s.Close(t.Context()))
	return fsys
}

func txnLogConfig() LogConfig { return LogConfig{SegmentBytes: 2 << 20} }

// checkTxnLog opens the log and checks all of it, job by job. The fault is nil when all is good; good is the offset up to which all was.
func checkTxnLog(t *testing.T, fsys *vfs.Mem) (good int64, fault *CorruptFileError) {
	t.Helper()
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return txnLogConfig() }
	s := openTestStore(t, o)
	defer s.crash()
	l := s.Log(testTP)
	must(t, l.load2())
	jobs, end := 0, l.Offsets().LogEnd
	for from := int64(0); from < end; jobs++ {
		to, err := l.check(from, end)
		var rot *rotFault
		if errors.As(err, &rot) {
			if !errors.As(rot.err, &fault) || rot.offset != from {
				t.Fatalf("check from %d: a fault at %d, %v", from, rot.offset, rot.err)
			}
			return from, fault
		}
		if err != nil || to <= from {
			t.Fatalf("check from %d: to %d, %v", from, to, err)
		}
		from = to
	}
	if jobs < 3 {
		t.Fatalf("%d jobs for all of the log", jobs)
	}
	return end, nil
}

// TestChecksHoldTheIndexOfAbortedTransactions: every entry of it is missed when it is gone, before the first record of its
// transaction may be served, and no intact one is found at fault.
func TestChecksHoldTheIndexOfAbortedTransactions(t *testing.T) {
	intact := newTxnLog(t)
	if _, fault := checkTxnLog(t, intact); fault != nil {
		t.Fatalf("an intact log: %v", fault)
	}
	names, err := intact.List(filepath.Join(testDir, "t-0"))
	must(t, err)
	entries := 0
	for _, name := range names {
		if !strings.HasSuffix(name, txnIndexSuffix) {
			continue
		}
		path := filepath.Join(testDir, "t-0", name)
		whole, err := readSmallFile(intact, path, 1<<20)
		must(t, err)
		for pos := 0; pos < len(whole); pos += txnIndexEntrySize {
			entries++
			lost := append(append([]byte(nil), whole[:pos]...), whole[pos+txnIndexEntrySize:]...)
			must(t, vfs.WriteFileAtomic(intact, path, lost))
			txns, err := parseTxnIndex(whole[pos:][:txnIndexEntrySize], path)
			must(t, err)
			if good, fault := checkTxnLog(t, intact); fault == nil || fault.Path != path || fault.Pos != int64(pos) || good > txns[0].FirstOffset {
				t.Errorf("entry %v at byte %d of %s is gone: good up to %d, then %v", txns[0], pos, path, good, fault)
			}
			must(t, vfs.WriteFileAtomic(intact, path, whole))
		}
	}
	if entries < 10 {
		t.Errorf("%d entries: too few to mean anything", entries)
	}
}

// TestLongTransactionsAreWalkedOnce: the marker that one check has found is known to those behind it.
func TestLongTransactionsAreWalkedOnce(t *testing.T) {
	c := txnCheck{log: &Log{}, open: map[int64]int64{7: 20, 8: 20, 9: 25}}
	c.log.off.reset(offsetView{Offsets: Offsets{LastStable: 25, HighWatermark: 100, Durable: 100, LogEnd: 100}})
	c.log.verification.walked = map[int64]walk{7: {from: 10, marker: 60}, 8: {from: 10, marker: 35}}
	c.log.segs.Store(&[]*segment{})
	must(t, c.finish(40))
	if got := fmt.Sprint(c.open); got != "map[8:20]" {
		t.Errorf("left to follow: %s, want producer 8 alone: 7 was walked, 8 not as far, 9 is not stable", got)
	}
}
