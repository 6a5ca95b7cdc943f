package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/ioqueue"
)

// Log is one partition: an ordered sequence of record batches. Its methods may be called from any goroutine; readers
// take no lock.
//
// A Log that was found at start, or just created, costs a few hundred bytes: its directory is looked at (load) with the
// first call that needs it, and made with the first append.
//
// Locks, outermost first: adminMu (truncation, retention, close: one at a time, may wait for the disk), the directory's
// checkpoint lock, rebuilding (may wait for the disk), mu (the append lock, never held over an fsync), off.mu, waiters.mu.
type Log struct {
	store *Store
	dir   *logDir
	tp    TopicPartition
	part  *partitionDir
	start startPoint
	known bool // the directory was there at start
	// jitter is the part of segment.jitter.ms that this log takes off segment.ms, 0 to 1.
	jitter float64

	cfg        atomic.Pointer[LogConfig]
	failure    atomic.Pointer[logFailure]
	replicated atomic.Bool
	loaded     atomic.Bool
	configured atomic.Bool // CreateLog or UpdateConfig named the configuration; until then no records are taken away
	loadMu     sync.Mutex  // held while loading
	adminMu    sync.Mutex

	segs    atomic.Pointer[[]*segment] // ascending; immutable once stored
	off     offsetState
	waiters waiterList
	epochs  *epochCache     // set by load; readers take no lock
	stream  *ioqueue.Stream // set by load
	// recoveryCap bounds the recovery point while a truncation is under way, else noCap.
	recoveryCap atomic.Int64
	// checkpointed is the recovery point in the checkpoint file.
	checkpointed atomic.Int64
	// restartAt overrides the log start in the checkpoint while the whole log is being replaced, else -1.
	restartAt atomic.Int64
	// cuts is odd while a truncation changes files under the readers, and different after it.
	cuts atomic.Int64
	// epochsOwed: the file of leader epochs is behind in a way that recovery would take for damage of the batches, so that it has to be
	// written before the next batch is.
	epochsOwed atomic.Bool
	// openTxns is true while a transaction is open, or ended above the high watermark.
	openTxns atomic.Bool
	counters counters

	verification verification
	rebuilding   sync.Mutex // of indexes of aborted transactions: one at a time

	mu struct {
		sync.Mutex
		producers *producerState
		onDisk    bool // the directory exists
		cutting   bool // a failed write was cut off, and the cut is not durable yet
		cuts      int  // counts those
		// snapshotAt is the size of the log's appended bytes at the last producer snapshot.
		snapshotAt int64
		spare      spareState
	}
}

// startPoint is what the checkpoints of the log directory say about a partition.
type startPoint struct {
	// clean: the directory was shut down cleanly, so the log ends at recoveryPoint.
	clean         bool
	recoveryPoint int64
	logStart      int64
	highWatermark int64
}

// logFailure is why a log takes no appends.
type logFailure struct {
	err error
	// readable: what lies below the high watermark may still be read.
	readable bool
	// unfinished: a truncation to end, or with -1 the replacement of the whole log, found no space half-way. Until it is repeated nothing
	// is appended or synced, because the files are neither the old log nor the new one.
	unfinished bool
	end        int64
}

// counters only grow.
type counters struct {
	appends, appendedBytes, reads, duplicates atomic.Int64
}

// TopicPartition names the log.
func (l *Log) TopicPartition() TopicPartition { return l.tp }

// TopicID is the topic's id, zero when it is not known.
func (l *Log) TopicID() TopicID { return l.part.topicID() }

// Dir is the partition's directory; it may not exist before the first append.
func (l *Log) Dir() string { return l.part.path }

// sharedConfig gives one copy of a configuration to the logs that get it one after the other, as the partitions of a topic do.
func (s *Store) sharedConfig(cfg LogConfig) *LogConfig {
	if last := s.lastConfig.Load(); last != nil && *last == cfg {
		return last
	}
	s.lastConfig.Store(&cfg)
	return &cfg
}

// Config is the configuration in force. It must not be modified.
func (l *Log) Config() *LogConfig { return l.cfg.Load() }

// Err is why the log takes no appends: ErrOffline with the reason, ErrClosed, or nil.
func (l *Log) Err() error {
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail stops appends for good and wakes everybody; the first reason stays.
func (l *Log) fail(err error, readable bool) {
	f := &logFailure{err: err, readable: readable}
	if !l.failure.CompareAndSwap(nil, f) {
		// Closing wins over an earlier fault: nothing may be read from a closed log.
		if old := l.failure.Load(); readable || !old.readable || !l.failure.CompareAndSwap(old, f) {
			return
		}
	}
	l.wake(func(*Waiter) bool { return true }, err)
}

// offline is fail for a storage error or corruption; reads go on.
func (l *Log) offline(err error) error {
	wrapped := fmt.Errorf("%w: %s: %w", ErrOffline, l.tp, err)
	if l.failure.Load() == nil {
		l.store.log.Error("partition offline", "partition", l.tp.String(), "dir", l.part.path, "error", err)
	}
	l.fail(wrapped, true)
	return wrapped
}

// ioError handles an error of reading or writing this log's files: corruption takes the partition offline, an error of the disk the
// whole directory. A full disk, or a want of descriptors, takes nothing offline: the call has failed, the log is as it was.
func (l *Log) ioError(err error) error {
	if f := l.failure.Load(); f != nil && !f.readable && isNotExist(err) {
		return f.err // deleted under a job that was under way
	}
	switch {
	case errors.Is(err, ErrCorrupt):
		return l.offline(err)
	case isNoSpace(err):
		return fmt.Errorf("%w: %s: %w", ErrNoSpace, l.tp, err)
	case lacksResources(err):
		return fmt.Errorf("%w: %s: %w", ErrOffline, l.tp, err)
	}
	return l.failDir(err)
}

// failDir takes the whole directory offline, whatever the error: after a failed fsync, or where the log on disk is not known any more.
func (l *Log) failDir(err error) error {
	l.dir.fail(err)
	return l.offline(err)
}

// readError handles an error of reading this log's files: corruption takes the partition offline, anything else (too many open
// files, a bad sector) fails the call only.
func (l *Log) readError(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return l.offline(err)
	}
	if f := l.failure.Load(); f != nil && !f.readable {
		return f.err
	}
	return fmt.Errorf("%w: %s: %w", ErrOffline, l.tp, err)
}

func (l *Log) segments() []*segment {
	if p := l.segs.Load(); p != nil {
		return *p
	}
	return nil
}

// active is the segment that takes appends, nil for a log without any.
func (l *Log) active() *segment {
	s := l.segments()
	if len(s) == 0 {
		return nil
	}
	return s[len(s)-1]
}

// Offsets returns a consistent snapshot of the offsets. A log that cannot be loaded gives zeros: see Err.
func (l *Log) Offsets() Offsets {
	if err := l.load(); err != nil && !l.loaded.Load() {
		return Offsets{}
	}
	return l.off.load().Offsets
}

// rule says how the high watermark follows the other offsets.
func (l *Log) rule() advanceRule {
	return advanceRule{replicated: l.replicated.Load(), commit: l.cfg.Load().Fsync == ioqueue.PolicyCommit}
}

// firstUnstableLocked serves apply; mu is held. It also keeps openTxns.
func (l *Log) firstUnstableLocked(highWatermark int64) (int64, bool) {
	offset, ok := l.mu.producers.firstUnstableOffset(highWatermark)
	l.openTxns.Store(ok)
	return offset, ok
}

// applyLocked advances offsets; mu is held.
func (l *Log) applyLocked(a advance) *offsetView {
	if l.openTxns.Load() {
		return l.off.apply(a, l.rule(), l.firstUnstableLocked)
	}
	return l.off.apply(a, l.rule(), nil)
}

// move advances offsets outside an append and wakes who waited for them.
func (l *Log) move(a advance) {
	// Without open transactions the append lock is not needed, so that an fsync's end does not wait for a write.
	v := l.off.applyUnless(&l.openTxns, a, l.rule())
	if v == nil {
		l.mu.Lock()
		v = l.applyLocked(a)
		l.mu.Unlock()
	}
	if !l.dir.moved.Load() {
		l.dir.moved.Store(true)
	}
	l.wakeReached(v)
}

// onDurable is called by the fsync scheduler, without locks. The end that it is given may be from before a truncation, so
// the stream is asked again.
func (l *Log) onDurable(int64) {
	a := noAdvance()
	a.durableNow = l.stream.Durable
	l.move(a)
}

// SetReplicated hands the high watermark to the caller (on) or to the log (off, the default: a single replica, whose
// high watermark is the durable offset under PolicyCommit, else the log end).
func (l *Log) SetReplicated(on bool) {
	if l.replicated.Swap(on) != on && l.load() == nil {
		l.move(noAdvance())
	}
}

// SetHighWatermark moves the high watermark forward to offset, at most to the log end. It does nothing unless the log is replicated.
func (l *Log) SetHighWatermark(offset int64) {
	if l.load() == nil {
		a := noAdvance()
		a.highWatermark = offset
		l.move(a)
	}
}

// LeaderEpoch is the newest leader epoch in the log, -1 when there is none.
func (l *Log) LeaderEpoch() int32 {
	if l.load() != nil {
		return epochUndefined
	}
	e, _ := l.epochs.latest()
	return e.Epoch
}

// EndOffsetForEpoch answers OffsetForLeaderEpoch (KIP-279): the largest epoch at or below the asked one and its exclusive
// end; (-1, -1) when unknown.
func (l *Log) EndOffsetForEpoch(epoch int32) (int32, int64) {
	if l.load() != nil {
		return epochUndefined, offsetUndefined
	}
	return l.epochs.endOffsetFor(epoch, l.off.load().LogEnd)
}

// Sync makes everything appended so far durable, whatever the policy. It blocks.
func (l *Log) Sync() error {
	if err := l.load(); err != nil {
		return err
	}
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	if err := l.stream.SyncNow(); err != nil {
		return l.ioError(err)
	}
	return nil
}

// Size is the bytes of all segments' logs.
func (l *Log) Size() int64 {
	if err := l.load(); err != nil && !l.loaded.Load() {
		return 0
	}
	var n int64
	for _, s := range l.segments() {
		n += s.size.Load()
	}
	return n
}

// LogStats are counters of one log.
type LogStats struct {
	// Segments and Bytes describe what is on disk.
	Segments int
	Bytes    int64
	// UnsyncedBytes were appended and are not yet durable.
	UnsyncedBytes int64
	// Syncs counts fsyncs of the log since it was opened, SyncedAppends the appends that they made durable.
	Syncs, SyncedAppends int64
	// Appends, AppendedBytes and Reads count since the log was opened; Duplicates are repeats of idempotent producers.
	Appends, AppendedBytes, Reads, Duplicates int64
	// Producers is the number of producers whose sequence numbers are remembered.
	Producers int
}

// Stats returns the counters.
func (l *Log) Stats() LogStats {
	c := &l.counters
	st := LogStats{
		Appends: c.appends.Load(), AppendedBytes: c.appendedBytes.Load(), Reads: c.reads.Load(), Duplicates: c.duplicates.Load(),
	}
	if err := l.load(); err != nil {
		return st
	}
	st.Segments, st.Bytes, st.UnsyncedBytes = len(l.segments()), l.Size(), l.stream.UnsyncedBytes()
	st.Syncs, st.SyncedAppends = l.stream.Syncs()
	l.mu.Lock()
	defer l.mu.Unlock()
	st.Producers = l.mu.producers.count()
	return st
}

// setConfig applies a configuration that was validated.
func (l *Log) setConfig(cfg LogConfig) {
	l.cfg.Store(l.store.sharedConfig(cfg))
	l.configured.Store(true)
	if l.loaded.Load() && l.stream != nil {
		l.stream.SetOptions(cfg.streamOptions())
		l.move(noAdvance())
	}
}
