package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirmq/weir/record"
)

// load looks at the partition's directory, once, with the first call that needs it. After a clean shutdown it reads names
// and the end of the newest segment; else it recovers. It returns why the log cannot be used at all: a log that
// is merely offline can still be read.
func (l *Log) load() error {
	if l.loaded.Load() {
		return l.unusable()
	}
	l.loadMu.Lock()
	defer l.loadMu.Unlock()
	if l.loaded.Load() {
		return l.unusable()
	}
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	if err := l.dir.err(); err != nil {
		return l.offline(err)
	}
	if err := l.open(); err != nil {
		if l.stream != nil {
			l.stream.Close()
			l.stream = nil
		}
		if errors.Is(err, errSync) {
			return l.failDir(err)
		}
		return l.readError(err)
	}
	l.loaded.Store(true)
	if err := l.dir.err(); err != nil {
		// The directory failed while this log was being loaded, and may have missed it.
		_ = l.offline(err)
	}
	return l.unusable()
}

// unusable is set for a log that cannot even be read.
func (l *Log) unusable() error {
	if f := l.failure.Load(); f != nil && !f.readable {
		return f.err
	}
	return nil
}

// opened is what open finds out.
type opened struct {
	segs             []*segment
	logStart, logEnd int64
	// reindexFrom is where the leader epochs and the indexes of aborted transactions have to be made anew from, else noCap.
	reindexFrom int64
	// epochs are those of the checkpoint, unless epochsLost; lastEpoch is that of the batch before. gaps: offsets may be missing.
	epochs     []epochEntry
	epochsLost bool
	lastEpoch  int32
	gaps       bool
	// fault is corruption at logEnd: what lies below can be read.
	fault error
	// scanned: recovery looked at the log, and did not take a clean stop's word for its end.
	scanned bool
	// dirty: files were cut or removed, not durably.
	dirty bool
	// lazy: what lies above the recovery point is not fsynced before the log is used.
	lazy bool
	// activeTxns: the newest segment has an index of aborted transactions.
	activeTxns bool
}

// open builds the log's state from its directory.
func (l *Log) open() error {
	cfg := l.cfg.Load()
	l.mu.producers = newProducerState(producerOptions{
		FS: l.part.fs, Dir: l.part.path, Logger: l.store.log, ExpirationMs: l.store.o.ProducerExpirationMs,
	})
	names, err := l.listDir()
	if err != nil {
		return err
	}
	o := opened{segs: l.findSegments(names, cfg), logStart: l.start.logStart, reindexFrom: noCap}
	if n := len(o.segs); n > 0 {
		_, o.activeTxns = slices.BinarySearch(names, segmentName(o.segs[n-1].base, txnIndexSuffix))
	}
	if err := l.openEpochs(&o); err != nil {
		return err
	}
	if err := l.checkFront(&o, names); err != nil {
		return err
	}
	if err := l.openEnd(&o, cfg); err != nil {
		return err
	}
	if o.logEnd < o.logStart {
		// The fault lies below the log start, so nothing can be read.
		o.segs, o.logEnd = nil, o.logStart
	}
	if l.epochs.truncateFromEnd(o.logEnd) {
		l.epochsOwed.Store(true)
	}
	if o.logStart > 0 {
		l.epochs.truncateFromStart(o.logStart)
	}
	if err := l.replay(&o); err != nil {
		return err
	}
	l.segs.Store(&o.segs)
	return l.begin(&o, cfg)
}

// listDir gives the names in the directory, after the leftovers of a crash are gone. A directory that is missing is an
// empty log, unless the checkpoints know better.
func (l *Log) listDir() ([]string, error) {
	names, err := l.part.fs.List(l.part.path)
	if isNotExist(err) {
		if l.start.recoveryPoint > l.start.logStart {
			return nil, corruptFile(l.part.path, 0, "partition directory", "none",
				fmt.Sprintf("records up to offset %d, as the recovery point says", l.start.recoveryPoint))
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.mu.onDisk = true
	if l.part.topicID() == (TopicID{}) {
		id, err := readPartitionMetadata(l.part.fs, l.part.path)
		switch {
		case err == nil:
			l.part.setTopicID(id, false)
		case !isNotExist(err):
			return nil, err
		}
	}
	if names, err = recoverSwaps(l.part.fs, l.part.path, names); err != nil {
		return nil, err
	}
	gone := false
	for _, name := range names {
		if strings.HasSuffix(name, deletedSuffix) || strings.HasSuffix(name, tmpSuffix) {
			if err := removeFile(l.part.fs, l.part.join(name)); err != nil {
				return nil, err
			}
			gone = gone || strings.HasSuffix(name, deletedSuffix)
		}
	}
	if gone && !l.start.clean {
		// A killed process may not have fsynced the names that it took from the segments, and a power cut would give them back.
		if err := l.syncDir(); err != nil {
			return nil, err
		}
	}
	l.mu.producers.noteFiles(names)
	return names, nil
}

// findSegments describes the segments in order. Those that lie wholly below the log start are being deleted.
func (l *Log) findSegments(names []string, cfg *LogConfig) []*segment {
	var bases []int64
	for _, name := range names {
		if base, ok := parseSegmentName(name, logSuffix); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	for len(bases) > 1 && bases[1] <= l.start.logStart {
		s := newSegment(l.part, bases[0], 0, cfg.IndexIntervalBytes)
		l.removeFiles(s, "")
		bases = bases[1:]
	}
	segs := make([]*segment, len(bases))
	for i, base := range bases {
		segs[i] = newSegment(l.part, base, 0, cfg.IndexIntervalBytes)
		segs[i].sealed.Store(i < len(bases)-1)
	}
	return segs
}

// openEnd finds the log's end: by the checkpoint after a clean shutdown, if the newest segment bears it out, else by recovery.
func (l *Log) openEnd(o *opened, cfg *LogConfig) error {
	for _, s := range o.segs {
		info, err := l.part.fs.Stat(s.path())
		if err != nil {
			return err
		}
		s.size.Store(info.Size)
	}
	if len(o.segs) == 0 {
		o.logEnd = max(o.logStart, 0)
		if l.start.recoveryPoint > o.logEnd && o.fault == nil {
			o.fault = noSegments(l.part.path, l.start.recoveryPoint)
		}
		return nil
	}
	if l.start.clean {
		end, err := l.openActive(o.segs[len(o.segs)-1])
		if err == nil && end == l.start.recoveryPoint && o.logStart <= end {
			o.logEnd = end
			return l.openActiveTxns(o)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errBadIndex) {
			return err
		}
		l.store.log.Warn("log does not end where the clean shutdown left it, recovering", "partition", l.tp.String(),
			"path", o.segs[len(o.segs)-1].path(), "end", end, "want", l.start.recoveryPoint, "error", err)
	}
	return l.recover(o, cfg)
}

// openActive makes the newest segment ready for appends and returns the offset after its last batch. It walks from the
// last index entry; the CRCs are not checked.
func (l *Log) openActive(s *segment) (end int64, err error) {
	if err := s.openIndexesAsActive(); err != nil {
		return 0, err
	}
	pos, next := int64(0), s.base
	offsets, times := s.offsets.Load(), s.times.Load()
	if raw, ok, err := offsets.last(); err != nil {
		return 0, err
	} else if ok {
		e := decodeOffsetEntry(raw[:])
		c := newCursor(s.file, s.path(), e.pos, s.size.Load(), s.base)
		good := c.startsAt(s.base + int64(e.rel))
		c.release()
		if !good {
			return 0, fmt.Errorf("%w: %s: entry %d at byte %d", errBadIndex, offsets.file.Name(), s.base+int64(e.rel), e.pos)
		}
		pos = e.pos
	}
	if raw, ok, err := times.last(); err != nil {
		return 0, err
	} else if ok {
		e := decodeTimeEntry(raw[:])
		if good, err := s.checkTimeEntry(e); err != nil || !good {
			return 0, errors.Join(fmt.Errorf("%w: %s: entry %d", errBadIndex, times.file.Name(), e.timestamp), err)
		}
		s.maxTimestamp.Store(e.timestamp)
		s.maxTimestampOffset.Store(s.base + int64(e.rel))
		s.lastTimeEntry = e.timestamp
	}
	next, err = s.walkActive(pos, next)
	if err != nil {
		return 0, err
	}
	s.createdMs = l.store.nowMs()
	s.timesKnown.Store(true)
	return next, nil
}

// openActiveTxns opens the active segment's index of aborted transactions: appends need it, and the reads behind them, which check nothing. One
// that cannot be made anew stays damaged, and takes the partition offline when it is needed.
func (l *Log) openActiveTxns(o *opened) error {
	s := o.segs[len(o.segs)-1]
	if !o.activeTxns {
		s.txns.Store(newTxnIndex(l.part.fs, l.part.join(segmentName(s.base, txnIndexSuffix))))
		return nil
	}
	_, err := s.txnIndex()
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	if _, err = l.restoreTxnIndex(o.segs, s, o.logEnd, err); errors.Is(err, ErrCorrupt) {
		l.store.log.Warn("index of aborted transactions is damaged", "partition", l.tp.String(), "error", err)
		return nil
	}
	return err
}

// walkActive brings the writer's state of an active segment up to its end, from an indexed batch at pos.
func (s *segment) walkActive(pos, next int64) (int64, error) {
	if err := s.readFirstTimestamp(); err != nil {
		return 0, err
	}
	c := newCursor(s.file, s.path(), pos, s.size.Load(), s.base)
	defer c.release()
	s.sinceEntry = 0
	for c.advance() {
		if ts := c.cur.MaxTimestamp(); ts > s.maxTimestamp.Load() {
			s.maxTimestampOffset.Store(c.cur.LastOffset())
			s.maxTimestamp.Store(ts)
		}
		s.sinceEntry += int64(c.cur.Size())
		next = c.cur.NextOffset()
	}
	return next, c.err
}

// readFirstTimestamp reads the first batch's header.
func (s *segment) readFirstTimestamp() error {
	if s.size.Load() == 0 || s.firstTimestamp.Load() != noTimestamp {
		return nil
	}
	c := newCursor(s.file, s.path(), 0, s.size.Load(), s.base)
	defer c.release()
	if c.advance() {
		s.firstTimestamp.Store(c.cur.MaxTimestamp())
	}
	return c.err
}

// openIndexesAsActive opens the indexes for appending. Missing ones of an empty segment are new ones.
func (s *segment) openIndexesAsActive() error {
	if s.size.Load() == 0 {
		s.resetIndexes()
		return nil
	}
	offsets, err := openIndex(newSegFile(s.dir, segmentName(s.base, indexSuffix)), offsetEntryBytes)
	if err == nil {
		var times *index
		if times, err = openIndex(newSegFile(s.dir, segmentName(s.base, timeIndexSuffix)), timeEntryBytes); err == nil {
			s.times.Store(times)
			s.offsets.Store(offsets)
			return nil
		}
	}
	if isNotExist(err) {
		err = fmt.Errorf("%w: %w", errBadIndex, err)
	}
	return err
}

// openEpochs reads the leader epochs. A damaged list is rebuilt from the batches.
func (l *Log) openEpochs(o *opened) error {
	path := l.part.join(leaderEpochCheckpointName)
	c, err := openEpochCache(l.part.fs, path)
	if errors.Is(err, ErrCorrupt) {
		l.store.log.Warn("leader epochs damaged, rebuilding them from the log", "partition", l.tp.String(), "error", err)
		c = &epochCache{fs: l.part.fs, path: path}
		o.reindexFrom, o.epochsLost = 0, true
		err = nil
	}
	l.epochs = c
	return err
}

// replay restores the producer state, and above reindexFrom the leader epochs and the indexes of aborted transactions.
func (l *Log) replay(o *opened) error {
	if !l.mu.onDisk || o.fault != nil && len(o.segs) == 0 {
		return nil // nothing can be read; the snapshots stay for when the files that are missing are put back
	}
	nowMs := l.store.nowMs()
	// A snapshot above reindexFrom would skip the transactions whose entries have to be written again.
	from, err := l.mu.producers.reload(o.logStart, min(o.logEnd, max(o.reindexFrom, o.logStart)), nowMs)
	if err != nil {
		return err
	}
	if err := l.replayRange(o.segs, from, o.logEnd, nowMs); err != nil {
		return err
	}
	for _, s := range o.segs {
		// What was missing below the recovery point, the next checkpoint would not sync.
		if x := s.txns.Load(); x != nil && x.told {
			if err := l.syncTxnIndex(s, x); err != nil {
				return syncError(err)
			}
		}
	}
	return nil
}

// replayRange passes the batches of [from, end) to the producer state and the epochs.
func (l *Log) replayRange(segs []*segment, from, end, nowMs int64) error {
	for i, s := range segs {
		if i+1 < len(segs) && segs[i+1].base <= from {
			continue
		}
		c, err := s.seek(from, s.size.Load())
		if err != nil {
			return err
		}
		for c.advance() && c.cur.BaseOffset() < end {
			if c.cur.LastOffset() < from {
				continue
			}
			if epoch := c.cur.PartitionLeaderEpoch(); l.epochs.epochAt(c.cur.BaseOffset()) != epoch {
				l.epochs.assign(epoch, c.cur.BaseOffset())
			}
			if c.cur.ProducerID() < 0 {
				continue
			}
			b := c.cur.Batch
			if b.IsControl() {
				if b, err = readBatch(s, c.cur); err != nil {
					break
				}
			}
			if err = l.noteProducerLocked(b, s, nowMs); err != nil {
				break
			}
		}
		if err == nil {
			err = c.err
		}
		c.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// readBatch reads a whole batch whose header was checked.
func readBatch(s *segment, b batchAt) (record.Batch, error) {
	buf := make([]byte, b.Size())
	if err := readFull(s.file, buf, b.pos); err != nil {
		return nil, fmt.Errorf("read batch at byte %d of %s: %w", b.pos, s.path(), err)
	}
	return buf, nil
}

// begin sets the offsets and starts the fsync stream.
func (l *Log) begin(o *opened, cfg *LogConfig) error {
	so := cfg.streamOptions()
	so.InitialEnd, so.OnDurable = o.logEnd, l.onDurable
	if o.lazy = l.isLazy(o, cfg); o.lazy {
		so.InitialEnd = l.lazyFrom(o)
	}
	l.stream = l.dir.sched.NewStream(so)
	end := place{segment: o.logEnd, pos: 0}
	if seg := l.active(); seg != nil {
		if so.InitialEnd == o.logEnd { // else leaveLazy does, in order
			l.stream.SetFile(seg.file)
		}
		end = place{segment: seg.base, pos: seg.size.Load()}
	}
	v := offsetView{logEndAt: end, durableAt: end, highWatermarkAt: end, lastStableAt: end}
	v.Offsets = Offsets{LogStart: o.logStart, LastStable: o.logEnd, HighWatermark: o.logEnd, Durable: so.InitialEnd, LogEnd: o.logEnd}
	if so.InitialEnd < o.logEnd {
		v.durableAt = unknownPlace
	}
	if l.replicated.Load() {
		v.HighWatermark = min(max(l.start.highWatermark, o.logStart), o.logEnd)
		v.highWatermarkAt = unknownPlace
	}
	v.LastStable, v.lastStableAt = v.HighWatermark, v.highWatermarkAt
	if first, ok := l.firstUnstableLocked(v.HighWatermark); ok && first < v.LastStable {
		v.LastStable, v.lastStableAt = max(first, v.LogStart), unknownPlace
	}
	l.off.reset(v)
	l.mu.snapshotAt = 0
	l.dir.moved.Store(true)
	if o.fault == nil {
		if err := l.settleRecovered(o); err != nil {
			return err
		}
		if o.dirty {
			l.dir.cuts.end()
		}
		if so.InitialEnd < o.logEnd {
			if err := l.leaveLazy(o, so.InitialEnd); err != nil {
				return err
			}
		}
	}
	if o.fault != nil {
		if !l.dir.recoveryKnown {
			// The next start knows recovery points again: one just above the fault, or it would cut the log there.
			l.checkpointed.Store(o.logEnd + 1)
		}
		_ = l.offline(o.fault)
	}
	return nil
}

// shut ends the use of the log's files, without flushing anything.
func (l *Log) shut() {
	l.fail(fmt.Errorf("%w: %s", ErrClosed, l.tp), false)
	l.loadMu.Lock()
	defer l.loadMu.Unlock()
	if l.stream != nil {
		l.stream.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.producers != nil {
		// Jobs that still hold a snapshot must not write it: another log may live in a directory of this name.
		l.mu.producers.snapshots.Lock()
		l.mu.producers.snapshots.generation.Add(1)
		l.mu.producers.snapshots.Unlock()
	}
	l.part.setTopicID(l.part.topicID(), false)
	for _, s := range l.segments() {
		s.close()
	}
}
