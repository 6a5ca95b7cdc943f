package engine

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/vfs"
)

func spareListed(t *testing.T, fsys vfs.FS, l *Log) bool {
	t.Helper()
	names, err := fsys.List(l.Dir())
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(names, spareName)
}

func awaitSpare(t *testing.T, l *Log, want spareState) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		got := l.mu.spare
		l.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the spare is in state %d, want %d", got, want)
		}
	}
}

// TestNextSegmentIsPreallocated follows the prepared file: it appears before the active segment is full, becomes the next one, whose
// name is then as durable as any, and goes with a clean stop.
func TestNextSegmentIsPreallocated(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	// Without producer snapshots nobody but the segment's own first fsync makes its name durable.
	noSnapshots := vfs.Rule{Ops: vfs.OpCreate, Path: snapshotSuffix, Err: syscall.ENOSPC}
	s := openTestStore(t, testStoreOptions(vfs.NewErrorFS(fsys, vfs.ErrorFSOptions{Rules: []vfs.Rule{noSnapshots}})))
	l := createTestLog(t, s, testTP, LogConfig{SegmentBytes: 4096, Preallocate: true})
	var want []byte
	add := func() {
		b := testBatch(1, 400, 1)
		mustAppend(t, l, b)
		want = append(want, b...)
	}
	for l.Size() < 3072-512 {
		add()
	}
	if spareListed(t, fsys, l) {
		t.Fatal("a spare before the last quarter")
	}
	for l.Size() < 3600 {
		add()
	}
	awaitSpare(t, l, spareReady)
	if !spareListed(t, fsys, l) {
		t.Fatal("no spare in the directory")
	}
	for len(l.segments()) < 2 {
		add()
	}
	if spareListed(t, fsys, l) {
		t.Fatal("the roll did not take the spare")
	}
	end := l.Offsets().LogEnd
	waitDurable(t, l, end)
	if got := l.active(); !strings.HasSuffix(got.file.Name(), segmentName(end-1, logSuffix)) {
		t.Fatalf("active segment %s, want the one at %d", got.file.Name(), end-1)
	}

	// What is durable in the renamed file survives a power cut.
	clone := fsys.CrashClone(1, vfs.CrashLoseUnsynced)
	s2 := openTestStore(t, testStoreOptions(clone))
	if got := readAll(t, s2.Log(testTP), 0, ReadOptions{}); !bytes.Equal(got, want) {
		t.Fatalf("after a power cut: %d bytes, want %d", len(got), len(want))
	}
	closeTestStore(t, s2)

	for l.active().size.Load() < 3600 {
		add()
	}
	awaitSpare(t, l, spareReady)
	closeTestStore(t, s)
	if spareListed(t, fsys, l) {
		t.Fatal("a clean stop left the spare")
	}
}

// TestNoSpareWithoutPreallocate: the default reserves nothing.
func TestNoSpareWithoutPreallocate(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer closeTestStore(t, s)
	l := createTestLog(t, s, testTP, LogConfig{SegmentBytes: 4096})
	for len(l.segments()) < 3 {
		mustAppend(t, l, testBatch(1, 400, 1))
		if l.mu.spare != spareNone {
			t.Fatal("a spare is being made")
		}
	}
}
