package engine

import (
	"errors"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

var crashRecoveries = goflag.Int("crash.recoveries", 0,
	"recoveries that the crash-point test does at least; 0 is 100,000, or 5,000 with -race or -short")

// crashJob is a disk to recover.
type crashJob struct {
	run   uint64 // seed of the script
	crash uint64 // seed of the crash
	clone *vfs.Mem
	want  expectation
	dirs  []string
}

func (j *crashJob) failed(err error) error {
	return fmt.Errorf("script %d, crash %d (%s), after:\n  %s\n%w", j.run, j.crash, crashMode(j.crash), strings.Join(j.want.trace, "\n  "), err)
}

// crashChecker recovers disks on all processors and keeps the first failure.
type crashChecker struct {
	jobs       chan crashJob
	done       sync.WaitGroup
	recoveries atomic.Int64
	failed     atomic.Bool
	once       sync.Once
	failure    error
}

func startCrashChecker() *crashChecker {
	c := &crashChecker{jobs: make(chan crashJob, 64)}
	for range runtime.GOMAXPROCS(0) {
		c.done.Go(func() {
			for j := range c.jobs {
				n, err := verifyCrash(&j)
				c.recoveries.Add(n)
				c.fail(j.failed, err)
			}
		})
	}
	return c
}

func (c *crashChecker) fail(wrap func(error) error, err error) {
	if err == nil {
		return
	}
	c.failed.Store(true)
	c.once.Do(func() { c.failure = wrap(err) })
}

// verifyCrash recovers a disk and compares; now and then the power goes right after that, and what was recovered must all be there again.
func verifyCrash(j *crashJob) (recoveries int64, err error) {
	if u, _ := j.clone.DiskUsage("/"); u.TotalBytes < 1<<40 {
		// A start on the full disk may fail, and must harm nothing.
		if s, err := OpenStore(crashStoreOptions(j.clone, j.run, j.dirs)); err == nil {
			s.crash()
		}
		j.clone.SetCapacity(0)
		recoveries++
	}
	got, err := verifyRecovered(j.clone, j.run, j.dirs, j.want, j.crash%4 != 1)
	recoveries++
	if err != nil || j.crash%4 != 1 {
		return recoveries, err
	}
	clone := j.clone.CrashClone(j.crash, vfs.CrashRandom)
	again, err := verifyRecovered(clone, j.run, j.dirs, got, true)
	recoveries++
	for i := range again.logs {
		// What a killed process left is durable by now, but where nothing has to be (see Log.isLazy).
		if w := &got.logs[i]; err == nil && (again.logs[i].end > w.end || again.logs[i].end < w.end && w.durable == w.end) {
			err = fmt.Errorf("%s ends at %d", got.logs[i].tp, again.logs[i].end)
		}
	}
	if err != nil {
		err = fmt.Errorf("recovered up to %s, and after a power cut then: %w", got.ends(), err)
	}
	return recoveries, err
}

// crashMode is the way a crash leaves the disk.
func crashMode(seed uint64) vfs.CrashMode {
	switch seed % 8 {
	case 0:
		return vfs.CrashLoseUnsynced
	case 1:
		return vfs.CrashKillProcess
	}
	return vfs.CrashRandom
}

// crash clones the disk before an operation, in one of the ways that a crash can leave it.
func (r *crashRun) crash(vfs.Op, string) {
	if r.check == nil {
		return
	}
	r.mu.Lock()
	seed := r.cloneRng.Uint64()
	j := crashJob{run: r.seed, crash: seed, dirs: r.dirs, want: r.expectLocked(crashMode(seed) == vfs.CrashKillProcess)}
	j.clone = r.mem.CrashClone(seed, crashMode(seed))
	r.mu.Unlock()
	r.check(j)
}

// TestCrashPoints runs scripts of random operations: several logs with appends, transactions, leader epochs, rolls, truncations, deletions,
// retention, compaction and checkpoints; topics that come and go; full disks, short writes, failed fsyncs; restarts. It stops them before
// every operation of the file system, recovers what a crash there may leave, and compares with the model: what was durable is there, what
// is there is what was written, in order.
func TestCrashPoints(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	least := int64(*crashRecoveries)
	if least == 0 {
		least = 100_000
		if raceEnabled || testing.Short() {
			least = 5_000
		}
	}
	c := startCrashChecker()
	var scripts sync.WaitGroup
	var runs atomic.Uint64
	for range 2 * runtime.GOMAXPROCS(0) {
		scripts.Go(func() {
			for c.recoveries.Load() < least && !c.failed.Load() {
				r := newCrashRun(t, seed+runs.Add(1)-1)
				r.check = func(j crashJob) { c.jobs <- j }
				c.fail(func(err error) error { return err }, r.run(25))
			}
		})
	}
	scripts.Wait()
	close(c.jobs)
	c.done.Wait()
	t.Logf("%d recoveries in %d scripts", c.recoveries.Load(), runs.Load())
	if c.failure != nil {
		t.Fatal(c.failure)
	}
}

// TestRecoveryCrashes crashes the recovery itself before each of its operations, and the recovery of what one of these crashes left, and
// so on; what is recovered then must be as good.
func TestRecoveryCrashes(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	rng := testkit.Rand(seed)
	for run := range uint64(20) {
		var mu sync.Mutex
		var jobs []crashJob
		r := newCrashRun(t, seed+run)
		r.check = func(j crashJob) { mu.Lock(); defer mu.Unlock(); jobs = append(jobs, j) }
		must(t, r.run(20))
		for range 10 {
			j := jobs[rng.IntN(len(jobs))]
			disk := j.clone.CrashClone(0, vfs.CrashKillProcess)
			disk.SetCapacity(0)
			for depth := 1; disk != nil && depth <= 3; depth++ {
				var err error
				if disk, err = crashRecovery(&j, disk, rng.Uint64()); err != nil {
					t.Fatalf("recovery %d in a row: %v", depth, err)
				}
			}
		}
	}
}

// crashRecovery recovers a disk, crashes that before each operation, and recovers what is left then. It returns one of the disks that
// these crashes leave, nil when there is none.
func crashRecovery(j *crashJob, disk *vfs.Mem, seed uint64) (next *vfs.Mem, err error) {
	rng := testkit.Rand(seed)
	var again []*vfs.Mem
	var mu sync.Mutex
	hook := func(vfs.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		again = append(again, disk.CrashClone(rng.Uint64(), vfs.CrashRandom))
	}
	fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpMutating, Hook: hook}}})
	s, err := OpenStore(crashStoreOptions(fsys, j.run, j.dirs))
	if err != nil {
		return nil, j.failed(err)
	}
	s.crash()
	if len(again) > 0 {
		next = again[rng.IntN(len(again))].CrashClone(0, vfs.CrashKillProcess)
	}
	want := j.want
	want.killed = false // a power cut took the page cache this time
	for i, clone := range again {
		if _, err := verifyRecovered(clone, j.run, j.dirs, want, true); err != nil {
			return nil, j.failed(fmt.Errorf("recovery crashed before its operation %d of %d: %w", i, len(again), err))
		}
	}
	return next, nil
}

// TestKilledScripts runs the scripts on the real file system; a crash is a store that is abandoned, with the page cache as it is.
func TestKilledScripts(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	for run := range uint64(4) {
		r := newCrashRun(t, seed+run)
		root := t.TempDir()
		for i := range r.dirs {
			r.dirs[i] = filepath.Join(root, fmt.Sprint(i))
		}
		r.mem, r.fsys = nil, vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
		must(t, r.run(40))
		must(t, os.RemoveAll(root))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// errScriptEnds ends a script early, without a failure: nothing more can be done after an injected error.
var errScriptEnds = errors.New("script ends")
