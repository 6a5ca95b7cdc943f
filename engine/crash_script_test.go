package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// crashRun is a script: one store with a few logs, random operations on them, and the models of what the logs hold.
type crashRun struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	mem  *vfs.Mem // nil on a real file system
	fsys *vfs.ErrorFS
	dirs []string
	// check takes the disks that crashes leave; nil takes none.
	check func(crashJob)
	store *Store
	again bool // an append is tried until it succeeds

	mu       sync.Mutex // covers the models and what follows
	logs     []*crashLog
	trace    []string
	full     bool
	cloneRng *rand.Rand
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	r := &crashRun{t: t, seed: seed, rng: testkit.Rand(seed), cloneRng: testkit.Rand(seed + 1), mem: vfs.NewMem(vfs.MemOptions{}), dirs: []string{testDir}}
	if r.rng.IntN(4) == 0 {
		r.dirs = []string{"/a", "/b"}
	}
	r.fsys = vfs.NewErrorFS(r.mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpMutating, Hook: r.crash}}})
	for i := range 1 + r.rng.IntN(3) {
		m := &crashLog{durableCap: noCapYet}
		m.tp, m.kind = TopicPartition{Topic: fmt.Sprintf("t%d", i)}, logKind(r.rng.IntN(int(logKinds)))
		m.cfg = LogConfig{
			SegmentBytes: []int64{1400, 3000, 1 << 20}[r.rng.IntN(3)], IndexIntervalBytes: []int64{-1, 200, 4096}[r.rng.IntN(3)],
			Fsync:         []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyCommit, ioqueue.PolicyInterval, ioqueue.PolicyNever}[r.rng.IntN(4)],
			FsyncInterval: time.Millisecond, FileDeleteDelayMs: -1, RetentionMs: -1, Preallocate: r.rng.IntN(4) == 0,
		}
		switch m.kind {
		case kindCompacted:
			m.cfg.Cleanup, m.cfg.MinCleanableRatio = CleanupCompact, -1
		case kindRetained:
			m.cfg.RetentionBytes = 3000
		}
		m.state = absent
		r.logs = append(r.logs, m)
	}
	return r
}

func crashStoreOptions(fsys vfs.FS, seed uint64, dirs []string) StoreOptions {
	o := testStoreOptions(fsys)
	o.Seed, o.Dirs = seed, dirs
	o.SyncTogetherMin = 1 + int(seed%2) // a clean stop syncs all together, or mostly one by one
	if seed%3 != 0 {
		o.Config = func(string) LogConfig { return neverSync() } // what logs are recovered under
	}
	return o
}

func (r *crashRun) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

// run does a number of operations. The error tells them.
func (r *crashRun) run(steps int) error {
	err := r.runSteps(steps)
	if err != nil {
		err = fmt.Errorf("script %d, after:\n  %s\n%w", r.seed, strings.Join(r.trace, "\n  "), err)
	}
	return err
}

func (r *crashRun) runSteps(steps int) error {
	if err := r.open(r.expectation(true)); err != nil {
		return err
	}
	for range steps {
		if err := r.step(); err != nil {
			for _, m := range r.logs {
				if halted(m, err) {
					err = errScriptEnds
				}
			}
			r.store.crash()
			if errors.Is(err, errScriptEnds) {
				return nil
			}
			return err
		}
	}
	want := r.expectation(true)
	r.store.crash()
	_, err := verifyRecovered(r.fsys, r.seed, r.dirs, want, false)
	return err
}

func (r *crashRun) expectation(killed bool) expectation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expectLocked(killed)
}

// open starts a store, compares it with what is wanted, and goes on from what is there.
func (r *crashRun) open(want expectation) error {
	o := crashStoreOptions(r.fsys, r.seed, r.dirs)
	o.OnOffline = func(dir string, err error) { r.note("%s offline: %v", dir, err) }
	s, err := OpenStore(o)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.store = s
	s.cleaner = storeCleaner(s)
	for i, m := range r.logs {
		got, l, err := verifyLog(s, want.logs[i], want)
		if err != nil {
			return fmt.Errorf("%s: %w", m.tp, err)
		}
		r.mu.Lock()
		m.wantLog, m.log, m.durableCap = got, l, noCapYet
		r.restate(m)
		r.mu.Unlock()
	}
	return nil
}

// restate makes the producers of a model those of its history.
func (r *crashRun) restate(m *crashLog) {
	m.seq, m.txnSeq, m.inTxn = 0, 0, false
	for _, data := range m.history {
		b := record.Batch(data)
		m.epoch = b.PartitionLeaderEpoch()
		switch {
		case b.ProducerID() == 7:
			m.seq = b.LastSequence() + 1
		case b.IsControl():
			m.inTxn = false
		case b.ProducerID() == 8:
			m.txnSeq, m.inTxn = b.LastSequence()+1, true
		}
	}
}

// step does one operation, now and then with something that goes wrong in it.
func (r *crashRun) step() error {
	m := r.logs[r.rng.IntN(len(r.logs))]
	switch n := r.rng.IntN(24); {
	case m.state == absent:
		return r.create(m)
	case n < 2:
		return r.reopen()
	case n < 3:
		if r.rng.IntN(3) == 0 {
			return r.remove(m)
		}
		return r.withFullDisk(m)
	case n < 5:
		return r.withNoSpace(m)
	case n < 6 && r.rng.IntN(3) == 0:
		return r.withFailure(m)
	}
	return r.operate(m)
}

// operate does one operation that may be refused for want of space, and then leaves all as it was.
func (r *crashRun) operate(m *crashLog) error {
	switch n := r.rng.IntN(20); {
	case n < 11:
		return r.append(m)
	case n < 12:
		r.note("%s: sync", m.tp)
		return m.log.Sync()
	case n < 14:
		return r.checkpoint()
	case n < 15:
		r.note("%s: roll", m.tp)
		return m.log.Roll()
	case n < 17:
		return r.truncate(m)
	case n < 18 && m.kind == kindPlain && r.rng.IntN(3) == 0:
		return r.restart(m)
	case n < 18 && m.kind != kindTxn:
		return r.deleteRecords(m)
	case m.kind == kindCompacted:
		return r.clean(m)
	default:
		return r.retain()
	}
}

func (r *crashRun) create(m *crashLog) error {
	id := TopicID{byte(1 + r.rng.IntN(250)), byte(len(r.trace))}
	r.note("%s: create %s", m.tp, id)
	l, err := r.store.CreateLog(m.tp, id, m.cfg)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.wantLog = wantLog{tp: m.tp, id: id, kind: m.kind, cfg: m.cfg}
	m.log, m.epoch, m.cleaned, m.durableCap = l, 0, 0, noCapYet
	r.restate(m)
	return nil
}

func (r *crashRun) remove(m *crashLog) error {
	r.note("%s: delete", m.tp)
	r.set(func() { m.state = deleting })
	if err := r.store.DeleteLog(m.tp); err != nil {
		return err
	}
	r.set(func() { m.wantLog = wantLog{tp: m.tp, kind: m.kind, cfg: m.cfg, state: absent}; m.log = nil })
	return nil
}

func (r *crashRun) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// append adds a batch of the idempotent producer, or something of a transaction; now and then with a new leader epoch.
func (r *crashRun) append(m *crashLog) error {
	origin := OriginClient
	var batch []byte
	n := 1 + r.rng.IntN(4)
	transactional := m.kind == kindTxn && r.rng.IntN(2) == 0
	if transactional && m.inTxn && r.rng.IntN(2) == 0 {
		n, origin = 1, OriginInternal
		batch = record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: r.rng.IntN(3) == 0, ProducerID: 8, TimestampMs: 1})
	} else {
		b := record.NewBuilder()
		b.SetProducer(7, 0, m.seq)
		if transactional {
			b.SetProducer(8, 0, m.txnSeq)
			b.SetTransactional(true)
		}
		for range n {
			b.Append(int64(1000+r.rng.IntN(1000)), fmt.Appendf(nil, "%d", r.rng.IntN(6)), bytes.Repeat([]byte{byte(m.seq)}, r.rng.IntN(300)))
		}
		batch = b.Finish(nil)
	}
	original := bytes.Clone(batch)
	epoch := m.epoch
	if r.rng.IntN(6) == 0 && !r.again {
		epoch++
	}
	stamped := record.Batch(bytes.Clone(batch))
	stamped.SetBaseOffset(m.end)
	stamped.SetPartitionLeaderEpoch(epoch)
	if !r.again {
		r.note("%s: append %d at %d, epoch %d, %d bytes", m.tp, n, m.end, epoch, len(batch))
	}
	at, end := len(m.history), m.end
	r.set(func() {
		m.history, m.originals = append(m.history, stamped), append(m.originals, original)
		m.end += int64(n)
	})
	res, err := m.log.Append(batch, AppendOptions{LeaderEpoch: epoch, Origin: origin})
	if err != nil {
		if errors.Is(err, ErrNoSpace) {
			r.set(func() { m.history, m.originals, m.end = m.history[:at:at], m.originals[:at:at], end })
		}
		m.epoch = epoch
		return err
	}
	if res.EndOffset != m.end || res.Duplicate {
		return fmt.Errorf("append: got %+v, want end %d", res, m.end)
	}
	r.set(func() { m.written = m.end; r.restate(m) })
	return nil
}

func (r *crashRun) checkpoint() error {
	r.note("checkpoint")
	if err := r.store.Checkpoint(); err != nil {
		return err
	}
	r.set(func() {
		for _, m := range r.logs {
			if m.state == present && m.log.loaded.Load() && m.log.Err() == nil {
				m.startLo = m.log.off.load().LogStart
				m.startHi = m.startLo
			}
		}
	})
	return nil
}

// truncate cuts the log at a random offset. The producer goes on with the sequence that the log knows. A truncation that
// finds no space is repeated when there is some.
func (r *crashRun) truncate(m *crashLog) error {
	o := m.log.Offsets()
	low := max(o.LogStart, m.cleaned)
	if o.LogEnd <= low {
		return nil
	}
	offset := low + r.rng.Int64N(o.LogEnd-low+1)
	keep, end := len(m.history), m.end
	for keep > 0 && record.Batch(m.history[keep-1]).NextOffset() > offset {
		keep--
		end = record.Batch(m.history[keep]).BaseOffset()
	}
	r.note("%s: truncate to %d: %d", m.tp, offset, end)
	r.set(func() { m.durableCap, m.written = end, min(m.written, end) })
	epoch := m.epoch
	err := r.persist(func() error { return m.log.TruncateTo(offset) })
	if err != nil {
		return err
	}
	r.set(func() {
		m.history, m.originals = m.history[:keep:keep], m.originals[:keep:keep]
		m.end = max(end, o.LogStart) // a batch that straddles the log start goes whole
		m.durableCap, m.durable, m.written = noCapYet, min(m.durable, m.end), min(m.written, m.end)
		r.restate(m)
	})
	if offset >= o.LogEnd {
		m.epoch = epoch
	}
	if got := m.log.Offsets().LogEnd; got != m.end {
		return fmt.Errorf("log end after truncation: got %d, want %d", got, m.end)
	}
	return nil
}

// halted says whether an error of a full disk stopped one partition until the next start, as those few do that come after the point of no return.
func halted(m *crashLog, err error) bool {
	return errors.Is(err, ErrOffline) && m.log != nil && m.log.dir.err() == nil &&
		(strings.Contains(err.Error(), "swap of a cleaned segment") || strings.Contains(err.Error(), "write transaction index"))
}

// persist repeats an operation that finds no space, the second time with space.
func (r *crashRun) persist(op func() error) error {
	err := op()
	if errors.Is(err, ErrNoSpace) {
		r.makeSpace()
		err = op()
	}
	return err
}

func (r *crashRun) makeSpace() {
	r.note("space")
	r.fsys.Clear()
	r.fsys.Add(vfs.Rule{Ops: vfs.OpMutating, Hook: r.crash})
	if r.mem != nil {
		r.mem.SetCapacity(0)
	}
}

func (r *crashRun) deleteRecords(m *crashLog) error {
	o := m.log.Offsets()
	if o.HighWatermark == o.LogStart {
		return nil
	}
	before := o.LogStart + r.rng.Int64N(o.HighWatermark-o.LogStart+1)
	r.note("%s: delete records before %d", m.tp, before)
	r.set(func() { m.startHi = before })
	start, err := m.log.DeleteRecords(before)
	if err != nil {
		return err
	}
	if start != before {
		return fmt.Errorf("delete records before %d: got %d", before, start)
	}
	r.set(func() { m.startLo = before })
	return nil
}

// restart replaces the whole log, as a follower does that lies outside the leader's offsets.
func (r *crashRun) restart(m *crashLog) error {
	o := m.log.Offsets()
	start := r.rng.Int64N(o.LogEnd + 10)
	r.note("%s: restart at %d", m.tp, start)
	r.set(func() {
		m.durableCap, m.written = 0, 0
		m.startLo, m.startHi = 0, max(o.LogStart, start)
	})
	err := r.persist(func() error { return m.log.TruncateFullyAndStartAt(start) })
	if err != nil {
		return err
	}
	r.set(func() {
		m.history, m.originals, m.end, m.startLo, m.startHi = nil, nil, start, start, start
		m.durableCap, m.durable, m.written = noCapYet, start, start
		r.restate(m)
	})
	return nil
}

// clean compacts all logs that are to be compacted.
func (r *crashRun) clean(*crashLog) error {
	r.note("clean")
	for _, m := range r.logs {
		if m.kind == kindCompacted && m.state == present {
			if seg := m.log.active(); seg != nil {
				m.cleaned = max(m.cleaned, seg.base)
			}
		}
	}
	clear(r.store.cleaner.retryAt)
	for range len(r.logs) {
		if !r.store.cleaner.cleanFilthiest() {
			break
		}
	}
	return nil
}

func (r *crashRun) retain() error {
	r.note("retention")
	r.set(func() {
		for _, m := range r.logs {
			if m.kind == kindRetained && m.state == present {
				m.startHi = max(m.startHi, m.log.Offsets().LogEnd)
			}
		}
	})
	r.store.RunRetention()
	for _, m := range r.logs {
		if m.kind == kindRetained && m.state == present {
			start, durable := m.log.Offsets().LogStart, m.log.dir.checkpointedStart(m.tp)
			r.set(func() { m.startHi, m.startLo = start, max(m.startLo, min(start, durable)) })
		}
	}
	return nil
}

// reopen ends the store, cleanly, by kill -9 or by a power cut, and opens it again.
func (r *crashRun) reopen() error {
	how := r.rng.IntN(3)
	if r.mem == nil {
		how = r.rng.IntN(2)
	}
	r.note("reopen, %s", []string{"cleanly", "after kill -9", "after a power cut"}[how])
	if how == 0 {
		if err := r.store.Close(context.Background()); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	} else {
		r.store.crash()
	}
	r.mu.Lock()
	want := r.expectLocked(how != 2)
	for i, m := range r.logs {
		m.durable, m.log = want.logs[i].durable, nil
	}
	if how == 2 {
		for _, m := range r.logs {
			m.written = min(m.written, m.durable)
		}
		r.mem = r.mem.CrashClone(r.cloneRng.Uint64(), vfs.CrashRandom)
		r.fsys = vfs.NewErrorFS(r.mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Ops: vfs.OpMutating, Hook: r.crash}}})
	}
	r.mu.Unlock()
	return r.open(want)
}

// withNoSpace does an operation while some operations of the file system find no space, and wants the log to take appends afterwards.
func (r *crashRun) withNoSpace(m *crashLog) error {
	ops := []vfs.Op{vfs.OpWrite, vfs.OpWrite, vfs.OpCreate | vfs.OpMkdir, vfs.OpRename, vfs.OpWrite | vfs.OpCreate | vfs.OpRename | vfs.OpMkdir}[r.rng.IntN(5)]
	rule := vfs.Rule{Ops: ops, Skip: r.rng.IntN(6), Count: 1 + r.rng.IntN(3), Err: syscall.ENOSPC, ShortBytes: r.rng.IntN(61)}
	r.note("no space: %v, skip %d, count %d, %d bytes", rule.Ops, rule.Skip, rule.Count, rule.ShortBytes)
	r.set(func() { r.full = true })
	r.fsys.Add(rule)
	for range 1 + r.rng.IntN(3) {
		if err := r.operate(m); err != nil && !errors.Is(err, ErrNoSpace) {
			return err
		}
	}
	return r.goesOn(m)
}

// withFullDisk is withNoSpace on a disk that is full: of a write as much arrives as fits.
func (r *crashRun) withFullDisk(m *crashLog) error {
	if r.mem == nil {
		return nil
	}
	u, err := r.mem.DiskUsage("/")
	if err != nil {
		return err
	}
	used := u.TotalBytes - u.FreeBytes
	r.note("full disk")
	r.set(func() { r.full = true })
	r.mem.SetCapacity(used + int64(r.rng.IntN(3))*4096)
	for range 4 + r.rng.IntN(8) {
		if err := r.operate(m); err != nil && !errors.Is(err, ErrNoSpace) {
			return err
		}
	}
	return r.goesOn(m)
}

// goesOn makes space and wants an append to succeed before long.
func (r *crashRun) goesOn(m *crashLog) error {
	r.makeSpace()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Microsecond) {
		err := r.append(m)
		r.again = err != nil
		if err == nil || !errors.Is(err, ErrNoSpace) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("there is space, and still: %w", err)
		}
	}
}

// withFailure makes an operation of the disk fail for good. Nothing that comes after it is acknowledged.
func (r *crashRun) withFailure(m *crashLog) error {
	ops := []vfs.Op{vfs.OpSync, vfs.OpSync | vfs.OpSyncDir, vfs.OpSyncDir, vfs.OpWrite, vfs.OpTruncate, vfs.OpRename}[r.rng.IntN(6)]
	rule := vfs.Rule{Ops: ops, Path: m.log.dir.path, Skip: r.rng.IntN(4), Count: 1, Err: syscall.EIO, After: r.rng.IntN(4) == 0}
	r.note("failure: %v, skip %d, after %t", rule.Ops, rule.Skip, rule.After)
	r.fsys.Add(rule)
	for range 4 {
		if err := r.operate(m); err != nil {
			break
		}
	}
	if m.log.dir.err() == nil || !m.log.loaded.Load() {
		return errScriptEnds // it has not come, or not to anybody who minds
	}
	before := max(m.log.off.load().Durable, m.log.stream.Durable()) // the log may be told of the last advance only after the failure
	r.note("failed, durable %d", before)
	testkit.Eventually(r.t, "the log offline", func() bool { return m.log.Err() != nil })
	if _, err := m.log.Append(testBatch(1, 10, 1), AppendOptions{LeaderEpoch: m.epoch}); !errors.Is(err, ErrOffline) {
		return fmt.Errorf("append to a directory that failed: got %v, want ErrOffline", err)
	}
	if err := m.log.Sync(); err == nil {
		return fmt.Errorf("sync of a directory that failed returned without an error")
	}
	if after := m.log.off.load().Durable; after > before {
		return fmt.Errorf("durable after a failure: got %d, want %d", after, before)
	}
	return errScriptEnds
}
