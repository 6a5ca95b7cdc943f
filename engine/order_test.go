package engine

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// TestCleanMarkIsTheLastWord: a disk that holds the mark holds everything that a clean start goes by. The power goes before every
// operation of a shutdown.
func TestCleanMarkIsTheLastWord(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	var mu sync.Mutex
	var clones []*vfs.Mem
	hook := func(vfs.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		for _, mode := range []vfs.CrashMode{vfs.CrashLoseUnsynced, vfs.CrashKeepAll} {
			clones = append(clones, mem.CrashClone(1, mode))
		}
	}
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, neverSync())
	for range 10 {
		mustAppend(t, l, testBatch(2, 100, 1))
	}
	must(t, s.Checkpoint())
	hook(0, "")
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpMutating | vfs.OpSync | vfs.OpSyncDir, Hook: hook})
	closeTestStore(t, s)
	remove()
	hook(0, "")
	marked := 0
	for i, clone := range clones {
		if _, clean, err := readCleanShutdown(clone, testDir); err != nil || !clean {
			continue
		}
		marked++
		points, err := readOffsetCheckpoint(clone, filepath.Join(testDir, recoveryPointCheckpointName))
		if err != nil || points[testTP] != 20 {
			t.Fatalf("clone %d of %d is marked as clean, and its recovery point is %d (%v), want 20", i, len(clones), points[testTP], err)
		}
		s := openTestStore(t, testStoreOptions(clone))
		if end := s.Log(testTP).Offsets().LogEnd; end != 20 {
			t.Fatalf("clone %d of %d is marked as clean, and its log ends at %d, want 20", i, len(clones), end)
		}
		s.crash()
	}
	if marked == 0 || marked == len(clones) {
		t.Fatalf("%d of %d clones are marked", marked, len(clones))
	}
}

// TestCleanMarkGoesAtStart: from the moment that a store is open, a crash is no clean stop.
func TestCleanMarkGoesAtStart(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	closeTestStore(t, openTestStore(t, testStoreOptions(mem)))
	if _, clean, err := readCleanShutdown(mem, testDir); err != nil || !clean {
		t.Fatalf("clean after a stop: got %t, %v", clean, err)
	}
	s := openTestStore(t, testStoreOptions(mem))
	defer s.crash()
	for _, mode := range []vfs.CrashMode{vfs.CrashLoseUnsynced, vfs.CrashKillProcess} {
		if _, clean, err := readCleanShutdown(mem.CrashClone(1, mode), testDir); err != nil || clean {
			t.Fatalf("clean after a crash (%s): got %t, %v", mode, clean, err)
		}
	}
}

// TestNoCleanMarkAfterAFailedFsync: a start that trusted the mark would take the end of the log for durable, where the failed fsync may have
// lost what lies before it.
func TestNoCleanMarkAfterAFailedFsync(t *testing.T) {
	for _, atClose := range []bool{true, false} {
		mem := vfs.NewMem(vfs.MemOptions{})
		fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
		s := openTestStore(t, testStoreOptions(fsys))
		l := createTestLog(t, s, testTP, neverSync())
		mustAppend(t, l, testBatch(2, 100, 1))
		must(t, l.Sync())
		mustAppend(t, l, testBatch(2, 100, 1))
		remove := fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: ".log", Err: syscall.EIO})
		if !atClose {
			wantErr(t, l.Sync(), syscall.EIO)
			remove() // the next fsync succeeds, and says nothing about what was lost
		}
		if err := s.Close(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("closed with %v, want EIO", err)
		}
		if _, clean, err := readCleanShutdown(mem, testDir); err != nil || clean {
			t.Errorf("failed fsync at close %t: marked as clean %t, %v", atClose, clean, err)
		}
	}
}

// TestSegmentsStayUntilTheLogStartIsWritten: a deletion that was asked for before a log start moved must not go by the new one, which
// a power cut may still take back.
func TestSegmentsStayUntilTheLogStartIsWritten(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	cfg := neverSync()
	cfg.SegmentBytes, cfg.FileDeleteDelayMs = 1000, -1
	l := createTestLog(t, s, testTP, cfg)
	var want []byte
	for range 12 {
		b := testBatch(1, 300, 1)
		mustAppend(t, l, b)
		want = append(want, b...)
	}
	must(t, l.Sync())
	must(t, s.Checkpoint())
	segments := len(l.segments())
	l.moveLogStart(10)
	l.dropBelowStart()
	if n := len(l.segments()); n != segments {
		t.Fatalf("%d of %d segments are left before the log start is written", n, segments)
	}
	s2 := openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashKeepAll)))
	if got := readAll(t, s2.Log(testTP), 0, ReadOptions{}); !bytes.Equal(got, want) {
		t.Fatalf("after a power cut: %d bytes, want %d", len(got), len(want))
	}
	s2.crash()
	must(t, s.Checkpoint())
	l.dropBelowStart()
	if n := len(l.segments()); n >= segments-2 {
		t.Fatalf("%d of %d segments are left after the log start is written", n, segments)
	}
	closeTestStore(t, s)
}
