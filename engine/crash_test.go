package engine

import (
	"bytes"
	goflag "flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

var crashRecoveries = goflag.Int("crash.recoveries", 0,
	"recoveries that the crash-point test does at least; 0 is 40,000, or 5,000 with -race or -short")

// crashModel is what a log must hold, kept by the test beside the log. A crash may happen between any two of its changes.
type crashModel struct {
	sync.Mutex
	log *Log
	// history is every batch, stamped, from the first offset on; the last may be in flight.
	history [][]byte
	end     int64
	// written is the end of what Append has returned for: kill -9 must keep it.
	written int64
	// durableCap bounds what has to survive while a truncation is under way.
	durableCap int64
	// durable is the last durable offset seen while no log is loaded (between two openings).
	durable int64
	// startLo and startHi bound the log start: they differ while DeleteRecords is under way.
	startLo, startHi int64
	// seq is the next sequence number of the test's producer; originals are the batches as the producer sent them.
	seq       int32
	originals map[int64][]byte
	epoch     int32
	// trace names the operations, for the report of a failure.
	trace []string
}

func (m *crashModel) note(format string, args ...any) {
	m.Lock()
	defer m.Unlock()
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// expectation is the model at the moment of a crash.
type expectation struct {
	history          [][]byte
	originals        map[int64][]byte
	end, durable     int64
	written          int64
	startLo, startHi int64
	killed           bool
	trace            []string
}

// expect gives the model as of now. The lock is held, and stays held until the disk is cloned, so that no operation begins or ends in between.
func (m *crashModel) expect() expectation {
	durable := m.durable
	if m.log != nil && m.log.loaded.Load() {
		durable = m.log.off.load().Durable
	}
	return expectation{
		history: m.history[:len(m.history):len(m.history)], originals: m.originals, end: m.end, written: m.written,
		durable: min(durable, m.durableCap), startLo: m.startLo, startHi: m.startHi, trace: m.trace[:len(m.trace):len(m.trace)],
	}
}

// crashRun drives one random sequence of operations and recovers clones of the disk from between all of them.
type crashRun struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	mem    *vfs.Mem
	fsys   *vfs.ErrorFS
	cfg    LogConfig
	model  crashModel
	clones struct {
		sync.Mutex
		rng *rand.Rand
	}
	check func(seed uint64, clone *vfs.Mem, want expectation)
}

func newCrashRun(t *testing.T, seed uint64, check func(uint64, *vfs.Mem, expectation)) *crashRun {
	r := &crashRun{t: t, seed: seed, rng: testkit.Rand(seed), mem: vfs.NewMem(vfs.MemOptions{}), check: check}
	r.clones.rng = testkit.Rand(seed + 1)
	r.model.durableCap, r.model.originals = math.MaxInt64, map[int64][]byte{}
	r.cfg = LogConfig{
		SegmentBytes: []int64{1400, 3000, 1 << 20}[r.rng.IntN(3)], IndexIntervalBytes: []int64{-1, 200, 4096}[r.rng.IntN(3)],
		Fsync:         []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyCommit, ioqueue.PolicyInterval, ioqueue.PolicyNever}[r.rng.IntN(4)],
		FsyncInterval: time.Millisecond, FileDeleteDelayMs: -1,
	}
	r.fsys = vfs.NewErrorFS(r.mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpMutating, Hook: r.crash}}})
	return r
}

// crash clones the disk before an operation, in one of the ways that a crash can leave it.
func (r *crashRun) crash(vfs.Op, string) {
	r.clones.Lock()
	seed := r.clones.rng.Uint64()
	r.clones.Unlock()
	r.model.Lock()
	defer r.model.Unlock()
	want := r.model.expect()
	mode := vfs.CrashRandom
	switch seed % 8 {
	case 0:
		mode = vfs.CrashLoseUnsynced
	case 1:
		mode = vfs.CrashKillProcess
		want.killed = true
	}
	r.check(seed, r.mem.CrashClone(seed, mode), want)
}

func (r *crashRun) options() StoreOptions {
	o := testStoreOptions(r.fsys)
	o.Seed = r.seed
	o.Config = func(string) LogConfig { return r.cfg }
	return o
}

// open starts a store and makes its log the model's.
func (r *crashRun) open() *Store {
	s := openTestStore(r.t, r.options())
	l := createTestLog(r.t, s, testTP, r.cfg)
	if err := l.load(); err != nil {
		r.t.Fatalf("seed %d: load: %v", r.seed, err)
	}
	r.model.Lock()
	r.model.log = l
	r.model.Unlock()
	return s
}

func (r *crashRun) run(steps int) {
	s := r.open()
	for range steps {
		switch n := r.rng.IntN(20); {
		case n < 11:
			r.append()
		case n < 13:
			r.model.note("sync")
			must(r.t, r.model.log.Sync())
		case n < 15:
			r.model.note("checkpoint")
			must(r.t, s.Checkpoint())
		case n < 16:
			r.model.note("roll")
			must(r.t, r.model.log.Roll())
		case n < 17:
			r.truncate()
		case n < 18:
			if r.rng.IntN(4) == 0 {
				r.restart()
			} else {
				r.deleteRecords()
			}
		default:
			s = r.reopen(s, n == 18)
		}
	}
	s.crash()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// append adds one batch of the idempotent producer, now and then with a new leader epoch.
func (r *crashRun) append() {
	m := &r.model
	b := record.NewBuilder()
	n := 1 + r.rng.IntN(4)
	b.SetProducer(7, 0, m.seq)
	for i := range n {
		b.Append(int64(1000+r.rng.IntN(1000)), fmt.Appendf(nil, "%d", i), bytes.Repeat([]byte{byte(m.seq)}, r.rng.IntN(300)))
	}
	batch := b.Finish(nil)
	original := bytes.Clone(batch)
	if r.rng.IntN(6) == 0 {
		m.epoch++
	}
	stamped := record.Batch(bytes.Clone(batch))
	stamped.SetBaseOffset(m.end)
	stamped.SetPartitionLeaderEpoch(m.epoch)
	m.note("append %d at %d, epoch %d", n, m.end, m.epoch)
	m.Lock()
	originals := make(map[int64][]byte, len(m.originals)+1)
	for k, v := range m.originals {
		originals[k] = v
	}
	originals[m.end] = original
	m.originals = originals
	m.history = append(m.history, stamped)
	m.end += int64(n)
	m.Unlock()
	res, err := m.log.Append(batch, AppendOptions{LeaderEpoch: m.epoch})
	if err != nil || res.EndOffset != m.end {
		r.t.Fatalf("seed %d: append: %+v, %v, want end %d", r.seed, res, err, m.end)
	}
	m.Lock()
	m.written = m.end
	m.Unlock()
	m.seq += int32(n)
}

// truncate cuts the log at a random offset. The producer goes on with the sequence that the log knows.
func (r *crashRun) truncate() {
	m := &r.model
	o := m.log.Offsets()
	if o.LogEnd == o.LogStart {
		return
	}
	offset := o.LogStart + r.rng.Int64N(o.LogEnd-o.LogStart+1)
	keep, end := len(m.history), m.end
	for keep > 0 && record.Batch(m.history[keep-1]).NextOffset() > offset {
		keep--
		end = record.Batch(m.history[keep]).BaseOffset()
	}
	m.note("truncate to %d: %d", offset, end)
	m.Lock()
	m.durableCap, m.written = end, min(m.written, end)
	m.Unlock()
	must(r.t, m.log.TruncateTo(offset))
	m.Lock()
	defer m.Unlock()
	m.history = m.history[:keep:keep]
	m.end = max(end, o.LogStart) // a batch that straddles the log start goes whole
	m.durableCap, m.durable = math.MaxInt64, min(m.durable, m.end)
	m.seq = 0
	if keep > 0 {
		last := record.Batch(m.history[keep-1])
		m.seq, m.epoch = last.LastSequence()+1, last.PartitionLeaderEpoch()
	}
}

func (r *crashRun) deleteRecords() {
	m := &r.model
	o := m.log.Offsets()
	if o.HighWatermark == o.LogStart {
		return
	}
	before := o.LogStart + r.rng.Int64N(o.HighWatermark-o.LogStart+1)
	m.note("delete records before %d", before)
	m.Lock()
	m.startHi = before
	m.Unlock()
	start, err := m.log.DeleteRecords(before)
	if err != nil || start != before {
		r.t.Fatalf("seed %d: delete records before %d: got %d, %v", r.seed, before, start, err)
	}
	m.Lock()
	m.startLo = before
	m.Unlock()
}

// restart replaces the whole log, as a follower does that lies outside the leader's offsets.
func (r *crashRun) restart() {
	m := &r.model
	o := m.log.Offsets()
	start := r.rng.Int64N(o.LogEnd + 10)
	m.note("restart at %d", start)
	m.Lock()
	m.durableCap, m.written = 0, 0
	m.startLo, m.startHi = 0, max(o.LogStart, start)
	m.Unlock()
	must(r.t, m.log.TruncateFullyAndStartAt(start))
	m.Lock()
	defer m.Unlock()
	m.history, m.end, m.startLo, m.startHi = nil, start, start, start
	m.durableCap, m.durable, m.written, m.seq = math.MaxInt64, start, start, 0
}

// reopen closes the store, cleanly or as kill -9 would, and opens it again.
func (r *crashRun) reopen(s *Store, clean bool) *Store {
	m := &r.model
	m.note("reopen, clean %t", clean)
	if clean {
		closeTestStore(r.t, s)
	} else {
		s.crash()
	}
	m.Lock()
	m.durable, m.log = m.log.off.load().Durable, nil
	m.Unlock()
	return r.open()
}

// verifyRecovered opens a store on a crashed disk and compares the log with what had to survive.
func verifyRecovered(fsys vfs.FS, cfg LogConfig, want expectation) error {
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return cfg }
	s, err := OpenStore(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer s.crash()
	l, err := s.CreateLog(testTP, TopicID{1}, cfg)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := l.load(); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := l.Err(); err != nil {
		return fmt.Errorf("log failed: %w", err)
	}
	if err := compareLog(l, want); err != nil {
		return err
	}
	return probeRecovered(l, want)
}

// compareLog checks the recovered log: a prefix of the history, not shorter than what was durable, and its offsets.
func compareLog(l *Log, want expectation) error {
	off := l.Offsets()
	least := want.durable
	if want.killed {
		least = max(least, want.written)
	}
	switch {
	case off.LogEnd < least && off.LogEnd < want.startHi:
		return fmt.Errorf("log ends at %d, want at least %d", off.LogEnd, least)
	case off.LogEnd < least:
		return fmt.Errorf("log ends at %d, want at least %d (durable %d, written %d, killed %t)", off.LogEnd, least, want.durable, want.written, want.killed)
	case off.LogEnd > max(want.end, want.startHi):
		return fmt.Errorf("log ends at %d, want at most %d", off.LogEnd, want.end)
	case off.LogStart < min(want.startLo, want.startHi) || off.LogStart > max(want.startHi, want.startLo):
		return fmt.Errorf("log starts at %d, want %d to %d", off.LogStart, want.startLo, want.startHi)
	case off.Durable != off.LogEnd || off.HighWatermark != off.LogEnd:
		return fmt.Errorf("recovered offsets %+v: durable and high watermark are not the log end", off)
	}
	got, err := tryReadAll(l, off.LogStart, ReadOptions{Isolation: ReadAll})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	var wanted []byte
	for _, b := range want.history {
		if rb := record.Batch(b); rb.NextOffset() > off.LogStart && rb.NextOffset() <= off.LogEnd {
			wanted = append(wanted, b...)
		}
	}
	if !bytes.Equal(got, wanted) {
		at := 0
		for at < len(got) && at < len(wanted) && got[at] == wanted[at] {
			at++
		}
		return fmt.Errorf("records %d to %d: got %d bytes, want %d bytes, different from byte %d on: got %x, want %x",
			off.LogStart, off.LogEnd, len(got), len(wanted), at, got[at:min(len(got), at+20)], wanted[at:min(len(wanted), at+20)])
	}
	return nil
}

// probeRecovered checks what is derived from the records: epochs, producers, and that the log goes on.
func probeRecovered(l *Log, want expectation) error {
	off := l.Offsets()
	var last record.Batch
	for _, b := range want.history {
		if rb := record.Batch(b); rb.NextOffset() <= off.LogEnd && rb.NextOffset() > off.LogStart {
			last = rb
		}
	}
	if last == nil {
		return nil
	}
	if got := l.LeaderEpoch(); got != last.PartitionLeaderEpoch() {
		return fmt.Errorf("leader epoch: got %d, want %d", got, last.PartitionLeaderEpoch())
	}
	repeat := bytes.Clone(want.originals[last.BaseOffset()])
	res, err := l.Append(repeat, AppendOptions{LeaderEpoch: last.PartitionLeaderEpoch()})
	if err != nil || !res.Duplicate || res.BaseOffset != last.BaseOffset() {
		return fmt.Errorf("repeat of the last batch at %d: got %+v, %v", last.BaseOffset(), res, err)
	}
	b := record.NewBuilder()
	b.SetProducer(7, 0, last.LastSequence()+1)
	b.Append(5, nil, []byte("after"))
	next := b.Finish(nil)
	if res, err = l.Append(next, AppendOptions{LeaderEpoch: last.PartitionLeaderEpoch()}); err != nil || res.BaseOffset != off.LogEnd {
		return fmt.Errorf("append after recovery: got %+v, %v, want offset %d", res, err, off.LogEnd)
	}
	got, err := tryReadAll(l, off.LogEnd, ReadOptions{Isolation: ReadAll})
	if err != nil || !bytes.Equal(got, next) {
		return fmt.Errorf("read after recovery: %d bytes, %v", len(got), err)
	}
	return nil
}

// TestCrashPoints stops random sequences of operations before every operation of the file system, recovers what a crash
// there may leave, and compares with the model: what was durable is there, what is there is what was written, in order.
func TestCrashPoints(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	type job struct {
		seed  uint64
		crash uint64
		clone *vfs.Mem
		cfg   LogConfig
		want  expectation
	}
	jobs := make(chan job, 64)
	var done sync.WaitGroup
	var recoveries, failures atomic.Int64
	var first sync.Once
	var failure error
	for range runtime.GOMAXPROCS(0) {
		done.Go(func() {
			for j := range jobs {
				recoveries.Add(1)
				if err := verifyRecovered(j.clone, j.cfg, j.want); err != nil {
					failures.Add(1)
					first.Do(func() {
						failure = fmt.Errorf("run seed %d, crash seed %d (%d), segment %d index %d fsync %v, after %q: %w", j.seed, j.crash, j.crash%8,
							j.cfg.SegmentBytes, j.cfg.IndexIntervalBytes, j.cfg.Fsync, j.want.trace, err)
					})
				}
			}
		})
	}
	runs, least := 0, *crashRecoveries
	if least == 0 {
		least = 40_000
		if raceEnabled || testing.Short() {
			least = 5_000
		}
	}
	for ; recoveries.Load() < int64(least) && failures.Load() == 0; runs++ {
		runSeed := seed + uint64(runs)
		var r *crashRun
		r = newCrashRun(t, runSeed, func(crashSeed uint64, clone *vfs.Mem, want expectation) {
			jobs <- job{runSeed, crashSeed, clone, r.cfg, want}
		})
		r.run(30)
	}
	close(jobs)
	done.Wait()
	t.Logf("%d recoveries in %d runs", recoveries.Load(), runs)
	if failure != nil {
		t.Fatal(failure)
	}
}

// TestRecoveryCrashes crashes the recovery itself before each of its operations; what is recovered then must be as good.
func TestRecoveryCrashes(t *testing.T) {
	seed := testkit.Seed(t, uint64(time.Now().UnixNano()))
	rng := testkit.Rand(seed)
	for run := range 15 {
		var clones []*vfs.Mem
		var wants []expectation
		r := newCrashRun(t, seed+uint64(run), nil)
		r.check = func(_ uint64, clone *vfs.Mem, want expectation) {
			clones, wants = append(clones, clone), append(wants, want)
		}
		var lock sync.Mutex
		inner := r.check
		r.check = func(s uint64, c *vfs.Mem, w expectation) { lock.Lock(); defer lock.Unlock(); inner(s, c, w) }
		r.run(20)
		for range 10 {
			i := rng.IntN(len(clones))
			crashRecovery(t, r, clones[i], wants[i], rng)
		}
	}
}

func crashRecovery(t *testing.T, r *crashRun, disk *vfs.Mem, want expectation, rng *rand.Rand) {
	var again []*vfs.Mem
	var mu sync.Mutex
	hook := func(vfs.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		again = append(again, disk.CrashClone(rng.Uint64(), vfs.CrashRandom))
	}
	fsys := vfs.NewErrorFS(disk, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpMutating, Hook: hook}}})
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return r.cfg }
	s, err := OpenStore(o)
	if err != nil {
		t.Fatalf("seed %d: %v", r.seed, err)
	}
	s.crash()
	want.killed = false // a power cut took the page cache this time
	for i, clone := range again {
		if err := verifyRecovered(clone, r.cfg, want); err != nil {
			t.Fatalf("seed %d: recovery crashed before its operation %d of %d: %v", r.seed, i, len(again), err)
		}
	}
}
