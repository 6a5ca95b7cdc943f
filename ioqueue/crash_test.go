package ioqueue

import (
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/vfs"
)

// TestAcknowledgedSurvivesEveryCrash runs random operations and, at random
// moments while fsyncs are in flight, clones the disk as a crash leaves it.
// The durable offset read before the clone must be there, whatever the mode.
func TestAcknowledgedSurvivesEveryCrash(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewMem(vfs.MemOptions{})
		s := NewScheduler(Options{Dir: "d", Parallel: 2, WriteBackBytes: 64})
		defer s.Close()
		policy := rapid.SampledFrom([]Policy{PolicyCommit, PolicyInterval, PolicyNever})
		draw := func() StreamOptions {
			return StreamOptions{
				Policy:        policy.Draw(rt, "policy"),
				Interval:      time.Duration(rapid.IntRange(1, 3).Draw(rt, "interval")) * time.Millisecond,
				IntervalBytes: rapid.Int64Range(0, 200).Draw(rt, "bytes"),
				MaxDelay:      time.Duration(rapid.IntRange(0, 1).Draw(rt, "delay")) * time.Millisecond,
			}
		}
		l := newTestLog(t, s, mem, draw())
		defer func() { // before the scheduler
			if err := l.stream.SyncNow(); err != nil {
				rt.Errorf("SyncNow: %v", err)
			}
			l.stream.Close()
		}()
		for range rapid.IntRange(1, 60).Draw(rt, "operations") {
			for range rapid.IntRange(0, 50).Draw(rt, "yields") {
				runtime.Gosched()
			}
			switch rapid.IntRange(0, 9).Draw(rt, "operation") {
			case 0:
				l.roll()
			case 1:
				l.stream.SetOptions(draw())
			case 2:
				if err := l.stream.SyncNow(); err != nil {
					rt.Errorf("SyncNow: %v", err)
				}
				if d := l.stream.Durable(); d != l.end {
					rt.Errorf("durable %d after SyncNow, want %d", d, l.end)
				}
			case 3:
				// As the engine does: the cut of what is not durable.
				d := l.stream.Durable()
				l.truncate(rapid.Int64Range(d, l.end).Draw(rt, "cut"))
			case 4, 5:
				mode := rapid.SampledFrom([]vfs.CrashMode{vfs.CrashRandom, vfs.CrashLoseUnsynced}).Draw(rt, "mode")
				durable := l.stream.Durable()
				clone := mem.CrashClone(rapid.Uint64().Draw(rt, "seed"), mode)
				if got := l.recovered(clone); got < durable {
					rt.Errorf("%v: %d records after the crash, %d were durable", mode, got, durable)
				}
			default:
				l.append(rapid.IntRange(1, 200).Draw(rt, "records"))
			}
		}
		_, reported, _ := l.snapshot()
		for i, end := range reported {
			// After a cut an offset is reached again, and the report of before the cut may come after it.
			if i > 0 && end == reported[i-1] && l.cuts == 0 {
				rt.Errorf("OnDurable reported %d twice: %v", end, reported)
			}
		}
	})
}

// TestDurableNeverPassesAFault stops each fsync, one after the other, with an
// error and compares what was acknowledged with what a crash leaves.
func TestDurableNeverPassesAFault(t *testing.T) {
	for fault := range 24 {
		mem := vfs.NewMem(vfs.MemOptions{})
		fs := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{
			{Ops: vfs.OpSync, Skip: fault, Count: 1, Err: syscall.EIO},
		}})
		s := NewScheduler(Options{Dir: "d"})
		l := newTestLog(t, s, fs, StreamOptions{})
		for i := range 60 {
			l.append(10)
			if i%7 == 6 {
				l.roll()
			}
			if i%3 == 0 {
				_ = l.stream.SyncNow() // the error shows below
			}
		}
		_ = l.stream.SyncNow()
		durable := l.stream.Durable()
		if s.Err() == nil {
			t.Fatalf("fault %d: no error", fault)
		}
		if got := l.recovered(mem.CrashClone(uint64(fault), vfs.CrashLoseUnsynced)); got < durable {
			t.Fatalf("fault %d: %d records after the crash, durable %d", fault, got, durable)
		}
		s.Close()
	}
}

// TestManyStreams has goroutines append to and wait on many streams at once;
// run it with -race.
func TestManyStreams(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := NewScheduler(Options{Dir: "d", Parallel: 3})
	defer s.Close()
	names := noNames{mem, new(sync.Mutex)}
	const streams, producers, appends = 12, 3, 50
	var wg sync.WaitGroup
	for range streams {
		l := newTestLog(t, s, names, StreamOptions{})
		for range producers {
			wg.Go(func() {
				for i := range appends {
					l.waitDurable(l.append(1))
					if i%20 == 19 {
						l.roll()
					}
				}
			})
		}
		defer l.stream.Close()
	}
	wg.Wait()
	if st := s.Stats(); st.Appends != streams*producers*appends || st.UnsyncedBytes != 0 {
		t.Fatalf("%d appends durable, %d bytes unsynced, want %d, 0", st.Appends, st.UnsyncedBytes, streams*producers*appends)
	}
}

// noNames gives every created file a disk place of its own.
type noNames struct {
	vfs.FS
	mu *sync.Mutex
}

func (n noNames) Create(name string) (vfs.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, err := n.FS.Create(name)
	if err == nil {
		err = n.FS.Remove(name)
	}
	return f, err
}

func TestOnDurableIsAscending(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := NewScheduler(Options{Dir: "d"})
	defer s.Close()
	l := newTestLog(t, s, mem, StreamOptions{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				l.append(1)
			}
		})
	}
	wg.Wait()
	l.waitDurable(800)
	l.stream.Close()
	_, reported, _ := l.snapshot()
	if !slices.IsSorted(reported) || reported[len(reported)-1] != 800 {
		t.Fatalf("OnDurable reported %v", reported)
	}
}
