package engine

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// killedLog gives what kill -9 leaves of a log under `never`: two records durable and below the recovery point, eight more in three segments in the page
// cache only; and its bytes.
func killedLog(t *testing.T) (disk *vfs.Mem, want []byte) {
	t.Helper()
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	l := createTestLog(t, s, testTP, neverSync())
	for i := range int32(10) {
		b := producerTestBatch(7, 0, i, false)
		mustAppend(t, l, b)
		want = append(want, b...)
		if i == 1 {
			must(t, l.Sync())
			must(t, s.Checkpoint())
		}
	}
	awaitRest(t, s)
	// Not through Roll: it has the old segment fsynced, and these are to be as kill -9 finds them before that.
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s.crash()
	s = openTestStore(t, configured(testStoreOptions(fsys), ioqueue.PolicyNever))
	l = createTestLog(t, s, testTP, neverSync())
	waitDurable(t, l, 10)
	release := make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(vfs.Op, string) { <-release }})
	for i := range int32(8) {
		if i%3 == 0 {
			must(t, l.Roll())
		}
		b := producerTestBatch(7, 0, 10+i, false)
		mustAppend(t, l, b)
		want = append(want, b...)
	}
	testkit.Eventually(t, "a fsync under way", func() bool { return s.dirs[0].sched.Stats().Jobs == 0 })
	disk = mem.CrashClone(1, vfs.CrashKillProcess)
	close(release)
	s.crash()
	return disk, want
}

// configured has recovery go by a policy.
func configured(o StoreOptions, p ioqueue.Policy) StoreOptions {
	o.Config = func(string) LogConfig { return LogConfig{Fsync: p} }
	return o
}

// heldFS holds the fsyncs of segments up until release is called.
func heldFS(t *testing.T, mem *vfs.Mem) (fsys *vfs.ErrorFS, entered chan string, release func()) {
	entered, gate := make(chan string, 64), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	fsys = vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(_ vfs.Op, name string) { entered <- name; <-gate }})
	return fsys, entered, release
}

// survivors gives what a power cut leaves of the log, after recovery.
func survivors(t *testing.T, disk *vfs.Mem, seed uint64, mode vfs.CrashMode) (end int64, data []byte) {
	t.Helper()
	s := openTestStore(t, testStoreOptions(disk.CrashClone(seed, mode)))
	defer s.crash()
	l := createTestLog(t, s, testTP, neverSync())
	must(t, l.load())
	must(t, l.Err())
	return l.Offsets().LogEnd, readAll(t, l, 0, ReadOptions{Isolation: ReadAll})
}

// TestOpenBeforeTheFsync: after kill -9 a log under `interval` or `never` is open before what recovery found is fsynced. Until it is, it does not count as
// durable, no checkpoint vouches for it, and a power cut leaves a prefix; after it, all.
func TestOpenBeforeTheFsync(t *testing.T) {
	for _, policy := range []ioqueue.Policy{ioqueue.PolicyInterval, ioqueue.PolicyNever} {
		disk, want := killedLog(t)
		fsys, entered, release := heldFS(t, disk)
		s := openTestStore(t, configured(testStoreOptions(fsys), policy))
		l := createTestLog(t, s, testTP, LogConfig{Fsync: policy})
		testkit.Receive(t, "an fsync", entered)
		if o := l.Offsets(); o.LogEnd != 18 || o.HighWatermark != 18 || o.Durable != 2 {
			t.Fatalf("%v: offsets while the fsync runs: %+v", policy, o)
		}
		if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, want) {
			t.Fatalf("%v: %d bytes can be read, want %d", policy, len(got), len(want))
		}
		if n := l.Stats().UnsyncedBytes; n <= 0 || n >= int64(len(want)) {
			t.Errorf("%v: %d bytes unsynced of %d", policy, n, len(want))
		}
		more := producerTestBatch(7, 0, 18, false)
		mustAppend(t, l, more)
		want = append(want, more...)
		must(t, s.Checkpoint())
		if point := s.dirs[0].ckptPoints[testTP]; point != 2 {
			t.Errorf("%v: recovery point %d while only 2 records are known to be durable", policy, point)
		}
		for seed := range uint64(40) {
			mode := vfs.CrashRandom
			if seed == 0 {
				mode = vfs.CrashLoseUnsynced
			}
			if end, data := survivors(t, disk, seed, mode); end < 2 || !bytes.HasPrefix(want, data) {
				t.Fatalf("%v, seed %d: the log ends at %d with %d bytes, which are not the beginning of it", policy, seed, end, len(data))
			}
		}
		release()
		waitDurable(t, l, 18)
		must(t, s.Checkpoint())
		if end, data := survivors(t, disk, 1, vfs.CrashLoseUnsynced); end < 18 || !bytes.HasPrefix(want, data) {
			t.Fatalf("%v: after the fsync a power cut leaves %d records", policy, end)
		}
		closeTestStore(t, s)
		if end, data := survivors(t, disk, 1, vfs.CrashLoseUnsynced); end != 19 || !bytes.Equal(data, want) {
			t.Fatalf("%v: after a clean stop a power cut leaves %d records", policy, end)
		}
	}
}

// TestStopDuringTheFsync: a clean stop waits for the fsync of what recovery found, and does not take a sync of the file system for it.
func TestStopDuringTheFsync(t *testing.T) {
	disk, want := killedLog(t)
	fsys, entered, release := heldFS(t, disk)
	o := configured(stopOptions(fsys), ioqueue.PolicyNever)
	s := openTestStore(t, o)
	testkit.Receive(t, "an fsync", entered)
	if s.Log(testTP).unflushed() {
		t.Error("what recovery found is taken for what this process has written")
	}
	done := make(chan error, 1)
	go func() { done <- s.Close(context.Background()) }()
	select {
	case err := <-done:
		t.Fatalf("stopped before the fsync: %v", err)
	default:
	}
	release()
	must(t, testkit.Receive(t, "the stop", done))
	if _, clean, _ := readCleanShutdown(disk, testDir); !clean || fsys.Count(vfs.OpSyncAll) != 0 {
		t.Errorf("mark %t, %d syncs of the file system", clean, fsys.Count(vfs.OpSyncAll))
	}
	if _, data := survivors(t, disk, 1, vfs.CrashLoseUnsynced); !bytes.Equal(data, want) {
		t.Errorf("%d bytes survive, want %d", len(data), len(want))
	}
}

// TestFsyncOfTheFoundFails: the directory is offline, as with any fsync that fails; nothing of it counts, is tried again, or is vouched for.
func TestFsyncOfTheFoundFails(t *testing.T) {
	disk, want := killedLog(t)
	fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{})
	o := configured(testStoreOptions(fsys), ioqueue.PolicyNever)
	offline := make(chan error, 1)
	o.OnOffline = func(_ string, err error) { offline <- err }
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Err: syscall.EIO, Count: 1, After: true})
	s := openTestStore(t, o)
	if err := testkit.Receive(t, "OnOffline", offline); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	l := s.Log(testTP)
	_, err := l.Append(testBatch(1, 10, 1), AppendOptions{})
	wantErr(t, err, ErrOffline)
	wantErr(t, l.Sync(), ErrOffline)
	if o := l.Offsets(); o.Durable != 2 || o.LogEnd != 18 {
		t.Errorf("offsets %+v", o)
	}
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, want) {
		t.Errorf("%d bytes can be read, want %d", len(got), len(want))
	}
	if n := fsys.Count(vfs.OpSync); n != 1 {
		t.Errorf("%d fsyncs, want the one that failed", n)
	}
	if err := s.Close(context.Background()); err == nil {
		t.Error("close of a failed directory reports nothing")
	}
	if _, clean, _ := readCleanShutdown(disk, testDir); clean {
		t.Error("the mark is there")
	}
}

// TestCommitFsyncsFirst: under `commit` all that is found is durable before anybody can read it, also where the metadata names the policy only after
// recovery; and where that fails nobody can.
func TestCommitFsyncsFirst(t *testing.T) {
	for _, recovered := range []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyNever} {
		disk, want := killedLog(t)
		s := openTestStore(t, configured(testStoreOptions(disk), recovered))
		l := createTestLog(t, s, testTP, LogConfig{Fsync: ioqueue.PolicyCommit})
		if o := l.Offsets(); o.Durable != 18 || o.HighWatermark != 18 {
			t.Errorf("recovered under %v: offsets %+v", recovered, o)
		}
		if _, data := survivors(t, disk, 1, vfs.CrashLoseUnsynced); !bytes.Equal(data, want) {
			t.Errorf("recovered under %v: %d bytes survive, want %d", recovered, len(data), len(want))
		}
		s.crash()

		disk, _ = killedLog(t)
		fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpSync, Path: logSuffix, Err: syscall.EIO, Count: 1}}})
		s = openTestStore(t, configured(testStoreOptions(fsys), recovered))
		_, err := s.CreateLog(testTP, TopicID{1}, LogConfig{Fsync: ioqueue.PolicyCommit})
		if recovered == ioqueue.PolicyNever {
			wantErr(t, err, ErrOffline)
		}
		_, err = s.Log(testTP).Read(0, ReadOptions{MaxBytes: 1000})
		wantErr(t, err, ErrOffline)
		s.crash()
	}
}

// TestCutsAreFsyncedFirst: what recovery has cut off cannot come back, whatever the policy, once the log takes appends.
func TestCutsAreFsyncedFirst(t *testing.T) {
	disk, _ := killedLog(t)
	path := filepath.Join(testDir, testTP.String(), segmentName(16, logSuffix))
	f, err := disk.OpenReadWrite(path)
	must(t, err)
	size, err := f.Size()
	must(t, err)
	_, err = f.WriteAt([]byte{0xff}, size-3)
	must(t, err)
	must(t, f.Close())
	fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{})
	opened := make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: segmentName(16, logSuffix), Count: 1, Hook: func(vfs.Op, string) {
		select {
		case <-opened:
			t.Error("the log was open before the cut was fsynced")
		case <-time.After(50 * time.Millisecond):
		}
	}})
	s := openTestStore(t, configured(testStoreOptions(fsys), ioqueue.PolicyNever))
	close(opened)
	defer s.crash()
	l := createTestLog(t, s, testTP, neverSync())
	if o := l.Offsets(); o.LogEnd != 17 || o.Durable != 17 {
		t.Errorf("offsets after a cut: %+v", o)
	}
	after := disk.CrashClone(1, vfs.CrashLoseUnsynced)
	info, err := after.Stat(path)
	must(t, err)
	if cut := l.active().size.Load(); info.Size != cut || cut >= size {
		t.Errorf("after a power cut the segment has %d bytes, want the %d of the cut", info.Size, cut)
	}
}

// TestFailedFsyncOfRecoveryIsNotRepeated: each fsync that opening a log needs takes the directory offline when it fails, and the next call does not find
// one that succeeds.
func TestFailedFsyncOfRecoveryIsNotRepeated(t *testing.T) {
	for skip := range 8 {
		disk, _ := killedLog(t)
		must(t, vfs.WriteFileAtomic(disk, filepath.Join(testDir, testTP.String(), segmentName(0, logSuffix)+".1"+deletedSuffix), nil))
		fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{})
		fsys.Add(vfs.Rule{Ops: vfs.OpSync | vfs.OpSyncDir, Path: testTP.String(), Skip: skip, Err: syscall.EIO, Count: 1, After: true})
		s := openTestStore(t, testStoreOptions(fsys))
		l := s.Log(testTP)
		if l.load() == nil {
			if skip < 6 {
				t.Errorf("fsync %d of recovery failed, and the log is good", skip)
			}
			s.crash()
			continue
		}
		testkit.Eventually(t, "the directory offline", func() bool { return s.dirs[0].err() != nil })
		syncs := fsys.Count(vfs.OpSync | vfs.OpSyncDir)
		for range 3 {
			_, err := l.Read(0, ReadOptions{MaxBytes: 1000})
			wantErr(t, err, ErrOffline)
			wantErr(t, l.Sync(), ErrOffline)
		}
		if n := fsys.Count(vfs.OpSync|vfs.OpSyncDir) - syncs; n != 0 {
			t.Errorf("%d fsyncs after number %d has failed", n, skip)
		}
		s.crash()
	}
}
