package ioqueue

import (
	"errors"
	"fmt"
	"path"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// togetherLogs are logs of their own directories on one disk, whose files nobody syncs by themselves.
func togetherLogs(t *testing.T, s *Scheduler, fsys vfs.FS, n int) (logs []*testLog, streams []*Stream) {
	for i := range n {
		dir := fmt.Sprintf("/d%d", i)
		must(t, fsys.MkdirAll(dir))
		l := newTestLog(t, s, subFS{fsys, dir}, StreamOptions{Policy: PolicyNever})
		logs, streams = append(logs, l), append(streams, l.stream)
	}
	return logs, streams
}

// subFS puts a test log's names into a directory.
type subFS struct {
	vfs.FS
	dir string
}

func (f subFS) Create(name string) (vfs.File, error) { return f.FS.Create(path.Join(f.dir, name)) }
func (f subFS) Open(name string) (vfs.File, error)   { return f.FS.Open(path.Join(f.dir, name)) }
func (f subFS) SyncDir(string) error                 { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSyncTogetherIsOneSync(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	all, err := fsys.OpenFileSystem("/")
	must(t, err)
	s := NewScheduler(Options{})
	defer s.Close()
	logs, streams := togetherLogs(t, s, fsys, 70)
	for i, l := range logs {
		l.append(1 + i)
	}
	must(t, s.SyncTogether(streams, all.SyncAll))
	if syncs, alls := fsys.Count(vfs.OpSync), fsys.Count(vfs.OpSyncAll); syncs != 0 || alls != 1 {
		t.Errorf("%d fsyncs and %d of the file system, want 0 and 1", syncs, alls)
	}
	after := mem.CrashClone(1, vfs.CrashLoseUnsynced)
	for i, l := range logs {
		end, reported, _ := l.snapshot()
		if l.stream.Durable() != end || len(reported) != 1 || reported[0] != end || l.stream.UnsyncedBytes() != 0 {
			t.Errorf("log %d ends at %d: durable %d, reported %v, %d bytes unsynced", i, end, l.stream.Durable(), reported, l.stream.UnsyncedBytes())
		}
		if got := l.recovered(subFS{after, fmt.Sprintf("/d%d", i)}); got != end {
			t.Errorf("log %d: %d of %d records survive", i, got, end)
		}
	}
}

// TestSyncTogetherCountsOnlyWhatWasBefore: what is written while the sync runs, or cut, is not durable by it.
func TestSyncTogetherCountsOnlyWhatWasBefore(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	all, err := mem.OpenFileSystem("/")
	must(t, err)
	s := NewScheduler(Options{})
	defer s.Close()
	logs, streams := togetherLogs(t, s, mem, 3)
	for _, l := range logs {
		l.append(10)
	}
	must(t, s.SyncTogether(streams, func() error {
		must(t, all.SyncAll())
		logs[0].append(5)
		logs[1].truncate(4)
		logs[1].append(3)
		return nil
	}))
	for i, want := range []int64{10, 0, 10} {
		if got := logs[i].stream.Durable(); got != want {
			t.Errorf("log %d: durable %d, want %d", i, got, want)
		}
	}
	must(t, logs[0].stream.SyncNow())
	must(t, logs[1].stream.SyncNow())
	for i, want := range []int64{15, 7, 10} {
		if got := logs[i].stream.Durable(); got != want {
			t.Errorf("log %d after SyncNow: durable %d, want %d", i, got, want)
		}
	}
}

// TestSyncTogetherFails: the directory is offline, nothing counts, and nothing is synced again.
func TestSyncTogetherFails(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	all, err := fsys.OpenFileSystem("/")
	must(t, err)
	offline := make(chan error, 1)
	s := NewScheduler(Options{OnOffline: func(err error) { offline <- err }})
	defer s.Close()
	logs, streams := togetherLogs(t, s, fsys, 3)
	for _, l := range logs {
		l.append(10)
	}
	fsys.Add(vfs.Rule{Ops: vfs.OpSyncAll, Err: syscall.EIO, Count: 1, After: true})
	if err := s.SyncTogether(streams, all.SyncAll); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	if err := testkit.Receive(t, "OnOffline", offline); !errors.Is(err, syscall.EIO) {
		t.Fatalf("offline: %v", err)
	}
	for i, l := range logs {
		if err := l.stream.SyncNow(); !errors.Is(err, syscall.EIO) || l.stream.Durable() != 0 {
			t.Errorf("log %d: SyncNow %v, durable %d", i, err, l.stream.Durable())
		}
	}
	if err := s.SyncTogether(streams, all.SyncAll); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the second time: %v", err)
	}
	if n := fsys.Count(vfs.OpSync | vfs.OpSyncAll); n != 1 {
		t.Errorf("%d syncs were tried, want the one that failed", n)
	}
}

// TestSyncTogetherLeavesBusyStreamsOut: a stream whose fsync is under way is not touched; it is synced by its worker.
func TestSyncTogetherLeavesBusyStreamsOut(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := NewScheduler(Options{})
	defer s.Close()
	logs, streams := togetherLogs(t, s, fsys, 2)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	fsys.Add(vfs.Rule{Ops: vfs.OpSync, Path: "/d0", Count: 1, Hook: func(vfs.Op, string) { entered <- struct{}{}; <-release }})
	for _, l := range logs {
		l.append(1)
	}
	done := make(chan error, 1)
	go func() { done <- streams[0].SyncNow() }()
	testkit.Receive(t, "the fsync", entered)
	must(t, s.SyncTogether(streams, func() error { return nil }))
	if d0, d1 := streams[0].Durable(), streams[1].Durable(); d0 != 0 || d1 != 1 {
		t.Errorf("durable %d and %d while the first is in its fsync, want 0 and 1", d0, d1)
	}
	close(release)
	must(t, testkit.Receive(t, "SyncNow", done))
	if streams[0].Durable() != 1 {
		t.Errorf("durable %d", streams[0].Durable())
	}
	s.Close()
	if err := s.SyncTogether(streams, func() error { t.Error("sync of a closed scheduler"); return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
