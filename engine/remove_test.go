package engine

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// goingLog is a log of segments of 1000 bytes, which are removed 200 bytes at a time, ten seconds after they left it.
type goingLog struct {
	*Log
	t       *testing.T
	store   *Store
	fs      *vfs.Mem
	clock   *clock.Fake
	batches [][]byte
	start   int64
}

func newGoingLog(t *testing.T) *goingLog {
	t.Helper()
	g := &goingLog{t: t, clock: clock.NewFake(time.UnixMilli(1_000_000))}
	g.fs = vfs.NewMem(vfs.MemOptions{Clock: g.clock})
	o := testStoreOptions(g.fs)
	o.Clock, o.CutDownBytes = g.clock, 200
	g.store = openTestStore(t, o)
	g.Log = createTestLog(t, g.store, testTP, LogConfig{SegmentBytes: 1000, Fsync: ioqueue.PolicyNever, RetentionMs: 60_000, FileDeleteDelayMs: 10_000})
	for i := range 30 {
		g.batches = append(g.batches, testBatch(1, 300, 1_000_000+int64(i)*1000))
		mustAppend(t, g.Log, g.batches[i])
	}
	return g
}

// retained is a log of which the first segments have left. before is called before they do.
func retained(t *testing.T, before func(*Log)) *goingLog {
	t.Helper()
	g := newGoingLog(t)
	if before != nil {
		before(g.Log)
	}
	g.clock.Advance(75 * time.Second)
	g.store.RunRetention()
	if g.start = g.Offsets().LogStart; g.start < 6 {
		t.Fatalf("log start %d: want at least two segments gone", g.start)
	}
	return g
}

// going gives the sizes of the records' files on their way out, in the order of their names.
func (g *goingLog) going() (sizes []int64) {
	g.t.Helper()
	names, err := g.fs.List(g.Dir())
	must(g.t, err)
	for _, name := range names {
		if strings.Contains(name, logSuffix+".") && strings.HasSuffix(name, deletedSuffix) {
			file, err := g.fs.Open(g.part.join(name))
			if isNotExist(err) {
				continue // gone since the listing
			}
			must(g.t, err)
			size, err := file.Size()
			must(g.t, err)
			must(g.t, file.Close())
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// cutsDue returns how many files wait for their next cut. The store has timers of its own on the same clock.
func (g *goingLog) cutsDue() int { return g.clock.Due(cutDownPauseMs * time.Millisecond) }

// checkRest holds what is left of the log against what was written.
func (g *goingLog) checkRest(l *Log) {
	g.t.Helper()
	if got := readAll(g.t, l, g.start, ReadOptions{}); !bytes.Equal(got, bytes.Join(g.batches[g.start:], nil)) {
		g.t.Fatal("what is left is not what was written")
	}
}

func TestDeletedSegmentsAreCutDownBitByBit(t *testing.T) {
	g := retained(t, nil)
	whole := g.going()
	if len(whole) < 2 || whole[0] < 600 {
		t.Fatalf("segments of %v bytes: too small for this test", whole)
	}
	g.clock.Advance(10 * time.Second)
	for cut := int64(200); cut < whole[0]; cut += 200 {
		testkit.Eventually(t, "the next cut", func() bool {
			now := g.going()
			return len(now) > 0 && now[0] == whole[0]-cut && g.cutsDue() == len(now) // they go beside each other
		})
		testkit.Eventually(t, "what still has to go as what is being deleted", func() bool {
			there := int64(0)
			for _, size := range g.going() {
				there += size
			}
			return g.dir.space.deleting.Load() == there
		})
		g.clock.Advance(cutDownPauseMs * time.Millisecond)
	}
	testkit.Eventually(t, "the files to go", func() bool {
		g.clock.Advance(cutDownPauseMs * time.Millisecond)
		return len(g.going()) == 0 && g.dir.space.deleting.Load() == 0
	})
	g.checkRest(g.Log)
	closeTestStore(t, g.store)
}

// A reader that holds a segment keeps every byte of it, however long it takes.
func TestASegmentThatIsReadIsNotCutDown(t *testing.T) {
	var held ReadResult
	g := retained(t, func(l *Log) {
		var err error
		held, err = l.Read(0, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true})
		must(t, err)
	})
	g.clock.Advance(10 * time.Second)
	testkit.Eventually(t, "the files to go", func() bool {
		g.clock.Advance(cutDownPauseMs * time.Millisecond)
		return len(g.going()) == 0
	})
	got, err := spanBytes(&held)
	if want := bytes.Join(g.batches, nil); err != nil || len(got) < 600 || !bytes.Equal(got, want[:len(got)]) {
		t.Fatalf("a reader lost bytes of its segment: has %d, %v", len(got), err)
	}
	g.checkRest(g.Log)
	closeTestStore(t, g.store)
}

// A stop in the middle of a cut leaves a file that the next start removes, and the log as it was.
func TestAStopInTheMiddleOfACut(t *testing.T) {
	g := retained(t, nil)
	whole := g.going()
	g.clock.Advance(10 * time.Second)
	testkit.Eventually(t, "the first cut", func() bool { return g.going()[0] == whole[0]-200 })
	closeTestStore(t, g.store)
	o := testStoreOptions(g.fs)
	o.Clock = g.clock
	g.store = openTestStore(t, o)
	l := g.store.Log(testTP)
	g.checkRest(l)
	testkit.Eventually(t, "the files to go", func() bool { return len(g.going()) == 0 })
	closeTestStore(t, g.store)
}

// deletedSizes gives the sizes of the records' files of the deleted partition, in the order of their offsets, and whether its directory is there.
func (g *goingLog) deletedSizes() (sizes []int64, found bool) {
	g.t.Helper()
	names, err := g.fs.List(testDir)
	must(g.t, err)
	for _, dir := range names {
		if !strings.HasSuffix(dir, deleteSuffix) {
			continue
		}
		found = true
		files, _ := g.fs.List(filepath.Join(testDir, dir))
		for _, name := range files {
			if info, err := g.fs.Stat(filepath.Join(testDir, dir, name)); err == nil && strings.HasSuffix(name, logSuffix) {
				sizes = append(sizes, info.Size)
			}
		}
	}
	return sizes, found
}

// The files of a deleted partition are cut down one after the other, and all are there until the last is small.
func TestDeletedPartitionsAreCutDownBitByBit(t *testing.T) {
	g := newGoingLog(t)
	must(t, g.store.DeleteLog(testTP))
	whole, _ := g.deletedSizes()
	if len(whole) < 3 || whole[0] < 600 {
		t.Fatalf("segments of %v bytes: too small for this test", whole)
	}
	g.clock.Advance(10 * time.Second)
	for i, size := range whole {
		for left := size - 200; left > 0; left -= 200 {
			var now []int64
			testkit.Eventually(t, "the next cut", func() bool {
				now, _ = g.deletedSizes()
				return len(now) == len(whole) && now[i] == left && g.cutsDue() == 1
			})
			if i+1 < len(whole) && !slices.Equal(now[i+1:], whole[i+1:]) {
				t.Fatalf("files of %v bytes, of %v: want one cut down after the other", now, whole)
			}
			g.clock.Advance(cutDownPauseMs * time.Millisecond)
		}
	}
	testkit.Eventually(t, "the directory to go", func() bool {
		_, found := g.deletedSizes()
		return !found
	})
	closeTestStore(t, g.store)
}

// A reader that holds a segment of a deleted partition keeps every byte of it.
func TestADeletedSegmentThatIsReadIsNotCutDown(t *testing.T) {
	g := newGoingLog(t)
	held, err := g.Read(0, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true})
	must(t, err)
	must(t, g.store.DeleteLog(testTP))
	g.clock.Advance(10 * time.Second)
	testkit.Eventually(t, "the directory to go", func() bool {
		g.clock.Advance(cutDownPauseMs * time.Millisecond)
		_, found := g.deletedSizes()
		return !found
	})
	got, err := spanBytes(&held)
	if want := bytes.Join(g.batches, nil); err != nil || len(got) < 600 || !bytes.Equal(got, want[:len(got)]) {
		t.Fatalf("a reader lost bytes of its segment: has %d, %v", len(got), err)
	}
	closeTestStore(t, g.store)
}

// A stop in the middle leaves a directory that the next start removes, as gently.
func TestAStopInTheMiddleOfADeletion(t *testing.T) {
	g := newGoingLog(t)
	must(t, g.store.DeleteLog(testTP))
	whole, _ := g.deletedSizes()
	g.clock.Advance(10 * time.Second)
	first := func(want int64) func() bool {
		return func() bool { now, _ := g.deletedSizes(); return len(now) == len(whole) && now[0] == want }
	}
	testkit.Eventually(t, "the first cut", first(whole[0]-200))
	closeTestStore(t, g.store)
	o := testStoreOptions(g.fs)
	o.Clock, o.CutDownBytes = g.clock, 200
	g.store = openTestStore(t, o)
	testkit.Eventually(t, "the second cut", first(whole[0]-400))
	testkit.Eventually(t, "the directory to go", func() bool {
		g.clock.Advance(cutDownPauseMs * time.Millisecond)
		_, found := g.deletedSizes()
		return !found
	})
	if l := g.store.Log(testTP); l != nil {
		t.Error("the deleted log is there again")
	}
	closeTestStore(t, g.store)
}

// When the disk is nearly full, what is on its way out goes at once.
func TestNothingIsCutDownOnAFullDisk(t *testing.T) {
	g := newGoingLog(t)
	must(t, g.store.DeleteLog(testTP))
	whole, _ := g.deletedSizes()
	g.clock.Advance(10 * time.Second)
	testkit.Eventually(t, "the first cut", func() bool {
		now, _ := g.deletedSizes()
		return len(now) > 0 && now[0] < whole[0] && g.cutsDue() == 1
	})
	g.dir.space.state.Store(spaceThrottled)
	g.clock.Advance(cutDownPauseMs * time.Millisecond)
	testkit.Eventually(t, "the directory to go", func() bool { _, found := g.deletedSizes(); return !found })
	closeTestStore(t, g.store)
}
