package engine

import (
	"fmt"
)

// TruncateTo drops everything at and above offset, or more where offset lies inside a batch: the whole batch goes.
// Durable when it returns. Waiters for what is gone get ErrOffsetOutOfRange. A truncation that found no space half-way has to be repeated
// before the log takes appends again: Log.Err says so.
// Errors: ErrOffsetOutOfRange (below the log start), ErrOffline, ErrNoSpace, ErrClosed.
func (l *Log) TruncateTo(offset int64) error {
	if err := l.load(); err != nil {
		return err
	}
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	v := l.off.load()
	if f := l.failure.Load(); f != nil {
		if !f.unfinished {
			return f.err
		}
		if f.end < 0 {
			return l.restart(l.restartAt.Load())
		}
		offset = min(offset, f.end)
	} else if offset >= v.LogEnd {
		return l.payOwedEpochs()
	}
	if offset < v.LogStart {
		return fmt.Errorf("%w: %s: truncate to %d, the log starts at %d", ErrOffsetOutOfRange, l.tp, offset, v.LogStart)
	}
	end, err := l.batchStart(offset)
	if err != nil {
		return l.readError(err)
	}
	if end < v.LogStart {
		// The batch also holds the deleted records below the log start: nothing of the log is left.
		return l.restart(v.LogStart)
	}
	if segs := l.segments(); len(segs) > 0 {
		// Now, while all that it is made of is there, should it be damaged.
		if _, err := l.txnIndexOf(segs[cutIn(segs, end)]); err != nil {
			return l.readError(err)
		}
	}
	if err := l.store.cleaner.cutBack(l.dir.path, l.tp, end); err != nil {
		return l.ioError(err)
	}
	// First the recovery point: from here on a crash may leave a log that ends at end, and that must not look like a loss. One below
	// end makes recovery fsync what a killed process has cut.
	l.recoveryCap.Store(max(end-1, v.LogStart))
	defer l.recoveryCap.Store(noCap)
	if err := l.dir.checkpoint(false); err != nil {
		return err
	}
	if err := l.dir.cuts.begin(); err != nil {
		return l.ioError(err)
	}
	dropped, err := l.cutTo(end)
	if err != nil {
		return err // the cut may be made and not fsynced: the mark stays
	}
	l.wakeTruncated(end)
	return l.finishTruncation(dropped)
}

// batchStart is offset, or the base of the batch it lies in.
func (l *Log) batchStart(offset int64) (int64, error) {
	segs := l.segments()
	i := floorSegment(segs, offset)
	if i < 0 {
		return offset, nil
	}
	b, ok, err := segs[i].locate(offset, segs[i].size.Load())
	if err != nil || !ok {
		return offset, err
	}
	return min(offset, b.baseOffset), nil
}

// cutTo changes files and state, with appends shut out, and returns the segments that left the log.
func (l *Log) cutTo(end int64) (dropped []*segment, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts.Add(1)
	defer l.cuts.Add(1)
	segs := l.segments()
	i := cutIn(segs, end)
	s := segs[i]
	pos := s.size.Load()
	if b, ok, err := s.locate(end, pos); err != nil {
		return nil, l.readError(err)
	} else if ok {
		pos = b.pos
	}
	dropped = segs[i+1:]
	for j := len(segs) - 1; j > i; j-- {
		if err := retireSegment(segs[j]); err != nil && !isNotExist(err) {
			return nil, l.unfinished(end, l.ioError(err))
		}
	}
	if len(dropped) > 0 {
		if err := l.part.fs.SyncDir(l.part.path); err != nil {
			return nil, l.unsynced(end, fmt.Errorf("sync %s: %w", l.part.path, err))
		}
	}
	cut, err := l.cutSegment(s, pos)
	if err != nil {
		return nil, l.unfinished(end, l.ioError(fmt.Errorf("truncate %s to byte %d: %w", s.path(), pos, err)))
	}
	l.setSegments(append(append([]*segment(nil), segs[:i]...), cut))
	l.stream.TruncateTo(cut.file, end)
	if err := l.restateLocked(end, place{segment: cut.base, pos: pos}); err != nil {
		return nil, l.unfinished(end, err)
	}
	return dropped, nil
}

// cutIn is the segment that a truncation to end leaves as the active one.
func cutIn(segs []*segment, end int64) int {
	i := max(floorSegment(segs, end), 0)
	if segs[i].base == end && i > 0 {
		i-- // nothing of this one stays; the one before becomes active again
	}
	return i
}

// unfinished notes that a truncation stopped half-way for want of space or descriptors, unless the log is offline anyway.
func (l *Log) unfinished(end int64, err error) error {
	old := l.failure.Load()
	if old != nil && !old.unfinished {
		return err
	}
	what := fmt.Sprintf("the truncation to offset %d", end)
	if end < 0 {
		what = "the replacement of the whole log"
	}
	f := &logFailure{err: fmt.Errorf("%s: %s is unfinished, repeat it: %w", l.tp, what, err), readable: true, unfinished: true, end: end}
	if l.failure.CompareAndSwap(old, f) {
		l.wake(func(*Waiter) bool { return true }, f.err)
		l.store.log.Warn("truncation unfinished, appends refused until it is repeated", "partition", l.tp.String(), "error", err)
	}
	return f.err
}

// unsynced is unfinished for an fsync of the directory: one that was not even tried may be repeated, one that failed may not.
func (l *Log) unsynced(end int64, err error) error {
	if lacksResources(err) {
		return l.unfinished(end, l.ioError(err))
	}
	return l.failDir(err)
}

// payOwedEpochs writes the leader epochs that an earlier truncation found no space for.
func (l *Log) payOwedEpochs() error {
	if !l.epochsOwed.Load() {
		return nil
	}
	return l.payEpochs()
}

// cutSegment cuts the file, and gives a new active segment for it: readers of the old one are told by cuts.
func (l *Log) cutSegment(s *segment, pos int64) (*segment, error) {
	x, err := s.txnIndex()
	if err != nil {
		return nil, err
	}
	// Before the batches go: above the recovery point the entries are made anew, but those of batches that are gone would stay.
	if err := x.truncateTo(l.endOf(s, pos)); err != nil {
		return nil, err
	}
	if err := s.file.Truncate(pos); err != nil {
		return nil, err
	}
	s.size.Store(pos)
	t := newSegment(l.part, s.base, pos, l.cfg.Load().IndexIntervalBytes)
	_ = t.file.Close()
	t.file = s.file
	t.txns.Store(x)
	// The indexes are made anew from what is left; truncations are rare and this is the one way that cannot be wrong.
	t.resetIndexes()
	c := newCursor(t.file, t.path(), 0, pos, t.base)
	defer c.release()
	for c.advance() {
		t.note(c.cur.Batch, c.cur.pos)
	}
	t.createdMs = l.store.nowMs()
	t.timesKnown.Store(true)
	return t, c.err
}

// endOf is the offset after the last batch that ends at or before pos.
func (l *Log) endOf(s *segment, pos int64) int64 {
	c := newCursor(s.file, s.path(), 0, pos, s.base)
	defer c.release()
	end := s.base
	for c.advance() {
		end = c.cur.NextOffset()
	}
	return end
}

// restateLocked makes producers, epochs and offsets those of a log that ends at end.
func (l *Log) restateLocked(end int64, at place) error {
	v := *l.off.load()
	nowMs := l.store.nowMs()
	if l.epochs.truncateFromEnd(end) {
		l.epochsOwed.Store(true)
	}
	from, err := l.mu.producers.reload(v.LogStart, end, nowMs)
	if err != nil {
		return l.ioError(err)
	}
	if err := l.replayRange(l.segments(), from, end, nowMs); err != nil {
		return l.readError(err)
	}
	v.LogEnd, v.logEndAt = end, at
	if v.Durable >= end {
		v.Durable, v.durableAt = end, at
	}
	if v.HighWatermark >= end {
		v.HighWatermark, v.highWatermarkAt = end, at
	}
	v.LastStable, v.lastStableAt = min(v.LastStable, v.HighWatermark), unknownPlace
	if first, ok := l.firstUnstableLocked(v.HighWatermark); ok {
		v.LastStable = max(min(v.LastStable, first), v.LogStart)
	} else {
		v.LastStable, v.lastStableAt = v.HighWatermark, v.highWatermarkAt
	}
	l.off.reset(v)
	return nil
}

// finishTruncation makes the cut durable and removes what was cut off.
func (l *Log) finishTruncation(dropped []*segment) error {
	for _, s := range dropped {
		l.stream.Drop(s.file)
	}
	if f := l.failure.Load(); f != nil && f.unfinished {
		l.failure.CompareAndSwap(f, nil)
	}
	if err := l.syncCut(); err != nil {
		return l.ioError(err)
	}
	l.dir.cuts.end()
	if err := l.payEpochs(); err != nil {
		return err
	}
	l.store.after(l.dir, max(l.cfg.Load().FileDeleteDelayMs, 0), func() {
		if f := l.failure.Load(); f == nil || f.readable {
			for _, s := range dropped {
				l.removeFiles(s, s.goneSuffix)
			}
		}
	})
	return nil
}

// TruncateFullyAndStartAt drops everything and continues at offset, for a follower whose log lies below the leader's
// start. Durable when it returns. Errors: ErrOffline, ErrNoSpace, ErrClosed.
func (l *Log) TruncateFullyAndStartAt(offset int64) error {
	if err := l.load(); err != nil {
		return err
	}
	if offset < 0 {
		return fmt.Errorf("%w: %s: start at %d", ErrOffsetOutOfRange, l.tp, offset)
	}
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	if f := l.failure.Load(); f != nil && !f.unfinished {
		return f.err
	}
	return l.restart(offset)
}

// restart replaces the whole log; adminMu is held.
func (l *Log) restart(offset int64) error {
	if err := l.store.cleaner.cutBack(l.dir.path, l.tp, -1); err != nil {
		return l.ioError(err)
	}
	if offset < l.off.load().LogStart {
		// A lower log start with the old recovery point would look like a loss of what lies between.
		l.recoveryCap.Store(offset)
		defer l.recoveryCap.Store(noCap)
		if err := l.dir.checkpoint(false); err != nil {
			return err
		}
	}
	// The checkpoints first: with a log start above everything, recovery takes what it finds for deleted.
	l.restartAt.Store(offset)
	if err := l.dir.checkpoint(false); err != nil {
		return l.unfinished(-1, err) // the log start may be written, and then the next start goes on
	}
	if err := l.dir.cuts.begin(); err != nil {
		return l.ioError(err)
	}
	dropped, err := l.replaceAll(offset)
	if err != nil {
		return err // restartAt stays: nothing of the old log counts any more
	}
	l.dir.startsAt(l, offset)
	l.restartAt.Store(-1)
	l.wakeTruncated(-1)
	return l.finishTruncation(dropped)
}

// replaceAll changes files and state, with appends shut out, and returns the segments that left the log.
func (l *Log) replaceAll(offset int64) (dropped []*segment, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts.Add(1)
	defer l.cuts.Add(1)
	dropped = l.segments()
	for j := len(dropped) - 1; j >= 0; j-- {
		if err := retireSegment(dropped[j]); err != nil && !isNotExist(err) {
			return nil, l.unfinished(-1, l.ioError(err))
		}
	}
	if l.mu.onDisk {
		if err := l.mu.producers.removeAllSnapshots(); err != nil {
			return nil, l.unfinished(-1, l.ioError(err))
		}
		if err := l.part.fs.SyncDir(l.part.path); err != nil {
			return nil, l.unsynced(-1, fmt.Errorf("sync %s: %w", l.part.path, err))
		}
	}
	l.mu.producers.clear()
	l.epochs.clear()
	l.setSegments(nil)
	seg, err := l.addSegmentLocked(offset, l.cfg.Load(), l.store.nowMs())
	if err != nil {
		l.setSegments(dropped) // to be read, until this is repeated
		return nil, l.unfinished(-1, err)
	}
	l.stream.TruncateTo(seg.file, offset)
	l.openTxns.Store(false)
	at := place{segment: offset}
	v := offsetView{logEndAt: at, durableAt: at, highWatermarkAt: at, lastStableAt: at}
	v.Offsets = Offsets{LogStart: offset, LastStable: offset, HighWatermark: offset, Durable: offset, LogEnd: offset}
	l.off.reset(v)
	return dropped, nil
}
