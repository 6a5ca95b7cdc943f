package engine

import (
	"bytes"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

func TestFullDiskKeepsTheLog(t *testing.T) {
	for _, policy := range []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyNever} {
		mem := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, testStoreOptions(mem))
		l := createTestLog(t, s, testTP, LogConfig{Fsync: policy, SegmentBytes: 8192})
		var want [][]byte
		for range 10 {
			b := testBatch(1, 700, 1)
			mustAppend(t, l, b)
			want = append(want, b)
		}
		must(t, l.Sync())
		mem.SetCapacity(1) // full
		refused := 0
		for range 30 {
			b := testBatch(2, 900, 1)
			if _, err := l.Append(b, AppendOptions{}); err == nil {
				want = append(want, b)
			} else {
				wantErr(t, err, ErrNoSpace)
				refused++
			}
		}
		if refused == 0 {
			t.Fatal("a full disk refused nothing")
		}
		if got := readAll(t, l, 0, ReadOptions{Isolation: ReadAll}); !bytes.Equal(got, bytes.Join(want, nil)) {
			t.Fatal("a full disk changed the log")
		}
		must(t, l.Err())
		mem.SetCapacity(0)
		testkit.Eventually(t, "appends after there is space", func() bool {
			b := testBatch(1, 800, 1)
			_, err := l.Append(b, AppendOptions{})
			if err == nil {
				want = append(want, b)
			}
			return err == nil
		})
		must(t, l.Sync())
		s.crash()
		s = openTestStore(t, testStoreOptions(mem.CrashClone(3, vfs.CrashLoseUnsynced)))
		l = createTestLog(t, s, testTP, LogConfig{})
		if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(want, nil)) {
			t.Fatal("after a crash the log is another one")
		}
		closeTestStore(t, s)
	}
}

// TestShortWriteIsCutOff: part of a batch arrives before the disk is full, and must not stay behind.
func TestShortWriteIsCutOff(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, neverSync())
	first := testBatch(1, 100, 1)
	mustAppend(t, l, first)
	remove := fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 150})
	_, err := l.Append(testBatch(5, 200, 1), AppendOptions{})
	wantErr(t, err, ErrNoSpace)
	remove()
	size, err := l.active().file.Size()
	must(t, err)
	if size != int64(len(first)) {
		t.Fatalf("size of the file: got %d, want %d", size, len(first))
	}
	var second []byte
	testkit.Eventually(t, "the cut", func() bool {
		second = testBatch(1, 10, 1)
		_, err := l.Append(second, AppendOptions{})
		return err == nil
	})
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, append(bytes.Clone(first), second...)) {
		t.Fatal("the log is another one")
	}
	closeTestStore(t, s)
}

// TestCutIsDurableBeforeTheNextAppend: while the cut of a failed write is not fsynced, its rest could come back behind a shorter batch.
func TestCutIsDurableBeforeTheNextAppend(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, neverSync())
	first := testBatch(1, 100, 1)
	mustAppend(t, l, first)
	must(t, l.Sync())
	entered, release := make(chan struct{}, 8), make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Hook: func(vfs.Op, string) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-t.Context().Done():
		}
	}})
	fsys.Add(vfs.Rule{Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 150, Count: 1})
	_, err := l.Append(testBatch(5, 200, 1), AppendOptions{})
	wantErr(t, err, ErrNoSpace)
	testkit.Receive(t, "fsync of the cut", entered)
	writes := fsys.Count(vfs.OpWrite)
	_, err = l.Append(testBatch(1, 10, 1), AppendOptions{})
	wantErr(t, err, ErrNoSpace)
	wantErr(t, l.Roll(), ErrNoSpace)
	if n := fsys.Count(vfs.OpWrite) - writes; n != 0 {
		t.Fatalf("%d writes before the cut is durable", n)
	}
	close(release)
	second := testBatch(1, 10, 1)
	testkit.Eventually(t, "appends after the cut", func() bool {
		_, err := l.Append(second, AppendOptions{})
		return err == nil
	})
	must(t, l.Sync())
	s.crash()
	s = openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashLoseUnsynced)))
	defer closeTestStore(t, s)
	if got := readAll(t, s.Log(testTP), 0, ReadOptions{}); !bytes.Equal(got, append(first, second...)) {
		t.Fatal("after a power cut the log is another one")
	}
}

// TestFailedDirectory: a write or fsync error takes its directory offline for good, without an acknowledgement after it;
// reads and other directories go on.
func TestFailedDirectory(t *testing.T) {
	for name, rule := range map[string]vfs.Rule{
		"write":     {Ops: vfs.OpWrite, Path: "/a/", Err: syscall.EIO},
		"fsync":     {Ops: vfs.OpSync, Path: "/a/", Err: syscall.EIO, Count: 1},
		"read-only": {Ops: vfs.OpMutating, Path: "/a/", Err: syscall.EROFS},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem(vfs.MemOptions{})
			fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
			o := testStoreOptions(fsys)
			o.Dirs = []string{"/a", "/b"}
			offline := make(chan string, 4)
			o.OnOffline = func(dir string, err error) { offline <- dir }
			s := openTestStore(t, o)
			a := createTestLog(t, s, TopicPartition{"t", 0}, LogConfig{})
			b := createTestLog(t, s, TopicPartition{"t", 1}, LogConfig{})
			if filepath.Dir(a.Dir()) != "/a" || filepath.Dir(b.Dir()) != "/b" {
				t.Fatalf("placement: %s, %s", a.Dir(), b.Dir())
			}
			good := testBatch(2, 50, 1)
			res := mustAppend(t, a, good)
			mustAppend(t, b, testBatch(2, 50, 1))
			waitDurable(t, a, res.EndOffset)
			fsys.Add(rule)
			woken := make(chan error, 1)
			w := &Waiter{For: WaitDurable, Offset: res.EndOffset + 1, Wake: func(err error) { woken <- err }}
			if !a.Watch(w) {
				t.Fatal("not watched")
			}
			_, err := a.Append(testBatch(1, 50, 1), AppendOptions{})
			if err != nil && !errors.Is(err, ErrOffline) {
				t.Fatalf("append: %v", err)
			}
			wantErr(t, testkit.Receive(t, "the waiter", woken), ErrOffline)
			if dir := testkit.Receive(t, "OnOffline", offline); dir != "/a" {
				t.Fatalf("offline: %s", dir)
			}
			fsys.Clear()
			for range 3 {
				_, err := a.Append(testBatch(1, 50, 1), AppendOptions{})
				wantErr(t, err, ErrOffline)
				wantErr(t, a.Sync(), ErrOffline)
			}
			if o := a.Offsets(); o.Durable != res.EndOffset || o.HighWatermark != res.EndOffset {
				t.Fatalf("offsets moved after the error: %+v", o)
			}
			if got := readAll(t, a, 0, ReadOptions{}); !bytes.Equal(got, good) {
				t.Fatal("reads do not go on")
			}
			r := mustAppend(t, b, testBatch(1, 50, 1))
			waitDurable(t, b, r.EndOffset)
			if st := s.DirStats(); st[0].Err == nil || st[1].Err != nil {
				t.Fatalf("dir stats: %v, %v", st[0].Err, st[1].Err)
			}
			c := createTestLog(t, s, TopicPartition{"u", 0}, LogConfig{})
			if filepath.Dir(c.Dir()) != "/b" {
				t.Fatalf("a new partition was placed in the failed directory: %s", c.Dir())
			}
			if err := s.Close(t.Context()); err == nil {
				t.Fatal("close of a failed directory reports nothing")
			}
			// The failed directory has no clean mark, the other has.
			for dir, want := range map[string]bool{"/a": false, "/b": true} {
				if _, clean, _ := readCleanShutdown(mem, dir); clean != want {
					t.Errorf("%s: clean mark %t, want %t", dir, clean, want)
				}
			}
		})
	}
}

// TestNothingIsDurableAfterAFailedFsync: the bytes of a failed fsync, and all after them, are never acknowledged.
func TestNothingIsDurableAfterAFailedFsync(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, LogConfig{})
	res := mustAppend(t, l, testBatch(1, 50, 1))
	waitDurable(t, l, res.EndOffset)
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: logSuffix, Err: syscall.EIO, Count: 1, After: true})
	mustAppend(t, l, testBatch(1, 50, 1))
	testkit.Eventually(t, "the log to fail", func() bool { return l.Err() != nil })
	if o := l.Offsets(); o.Durable != res.EndOffset {
		t.Fatalf("durable: got %d, want %d", o.Durable, res.EndOffset)
	}
	syncs := fsys.Count(vfs.OpSync)
	_ = l.Sync()
	if n := fsys.Count(vfs.OpSync); n != syncs {
		t.Fatalf("%d more fsyncs after a failed one", n-syncs)
	}
	s.crash()
}

// TestUnopenableDirectory: while a directory cannot be opened, a partition that is not found elsewhere is not taken for new.
func TestUnopenableDirectory(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	o := testStoreOptions(mem)
	o.Dirs = []string{"/a", "/b"}
	s := openTestStore(t, o)
	for i := range int32(2) {
		mustAppend(t, createTestLog(t, s, TopicPartition{"t", i}, LogConfig{}), testBatch(1, 10, 1))
	}
	closeTestStore(t, s)
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Path: "/a", Err: syscall.EIO}}})
	o.FS = fsys
	s = openTestStore(t, o)
	for i, want := range []error{ErrOffline, nil} {
		_, err := s.CreateLog(TopicPartition{"t", int32(i)}, TopicID{1}, LogConfig{})
		if !errors.Is(err, want) {
			t.Errorf("partition %d: got %v, want %v", i, err, want)
		}
	}
	if st := s.DirStats(); st[0].Err == nil || st[1].Err != nil {
		t.Errorf("dir stats: %v, %v", st[0].Err, st[1].Err)
	}
	closeTestStore(t, s)
	o.FS = mem
	s = openTestStore(t, o)
	for i := range int32(2) {
		if o := s.Log(TopicPartition{"t", i}).Offsets(); o.LogEnd != 1 {
			t.Errorf("partition %d: %+v", i, o)
		}
	}
	closeTestStore(t, s)
}
