package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/weirmq/weir/record"
)

// snapshotEveryBytes bounds what a restart replays to know the producers: a snapshot is taken at each roll, and in between
// when this much was appended since.
const snapshotEveryBytes = 64 << 20

// segmentForLocked gives the segment that the append goes to: the active one, or a new one when it is full, too old, or
// could not name the offsets (they are stored as 32 bits above its base).
func (l *Log) segmentForLocked(p *appendPlan, cfg *LogConfig, logEnd int64) (*segment, error) {
	seg := l.active()
	if seg == nil {
		return l.addSegmentLocked(logEnd, cfg, p.nowMs)
	}
	size := seg.size.Load()
	if size == 0 && p.batches[len(p.batches)-1].LastOffset()-seg.base <= math.MaxInt32 {
		return seg, nil
	}
	if size+int64(len(p.bytes)) <= cfg.SegmentBytes && !seg.indexFull(cfg.IndexSizeMax) && !l.rollDueLocked(seg, p, cfg) &&
		p.batches[len(p.batches)-1].LastOffset()-seg.base <= math.MaxInt32 {
		if l.counters.appendedBytes.Load()-l.mu.snapshotAt > snapshotEveryBytes {
			l.snapshotLocked(logEnd, false)
		}
		l.prepareSpareLocked(size, cfg)
		return seg, nil
	}
	base := logEnd
	if p.batches[len(p.batches)-1].LastOffset()-base > math.MaxInt32 {
		// A replica of a compacted log may skip more offsets than a segment can name.
		base = p.batches[0].BaseOffset()
	}
	return l.rollLocked(base, cfg, p.nowMs)
}

// rollDueLocked is Kafka's rule: the age by record timestamps, or by the file's creation where the records have none.
func (l *Log) rollDueLocked(seg *segment, p *appendPlan, cfg *LogConfig) bool {
	age := cfg.SegmentMs - int64(float64(min(cfg.SegmentJitterMs, cfg.SegmentMs-1))*l.jitter)
	first := seg.firstTimestamp.Load()
	if first == record.NoTimestamp {
		return p.nowMs-seg.createdMs > age
	}
	latest := int64(record.NoTimestamp)
	for _, b := range p.batches {
		latest = max(latest, b.MaxTimestamp())
	}
	return latest-first > age
}

// rollLocked seals the active segment and starts one at base. Nothing here waits for the disk: the old file is synced by
// the fsync scheduler before any byte of the new one counts as durable, and the new name with the new file's first sync.
func (l *Log) rollLocked(base int64, cfg *LogConfig, nowMs int64) (*segment, error) {
	old := l.active()
	if old.unsettled {
		l.stream.TruncateTo(old.file, l.off.load().LogEnd) // to be synced before the new one is
		old.unsettled = false
	}
	seg, err := l.addSegmentLocked(base, cfg, nowMs)
	if err != nil {
		return nil, err
	}
	old.seal()
	l.snapshotLocked(l.off.load().LogEnd, true)
	l.dir.sched.Go(func() { l.afterRoll(old, cfg.Preallocate) })
	return seg, nil
}

// afterRoll is what a sealed segment still needs, on a worker.
func (l *Log) afterRoll(old *segment, preallocated bool) {
	if x := old.txns.Load(); x != nil {
		if err := l.syncTxnIndex(old, x); err != nil {
			_ = l.ioError(err)
		}
	}
	if preallocated {
		l.adminMu.Lock()
		defer l.adminMu.Unlock()
		if segs := l.segments(); slices.Contains(segs[:max(len(segs)-1, 0)], old) {
			// Gives back what was reserved and not used. Not of a segment that a truncation has made active again. Not under the log's lock: the
			// disk may be asked to discard the blocks, and appends would wait for it.
			_ = old.file.Truncate(old.size.Load())
		}
	}
}

// addSegmentLocked makes the file of a new active segment.
func (l *Log) addSegmentLocked(base int64, cfg *LogConfig, nowMs int64) (*segment, error) {
	if err := l.materializeLocked(); err != nil {
		return nil, err
	}
	seg := newSegment(l.part, base, 0, cfg.IndexIntervalBytes)
	seg.createdMs = nowMs
	prepared := l.takeSpareLocked(seg)
	if !prepared {
		if err := seg.file.create(); err != nil {
			return nil, l.ioError(fmt.Errorf("new segment: %w", err))
		}
	}
	seg.resetIndexes()
	seg.timesKnown.Store(true)
	seg.txns.Store(newTxnIndex(l.part.fs, l.part.join(segmentName(base, txnIndexSuffix))))
	l.setSegments(append(append([]*segment(nil), l.segments()...), seg))
	l.stream.SetFile(seg.file)
	if cfg.Preallocate && !prepared {
		l.dir.sched.Go(func() { _ = seg.file.Preallocate(0, cfg.SegmentBytes) })
	}
	return seg, nil
}

func (l *Log) setSegments(list []*segment) { l.segs.Store(&list) }

// materializeLocked makes the partition's directory with the first append. Its name and partition.metadata become
// durable with the first sync of a segment, before any record in it counts as durable.
func (l *Log) materializeLocked() error {
	if l.mu.onDisk {
		return nil
	}
	l.part.unnamed.Store(true)
	if err := l.part.fs.MkdirAll(l.part.path); err != nil {
		return l.ioError(fmt.Errorf("create partition directory: %w", err))
	}
	l.mu.onDisk = true
	l.mu.producers.noteFiles(nil)
	l.dir.sched.Go(func() {
		// Kill -9 right after the first append should find the topic's id as well, whatever the fsync policy. A clean stop writes it itself.
		if !l.dir.stopping.Load() {
			_ = l.part.writeMetadata()
		}
	})
	return nil
}

// snapshotLocked takes a producer snapshot, written by a worker. At a roll those between segments are removed.
func (l *Log) snapshotLocked(end int64, roll bool) {
	p := l.mu.producers.prepareSnapshot(end)
	l.mu.snapshotAt = l.counters.appendedBytes.Load()
	l.dir.sched.Go(func() {
		err := l.mu.producers.writeSnapshot(p)
		if err == nil && roll {
			segs := l.segments()
			bases := make([]int64, len(segs))
			for i, s := range segs {
				bases[i] = s.base
			}
			err = l.mu.producers.removeStraySnapshots(bases)
		}
		if err != nil {
			// Derived data: a restart replays more of the log instead.
			l.store.log.Warn("producer snapshot not written", "partition", l.tp.String(), "error", err)
		}
	})
}

// Roll closes the active segment, if it holds anything, so that retention or compaction may take it.
func (l *Log) Roll() error {
	if err := l.load(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	if l.mu.cutting {
		return l.refuseCutting()
	}
	if seg := l.active(); seg == nil || seg.size.Load() == 0 {
		return nil
	}
	_, err := l.rollLocked(l.off.load().LogEnd, l.cfg.Load(), l.store.nowMs())
	return err
}

// syncTxnIndex makes a segment's aborted transactions durable without holding mu over the fsync.
func (l *Log) syncTxnIndex(seg *segment, x *txnIndex) error {
	x.syncing.Lock()
	defer x.syncing.Unlock()
	l.mu.Lock()
	changes, done := x.changes, x.durable
	l.mu.Unlock()
	if done || seg.txns.Load() != x {
		return nil
	}
	if x.failed != nil {
		return x.failed
	}
	f, err := l.part.fs.OpenReadWrite(x.path)
	if isNotExist(err) && (seg.retired.Load() || x.count() == 0) {
		return nil // retention or compaction was faster; or nothing was written
	}
	if err != nil {
		return fmt.Errorf("open transaction index: %w", err)
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = l.part.fs.SyncDir(l.part.path)
	}
	if err != nil {
		x.failed = fmt.Errorf("sync transaction index %s: %w", x.path, err)
		return x.failed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.changes == changes {
		x.durable = true
	}
	return nil
}
