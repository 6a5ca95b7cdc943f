package engine

import (
	"bytes"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// startKilled opens what kill -9 left of logs that are recovered under `never`.
func startKilled(t *testing.T, fsys vfs.FS) *Store {
	t.Helper()
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return neverSync() }
	return openTestStore(t, o)
}

// TestLazyStart: after kill -9 a log under `never` is used before what it left in the page cache is durable, and its durable offset says so. Sealed
// segments are fsynced in the background, all of it when it is asked for, and before a topic under `commit` is served.
func TestLazyStart(t *testing.T) {
	disk, want := killedLog(t)
	t.Run("commit", func(t *testing.T) {
		mem := disk.CrashClone(1, vfs.CrashKillProcess)
		s := startKilled(t, mem)
		l := createTestLog(t, s, testTP, LogConfig{})
		if o := l.Offsets(); o.Durable != 18 {
			t.Fatalf("offsets of a topic under commit: %+v", o)
		}
		clone := mem.CrashClone(2, vfs.CrashLoseUnsynced)
		s.crash()
		if end := recoveredEnd(t, clone); end != 18 {
			t.Errorf("%d records after a power cut, want 18", end)
		}
	})
	t.Run("never", func(t *testing.T) {
		mem := disk.CrashClone(1, vfs.CrashKillProcess)
		s := startKilled(t, mem)
		l := createTestLog(t, s, testTP, neverSync())
		active := l.active().base
		waitDurable(t, l, active)
		awaitRest(t, s)
		if o := l.Offsets(); o.Durable != active {
			t.Errorf("durable %d, want %d: the sealed segments and no more", o.Durable, active)
		}
		mustAppend(t, l, testBatch(1, 10, 1))
		must(t, l.Sync())
		clone := mem.CrashClone(2, vfs.CrashLoseUnsynced)
		s.crash()
		if end := recoveredEnd(t, clone); end != 19 {
			t.Errorf("%d records after a power cut, want 19", end)
		}
	})
	t.Run("a disk that does not answer", func(t *testing.T) {
		fsys := vfs.NewErrorFS(disk.CrashClone(1, vfs.CrashKillProcess), vfs.ErrorFSOptions{})
		answer := make(chan struct{})
		fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(vfs.Op, string) { <-answer }})
		s := startKilled(t, fsys)
		l := createTestLog(t, s, testTP, neverSync())
		if o := l.Offsets(); o.LogEnd != 18 || o.HighWatermark != 18 || o.Durable >= 18 || o.Durable != l.stream.Durable() {
			t.Errorf("offsets: %+v", o)
		}
		if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, want) {
			t.Errorf("%d bytes are read, want %d", len(got), len(want))
		}
		if l.stream.UnsyncedBytes() == 0 {
			t.Error("all bytes count as durable")
		}
		mustAppend(t, l, testBatch(1, 10, 1))
		if end := l.Offsets().HighWatermark; end != 19 {
			t.Errorf("high watermark %d, want 19", end)
		}
		close(answer)
		s.crash()
	})
	t.Run("interval", func(t *testing.T) {
		s := startKilled(t, disk.CrashClone(1, vfs.CrashKillProcess))
		l := createTestLog(t, s, testTP, LogConfig{Fsync: ioqueue.PolicyInterval, FsyncInterval: time.Millisecond})
		waitDurable(t, l, 18)
		s.crash()
	})
}

// largeBatches is a log of records that are all on the disk, each of more than a sector, with the recovery point below the last of two segments.
func largeBatches(t *testing.T, s *Store) *Log {
	t.Helper()
	l := createTestLog(t, s, testTP, neverSync())
	for i := range 10 {
		if i == 4 {
			must(t, l.Roll())
			must(t, l.Sync())
			must(t, s.Checkpoint())
		}
		mustAppend(t, l, testBatch(1, 700, int64(i)))
	}
	must(t, l.Sync())
	awaitRest(t, s)
	return l
}

// TestCutsOfAKilledProcess: kill -9 comes at any operation of a truncation, of the replacement of a log, of the cut of a failed write and of a recovery
// that cuts a torn tail. Then there is a start, an append, and a power cut: what is left is what the start found, with the new record or some of it.
// No record that was cut off comes back.
func TestCutsOfAKilledProcess(t *testing.T) {
	full := func(fsys *vfs.ErrorFS) {
		fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 40})
	}
	for name, do := range map[string]func(*vfs.ErrorFS, *Log) error{
		"truncation":  func(_ *vfs.ErrorFS, l *Log) error { return l.TruncateTo(6) },
		"replacement": func(_ *vfs.ErrorFS, l *Log) error { return l.TruncateFullyAndStartAt(20) },
		"failed write": func(fsys *vfs.ErrorFS, l *Log) error {
			full(fsys)
			_, _ = l.Append(testBatch(1, 100, 1), AppendOptions{})
			return l.Sync()
		},
	} {
		t.Run(name, func(t *testing.T) {
			cuts := 0
			for op := int64(0); op < 200; op++ {
				mem := vfs.NewMem(vfs.MemOptions{})
				fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
				s := startKilled(t, fsys)
				l := largeBatches(t, s)
				mem.StopAfter(op)
				err := do(fsys, l)
				s.crash()
				cuts += powerCutAfterKill(t, mem.CrashClone(1, vfs.CrashKillProcess))
				if err == nil {
					break
				}
			}
			if cuts == 0 {
				t.Error("no kill left a cut that was not fsynced")
			}
		})
	}
}

// TestCutsOfAKilledRecovery: the same for a recovery that cuts a torn tail off, with whole batches behind the fault.
func TestCutsOfAKilledRecovery(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := startKilled(t, mem)
	l := largeBatches(t, s)
	b, ok, err := l.active().locate(6, l.active().size.Load())
	if err != nil || !ok {
		t.Fatalf("no batch at 6: %v", err)
	}
	path := l.active().path()
	s.crash()
	// The kernel has written the mark by itself before the power went.
	for path, at := range map[string]int64{path: b.end - 1, filepath.Join(testDir, cutsName): 0} {
		f, err := mem.OpenReadWrite(path)
		must(t, err)
		_, err = f.WriteAt([]byte{'0'}, at)
		must(t, err)
		must(t, f.Sync())
		must(t, f.Close())
	}
	must(t, mem.SyncDir(testDir))
	disk := mem.CrashClone(1, vfs.CrashLoseUnsynced)
	cuts := 0
	for op := int64(0); ; op++ {
		mem := disk.CrashClone(1, vfs.CrashKillProcess)
		mem.StopAfter(op)
		o := testStoreOptions(mem)
		o.Config = func(string) LogConfig { return neverSync() }
		s, err := OpenStore(o)
		done := err == nil && s.Log(testTP).Offsets().LogEnd == 6 && s.dirs[0].err() == nil
		if err == nil {
			s.crash()
		}
		cuts += powerCutAfterKill(t, mem.CrashClone(1, vfs.CrashKillProcess))
		if done {
			break
		}
	}
	if cuts == 0 {
		t.Error("no kill left a cut that was not fsynced")
	}
}

// powerCutAfterKill starts a log that was killed, appends records that are like no other, and cuts the power. It returns 1 if the start was told of a cut.
func powerCutAfterKill(t *testing.T, killed *vfs.Mem) (told int) {
	t.Helper()
	for seed := range uint64(12) {
		mem := killed.CrashClone(1, vfs.CrashKillProcess)
		s := startKilled(t, mem)
		if s.dirs[0].cuts.left {
			told = 1
		}
		l := createTestLog(t, s, testTP, neverSync())
		must(t, l.load())
		found := readAll(t, l, l.Offsets().LogStart, ReadOptions{})
		start := l.Offsets().LogStart
		for i := range 2 {
			b := testBatch(1, 700, int64(100+i))
			mustAppend(t, l, b)
			found = append(found, b...)
		}
		clone := mem.CrashClone(seed, vfs.CrashRandom)
		s.crash()
		s = startKilled(t, clone)
		if l = s.Log(testTP); l == nil {
			s.crash()
			continue // nothing of it had to be durable
		}
		must(t, l.load())
		must(t, l.Err())
		o := l.Offsets()
		got := readAll(t, l, o.LogStart, ReadOptions{})
		if o.LogStart != start && len(got) > 0 {
			t.Fatalf("seed %d: the log starts at %d, it was %d", seed, o.LogStart, start)
		}
		if !bytes.HasPrefix(found, got) {
			t.Fatalf("seed %d: %d bytes are left of %d, and they are others", seed, len(got), len(found))
		}
		s.crash()
	}
	return told
}

// TestCutMark: what one process writes, and what the next makes of it.
func TestCutMark(t *testing.T) {
	path := filepath.Join("/d", cutsName)
	content := func(fsys vfs.FS) string {
		data, err := readSmallFile(fsys, path, 10)
		if isNotExist(err) {
			return "none"
		}
		must(t, err)
		return string(data)
	}
	open := func(fsys vfs.FS, clean, left bool) *cutMark {
		t.Helper()
		m, err := openCutMark(fsys, "/d", clean)
		must(t, err)
		if m.left != left {
			t.Fatalf("a cut was left: %v, want %v", m.left, left)
		}
		return m
	}
	expect := func(fsys vfs.FS, want string) {
		t.Helper()
		if got := content(fsys); got != want {
			t.Fatalf("%s holds %q, want %q", path, got, want)
		}
	}
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	must(t, fsys.MkdirAll("/d"))
	m := open(fsys, false, true) // nothing is known
	expect(fsys, "1")
	m.end()
	expect(fsys, "0")
	must(t, m.begin())
	must(t, m.begin())
	m.end()
	expect(fsys, "1")
	open(fsys, true, false)
	expect(fsys, "0")
	m = open(fsys, false, false)
	must(t, m.begin())
	m = open(fsys, false, true)
	m.end()
	open(fsys, false, false)
	for _, odd := range []string{"", "x", "\x00"} {
		must(t, vfs.WriteFileAtomic(fsys, path, []byte(odd)))
		open(fsys, false, true)
	}
	// A file that cannot be written goes, which means the same.
	m = open(fsys, true, false)
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: cutsName, Err: syscall.ENOSPC})
	must(t, m.begin())
	expect(fsys, "none")
	m.end()
	must(t, m.begin())
	expect(fsys, "none")
	remove()
	m = open(fsys, false, true)
	m.end()
	// If it cannot go either, there must be no cut.
	fsys.Add(vfs.Rule{Ops: vfs.OpWrite | vfs.OpRemove, Path: cutsName, Err: syscall.EIO})
	if err := m.begin(); err == nil {
		t.Fatal("a cut is allowed that nobody would know of")
	}
	testkit.Eventually(t, "the mark as it was", func() bool { return content(fsys) == "0" })
}

// TestCutMarkStaysWhileALogCannotBeOpened: recovery has made durable what was cut, but not in a log that it could not open.
func TestCutMarkStaysWhileALogCannotBeOpened(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := startKilled(t, mem)
	other := TopicPartition{"other", 0}
	for _, tp := range []TopicPartition{testTP, other} {
		mustAppend(t, createTestLog(t, s, tp, neverSync()), testBatch(1, 10, 1))
	}
	awaitRest(t, s)
	must(t, s.dirs[0].cuts.begin())
	disk := mem.CrashClone(1, vfs.CrashKillProcess)
	s.crash()
	for _, readable := range []bool{false, true} {
		fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{})
		if !readable {
			fsys.Add(vfs.Rule{Ops: vfs.OpRead, Path: other.String(), Err: syscall.EIO})
		}
		s := startKilled(t, fsys)
		data, err := readSmallFile(disk, filepath.Join(testDir, cutsName), 10)
		must(t, err)
		if want := map[bool]string{false: "1", true: "0"}[readable]; string(data) != want || !s.dirs[0].cuts.left {
			t.Errorf("all logs can be opened: %v; the mark is %q, want %q", readable, data, want)
		}
		s.crash()
	}
}

// TestCutAtTheRecoveryPointIsSynced: a log that ends at its recovery point is fsynced too when a cut was left.
func TestCutAtTheRecoveryPointIsSynced(t *testing.T) {
	for _, left := range []bool{false, true} {
		mem := vfs.NewMem(vfs.MemOptions{})
		s := startKilled(t, mem)
		l := createTestLog(t, s, testTP, neverSync())
		mustAppend(t, l, testBatch(1, 10, 1))
		must(t, l.Sync())
		must(t, s.Checkpoint())
		awaitRest(t, s)
		if left {
			must(t, s.dirs[0].cuts.begin())
		}
		fsys := vfs.NewErrorFS(mem.CrashClone(1, vfs.CrashKillProcess), vfs.ErrorFSOptions{})
		s.crash()
		synced := 0
		fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(vfs.Op, string) { synced++ }})
		s = startKilled(t, fsys)
		if want := map[bool]int{false: 0, true: 1}[left]; synced != want || s.dirs[0].cuts.left != left {
			t.Errorf("a cut was left: %v; the log was fsynced %d times, want %d", left, synced, want)
		}
		s.crash()
	}
}
