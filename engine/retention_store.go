package engine

import (
	"cmp"
	"slices"
)

// RunRetention deletes segments by age and size in all logs, relieves disks above their watermark, and forgets idle
// producers. The store does so by itself every RetentionInterval.
func (s *Store) RunRetention() {
	for _, d := range s.dirs {
		if d.err() != nil {
			continue
		}
		var due []*Log
		for _, l := range s.logsOf(d) {
			if s.stopping() {
				return
			}
			if l.configured.Load() && l.mayExpire() && l.retentionStart() {
				due = append(due, l)
			}
			l.expireProducers()
		}
		s.dropSegments(d, due, false)
		s.checkDisk(d)
	}
}

func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// dropSegments removes what lies below the log starts of due. One checkpoint for all comes first: a log start is durable before a
// segment below it goes; without it none does.
func (s *Store) dropSegments(d *logDir, due []*Log, now bool) bool {
	if len(due) == 0 {
		return false
	}
	if err := d.checkpoint(false); err != nil {
		s.log.Warn("retention put off: checkpoint not written", "dir", d.path, "error", err)
		return false
	}
	for _, l := range due {
		if now {
			l.dropBelow(0)
		} else {
			l.dropBelowStart()
		}
	}
	return true
}

// diskCandidate is a segment that may go when the disk is too full.
type diskCandidate struct {
	log    *Log
	end    int64 // the log start after it is gone
	latest int64 // its newest record's time, ms
	bytes  int64
}

// relieveDisk deletes the oldest segments of a directory until excess bytes are gone: of logs that are to lose old records
// anyway (cleanup.policy=delete with a limit of age or size), sealed and below the high watermark, and at once, without
// file.delete.delay.ms.
// It says whether there were any.
func (s *Store) relieveDisk(d *logDir, excess int64) bool {
	var all []diskCandidate
	for _, l := range s.logsOf(d) {
		all = l.diskCandidates(all)
	}
	slices.SortStableFunc(all, func(a, b diskCandidate) int { return cmp.Compare(a.latest, b.latest) })
	due := map[*Log]int64{}
	var bytes, count int64
	for _, c := range all {
		if bytes >= excess {
			break
		}
		if c.end > due[c.log] {
			due[c.log] = c.end
		}
		bytes += c.bytes
		count++
	}
	if count == 0 {
		return false
	}
	logs := make([]*Log, 0, len(due))
	for l, end := range due {
		l.moveLogStart(end)
		logs = append(logs, l)
	}
	if !s.dropSegments(d, logs, true) {
		return true // tried again with the next check
	}
	d.space.deletedSegments.Add(count)
	d.space.deletedBytes.Add(bytes)
	s.log.Info("segments deleted before their time for space", "dir", d.path, "excessBytes", excess, "deletedBytes", bytes,
		"segments", count, "partitions", len(logs))
	return true
}

// diskCandidates appends the log's sealed segments that may go early, the oldest first. Times that fall count as the latest
// so far, since a segment cannot go before those in front of it.
func (l *Log) diskCandidates(all []diskCandidate) []diskCandidate {
	cfg := l.cfg.Load()
	if !l.configured.Load() || cfg.Cleanup != CleanupDelete || (cfg.RetentionMs < 0 && cfg.RetentionBytes < 0) || l.load() != nil || l.failure.Load() != nil {
		return all
	}
	highWatermark := l.off.load().HighWatermark
	segs := l.segments()
	latest := int64(noTimestamp)
	for i := 0; i+1 < len(segs) && segs[i+1].base <= highWatermark; i++ {
		if err := segs[i].sealedTimes(); err != nil {
			_ = l.readError(err)
			break
		}
		latest = max(latest, segs[i].maxTimestamp.Load())
		all = append(all, diskCandidate{log: l, end: segs[i+1].base, latest: latest, bytes: segs[i].size.Load()})
	}
	return all
}
