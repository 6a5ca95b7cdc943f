package engine

import (
	"fmt"

	"github.com/weirmq/weir/ioqueue"
)

// DeleteRecords moves the log start to before, at most to the high watermark (-1 means the high watermark); durable when
// it returns. It returns the log start. Segments that lie wholly below it are removed in the background.
// Errors: ErrOffsetOutOfRange, ErrOffline, ErrNoSpace, ErrClosed.
func (l *Log) DeleteRecords(before int64) (int64, error) {
	if err := l.load(); err != nil {
		return -1, err
	}
	if f := l.failure.Load(); f != nil {
		return -1, f.err
	}
	v := l.off.load()
	if before == -1 {
		before = v.HighWatermark
	}
	if before < 0 || before > v.HighWatermark {
		return -1, fmt.Errorf("%w: %s: delete records before %d, the high watermark is %d", ErrOffsetOutOfRange, l.tp, before, v.HighWatermark)
	}
	l.moveLogStart(before)
	if err := l.dir.checkpoint(false); err != nil {
		return -1, err
	}
	l.dir.sched.Go(l.dropBelowStart)
	return l.off.load().LogStart, nil
}

func (l *Log) moveLogStart(offset int64) {
	a := noAdvance()
	a.logStart = offset
	l.move(a)
}

// retentionStart moves the log start past the segments that are too old or too many, and says whether files can go. The
// files stay until the log start is in the checkpoint: a crash must not leave a hole that looks like a loss.
func (l *Log) retentionStart() bool {
	if l.load() != nil || l.failure.Load() != nil {
		return false
	}
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	cfg := l.cfg.Load()
	if cfg.Cleanup&CleanupDelete != 0 {
		start, err := l.expiredEnd(cfg)
		if err != nil {
			_ = l.readError(err)
			return false
		}
		if start > l.off.load().LogStart {
			l.moveLogStart(start)
		}
	}
	segs := l.segments()
	return len(segs) > 1 && segs[1].base <= l.off.load().LogStart
}

// expiredEnd is the offset up to which whole segments have expired, 0 for none. An active segment that has is rolled first.
func (l *Log) expiredEnd(cfg *LogConfig) (int64, error) {
	v := l.off.load()
	segs := l.segments()
	nowMs := l.store.nowMs()
	total := l.Size()
	end := int64(0)
	for i, s := range segs {
		next := v.LogEnd
		if i+1 < len(segs) {
			next = segs[i+1].base
		}
		if next > v.HighWatermark || s.size.Load() == 0 {
			break
		}
		bySize := cfg.RetentionBytes >= 0 && total-s.size.Load() >= cfg.RetentionBytes
		if !bySize {
			old, err := s.olderThan(cfg.RetentionMs, nowMs, i == len(segs)-1)
			if err != nil {
				return 0, err
			}
			if !old {
				break
			}
		}
		if i == len(segs)-1 {
			if bySize {
				break // the active segment goes by age only, as in Kafka
			}
			if err := l.Roll(); err != nil {
				return end, nil // no space for a new file: what is older goes all the same
			}
		}
		total -= s.size.Load()
		end = next
	}
	return end, nil
}

// olderThan says whether all records are older than retentionMs. Records without timestamps have the age of their file.
func (s *segment) olderThan(retentionMs, nowMs int64, active bool) (bool, error) {
	if retentionMs < 0 {
		return false, nil
	}
	if !active {
		if err := s.sealedTimes(); err != nil {
			return false, err
		}
	}
	latest := s.maxTimestamp.Load()
	if latest == noTimestamp {
		info, err := s.dir.fs.Stat(s.path())
		if err != nil {
			return false, err
		}
		latest = info.ModTime.UnixMilli()
	}
	return nowMs-latest > retentionMs, nil
}

// mayExpire says, without loading the log, whether retention could find anything in it: after a clean start idle logs stay unopened.
// The first segment's file is as young as its newest record, at least.
func (l *Log) mayExpire() bool {
	if l.loaded.Load() {
		return true
	}
	cfg := l.cfg.Load()
	if cfg.Cleanup&CleanupDelete == 0 || (cfg.RetentionMs < 0 && cfg.RetentionBytes < 0) {
		return false
	}
	names, err := l.part.fs.List(l.part.path)
	if err != nil {
		return !isNotExist(err)
	}
	var bytes int64
	for _, name := range names {
		if _, ok := parseSegmentName(name, logSuffix); !ok {
			continue
		}
		info, err := l.part.fs.Stat(l.part.join(name))
		if err != nil {
			return true
		}
		if bytes == 0 && cfg.RetentionMs >= 0 && l.store.nowMs()-info.ModTime.UnixMilli() > cfg.RetentionMs {
			return true
		}
		bytes += info.Size
	}
	return cfg.RetentionBytes >= 0 && bytes > cfg.RetentionBytes
}

// dropBelowStart takes the segments that lie wholly below the log start out of the log. Their files get another name at once and go
// after file.delete.delay.ms. REQUIRES: the log start is in the checkpoint.
func (l *Log) dropBelowStart() { l.dropBelow(l.cfg.Load().FileDeleteDelayMs) }

// dropBelow is dropBelowStart with another delay, for disks that are nearly full.
func (l *Log) dropBelow(delayMs int64) {
	l.adminMu.Lock()
	defer l.adminMu.Unlock()
	if l.failure.Load() != nil {
		return
	}
	start := l.off.load().LogStart
	if durable := l.dir.checkpointedStart(l.tp); durable < start {
		start = durable
	}
	l.mu.Lock()
	segs := l.segments()
	n := 0
	for n+1 < len(segs) && segs[n+1].base <= start {
		n++
	}
	gone := segs[:n]
	l.setSegments(segs[n:])
	l.epochs.truncateFromStart(start)
	l.mu.Unlock()
	// The oldest first, so that what a crash leaves has no hole.
	for _, s := range gone {
		l.retire(s, delayMs)
	}
	if n > 0 {
		l.store.log.Info("segments deleted", "partition", l.tp.String(), "count", n, "logStart", start)
		if err := l.mu.producers.removeSnapshotsBefore(start); err != nil {
			l.store.log.Warn("old producer snapshots not removed", "partition", l.tp.String(), "error", err)
		}
	}
}

// retire renames a segment's files and has them removed later. The segment must have left the list.
func (l *Log) retire(s *segment, delayMs int64) {
	l.stream.Drop(s.file)
	switch err := retireSegment(s); {
	case err == nil:
	case isNotExist(err):
		return
	case isNoSpace(err):
		// No room for the longer names, and this is what makes room: without the delay then.
		l.removeFiles(s, "")
	default:
		_ = l.ioError(err)
		return
	}
	size := s.size.Load()
	l.dir.space.deleting.Add(size)
	freed := func(n int64) { l.dir.space.deleting.Add(-n) }
	l.store.after(l.dir, max(delayMs, 0), func() {
		if delayMs > 0 {
			l.removeGently(s, freed)
			return
		}
		// There is no time to lose: the disk is full, or that was asked for.
		defer freed(size)
		if f := l.failure.Load(); f == nil || f.readable {
			l.removeFiles(s, s.goneSuffix)
		}
	})
}

// checkpointedStart is the log start in the checkpoint file.
func (d *logDir) checkpointedStart(tp TopicPartition) int64 {
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	return d.ckptStarts[tp]
}

// expireProducers forgets producers that were idle for too long.
func (l *Log) expireProducers() {
	if !l.loaded.Load() || l.failure.Load() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.producers.expire(l.store.nowMs())
}

// UnsyncedBytes is how much was appended and is not durable yet.
func (l *Log) UnsyncedBytes() int64 {
	if !l.loaded.Load() {
		return 0
	}
	return l.stream.UnsyncedBytes()
}

// SyncPolicy is the class of durability in force.
func (l *Log) SyncPolicy() ioqueue.Policy { return l.cfg.Load().Fsync }
