package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// stopOptions have a clean stop of the directory sync it whole, however few logs there are.
func stopOptions(fsys vfs.FS) StoreOptions {
	o := testStoreOptions(fsys)
	o.SyncTogetherMin = 1
	return o
}

// dirtyLogs are logs of several segments, producers, epochs and an aborted transaction, with nothing of that fsynced but some of the first.
func dirtyLogs(t *testing.T, s *Store, n int) (want []wantLog) {
	t.Helper()
	for i := range n {
		tp := TopicPartition{Topic: fmt.Sprintf("t%d", i), Partition: int32(i)}
		w := wantLog{tp: tp, id: TopicID{byte(i + 1)}, kind: kindTxn, cfg: neverSync()}
		l, err := s.CreateLog(tp, w.id, w.cfg)
		must(t, err)
		add := func(b []byte, o AppendOptions) {
			w.originals = append(w.originals, append([]byte(nil), b...))
			if _, err := l.Append(b, o); err != nil {
				t.Fatal(err)
			}
			w.history = append(w.history, b)
		}
		add(producerTestBatch(7, 0, 0, false), AppendOptions{})
		if i == 0 {
			must(t, l.Sync())
		}
		add(producerTestBatch(8, 0, 0, true), AppendOptions{LeaderEpoch: 2})
		add(record.AppendEndTxnMarker(nil, record.EndTxnMarker{ProducerID: 8, TimestampMs: 1}), AppendOptions{LeaderEpoch: 2, Origin: OriginInternal})
		if i%2 == 0 {
			must(t, l.Roll())
		}
		add(producerTestBatch(7, 0, 1, false), AppendOptions{LeaderEpoch: 3})
		w.end = l.Offsets().LogEnd
		w.written = w.end
		want = append(want, w)
	}
	return want
}

// awaitRest waits until no fsync and no job of the first directory is under way.
func awaitRest(t *testing.T, s *Store) {
	t.Helper()
	testkit.Eventually(t, "the workers at rest", func() bool {
		st := s.dirs[0].sched.Stats()
		return st.Queued+st.Running+st.Jobs == 0
	})
}

// TestStopSyncsTogether: a clean stop of many logs makes all durable with two syncs, and not with an fsync for each.
func TestStopSyncsTogether(t *testing.T) {
	const n = 40
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	o := stopOptions(fsys)
	o.SyncTogetherMin = n
	s := openTestStore(t, o)
	for i := range int32(n) {
		l := createTestLog(t, s, TopicPartition{"t", i}, neverSync())
		mustAppend(t, l, producerTestBatch(7, 0, 0, false))
	}
	awaitRest(t, s)
	syncs := fsys.Count(vfs.OpSync | vfs.OpSyncDir)
	closeTestStore(t, s)
	if got := fsys.Count(vfs.OpSyncAll); got != 2 {
		t.Errorf("%d syncs of the file system, want 2", got)
	}
	// Three checkpoints and the mark, a sync of the file and of the directory for each.
	if got := fsys.Count(vfs.OpSync|vfs.OpSyncDir) - syncs; got > 8 {
		t.Errorf("%d fsyncs beside those", got)
	}
	fsys = vfs.NewErrorFS(mem.CrashClone(1, vfs.CrashLoseUnsynced), vfs.ErrorFSOptions{})
	s = openTestStore(t, stopOptions(fsys))
	for i := range int32(n) {
		l := s.Log(TopicPartition{"t", i})
		if l == nil || !l.start.clean || l.Offsets().LogEnd != 1 || l.Err() != nil || l.TopicID() != (TopicID{1}) || l.Stats().Producers != 1 {
			t.Fatalf("partition %d after a clean stop and a power cut: %+v", i, l)
		}
	}
	closeTestStore(t, s)
	if got := fsys.Count(vfs.OpSyncAll); got != 0 {
		t.Errorf("%d syncs of the file system by a stop that had nothing to do", got)
	}
}

// TestStopCrashes crashes a clean stop before each of its operations, in every way: what the mark vouches for is there, and without the mark nothing
// that was durable before is missing.
func TestStopCrashes(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	rng := testkit.Rand(seed)
	marks, whole := 0, 0
	for _, least := range []int{1, -1} {
		mem := vfs.NewMem(vfs.MemOptions{})
		fsys := &wholeFS{ErrorFS: vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})}
		o := stopOptions(fsys)
		o.SyncTogetherMin = least
		s := openTestStore(t, o)
		want := expectation{logs: dirtyLogs(t, s, 4)}
		want.logs[0].durable = 1
		var disks []*vfs.Mem
		var synced []bool
		var mu sync.Mutex
		fsys.Add(vfs.Rule{Ops: vfs.OpMutating, Hook: func(vfs.Op, string) { // jobs that the appends left come between those of the stop
			mu.Lock()
			defer mu.Unlock()
			synced = append(synced, fsys.past.Load() == 2)
			disks = append(disks, mem.CrashClone(0, vfs.CrashKillProcess))
		}})
		closeTestStore(t, s)
		disks, synced = append(disks, mem.CrashClone(0, vfs.CrashKillProcess)), append(synced, least > 0)
		for i, disk := range disks {
			for _, mode := range []vfs.CrashMode{vfs.CrashLoseUnsynced, vfs.CrashRandom, vfs.CrashRandom, vfs.CrashKeepAll} {
				crash := rng.Uint64()
				clone := disk.CrashClone(crash, mode)
				e := want
				e.logs = append([]wantLog(nil), want.logs...)
				_, marked, _ := readCleanShutdown(clone, testDir)
				if marked {
					marks++
				}
				if synced[i] {
					whole++
				}
				for j := range e.logs {
					if marked || i == len(disks)-1 || synced[i] {
						e.logs[j].durable = e.logs[j].end
					}
				}
				if _, err := verifyRecovered(clone, 1, []string{testDir}, e, true); err != nil {
					t.Fatalf("seed %d, SyncTogetherMin %d, crash before operation %d of %d, %v, mark %t: %v", seed, least, i, len(disks), mode, marked, err)
				}
			}
		}
	}
	if marks == 0 || whole == 0 {
		t.Fatalf("%d crashes with the mark, %d after the syncs", marks, whole)
	}
}

// TestStopWithoutSync: when the file system cannot be synced nothing is retried, the directory is offline, and there is no mark.
func TestStopWithoutSync(t *testing.T) {
	for skip := range 2 {
		mem := vfs.NewMem(vfs.MemOptions{})
		fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
		s := openTestStore(t, stopOptions(fsys))
		want := expectation{logs: dirtyLogs(t, s, 3)}
		want.logs[0].durable = 1
		awaitRest(t, s)
		l := s.Log(want.logs[1].tp)
		durable := l.Offsets().Durable
		fsys.Add(vfs.Rule{Ops: vfs.OpSyncAll, Skip: skip, Err: syscall.EIO, Count: 1, After: true})
		syncs := fsys.Count(vfs.OpSync | vfs.OpSyncDir)
		if err := s.Close(context.Background()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("close: got %v, want EIO", err)
		}
		if n := fsys.Count(vfs.OpSyncAll); n != int64(skip)+1 {
			t.Errorf("%d syncs of the file system, the last of which failed", n)
		}
		if n := fsys.Count(vfs.OpSync|vfs.OpSyncDir) - syncs; n != 0 {
			t.Errorf("%d fsyncs after one that failed", n)
		}
		if got := l.off.load().Durable; got != durable {
			t.Errorf("durable moved to %d", got)
		}
		if _, clean, _ := readCleanShutdown(mem, testDir); clean {
			t.Error("the mark is there")
		}
		for seed := range uint64(20) {
			if _, err := verifyRecovered(mem.CrashClone(seed, vfs.CrashRandom), 1, []string{testDir}, want, true); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// TestStopFallsBack: where the file system cannot be synced whole, or holds only part of the directory, or a file finds no space, the logs are synced one
// by one and the stop is as clean.
func TestStopFallsBack(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*wholeFS)
		alls    int64
		segment int // fsyncs of t1-1's newest segment
	}{
		"unsupported":         {func(f *wholeFS) { f.unsupported = true }, 0, 1},
		"other file system":   {func(f *wholeFS) { f.elsewhere = "t1-1" }, 2, 1},
		"no space for a file": {func(f *wholeFS) { f.add(vfs.Rule{Ops: vfs.OpCreate, Path: "t1-1/", Err: syscall.ENOSPC, Count: 1}) }, 2, 1},
		"failed renames":      {func(f *wholeFS) { f.add(vfs.Rule{Ops: vfs.OpRename, Path: ".snapshot", Err: syscall.ENOSPC, Count: 2}) }, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem(vfs.MemOptions{})
			fsys := &wholeFS{ErrorFS: vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})}
			fsys.unsupported = name == "unsupported"
			s := openTestStore(t, stopOptions(fsys))
			want := expectation{logs: dirtyLogs(t, s, 4)}
			awaitRest(t, s)
			c.prepare(fsys)
			var segment atomic.Int32
			fsys.add(vfs.Rule{Ops: vfs.OpSync, Path: filepath.Join("t1-1", segmentName(0, logSuffix)), Hook: func(vfs.Op, string) { segment.Add(1) }})
			closeTestStore(t, s)
			if got := fsys.Count(vfs.OpSyncAll); got != c.alls {
				t.Errorf("%d syncs of the file system, want %d", got, c.alls)
			}
			if got := int(segment.Load()); got != c.segment {
				t.Errorf("%d fsyncs of the segment, want %d", got, c.segment)
			}
			if _, clean, _ := readCleanShutdown(mem, testDir); !clean {
				t.Error("no mark")
			}
			for i, w := range want.logs {
				want.logs[i].durable = w.end
				if _, err := mem.Stat(filepath.Join(testDir, w.tp.String(), snapshotName(w.end))); err != nil {
					t.Error(err)
				}
			}
			if _, err := verifyRecovered(mem.CrashClone(1, vfs.CrashLoseUnsynced), 1, []string{testDir}, want, true); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// wholeFS is a file system that cannot be synced whole, or that holds a partition which lies elsewhere.
type wholeFS struct {
	*vfs.ErrorFS
	unsupported bool
	elsewhere   string
	past        atomic.Int32 // syncs of it all that are over
}

func (f *wholeFS) add(r vfs.Rule) { f.Add(r) }

func (f *wholeFS) OpenFileSystem(dir string) (vfs.FileSystem, error) {
	if f.unsupported {
		return nil, errors.ErrUnsupported
	}
	whole, err := f.ErrorFS.OpenFileSystem(dir)
	return &partOf{whole, f}, err
}

type partOf struct {
	vfs.FileSystem
	fs *wholeFS
}

func (p *partOf) SyncAll() error {
	err := p.FileSystem.SyncAll()
	p.fs.past.Add(1)
	return err
}

func (p *partOf) Holds(name string) (bool, error) {
	if p.fs.elsewhere != "" && strings.Contains(name, p.fs.elsewhere) {
		return false, nil
	}
	return p.FileSystem.Holds(name)
}

// TestStopBesideOthers stops while logs are appended to, synced and truncated: whatever the stop vouches for survives.
func TestStopBesideOthers(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	for round := range uint64(20) {
		rng := testkit.Rand(seed + round)
		mem := vfs.NewMem(vfs.MemOptions{})
		s := openTestStore(t, stopOptions(mem))
		var logs []*Log
		for i := range int32(6) {
			policy := []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyNever}[i%2]
			l := createTestLog(t, s, TopicPartition{"t", i}, LogConfig{Fsync: policy})
			mustAppend(t, l, testBatch(1, 10, 1))
			logs = append(logs, l)
		}
		stop := make(chan struct{})
		done := make(chan struct{})
		picks := make([]int, 400)
		for i := range picks {
			picks[i] = rng.IntN(len(logs) * 8)
		}
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				l := logs[picks[i%len(picks)]%len(logs)]
				switch picks[i%len(picks)] / len(logs) {
				case 0:
					_ = l.Sync()
				case 1:
					_ = l.TruncateTo(max(l.Offsets().LogEnd-1, 0))
				default:
					_, _ = l.Append(testBatch(1, 10, 1), AppendOptions{})
				}
			}
		}()
		must(t, s.Close(context.Background()))
		close(stop)
		<-done
		after := openTestStore(t, testStoreOptions(mem.CrashClone(seed, vfs.CrashLoseUnsynced)))
		for i, l := range logs {
			got := after.Log(TopicPartition{"t", int32(i)}).Offsets()
			if durable := l.off.load().Durable; got.LogEnd < durable {
				t.Fatalf("seed %d: partition %d ends at %d, %d was durable", seed+round, i, got.LogEnd, durable)
			}
		}
		after.crash()
	}
}
