package ioqueue

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/vfs"
)

// notDue is dueLocked's answer when only another event can make it due.
const notDue = time.Duration(1<<63 - 1)

// scheduleLocked queues an idle stream that is due, or arms its timer. It is
// called after every change that could make it due.
func (st *Stream) scheduleLocked() {
	if st.mu.state != idle || st.mu.closed {
		return
	}
	due := st.dueLocked()
	switch {
	case due == notDue:
	case due <= 0:
		st.mu.state = queued
		if !st.s.ready.add(st, st.backgroundLocked()) {
			st.mu.state = idle
			st.answerLocked(st.mu.waiters, ErrClosed)
			st.mu.waiters = nil
		}
	case st.mu.timer == nil:
		st.mu.timer = st.s.wheel.After(due, st.onTimer)
	}
}

// dueLocked returns how long until the stream is due; zero or less: now.
func (st *Stream) dueLocked() time.Duration {
	if st.s.Err() != nil && len(st.mu.waiters) == 0 {
		return notDue
	}
	if st.mu.force || len(st.mu.waiters) > 0 {
		return 0
	}
	for _, fs := range st.mu.files {
		if fs.sealed && !fs.dropped {
			return 0
		}
	}
	return st.activeDueLocked()
}

// activeDueLocked is dueLocked for the active file alone.
func (st *Stream) activeDueLocked() time.Duration {
	active := st.activeLocked()
	if active == nil || !active.dirty {
		return notDue
	}
	o := &st.mu.opts
	var wait time.Duration
	switch {
	case o.Policy == PolicyCommit:
		wait = o.MaxDelay
	case o.Policy == PolicyInterval && o.IntervalBytes > 0 && active.bytes >= o.IntervalBytes:
		return 0
	case o.Policy == PolicyInterval:
		wait = o.Interval
	default:
		return notDue
	}
	if wait == 0 {
		return 0
	}
	return wait - st.s.opts.Clock.Since(st.mu.dirtySince)
}

// backgroundLocked says that nobody waits for the stream's next fsync, and that no time was promised for it.
func (st *Stream) backgroundLocked() bool {
	return st.mu.opts.Policy == PolicyNever && !st.mu.force && len(st.mu.waiters) == 0
}

// hurryLocked is called when that may have changed.
func (st *Stream) hurryLocked() {
	if st.mu.state == queued && !st.backgroundLocked() {
		st.s.ready.hurry(st)
	}
}

func (st *Stream) onTimer() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.timer = nil
	st.scheduleLocked()
}

func (st *Stream) stopTimerLocked() {
	if st.mu.timer != nil {
		st.mu.timer.Stop()
		st.mu.timer = nil
	}
}

// group is what one run of a worker syncs of a stream.
type group struct {
	files   []*fileState // oldest first
	force   bool         // sync also what seems clean
	waiters []chan error
	stale   bool // a cut came while a file was being synced
	start   time.Time

	appends, bytes int64 // synced so far
}

// runGroup does steps 3 to 6 for one stream.
func (st *Stream) runGroup(worker int) {
	g := st.closeGroup()
	var err error
	for _, fs := range g.files {
		if err = st.s.stopped(); err != nil {
			break
		}
		shot, ok := st.beginSync(&g, fs)
		if !ok {
			continue
		}
		if shot.needed {
			if err = st.writeOut(worker, &shot); err == nil {
				err = st.s.datasync(worker, fs.file)
			}
		}
		st.endSync(&g, &shot, err)
		if err != nil {
			break
		}
	}
	if err == nil && g.appends > 0 {
		st.s.count.group(g.appends, g.bytes)
	}
	st.finishGroup(&g, err)
}

// closeGroup takes the stream over.
func (st *Stream) closeGroup() group {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.state = running
	return st.closeGroupLocked()
}

// closeGroupLocked chooses the files of the group. What is written to the
// active one still counts until its fsync begins.
func (st *Stream) closeGroupLocked() group {
	g := group{force: st.mu.force, waiters: st.mu.waiters, start: st.s.opts.Clock.Now()}
	st.mu.waiters = nil
	st.mu.force = false
	active := g.force || st.mu.opts.Policy == PolicyCommit || st.activeDueLocked() <= 0
	for _, fs := range st.mu.files {
		if !fs.dropped && (fs.sealed || active && (fs.dirty || g.force)) {
			g.files = append(g.files, fs)
		}
	}
	return g
}

// finishGroup answers the waiters and queues the stream again if need be.
func (st *Stream) finishGroup(g *group, err error) {
	if err == nil {
		err = st.s.Err() // another stream's
	}
	if err == nil && len(g.files) == 0 {
		err = st.s.stopped()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if g.appends > 0 {
		st.mu.company.told = st.s.opts.Clock.Now()
	}
	st.mu.state = idle
	switch {
	case st.mu.closed:
		st.answerLocked(append(g.waiters, st.mu.waiters...), ErrClosed)
		st.mu.waiters = nil
	case err == nil && g.stale && len(g.waiters) > 0:
		// What they wait for is what the cut left, and the cut itself.
		st.mu.waiters = append(st.mu.waiters, g.waiters...)
		st.mu.force = true
	default:
		st.answerLocked(g.waiters, err)
	}
	st.restLocked()
	st.scheduleLocked()
}

// snapshot is a file as it is when its fsync begins.
type snapshot struct {
	fs             *fileState
	epoch, end     int64
	pos            int64 // end of the last write in the file; posUnknown
	sealed         bool
	bytes, appends int64
	needed         bool // false: nothing to sync, only to report
}

// beginSync takes the snapshot: what is written or cut from here on makes the
// file dirty again and belongs to the next group. It reports false for a file
// that was given up.
func (st *Stream) beginSync(g *group, fs *fileState) (snapshot, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if fs.dropped {
		return snapshot{}, false
	}
	shot := snapshot{
		fs: fs, epoch: st.mu.epoch, end: fs.end, bytes: fs.bytes, appends: fs.appends, pos: fs.writtenPos, sealed: fs.sealed,
		needed: fs.dirty || g.force,
	}
	fs.dirty = false
	fs.writeBackPos = fs.writtenPos
	if fs == st.activeLocked() {
		st.mu.dirtySince = time.Time{}
	}
	fs.busy++
	return shot, true
}

// endSync makes the offsets of a snapshot durable, if err is nil, and tells
// the callbacks.
func (st *Stream) endSync(g *group, shot *snapshot, err error) {
	fs := shot.fs
	st.mu.Lock()
	fs.busy--
	st.restLocked()
	if err != nil {
		st.mu.Unlock()
		return
	}
	if !fs.dropped {
		st.settleLocked(fs, shot.bytes, shot.appends)
	}
	if shot.appends > 0 {
		st.mu.company.answer(shot.appends, shot.bytes, fs, g.start, st.s.opts.Clock.Now())
	}
	if shot.needed {
		st.syncs.Add(1)
		st.synced.Add(shot.appends)
	}
	g.appends += shot.appends
	g.bytes += shot.bytes
	g.stale = g.stale || shot.epoch != st.mu.epoch
	advanced := shot.epoch == st.mu.epoch && st.advanceLocked(shot.end)
	done := fs.sealed && !fs.dropped && !fs.dirty && st.s.Err() == nil
	if done {
		st.mu.files = slices.DeleteFunc(st.mu.files, func(other *fileState) bool { return other == fs })
	}
	onDurable, onFileDone := st.mu.opts.OnDurable, st.mu.opts.OnFileDone
	st.mu.Unlock()

	if advanced && onDurable != nil {
		onDurable(shot.end)
	}
	if done && onFileDone != nil {
		onFileDone(fs.file)
	}
}

// advanceLocked raises the durable offset to end. It holds the scheduler's
// lock for it, so that nothing advances after Fail.
func (st *Stream) advanceLocked(end int64) bool {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.s.Err() != nil || st.mu.closed || end <= st.durable.Load() {
		return false
	}
	st.durable.Store(end)
	return true
}

// writeOut has a sealed file with much to write written a piece at a time, so that the fsync after it finds little to do. An fsync of it all fills
// the disk's queue with hundreds of MiB, and whoever else needs the disk for a moment, to commit, or to find a directory's block, waits behind
// them. An error is final like that of an fsync, which would not see it any more.
func (st *Stream) writeOut(worker int, shot *snapshot) error {
	if !shot.sealed || shot.bytes < writeOutLeast || shot.pos == posUnknown {
		return nil
	}
	for pos := max(0, shot.pos-shot.bytes); pos < shot.pos && !st.dropped(shot.fs); pos += writeOutPiece {
		n := min(writeOutPiece, shot.pos-pos)
		if _, err := st.s.await(worker, shot.fs.file, func() error { return shot.fs.file.WriteOut(pos, n) }); err != nil {
			return err
		}
	}
	return nil
}

const (
	writeOutLeast = 4 << 20 // bytes
	writeOutPiece = 1 << 20
)

func (st *Stream) dropped(fs *fileState) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return fs.dropped
}

// datasync is the only place that calls an fsync. Its error is final.
func (s *Scheduler) datasync(worker int, f vfs.File) error {
	took, err := s.await(worker, f, f.Datasync)
	if err != nil {
		return err
	}
	s.count.syncs.Add(1)
	s.count.latency.observe(took.Seconds())
	return nil
}

// await runs an operation that waits for the disk, and takes the directory offline when it fails.
func (s *Scheduler) await(worker int, f vfs.File, op func() error) (took time.Duration, err error) {
	start := s.opts.Clock.Now()
	s.started[worker].Store(start.UnixNano())
	err = op()
	s.started[worker].Store(0)
	if err != nil {
		s.count.syncErrors.Add(1)
		s.Fail(fmt.Errorf("fsync of %s: %w", f.Name(), err))
		return 0, s.Err()
	}
	return s.opts.Clock.Since(start), nil
}

// writeBackLocked asks for early write-back of a file that has grown enough
// since the last time, if a worker is free. Under `never` the kernel decides.
func (st *Stream) writeBackLocked(fs *fileState) {
	limit := st.s.opts.WriteBackBytes
	if limit < 0 || fs.writtenPos-fs.writeBackPos < limit || st.mu.opts.Policy == PolicyNever {
		return
	}
	from, to := fs.writeBackPos, fs.writtenPos
	fs.busy++
	ok := st.s.jobs.add(func() {
		// The error of a hint means nothing; fsync will report it again.
		_ = fs.file.WriteBack(from, to-from)
		st.mu.Lock()
		defer st.mu.Unlock()
		fs.busy--
		st.restLocked()
	}, true)
	if !ok {
		fs.busy--
		return
	}
	fs.writeBackPos = to
	st.s.count.writeBacks.Add(1)
}
