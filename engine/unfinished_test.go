package engine

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// rolledLog is a log of three segments with two batches each, durable and checkpointed.
func rolledLog(t *testing.T, s *Store, cfg LogConfig) *Log {
	t.Helper()
	l := createTestLog(t, s, testTP, cfg)
	for i := range int32(6) {
		mustAppend(t, l, producerTestBatch(7, 0, i, false))
		if i%2 == 1 && i < 5 {
			must(t, l.Roll())
		}
	}
	must(t, l.Sync())
	must(t, s.Checkpoint())
	return l
}

// recoveredEnd opens what a crash left, and gives the log's end.
func recoveredEnd(t *testing.T, disk *vfs.Mem) int64 {
	t.Helper()
	s := openTestStore(t, testStoreOptions(disk))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	must(t, l.load())
	must(t, l.Err())
	return l.Offsets().LogEnd
}

// TestTruncationWithoutSpace: a truncation that a full disk stops half-way leaves a log that takes nothing and syncs nothing, because its files
// are neither the old ones nor the new ones, until it is repeated.
func TestTruncationWithoutSpace(t *testing.T) {
	for name, repeat := range map[string]func(l *Log) error{
		"truncation":  func(l *Log) error { return l.TruncateTo(1) },
		"replacement": func(l *Log) error { return l.TruncateFullyAndStartAt(1) },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem(vfs.MemOptions{})
			fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
			s := openTestStore(t, testStoreOptions(fsys))
			defer s.crash()
			l := rolledLog(t, s, LogConfig{FileDeleteDelayMs: -1})
			// The newest segment is renamed, the one before is not.
			remove := fsys.Add(vfs.Rule{Ops: vfs.OpRename, Path: segmentName(2, logSuffix), Err: syscall.ENOSPC})
			wantErr(t, repeat(l), ErrNoSpace)
			wantErr(t, l.Err(), ErrNoSpace)
			remove()
			wantErr(t, l.Sync(), ErrNoSpace)
			wantErr(t, l.Roll(), ErrNoSpace)
			_, err := l.Append(producerTestBatch(7, 0, 6, false), AppendOptions{})
			wantErr(t, err, ErrNoSpace)
			must(t, s.Checkpoint())
			if end := recoveredEnd(t, mem.CrashClone(1, vfs.CrashLoseUnsynced)); end < 1 || end > 6 {
				t.Fatalf("log end after a crash half-way: got %d, want 1 to 6", end)
			}
			must(t, repeat(l))
			must(t, l.Err())
			mustAppend(t, l, producerTestBatch(8, 0, 0, false))
			must(t, l.Sync())
			if end := recoveredEnd(t, mem.CrashClone(2, vfs.CrashLoseUnsynced)); end != 2 {
				t.Fatalf("log end: got %d, want 2", end)
			}
			must(t, s.dirs[0].err())
		})
	}
}

// TestTruncationThatIsNotDurable: the files are cut, and what had to be written then found no space. The next call must not take that for done.
func TestTruncationThatIsNotDurable(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	for i := range int32(4) {
		_, err := l.Append(producerTestBatch(7, 0, i, false), AppendOptions{LeaderEpoch: i})
		must(t, err)
	}
	must(t, l.Sync())
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: leaderEpochCheckpointName, Err: syscall.ENOSPC})
	wantErr(t, l.TruncateTo(2), ErrNoSpace)
	_, err := l.Append(producerTestBatch(7, 0, 2, false), AppendOptions{LeaderEpoch: 1})
	wantErr(t, err, ErrNoSpace) // the file still says that offset 2 begins epoch 2
	wantErr(t, l.TruncateTo(2), ErrNoSpace)
	remove()
	must(t, l.TruncateTo(2))
	if l.epochs.dirty() {
		t.Fatal("the leader epochs are not written after a truncation that succeeded")
	}
	_, err = l.Append(producerTestBatch(7, 0, 2, false), AppendOptions{LeaderEpoch: 1})
	must(t, err)
	must(t, l.Sync())
	if end := recoveredEnd(t, mem.CrashClone(1, vfs.CrashLoseUnsynced)); end != 3 {
		t.Fatalf("log end: got %d, want 3", end)
	}
}

// TestNewEpochIsOnDiskBeforeItsBatch: an append whose epoch is in memory already, but not in the file, waits for the file or is refused.
func TestNewEpochIsOnDiskBeforeItsBatch(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, producerTestBatch(7, 0, 0, false))
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: leaderEpochCheckpointName, Err: syscall.ENOSPC})
	for range 2 {
		_, err := l.Append(producerTestBatch(7, 0, 1, false), AppendOptions{LeaderEpoch: 1})
		wantErr(t, err, ErrNoSpace)
	}
	remove()
	writing, goOn := make(chan struct{}), make(chan struct{})
	remove = fsys.Add(vfs.Rule{Ops: vfs.OpRename, Path: leaderEpochCheckpointName, Count: 1, Hook: func(vfs.Op, string) { close(writing); <-goOn }})
	defer remove()
	done := make(chan error, 2)
	appendOne := func() {
		_, err := l.Append(producerTestBatch(9, 0, 0, false), AppendOptions{LeaderEpoch: 1})
		done <- err
	}
	go appendOne()
	testkit.Closed(t, "the file of leader epochs being written", writing)
	go appendOne() // a repeat; it must not overtake
	time.Sleep(10 * time.Millisecond)
	if end := l.Offsets().LogEnd; end != 1 {
		t.Errorf("a batch of the new epoch was written before the epoch was on disk: log end %d", end)
	}
	close(goOn)
	for range 2 {
		must(t, testkit.Receive(t, "an append", done))
	}
	must(t, l.Sync())
	if end := recoveredEnd(t, mem.CrashClone(1, vfs.CrashLoseUnsynced)); end != 2 {
		t.Fatalf("log end: got %d, want 2", end)
	}
}

// TestWantOfDescriptors fails calls, and nothing else: no verdict on the disk.
func TestWantOfDescriptors(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	o := testStoreOptions(fsys)
	o.OpenFilesMax = 1
	s := openTestStore(t, o)
	l := rolledLog(t, s, LogConfig{})
	other := createTestLog(t, s, TopicPartition{Topic: "other"}, LogConfig{})
	mustAppend(t, other, testBatch(1, 10, 1)) // takes the one open file
	must(t, other.Sync())
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpOpen | vfs.OpCreate, Path: "t-0", Err: syscall.EMFILE})
	wantErr(t, l.TruncateTo(3), ErrOffline)
	_, err := l.Append(testBatch(1, 10, 1), AppendOptions{})
	if err != nil && !errors.Is(err, ErrOffline) && !errors.Is(err, ErrNoSpace) {
		t.Fatalf("append: %v", err)
	}
	remove()
	remove = fsys.Add(vfs.Rule{Ops: vfs.OpCreate, Path: recoveryPointCheckpointName, Err: syscall.EMFILE})
	mustAppend(t, other, testBatch(1, 10, 1))
	must(t, other.Sync())
	if err := s.Checkpoint(); err == nil {
		t.Fatal("a checkpoint that could not be written returned without an error")
	}
	remove()
	must(t, s.dirs[0].err())
	must(t, l.TruncateTo(3))
	must(t, l.Err())
	mustAppend(t, l, testBatch(1, 10, 1))
	must(t, s.Checkpoint())
	closeTestStore(t, s)
}

// TestRefusalsEndWithATruncation: a truncation that is durable has also synced the cut that appends were waiting for.
func TestRefusalsEndWithATruncation(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := rolledLog(t, s, LogConfig{Fsync: neverSync().Fsync})
	// The workers have other things to do.
	busy := make(chan struct{})
	for range 2 {
		started := make(chan struct{})
		s.dirs[0].sched.Go(func() { close(started); <-busy })
		testkit.Closed(t, "a busy worker", started)
	}
	defer close(busy)
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 20})
	_, err := l.Append(testBatch(1, 100, 1), AppendOptions{})
	wantErr(t, err, ErrNoSpace)
	remove()
	_, err = l.Append(testBatch(1, 100, 1), AppendOptions{})
	wantErr(t, err, ErrNoSpace)
	wantErr(t, l.Roll(), ErrNoSpace) // or the cut could come undone in the middle of the log
	must(t, l.TruncateTo(5))
	mustAppend(t, l, testBatch(1, 100, 1))
}

// TestCutOfAKilledProcess: kill -9 comes between the cut of a failed write and its fsync; the log rolls; the power goes.
func TestCutOfAKilledProcess(t *testing.T) {
	for seed := range uint64(40) {
		mem := vfs.NewMem(vfs.MemOptions{})
		fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
		s := openTestStore(t, testStoreOptions(fsys))
		l := rolledLog(t, s, LogConfig{})
		fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 40})
		fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Err: errors.New("killed")})
		_, err := l.Append(testBatch(1, 100, 1), AppendOptions{})
		wantErr(t, err, ErrNoSpace)
		s.crash()
		mem = mem.CrashClone(seed, vfs.CrashKillProcess)
		s = openTestStore(t, testStoreOptions(mem))
		l = createTestLog(t, s, testTP, LogConfig{})
		must(t, l.Roll())
		mustAppend(t, l, testBatch(1, 100, 1))
		waitDurable(t, l, 7)
		disk := mem.CrashClone(seed, vfs.CrashRandom)
		s.crash()
		if end := recoveredEnd(t, disk); end != 7 {
			t.Fatalf("seed %d: log end: got %d, want 7: an acknowledged record is gone", seed, end)
		}
	}
}

// TestKilledTruncationStaysTruncated: what a start after kill -9 found is there after a power cut as well, and no more.
func TestKilledTruncationStaysTruncated(t *testing.T) {
	for op := int64(0); ; op++ {
		mem := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, testStoreOptions(mem))
		l := rolledLog(t, s, LogConfig{FileDeleteDelayMs: -1})
		mem.StopAfter(op)
		err := l.TruncateTo(1)
		s.crash()
		mem = mem.CrashClone(1, vfs.CrashKillProcess)
		s = openTestStore(t, testStoreOptions(mem))
		found := createTestLog(t, s, testTP, LogConfig{}).Offsets().LogEnd
		for seed := range uint64(8) {
			if end := recoveredEnd(t, mem.CrashClone(seed, vfs.CrashRandom)); end != found {
				t.Fatalf("killed after operation %d: the start found %d records, after a power cut there were %d", op, found, end)
			}
		}
		s.crash()
		if err == nil {
			return
		}
	}
}

// TestTopicOfTheSameName: the checkpoints of a deleted partition are not taken for those of its successor, nor dropped with the
// deleted directory when they are the successor's.
func TestTopicOfTheSameName(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	rolledLog(t, s, LogConfig{}) // a minute of file.delete.delay.ms
	must(t, s.DeleteLog(testTP))
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, testBatch(1, 10, 1))
	must(t, l.Sync())
	if end := recoveredEnd(t, mem.CrashClone(1, vfs.CrashLoseUnsynced)); end != 1 {
		t.Fatalf("log end before a checkpoint: got %d, want 1", end)
	}
	mustAppend(t, l, testBatch(3, 10, 1))
	must(t, l.Sync())
	start, err := l.DeleteRecords(2)
	if err != nil || start != 2 {
		t.Fatalf("delete records: got %d, %v", start, err)
	}
	s.crash()
	s = openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashLoseUnsynced)))
	if got := createTestLog(t, s, testTP, LogConfig{}).Offsets().LogStart; got != 2 {
		t.Fatalf("log start: got %d, want 2: deleted records are back", got)
	}
	s.crash()
}

// TestDeletionUnderAJob: a job of a log that is deleted under it finds no files, and that is no failure of the disk.
func TestDeletionUnderAJob(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, producerTestBatch(5, 0, 0, true))
	_, err := l.Append(record.AppendEndTxnMarker(nil, record.EndTxnMarker{ProducerID: 5}), AppendOptions{Origin: OriginInternal})
	must(t, err)
	waitDurable(t, l, 2)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: txnIndexSuffix, Count: 1, Hook: func(vfs.Op, string) { close(syncing); <-goOn }})
	must(t, l.Roll())
	testkit.Closed(t, "the index being synced", syncing)
	must(t, s.DeleteLog(testTP))
	close(goOn)
	testkit.Eventually(t, "the job's end", func() bool { return s.dirs[0].sched.Stats().Jobs == 0 })
	must(t, s.dirs[0].err())
}

// TestRecoveryPointWaitsForSealedTransactionIndexes: a roll leaves the index to a worker; a checkpoint may come first.
func TestRecoveryPointWaitsForSealedTransactionIndexes(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	busy := make(chan struct{})
	for range 2 {
		started := make(chan struct{})
		s.dirs[0].sched.Go(func() { close(started); <-busy })
		testkit.Closed(t, "a busy worker", started)
	}
	defer close(busy)
	mustAppend(t, l, producerTestBatch(5, 0, 0, true))
	_, err := l.Append(record.AppendEndTxnMarker(nil, record.EndTxnMarker{ProducerID: 5}), AppendOptions{Origin: OriginInternal})
	must(t, err)
	must(t, l.Roll())
	mustAppend(t, l, testBatch(1, 10, 1))
	must(t, l.Sync())
	must(t, s.Checkpoint())
	again := openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashLoseUnsynced)))
	defer again.crash()
	l = createTestLog(t, again, testTP, LogConfig{})
	must(t, l.load())
	aborted, err := l.abortedIn(0, 3)
	if err != nil || len(aborted) != 1 {
		t.Fatalf("aborted transactions after a power cut: got %v, %v, want one", aborted, err)
	}
}

// TestTornTransactionIndex: the entry of a marker above the recovery point is torn into one that names a transaction below it.
func TestTornTransactionIndex(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	l := rolledLog(t, s, LogConfig{})
	must(t, s.Checkpoint())
	path := l.part.join(segmentName(4, txnIndexSuffix))
	s.crash()
	f, err := mem.Create(path)
	must(t, err)
	_, err = f.WriteAt(appendTxnIndexEntry(nil, AbortedTxn{ProducerID: 7, FirstOffset: 0, LastOffset: 4, LastStableOffset: 5}), 0)
	must(t, err)
	must(t, f.Close())
	s = openTestStore(t, testStoreOptions(mem))
	defer s.crash()
	l = createTestLog(t, s, testTP, LogConfig{})
	must(t, l.load())
	if aborted, err := l.abortedIn(0, 7); err != nil || len(aborted) > 0 {
		t.Fatalf("aborted transactions: got %v, %v, want none", aborted, err)
	}
}

// TestSwapThatFails: before the swap is decided a full disk costs nothing, descriptors included; after that the log is left to the next start.
func TestSwapThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		rule    vfs.Rule
		decided bool
	}{
		"undecided":  {vfs.Rule{Ops: vfs.OpRename, Path: swapSuffix, Count: 1, Err: syscall.ENOSPC}, false},
		"half-way":   {vfs.Rule{Ops: vfs.OpRename, Path: deletedSuffix, Skip: 1, Count: 1, Err: syscall.ENOSPC}, true},
		"not synced": {vfs.Rule{Ops: vfs.OpSyncDir, Path: "t-0", Skip: 1, Count: 1, Err: syscall.EIO}, true},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem(vfs.MemOptions{})
			fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
			s := openTestStore(t, testStoreOptions(fsys))
			defer s.crash()
			l := createTestLog(t, s, testTP, compactTestConfig())
			for range 8 {
				mustAppend(t, l, testBatch(6, 200, 1))
			}
			must(t, l.Roll())
			must(t, l.Sync())
			must(t, s.Checkpoint())
			want := committedValues(t, l)
			c2 := storeCleaner(s)
			testkit.Eventually(t, "idle workers", func() bool { return s.dirs[0].sched.Stats().Jobs == 0 })
			open := s.pool.Stats().Open
			fsys.Add(c.rule)
			c2.cleanFilthiest()
			if (l.Err() != nil) != c.decided {
				t.Fatalf("log after the swap failed: %v", l.Err())
			}
			if got := s.pool.Stats().Open; got > open {
				t.Errorf("open files: got %d, want %d as before", got, open)
			}
			names, err := mem.List(l.part.path)
			must(t, err)
			if !c.decided {
				if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, cleanedSuffix) || strings.HasSuffix(n, swapSuffix) }) {
					t.Errorf("files of the swap are left: %q", names)
				}
				clear(c2.retryAt)
				if !c2.cleanFilthiest() || c2.stats.Cleanings.Load() != 1 {
					t.Fatal("the next cleaning did not succeed")
				}
			}
			if got := committedValues(t, l); len(got) != len(want) {
				t.Fatalf("values: got %d, want %d", len(got), len(want))
			}
			again := openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashRandom)))
			defer again.crash()
			if got := committedValues(t, createTestLog(t, again, testTP, compactTestConfig())); len(got) != len(want) {
				t.Fatalf("values after a crash: got %d, want %d", len(got), len(want))
			}
		})
	}
}

// TestProducersAreNotReadFromBelowTheLogStart: records that were lost below a log start teach nothing: the producer may write again.
func TestProducersAreNotReadFromBelowTheLogStart(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	l := createTestLog(t, s, testTP, neverSync())
	for i := range int32(4) {
		mustAppend(t, l, producerTestBatch(7, 0, i, false))
	}
	must(t, l.mu.producers.writeSnapshot(l.mu.producers.prepareSnapshot(2))) // durable before the records are
	if start, err := l.DeleteRecords(3); err != nil || start != 3 {
		t.Fatalf("delete records: got %d, %v", start, err)
	}
	s.crash()
	s = openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashLoseUnsynced)))
	defer s.crash()
	l = createTestLog(t, s, testTP, neverSync())
	if o := l.Offsets(); o.LogStart != 3 || o.LogEnd != 3 {
		t.Fatalf("recovered %+v, want an empty log at 3", o)
	}
	if n := l.Stats().Producers; n != 0 {
		t.Fatalf("producers known to an empty log: got %d, want 0", n)
	}
	res := mustAppend(t, l, producerTestBatch(7, 0, 3, false))
	if res.Duplicate || res.BaseOffset != 3 {
		t.Fatalf("the lost batch, written again: got %+v, want it at 3", res)
	}
}

// TestTruncationBesideAFailingFsync: records that an fsync has just lost are not durable because a truncation came.
func TestTruncationBesideAFailingFsync(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, testBatch(1, 10, 1))
	waitDurable(t, l, 1)
	syncing, goOn := make(chan struct{}), make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Count: 1, Err: syscall.EIO, Hook: func(vfs.Op, string) { close(syncing); <-goOn }})
	mustAppend(t, l, testBatch(1, 10, 1))
	mustAppend(t, l, testBatch(1, 10, 1))
	testkit.Closed(t, "the fsync", syncing)
	done := make(chan error, 1)
	go func() { done <- l.TruncateTo(2) }()
	testkit.Eventually(t, "the cut", func() bool { return l.off.load().LogEnd == 2 })
	close(goOn)
	wantErr(t, testkit.Receive(t, "the truncation", done), ErrOffline)
	if d := l.off.load().Durable; d != 1 {
		t.Fatalf("durable after the failed fsync: got %d, want 1", d)
	}
}

// TestTornTailOfASealedSegment: the rest of a failed write is back in the segment before the one that begins at the recovery point.
func TestTornTailOfASealedSegment(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	l := createTestLog(t, s, testTP, LogConfig{})
	want := testBatch(2, 10, 1)
	mustAppend(t, l, want)
	must(t, l.Sync())
	must(t, l.Roll())
	must(t, s.Checkpoint())
	path := l.active().dir.join(segmentName(0, logSuffix))
	s.crash()
	f, err := mem.OpenReadWrite(path)
	must(t, err)
	_, err = f.WriteAt(make([]byte, 14), int64(len(want)))
	must(t, err)
	must(t, f.Close())
	s = openTestStore(t, testStoreOptions(mem))
	defer s.crash()
	l = createTestLog(t, s, testTP, LogConfig{})
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
}
