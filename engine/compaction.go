package engine

import (
	"errors"
	"fmt"
)

var _ cleanerLog = (*Log)(nil)

// checkpointDir implements cleanerLog.
func (l *Log) checkpointDir() string { return l.dir.path }

// cleanerView implements cleanerLog.
func (l *Log) cleanerView() (cleanerView, error) {
	if err := l.load(); err != nil {
		return cleanerView{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.failure.Load(); f != nil {
		return cleanerView{}, f.err
	}
	v := l.off.load()
	view := cleanerView{activeFirstMs: noTimestamp, logStart: v.LogStart, lastStable: v.LastStable, sealedEnd: v.LogStart}
	segs := l.segments()
	if n := len(segs); n > 0 {
		active := segs[n-1]
		view.sealed, view.sealedEnd, view.activeFirstMs = segs[:n-1], active.base, active.firstTimestamp.Load()
	}
	view.producers = l.mu.producers.activeProducers()
	return view, nil
}

// settleBelow implements cleanerLog.
func (l *Log) settleBelow(end int64) error {
	if l.dir.checkpointedPoint(l.tp) >= end {
		return nil
	}
	if err := l.Sync(); err != nil {
		return err
	}
	if err := l.dir.checkpoint(false); err != nil {
		return err
	}
	if point := l.dir.checkpointedPoint(l.tp); point < end {
		return fmt.Errorf("%w: recovery point got %d, want %d", errCleaningStopped, point, end)
	}
	return nil
}

// checkpointedPoint is the recovery point in the checkpoint file.
func (d *logDir) checkpointedPoint(tp TopicPartition) int64 {
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	return d.ckptPoints[tp]
}

// abortedIn implements cleanerLog. Indexes that are damaged are made anew.
func (l *Log) abortedIn(from, to int64) ([]AbortedTxn, error) {
	return abortedIn(l.segments(), from, to, l.txnIndexOf)
}

// swapSegments implements cleanerLog. Readers that have found an old segment go on with it under its new name.
func (l *Log) swapSegments(old []*segment, size int64) error {
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	if f := l.failure.Load(); f != nil {
		return fmt.Errorf("%w: %w", errCleaningStopped, f.err)
	}
	segs := l.segments()
	at := floorSegment(segs, old[0].base)
	if at < 0 || at+len(old) >= len(segs) {
		return errCleaningStopped
	}
	for i, s := range old {
		if segs[at+i] != s {
			return errCleaningStopped
		}
	}
	if err := l.swapFiles(old); err != nil {
		return err
	}
	for _, s := range old {
		// What replaces them is on disk. Not earlier: a swap that fails leaves its sources in use.
		l.stream.Drop(s.file)
	}
	next := newSegment(l.part, old[0].base, size, l.cfg.Load().IndexIntervalBytes)
	next.sealed.Store(true)
	next.rewritten = true
	next.txns.Store(newTxnIndex(l.part.fs, l.part.join(segmentName(next.base, txnIndexSuffix))))
	l.mu.Lock()
	// Appends may have added segments meanwhile; only adminMu's holder takes any away.
	segs = l.segments()
	list := append(append(append([]*segment(nil), segs[:at]...), next), segs[at+len(old):]...)
	l.setSegments(list)
	l.mu.Unlock()
	bases := make([]int64, len(list))
	for i, s := range list {
		bases[i] = s.base
	}
	if err := l.mu.producers.removeStraySnapshots(bases); err != nil {
		l.store.log.Warn("old producer snapshots not removed", "partition", l.tp.String(), "error", err)
	}
	// Built now rather than by the first reader; an error shows there again.
	_, _ = next.offsetIndex()
	l.store.after(l.dir, max(l.cfg.Load().FileDeleteDelayMs, 0), func() {
		if f := l.failure.Load(); f == nil || f.readable {
			for _, s := range old {
				l.removeGently(s, func(int64) {})
			}
		}
	})
	return nil
}

// swapFiles is the part of a swap that the disk sees.
func (l *Log) swapFiles(old []*segment) error {
	for _, s := range old {
		// Half-way there would be no way back for want of descriptors.
		ref, err := s.file.ref()
		if err != nil {
			return l.readError(err)
		}
		defer ref.Release()
	}
	decided, err := decideSwap(l.part.fs, l.part.path, old[0].base)
	if err == nil {
		err = completeSwap(l.part.fs, l.part.path, old)
	}
	switch {
	case err == nil:
		return nil
	case !decided:
		cleaned := l.part.join(segmentName(old[0].base, logSuffix) + cleanedSuffix)
		return errors.Join(l.ioError(err), removeFile(l.part.fs, cleaned))
	case isNoSpace(err) || lacksResources(err):
		// Memory and disk have parted, and a second swap on top of this one could lose records.
		return l.offline(fmt.Errorf("swap of a cleaned segment is unfinished, the next start finishes it: %w", err))
	}
	return l.failDir(err)
}

// CleanerStats counts what compaction did since the store was opened.
type CleanerStats struct {
	// Cleanings are finished passes over one log, Failures those that ended in an error.
	Cleanings, Failures int64
	// BytesRead and BytesWritten, RecordsRead and RecordsWritten count the second reading of a pass, in which the log is
	// written anew.
	BytesRead, BytesWritten, RecordsRead, RecordsWritten int64
	// SegmentsReplaced were swapped for SegmentsAdded.
	SegmentsReplaced, SegmentsAdded int64
}

// CleanerStats returns the counters; zeros when compaction is switched off.
func (s *Store) CleanerStats() CleanerStats {
	if s.cleaner == nil {
		return CleanerStats{}
	}
	st := &s.cleaner.stats
	return CleanerStats{
		Cleanings: st.Cleanings.Load(), Failures: st.Failures.Load(), BytesRead: st.BytesRead.Load(), BytesWritten: st.BytesWritten.Load(),
		RecordsRead: st.RecordsRead.Load(), RecordsWritten: st.RecordsWritten.Load(),
		SegmentsReplaced: st.SegmentsReplaced.Load(), SegmentsAdded: st.SegmentsAdded.Load(),
	}
}
