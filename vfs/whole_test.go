package vfs

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWholeSync: everything written before it is durable, names included, and nothing written after.
func TestWholeSync(t *testing.T) {
	m := NewMem(MemOptions{})
	e := NewErrorFS(m, ErrorFSOptions{})
	w, err := OpenWhole(e, "/")
	must(t, err)
	must(t, e.MkdirAll("a/b"))
	f := create(t, e, "a/b/f")
	must(t, second(f.WriteAt([]byte("durable"), 0)))
	must(t, w.Sync())
	must(t, second(f.WriteAt([]byte("LOST"), 0)))
	create(t, e, "a/g")
	clone := m.CrashClone(1, CrashLoseUnsynced)
	if data, err := ReadFile(clone, "a/b/f", 100); err != nil || string(data) != "durable" {
		t.Fatalf("after the crash: %q, %v", data, err)
	}
	if _, err := clone.Stat("a/g"); err == nil {
		t.Fatal("a name made after the sync survived")
	}
	if n := e.Count(OpSyncFS); n != 1 {
		t.Fatalf("%d whole syncs counted, want 1", n)
	}
	e.Add(Rule{Ops: OpSyncFS, Err: syscall.EIO})
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	must(t, w.Close())
}

// TestWholeSyncOS calls the real one where there is one.
func TestWholeSyncOS(t *testing.T) {
	dir := t.TempDir()
	w, err := OpenWhole(OS(), dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not here: %v", err)
	}
	must(t, err)
	f := create(t, OS(), filepath.Join(dir, "f"))
	must(t, second(f.WriteAt([]byte("x"), 0)))
	must(t, w.Sync())
	must(t, w.Close())
	must(t, f.Close())
}
