package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func storeCleaner(s *Store) *cleaner {
	return newCleaner(cleanerOptions{FS: s.o.FS, Clock: clock.Real(), Logger: s.log, Logs: func() (logs []cleanerLog) {
		for _, l := range s.Logs() {
			logs = append(logs, l)
		}
		return logs
	}})
}

func compactTestConfig() LogConfig {
	return LogConfig{
		Cleanup: CleanupCompact, SegmentBytes: 4096, IndexIntervalBytes: 200, MinCleanableRatio: -1, FileDeleteDelayMs: -1, DeleteRetentionMs: -1,
		MessageBytesMax: 4096,
	}
}

// committedValues decodes what a consumer of committed records ends up with.
func committedValues(t testing.TB, l *Log) map[string]string {
	t.Helper()
	values := map[string]string{}
	offset := l.Offsets().LogStart
	dropping := map[int64]bool{}
	for {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 3000, MinOneBatch: true, Isolation: ReadCommitted})
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if len(res.Spans) == 0 {
			return values
		}
		aborted := res.Aborted
		data, err := spanBytes(&res)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		first, next, batches := checkBatches(t, data)
		if first < 0 || next > res.NextOffset {
			t.Fatalf("read at %d: offsets %d to %d, next %d", offset, first, next, res.NextOffset)
		}
		for _, b := range batches {
			for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
				dropping[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			if b.IsControl() {
				delete(dropping, b.ProducerID())
				continue
			}
			if b.IsTransactional() && dropping[b.ProducerID()] {
				continue
			}
			it := b.Records(nil, 0)
			for it.Next() {
				if r := it.Record(); r.Value == nil {
					delete(values, string(r.Key))
				} else {
					values[string(r.Key)] = string(r.Value)
				}
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
		}
		clear(dropping) // each read names the aborted transactions of its range anew
		offset = res.NextOffset
	}
}

// TestCompactionOfALiveLog cleans a log under appends and reads, with hardly any file left open, and holds it against
// what was written: while it lives, after a clean restart, and after a crash.
func TestCompactionOfALiveLog(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	o := testStoreOptions(fs)
	o.OpenFilesMax = 2
	s := openTestStore(t, o)
	l := createTestLog(t, s, testTP, compactTestConfig())
	want := map[string]string{}
	seqs := map[int64]int32{}
	r := testkit.Rand(testkit.Seed(t, 11))
	write := func() {
		id := int64(r.IntN(3))
		b := record.NewBuilder()
		b.SetProducer(id, 0, seqs[id])
		b.SetTransactional(id > 0)
		batch := map[string]string{}
		for range r.IntN(3) + 1 {
			key := fmt.Sprint("key-", r.IntN(30))
			value := fmt.Sprintf("%d-%d-%060d", id, seqs[id], r.IntN(1000))
			b.Append(int64(r.IntN(1000)), []byte(key), []byte(value))
			batch[key] = value
		}
		seqs[id] += int32(b.Count())
		mustAppend(t, l, b.Finish(nil))
		commit := r.IntN(2) == 0
		if id > 0 {
			marker := record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: commit, ProducerID: id, CoordinatorEpoch: 1})
			if _, err := l.Append(marker, AppendOptions{Origin: OriginInternal}); err != nil {
				t.Fatal(err)
			}
		}
		if id == 0 || commit {
			maps.Copy(want, batch)
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for {
				select {
				case <-stop:
					return
				default:
					committedValues(t, l)
				}
			}
		}()
	}
	c := storeCleaner(s)
	for range 15 {
		for range 60 {
			write()
		}
		if err := l.Sync(); err != nil { // nothing above the last stable offset is cleaned
			t.Fatal(err)
		}
		if !c.cleanFilthiest() || c.stats.Failures.Load() > 0 || len(c.retryAt) > 0 {
			t.Errorf("not cleaned: %d failures, %d to retry", c.stats.Failures.Load(), len(c.retryAt))
			break
		}
	}
	close(stop)
	readers.Wait()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	check := func(what string, l *Log) {
		t.Helper()
		if got := committedValues(t, l); !maps.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
		for id, seq := range seqs {
			res, err := l.Append(producerTestBatch(id, 0, seq+5, id > 0), AppendOptions{})
			wantErr(t, err, ErrOutOfOrderSequence)
			_ = res
		}
	}
	check("after cleaning", l)
	if c.stats.SegmentsReplaced.Load() < 50 || l.Size() > 4*4096 {
		t.Fatalf("%d segments replaced, %d bytes left", c.stats.SegmentsReplaced.Load(), l.Size())
	}
	crashed := fs.CrashClone(3, vfs.CrashRandom)
	closeTestStore(t, s)
	for what, fsys := range map[string]vfs.FS{"after a clean restart": fs, "after a crash": crashed} {
		o.FS = fsys
		s := openTestStore(t, o)
		check(what, createTestLog(t, s, testTP, compactTestConfig()))
		closeTestStore(t, s)
		for _, report := range inspectAll(t, fsys, testDir, InspectOptions{Records: true}) {
			// A crash may tear indexes; they are built anew at use.
			derived := report.Kind == KindOffsetIndex || report.Kind == KindTimeIndex
			if report.Fault != nil && (what == "after a clean restart" || !derived) {
				t.Fatalf("%s: %v", what, report.Fault)
			}
		}
	}
}

// TestCompactionCrashPointsOfALog stops a whole store after every operation of the file system while it compacts, and
// opens what a power cut leaves with a store that does not know yet that the log is compacted.
func TestCompactionCrashPointsOfALog(t *testing.T) {
	seed := testkit.Seed(t, 21)
	base := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(base))
	l := createTestLog(t, s, testTP, compactTestConfig())
	r := testkit.Rand(seed)
	for i := range 120 {
		b := record.NewBuilder()
		b.SetProducer(5, 0, int32(i))
		b.Append(1, []byte(fmt.Sprint("key-", r.IntN(9))), testkit.Bytes(r, 100))
		mustAppend(t, l, b.Finish(nil))
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	want := committedValues(t, l)
	closeTestStore(t, s)
	// The clean-shutdown mark would be gone after the opening below anyway.
	swapped := 0
	for op, done := int64(1), false; !done; op++ {
		fs := base.CrashClone(seed, vfs.CrashKeepAll)
		s := openTestStore(t, testStoreOptions(fs))
		l := createTestLog(t, s, testTP, compactTestConfig())
		committedValues(t, l) // loads it
		c := storeCleaner(s)
		fs.StopAfter(fs.Ops() + op)
		c.cleanFilthiest()
		done = c.stats.Cleanings.Load() > 0
		for round := range uint64(2) {
			crashed := fs.CrashClone(seed+uint64(op)*2+round, vfs.CrashRandom)
			names, _ := crashed.List(testDir + "/t-0")
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, swapSuffix) }) {
				swapped++
			}
			again := openTestStore(t, testStoreOptions(crashed))
			if got := committedValues(t, createTestLog(t, again, testTP, compactTestConfig())); !maps.Equal(got, want) {
				t.Fatalf("stopped after operation %d, round %d: got %d values, want %d", op, round, len(got), len(want))
			}
			closeTestStore(t, again)
		}
		_ = s.Close(t.Context()) // its disk is gone
	}
	if swapped == 0 {
		t.Fatal("no crash left a swap to finish: the test has proved nothing")
	}
}
