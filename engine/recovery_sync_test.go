package engine

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
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
	s = openTestStore(t, testStoreOptions(fsys))
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
