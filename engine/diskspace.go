package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/vfs"
)

// DiskLimits say what a log directory does when its file system fills up, in this order: old segments go before their time,
// producers are slowed down, producers are refused. The zero value does none of it.
type DiskLimits struct {
	// UsedMax is the share of the file system in use, 0 to 1, above which the oldest segments are deleted before their time. It
	// begins at ThrottleFree at the latest, so that nobody is slowed down for what may be deleted. 0 and 1 mean never.
	UsedMax float64
	// ThrottleFree is how many free bytes there must be for producers to run at full speed. 0 is no throttling, a negative number
	// 5 % of the file system, at most 4 GiB.
	ThrottleFree int64
	// Reserve is how many free bytes are kept for everything but producers: metadata, compaction, checkpoints. 0 is none, a
	// negative number 1 % of the file system, at most 1 GiB.
	Reserve int64
	// ThrottleMax is the longest delay of a request: 0 at ThrottleFree, growing to all of it at Reserve.
	ThrottleMax time.Duration
}

// reliefPause is how long nothing is looked for after no segment was found that may go early: the look opens every log.
const reliefPause = 30 * time.Second

// Disk space states of a log directory, from good to bad.
const (
	spaceFree int32 = iota
	spaceThrottled
	spaceRefused
)

// SpaceStats are a directory's disk limits at work. Counters are since the start.
type SpaceStats struct {
	// Throttled: producers are slowed down. Refused: their records are refused.
	Throttled, Refused bool
	// AboveUsedMax: old segments are being deleted for their space, if there are any.
	AboveUsedMax bool
	// ThrottleFree and Reserve are the marks in force in bytes.
	ThrottleFree, Reserve int64
	// RefusedAppends counts the appends refused for the reserve.
	RefusedAppends int64
	// DeletedSegments and DeletedBytes went before their time.
	DeletedSegments, DeletedBytes int64
}

// dirSpace tracks a directory's free space. It is measured every DiskCheckInterval; in between, what is appended is taken off, so that
// an append asks no file system and a fast producer cannot run through the reserve between two measurements.
type dirSpace struct {
	appended atomic.Int64 // bytes, only grows
	view     atomic.Pointer[spaceView]
	state    atomic.Int32
	above    atomic.Bool  // the used share is above UsedMax
	deleting atomic.Int64 // bytes of segments that have left their logs and not yet the disk

	checking sync.Mutex // one check at a time
	reliefAt time.Time  // guarded by checking; not before it are segments looked for again

	refused, deletedSegments, deletedBytes atomic.Int64
}

// spaceView is a measurement, with the marks as of then. Immutable.
type spaceView struct {
	emptyAt       int64 // dirSpace.appended at which no byte would be free
	mark, reserve int64 // free bytes; mark >= reserve
	delayMax      time.Duration
}

// measured resolves the marks for a file system. appended is dirSpace.appended from before the measurement.
func (o DiskLimits) measured(u vfs.Usage, appended int64) *spaceView {
	resolve := func(bytes, share, most int64) int64 {
		if bytes < 0 {
			return min(u.TotalBytes/share, most)
		}
		return bytes
	}
	v := &spaceView{emptyAt: appended + u.FreeBytes, delayMax: o.ThrottleMax}
	v.reserve = resolve(o.Reserve, 100, 1<<30)
	if v.delayMax > 0 {
		v.mark = resolve(o.ThrottleFree, 20, 4<<30)
	}
	v.mark = max(v.mark, v.reserve)
	return v
}

// excess is how many bytes more than wanted are in use, for the deletion of old segments; 0 or less: none.
func (o DiskLimits) excess(u vfs.Usage, v *spaceView) int64 {
	if o.UsedMax <= 0 || o.UsedMax >= 1 {
		return 0
	}
	used := u.TotalBytes - u.FreeBytes
	return max(used-int64(o.UsedMax*float64(u.TotalBytes)), v.mark-u.FreeBytes)
}

// next is the state that follows from free bytes. A state is left a little above the mark at which it was entered, so that it does not
// toggle with every segment that goes.
func (v *spaceView) next(state int32, free int64) int32 {
	leaveRefused := v.reserve + max((v.mark-v.reserve)/8, v.reserve/8)
	switch {
	case v.reserve > 0 && (free < v.reserve || state == spaceRefused && free < leaveRefused):
		return spaceRefused
	case free < v.mark || state != spaceFree && free < v.mark+v.mark/16:
		return spaceThrottled
	}
	return spaceFree
}

// delay is how long a producer's next request has to wait with so many bytes free.
func (v *spaceView) delay(free int64) time.Duration {
	switch {
	case free >= v.mark:
		return 0
	case free <= v.reserve:
		return v.delayMax
	}
	return time.Duration(float64(v.delayMax) * float64(v.mark-free) / float64(v.mark-v.reserve))
}

// checkDisks does checkDisk for all directories that are online.
func (s *Store) checkDisks() {
	for _, d := range s.dirs {
		if d.err() == nil && !s.stopping() {
			s.checkDisk(d)
		}
	}
}

// checkDisk measures a directory's file system and does what its limits say.
func (s *Store) checkDisk(d *logDir) {
	d.space.checking.Lock()
	defer d.space.checking.Unlock()
	excess := s.measureDisk(d)
	now := s.o.Clock.Now()
	if excess <= d.space.deleting.Load() || now.Before(d.space.reliefAt) {
		return
	}
	if !s.relieveDisk(d, excess-d.space.deleting.Load()) {
		d.space.reliefAt = now.Add(reliefPause)
	}
}

// measureDisk measures a directory's file system and puts its limits in force. It returns how many bytes of old segments should go. A
// measurement that fails changes nothing.
func (s *Store) measureDisk(d *logDir) (excess int64) {
	if s.o.DiskLimits == nil {
		return 0
	}
	limits, before := s.o.DiskLimits(), d.space.appended.Load()
	usage, err := s.o.FS.DiskUsage(d.path)
	if err != nil || usage.TotalBytes <= 0 {
		return 0
	}
	view := limits.measured(usage, before)
	d.space.view.Store(view)
	d.enterSpaceState(view.next(d.space.state.Load(), usage.FreeBytes), usage.FreeBytes)
	excess = limits.excess(usage, view)
	if above := excess > 0; d.space.above.Swap(above) != above {
		if above {
			s.log.Warn("disk above its high-water mark: the oldest segments of topics with limited retention are deleted before their time",
				"dir", d.path, "log.disk.used.max.ratio", limits.UsedMax, "freeBytes", usage.FreeBytes, "totalBytes", usage.TotalBytes)
		} else {
			s.log.Info("disk below its high-water mark again", "dir", d.path, "freeBytes", usage.FreeBytes, "totalBytes", usage.TotalBytes)
		}
	}
	return excess
}

// enterSpaceState changes the state and tells of it.
func (d *logDir) enterSpaceState(to int32, free int64) {
	from := d.space.state.Swap(to)
	if from == to {
		return
	}
	v, log := d.space.view.Load(), d.store.log.With("dir", d.path, "freeBytes", free)
	switch {
	case to == spaceRefused:
		log.Error("disk full up to its reserve: records of producers are refused until there is space; reads, metadata and deletion go on",
			"log.disk.reserve.bytes", v.reserve)
	case from == spaceRefused:
		log.Info("disk above its reserve again: records are taken", "log.disk.reserve.bytes", v.reserve)
	case to == spaceThrottled:
		log.Warn("disk nearly full: producers are slowed down", "log.disk.throttle.free.bytes", v.mark, "log.disk.reserve.bytes", v.reserve,
			"log.disk.throttle.max.ms", v.delayMax.Milliseconds())
	default:
		log.Info("disk has space again: producers run at full speed", "log.disk.throttle.free.bytes", v.mark)
	}
}

// admit refuses a client's append when the reserve is reached.
func (d *logDir) admit() error {
	v := d.space.view.Load()
	if v == nil {
		return nil
	}
	if d.space.state.Load() != spaceRefused {
		free := v.emptyAt - d.space.appended.Load()
		if v.reserve <= 0 || free >= v.reserve {
			return nil
		}
		d.enterSpaceState(spaceRefused, free)
	}
	d.space.refused.Add(1)
	return fmt.Errorf("%w: %s: less than log.disk.reserve.bytes (%d) is free", ErrNoSpace, d.path, v.reserve)
}

// Throttle is how long the producer that has just appended, or tried to, should wait before its next request, because the disk is nearly
// full; 0 when there is space.
func (l *Log) Throttle() time.Duration {
	sp := &l.dir.space
	v := sp.view.Load()
	if v == nil {
		return 0
	}
	if sp.state.Load() == spaceRefused {
		return v.delayMax
	}
	return v.delay(v.emptyAt - sp.appended.Load())
}

func (d *logDir) spaceStats() SpaceStats {
	sp := &d.space
	st := SpaceStats{
		Throttled: sp.state.Load() == spaceThrottled, Refused: sp.state.Load() == spaceRefused, AboveUsedMax: sp.above.Load(),
		RefusedAppends: sp.refused.Load(), DeletedSegments: sp.deletedSegments.Load(), DeletedBytes: sp.deletedBytes.Load(),
	}
	if v := sp.view.Load(); v != nil {
		st.ThrottleFree, st.Reserve = v.mark, v.reserve
	}
	return st
}
