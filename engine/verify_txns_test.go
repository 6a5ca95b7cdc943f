package engine

import (
	"bytes"
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

// checkTxnLog opens the log and checks all of it, job by job; checked is called after each.
func checkTxnLog(t *testing.T, fsys *vfs.Mem, checked func(to int64)) {
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
		if err != nil || to <= from {
			t.Fatalf("check from %d: to %d, %v", from, to, err)
		}
		checked(to)
		_, err = abortedIn(l.segments(), from, to, func(s *segment) (*txnIndex, error) {
			if s.txns.Load() == nil {
				t.Fatalf("reads of %d to %d need the index of segment %d, which nobody has opened", from, to, s.base)
			}
			return s.txnIndex()
		})
		must(t, err)
		from = to
	}
	if jobs < 3 {
		t.Fatalf("%d jobs for all of the log", jobs)
	}
}

// TestChecksHoldTheIndexOfAbortedTransactions: every entry of it is missed when it is gone, or says something else, and is as it was before the
// first record of its transaction may be served.
func TestChecksHoldTheIndexOfAbortedTransactions(t *testing.T) {
	intact := newTxnLog(t)
	names, err := intact.List(filepath.Join(testDir, "t-0"))
	must(t, err)
	entries := 0
	for _, name := range names {
		if !strings.HasSuffix(name, txnIndexSuffix) {
			continue
		}
		path := filepath.Join(testDir, "t-0", name)
		whole := mustRead(t, intact, path)
		txns, err := parseTxnIndex(whole, path)
		must(t, err)
		for i, txn := range txns {
			entries++
			for what, damaged := range damagedEntries(txn) {
				pos := i * txnIndexEntrySize
				writeRaw(t, intact, path, append(append(append([]byte(nil), whole[:pos]...), damaged...), whole[pos+txnIndexEntrySize:]...))
				checkTxnLog(t, intact, func(to int64) {
					if to > txn.FirstOffset && !bytes.Equal(mustRead(t, intact, path), whole) {
						t.Errorf("%s: entry %v at byte %d of %s is damaged when offsets up to %d may be served", what, txn, pos, path, to)
					}
				})
				writeRaw(t, intact, path, whole)
			}
		}
	}
	if entries < 10 {
		t.Errorf("%d entries: too few to mean anything", entries)
	}
}

// damagedEntries are what may have become of an entry.
func damagedEntries(txn AbortedTxn) map[string][]byte {
	d := map[string][]byte{"gone": nil}
	for _, less := range []int64{1, 2, 30, 100} {
		if other := txn; other.FirstOffset >= less {
			other.FirstOffset -= less
			d[fmt.Sprint("first offset less ", less)] = appendTxnIndexEntry(nil, other)
		}
	}
	if other := txn; other.FirstOffset+1 < other.LastOffset {
		other.FirstOffset++
		d["first offset more"] = appendTxnIndexEntry(nil, other)
	}
	return d
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
