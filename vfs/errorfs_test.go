package vfs

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
)

func TestRulesSelect(t *testing.T) {
	m := NewMem(MemOptions{})
	e := NewErrorFS(m, ErrorFSOptions{Rules: []Rule{
		{Ops: OpSync, Path: "bad", Skip: 1, Count: 2, Err: syscall.EIO},
	}})
	bad, good := create(t, e, "bad.log"), create(t, e, "good.log")
	for i, want := range []bool{false, true, true, false} {
		sync := bad.Datasync
		if i%2 == 1 {
			sync = bad.Sync
		}
		if err := sync(); errors.Is(err, syscall.EIO) != want {
			t.Fatalf("sync %d: %v, want EIO: %v", i, err, want)
		}
		must(t, good.Datasync())
	}
	if n := e.Count(OpSync); n != 8 {
		t.Fatalf("%d syncs counted, want 8", n)
	}
	remove := e.Add(Rule{Err: syscall.EROFS})
	for what, err := range map[string]error{
		"open": openErr(e, "bad.log"), "create": createErr(e, "x"), "read": second(bad.ReadAt(nil, 0)),
		"write": second(bad.WriteAt([]byte("x"), 0)), "size": second(bad.Size()), "truncate": bad.Truncate(0),
		"sync": bad.Sync(), "writeback": bad.WriteBack(0, 1), "writeout": bad.WriteOut(0, 1), "preallocate": bad.Preallocate(0, 1),
		"remove": e.Remove("bad.log"), "removeall": e.RemoveAll("bad.log"), "rename": e.Rename("bad.log", "x"),
		"mkdir": e.MkdirAll("d"), "syncdir": e.SyncDir("/"), "list": second(e.List("/")),
		"stat": second(e.Stat("/")), "usage": second(e.DiskUsage("/")), "lock": second(e.Lock("l")),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	remove()
	if err := good.Close(); err != nil {
		t.Fatalf("after the rule was taken back: %v", err)
	}
	e.Add(Rule{Ops: OpClose, Err: syscall.EIO})
	if err := bad.Close(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("close: %v, want EIO", err)
	}
	e.Clear()
	if err := bad.Close(); !errors.Is(err, syscall.EBADF) {
		t.Fatalf("a failed close left the file open: %v", err)
	}
}

func TestRenameMatchesBothNames(t *testing.T) {
	for _, path := range []string{"old", "new"} {
		e := NewErrorFS(NewMem(MemOptions{}), ErrorFSOptions{})
		create(t, e, "old").Close()
		e.Add(Rule{Ops: OpRename, Path: path, Err: syscall.EIO})
		if err := e.Rename("old", "new"); !errors.Is(err, syscall.EIO) {
			t.Errorf("rule for %q: %v, want EIO", path, err)
		}
	}
}

func TestShortWriteRule(t *testing.T) {
	m := NewMem(MemOptions{})
	e := NewErrorFS(m, ErrorFSOptions{Rules: []Rule{{Ops: OpWrite, Count: 1, Err: syscall.ENOSPC, ShortBytes: 5}}})
	f := create(t, e, "f")
	n, err := f.Writev([][]byte{[]byte("abc"), {}, []byte("defg"), []byte("hi")}, 0)
	if n != 5 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Writev = %d, %v, want 5, ENOSPC", n, err)
	}
	if got := contents(t, m, "f"); got != "abcde" {
		t.Fatalf("contents %q", got)
	}
	write(t, f, "f", 5)
}

// The fsync that fails although, or because, it reached the disk.
func TestFailAfter(t *testing.T) {
	m := NewMem(MemOptions{})
	e := NewErrorFS(m, ErrorFSOptions{})
	f := create(t, e, "f")
	must(t, e.SyncDir("/"))
	write(t, f, "abc", 0)
	e.Add(Rule{Ops: OpSync | OpWrite, Err: syscall.EIO, After: true})
	if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Datasync: %v", err)
	}
	if got := contents(t, m.CrashClone(1, CrashLoseUnsynced), "f"); got != "abc" {
		t.Fatalf("contents after a crash %q, want abc: the sync was carried out", got)
	}
	if n, err := f.WriteAt([]byte("d"), 3); n != 1 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
	e.Clear()
	e.Add(Rule{Ops: OpOpen, Err: syscall.EMFILE, After: true})
	if err := openErr(e, "f"); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("open: %v", err)
	}
}

func TestDelayAndHook(t *testing.T) {
	c := clock.NewFake(time.Unix(0, 0))
	e := NewErrorFS(NewMem(MemOptions{}), ErrorFSOptions{Clock: c})
	f := create(t, e, "f")
	reached := make(chan string, 1)
	e.Add(Rule{Ops: OpSync, Delay: 200 * time.Millisecond, Hook: func(op Op, name string) {
		reached <- op.String() + " " + name
	}})
	done := make(chan error, 1)
	go func() { done <- f.Sync() }()
	if got := testkit.Receive(t, "hook", reached); got != "sync f" {
		t.Fatalf("hook got %q", got)
	}
	testkit.Eventually(t, "delayed", func() bool { return c.Pending() == 1 })
	c.Advance(200 * time.Millisecond)
	must(t, testkit.Receive(t, "sync", done))
}

func TestOpNames(t *testing.T) {
	if got := (OpWrite | OpSync).String(); got != "write|sync" {
		t.Errorf("%q", got)
	}
	if n := len(opNames); OpAny != 1<<n-1 {
		t.Errorf("OpAny %b has not the %d operations that have names", OpAny, n)
	}
}
