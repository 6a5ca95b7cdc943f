package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// TestCleaningCrashPoints stops a pass after every operation of the file system, cuts the power, recovers, and wants a
// log that means the same; a crash of the recovery, at every operation of it, changes nothing.
func TestCleaningCrashPoints(t *testing.T) {
	seed := testkit.Seed(t, 7)
	base := vfs.NewMem(vfs.MemOptions{})
	build := newFakeLog(t, base)
	build.fillRandom(testkit.Rand(seed), 35, 1_700_000_000_000)
	build.settle(1_700_000_000_000)
	before, _ := readLog(t, base)
	want := latest(before)
	cleaned, recoveries, swapped := 0, 0, 0
	for op := int64(1); ; op++ {
		fs := base.CrashClone(seed, vfs.CrashKeepAll)
		l := reopenFake(t, fs, build)
		c := l.cleaner(testClock())
		fs.StopAfter(fs.Ops() + op)
		c.cleanFilthiest()
		if len(c.retryAt) == 0 {
			cleaned++
		}
		for round := range uint64(3) {
			for _, mode := range []vfs.CrashMode{vfs.CrashRandom, vfs.CrashLoseUnsynced, vfs.CrashKillProcess} {
				if mode != vfs.CrashRandom && round > 0 {
					continue
				}
				crashed := fs.CrashClone(seed+uint64(op)*10+round, mode)
				name := fmt.Sprintf("stopped after operation %d, %v, round %d", op, mode, round)
				if hasSuffix(t, crashed, swapSuffix) {
					swapped++
				}
				recoveries += recoverEverywhere(t, crashed, name, want, seed+uint64(op))
			}
		}
		if cleaned > 0 {
			break
		}
		if op > 2000 {
			t.Fatal("the pass does not end")
		}
	}
	if swapped == 0 || recoveries < 200 {
		t.Fatalf("%d recoveries, %d of them with a swap to finish: the test has proved nothing", recoveries, swapped)
	}
}

// recoverEverywhere recovers fs with a second crash at every operation, then to the end, and checks what is left.
func recoverEverywhere(t *testing.T, fs *vfs.Mem, name string, want map[string]string, seed uint64) (recoveries int) {
	t.Helper()
	for op := int64(1); ; op++ {
		clone := fs.CrashClone(seed, vfs.CrashKeepAll)
		clone.StopAfter(clone.Ops() + op)
		err := recoverDir(clone)
		recoveries++
		again := clone.CrashClone(seed+uint64(op), vfs.CrashRandom)
		if rerr := recoverDir(again); rerr != nil {
			t.Fatalf("%s, recovery stopped after operation %d (%v): %v", name, op, err, rerr)
		}
		checkRecovered(t, again, fmt.Sprintf("%s, recovery stopped after operation %d", name, op), want)
		if err == nil {
			checkRecovered(t, clone, name, want)
			return recoveries
		}
	}
}

// recoverDir is what the start of a log does to the directory before it loads segments.
func recoverDir(fs vfs.FS) error {
	names, err := fs.List("p")
	if err != nil {
		return err
	}
	if names, err = recoverSwaps(fs, "p", names); err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, deletedSuffix) {
			if err := removeFile(fs, "p/"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRecovered(t *testing.T, fs vfs.FS, name string, want map[string]string) {
	t.Helper()
	names, err := fs.List("p")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if KindOf(n) == KindUnknown || strings.HasSuffix(n, cleanedSuffix) || strings.HasSuffix(n, swapSuffix) {
			t.Fatalf("%s: left over: %s", name, n)
		}
	}
	seen, _ := readLog(t, fs)
	if got := latest(seen); !maps.Equal(got, want) {
		t.Fatalf("%s: newest values: got %v, want %v; files %v", name, got, want, names)
	}
}

func hasSuffix(t *testing.T, fs vfs.FS, suffix string) bool {
	t.Helper()
	names, err := fs.List("p")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, suffix) })
}

// reopenFake is the log of from in another file system.
func reopenFake(t testing.TB, fs *vfs.Mem, from *fakeLog) *fakeLog {
	l := newFakeLog(t, fs)
	l.cfg, l.producers, l.end = from.cfg, from.producers, from.end
	for _, s := range from.segs {
		c := newSegment(l.dir, s.base, s.size.Load(), 200)
		l.segs = append(l.segs, c)
		x, err := openTxnIndex(fs, l.dir.join(segmentName(s.base, txnIndexSuffix)))
		if err != nil {
			t.Fatal(err)
		}
		l.txns = append(l.txns, x)
	}
	return l
}

// TestDecidedSwapThatRotted: nothing is removed for a swap file that cannot be read to its end.
func TestDecidedSwapThatRotted(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.fillRandom(testkit.Rand(2), 40, 0)
	l.settle(0)
	data, err := readSmallFile(fs, l.segs[0].path(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	writeRaw(t, fs, "p/00000000000000000000.log.swap", data)
	before, _ := fs.List("p")
	var fault *CorruptFileError
	if err := recoverDir(fs); !errors.As(err, &fault) || !strings.HasSuffix(fault.Path, swapSuffix) {
		t.Fatalf("got %v, want a fault in the swap file", err)
	}
	if after, _ := fs.List("p"); !slices.Equal(before, after) {
		t.Fatalf("files changed: got %v, want %v", after, before)
	}
}

// TestReadersOutliveASwap: a reader that holds an old segment reads the old bytes to the end.
func TestReadersOutliveASwap(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.dir.pool = vfs.NewPool(fs, 1) // files are closed and opened by name all the time
	l.fillRandom(testkit.Rand(4), 60, 0)
	l.settle(0)
	old := slices.Clone(l.segs[:len(l.segs)-1])
	read := func() (all []byte) {
		for _, s := range old {
			data := make([]byte, s.size.Load())
			if err := readFull(s.file, data, 0); err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		return all
	}
	before := read()
	if l.cleanAll(l.cleaner(testClock())) == 0 {
		t.Fatal("not cleaned")
	}
	if after := read(); !slices.Equal(before, after) {
		t.Fatal("an old segment reads differently after the swap")
	}
}
