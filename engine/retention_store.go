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
			if l.mayExpire() && l.retentionStart() {
				due = append(due, l)
			}
			l.expireProducers()
		}
		s.dropSegments(d, due, false)
		s.relieveDisk(d)
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
// segment below it goes.
func (s *Store) dropSegments(d *logDir, due []*Log, now bool) {
	if len(due) == 0 {
		return
	}
	if err := d.checkpoint(false); err != nil {
		s.log.Warn("retention put off: checkpoint not written", "dir", d.path, "error", err)
		return
	}
	for _, l := range due {
		if now {
			l.dropBelow(0)
		} else {
			l.dropBelowStart()
		}
	}
}

// diskCandidate is a segment that may go when the disk is too full.
type diskCandidate struct {
	log    *Log
	end    int64 // the log start after it is gone
	latest int64 // its newest record's time, ms
	bytes  int64
}

// relieveDisk deletes the oldest segments of a directory whose file system is above the watermark, until it should be
// below: of logs that are to lose old records anyway (cleanup.policy=delete with a limit of age or size), sealed and
// below the high watermark, and at once, without file.delete.delay.ms.
func (s *Store) relieveDisk(d *logDir) {
	if s.o.DiskUsedMax <= 0 {
		return
	}
	usage, err := s.o.FS.DiskUsage(d.path)
	if err != nil || usage.TotalBytes <= 0 {
		return
	}
	excess := usage.TotalBytes - usage.FreeBytes - int64(s.o.DiskUsedMax*float64(usage.TotalBytes))
	if excess <= 0 {
		return
	}
	var all []diskCandidate
	for _, l := range s.logsOf(d) {
		all = l.diskCandidates(all)
	}
	slices.SortStableFunc(all, func(a, b diskCandidate) int { return cmp.Compare(a.latest, b.latest) })
	due := map[*Log]int64{}
	var bytes int64
	for _, c := range all {
		if bytes >= excess {
			break
		}
		if c.end > due[c.log] {
			due[c.log] = c.end
		}
		bytes += c.bytes
	}
	logs := make([]*Log, 0, len(due))
	for l, end := range due {
		l.moveLogStart(end)
		logs = append(logs, l)
	}
	s.log.Warn("disk above its watermark, oldest segments deleted", "dir", d.path, "usedMax", s.o.DiskUsedMax, "totalBytes", usage.TotalBytes,
		"freeBytes", usage.FreeBytes, "deletedBytes", bytes, "partitions", len(logs))
	s.dropSegments(d, logs, true)
}

// diskCandidates appends the log's sealed segments that may go early, the oldest first. Times that fall count as the latest
// so far, since a segment cannot go before those in front of it.
func (l *Log) diskCandidates(all []diskCandidate) []diskCandidate {
	cfg := l.cfg.Load()
	if cfg.Cleanup != CleanupDelete || (cfg.RetentionMs < 0 && cfg.RetentionBytes < 0) || l.load() != nil || l.failure.Load() != nil {
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
