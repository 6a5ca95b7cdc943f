package ioqueue

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/internal/invariants"
	"github.com/weirmq/weir/internal/timewheel"
	"github.com/weirmq/weir/vfs"
)

// Stream is the written and synced state of one partition log. All methods
// are safe for concurrent use; SetFile, Written and TruncateTo must be
// ordered by the caller (the log's lock), because they speak of positions.
type Stream struct {
	s        *Scheduler
	durable  atomic.Int64 // changed under mu only
	unsynced atomic.Int64 // bytes
	syncs    atomic.Int64 // fsyncs that have succeeded
	synced   atomic.Int64 // appends that they made durable

	mu struct {
		sync.Mutex
		opts    StreamOptions
		state   streamState
		closed  bool
		files   []*fileState // oldest first; the last is active if not sealed
		end     int64        // end offset of what is written
		epoch   int64        // counts TruncateTo calls
		force   bool         // sync everything, whatever the policy says
		waiters []chan error // SyncNow calls that the next group answers

		dirtySince time.Time // first unsynced write to the active file; zero = none
		timer      *timewheel.Timer
		changed    chan struct{} // closed when a file or the stream comes to rest; nil = nobody waits

		company company
	}
}

// streamState says who is responsible for a stream.
type streamState uint8

const (
	idle    streamState = iota // nobody; Written or a timer may queue it
	queued                     // in Scheduler.ready
	running                    // a worker
)

// fileState is a file with something to sync or to report. Guarded by
// Stream.mu.
type fileState struct {
	file    vfs.File
	end     int64 // end offset of what is written in it
	bytes   int64 // written, not synced
	appends int64 // the same in Written calls
	dirty   bool  // written or cut since the last sync began
	sealed  bool  // no longer active
	dropped bool  // never touch it again
	busy    int   // system calls in flight

	writeBackPos int64 // early write-back was asked for up to here
	writtenPos   int64 // end of the last write; posUnknown before the first
}

// posUnknown is a position that only the next write will tell: a file may not
// even be open, and asking for its size would open it.
const posUnknown = -1

// NewStream adds a stream. It panics on options that Validate refuses.
func (s *Scheduler) NewStream(opts StreamOptions) *Stream {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	st := &Stream{s: s}
	st.mu.opts = opts
	st.mu.end = opts.InitialEnd
	st.durable.Store(opts.InitialEnd)
	return st
}

// Durable returns the end offset (exclusive) of what survives a power
// failure.
func (st *Stream) Durable() int64 { return st.durable.Load() }

// UnsyncedBytes returns how many written bytes are not yet durable.
func (st *Stream) UnsyncedBytes() int64 { return st.unsynced.Load() }

// Syncs returns how many fsyncs of the stream's files have succeeded, those shared with other streams
// included, and how many Written calls they made durable.
func (st *Stream) Syncs() (syncs, appends int64) { return st.syncs.Load(), st.synced.Load() }

// SetFile makes f the active file. The one before it is sealed: if it has
// unsynced bytes it is synced in the background, whatever the policy, before
// any byte of f counts as durable. The caller keeps the old file open until
// OnFileDone or Drop. Never blocks.
func (st *Stream) SetFile(f vfs.File) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.mu.closed {
		return
	}
	st.activateLocked(f)
	st.scheduleLocked()
}

// activateLocked returns the state of f, which it makes the active file.
func (st *Stream) activateLocked(f vfs.File) *fileState {
	active := st.activeLocked()
	if active != nil && active.file == f {
		return active
	}
	if active != nil {
		active.sealed = true
	}
	next := &fileState{file: f, end: st.mu.end, writtenPos: posUnknown}
	st.mu.files = append(st.mu.files, next)
	st.mu.dirtySince = time.Time{}
	return next
}

// activeLocked returns the active file, nil if there is none.
func (st *Stream) activeLocked() *fileState {
	if n := len(st.mu.files); n > 0 && !st.mu.files[n-1].sealed {
		return st.mu.files[n-1]
	}
	return nil
}

// Written says that n bytes at position pos of f, whose records end at
// endOffset (exclusive), are in the page cache. By policy it schedules an
// fsync. A file that is not the active one becomes it, as with SetFile. Never
// blocks on the disk.
func (st *Stream) Written(f vfs.File, pos int64, n int, endOffset int64) {
	if bed := st.written(f, pos, n, endOffset); bed != nil {
		bed.wake()
	}
}

// written returns the worker that has waited for just this append, if one has.
func (st *Stream) written(f vfs.File, pos int64, n int, endOffset int64) *sleeper {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.mu.closed || st.s.Err() != nil {
		return nil
	}
	fs := st.activateLocked(f)
	if invariants.Enabled && endOffset < st.mu.end {
		panic(fmt.Sprintf("BUG: ioqueue: %s: written up to offset %d after %d", f.Name(), endOffset, st.mu.end))
	}
	fs.dirty = true
	fs.bytes += int64(n)
	fs.appends++
	st.mu.company.arrived(st.s.opts.Clock.Now)
	fs.end = endOffset
	if fs.writtenPos == posUnknown {
		fs.writeBackPos = pos
	}
	fs.writtenPos = pos + int64(n)
	st.mu.end = endOffset
	st.unsynced.Add(int64(n))
	st.s.count.unsynced.Add(int64(n))
	if st.mu.dirtySince.IsZero() {
		st.mu.dirtySince = st.s.opts.Clock.Now()
	}
	st.scheduleLocked()
	st.writeBackLocked(fs)
	return st.companyCameLocked(fs)
}

// TruncateTo says that the log was cut to endOffset, inside f, which is the
// active file from now on. The cut counts as an unsynced change of f: nothing
// appended after it is durable before an fsync of f that began after this
// call. Files beyond f are not synced any more and must be given to Drop.
// Durable is lowered to endOffset if it was beyond. Never blocks.
func (st *Stream) TruncateTo(f vfs.File, endOffset int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.mu.closed {
		return
	}
	st.mu.epoch++
	st.mu.end = endOffset
	if st.durable.Load() > endOffset {
		st.durable.Store(endOffset)
	}
	at := slices.IndexFunc(st.mu.files, func(fs *fileState) bool { return fs.file == f })
	if at >= 0 {
		for _, later := range st.mu.files[at+1:] {
			later.sealed, later.dropped = true, true
		}
		// f goes last, where the active file is looked for.
		fs := st.mu.files[at]
		st.mu.files = append(slices.Delete(st.mu.files, at, at+1), fs)
		fs.sealed = false
	} else {
		// f has nothing unsynced, so neither has any file before it: all that
		// are here come after it.
		for _, other := range st.mu.files {
			other.sealed, other.dropped = true, true
		}
	}
	fs := st.activateLocked(f)
	fs.dirty = true
	fs.end = endOffset
	fs.writtenPos = posUnknown
	if st.mu.dirtySince.IsZero() {
		st.mu.dirtySince = st.s.opts.Clock.Now()
	}
	st.scheduleLocked()
}

// SyncNow fsyncs what is dirty, and the active file even if it seems clean,
// and returns when all that was written before the call is durable, or with
// the error that took the directory offline, or ErrClosed. It must not be
// called under a lock that OnDurable or OnFileDone takes.
func (st *Stream) SyncNow() error {
	st.mu.Lock()
	err := st.s.stopped()
	if st.mu.closed {
		err = ErrClosed
	}
	if err != nil || len(st.mu.files) == 0 {
		st.mu.Unlock()
		return err
	}
	done := make(chan error, 1)
	st.mu.waiters = append(st.mu.waiters, done)
	st.mu.force = true
	st.hurryLocked()
	st.scheduleLocked()
	st.mu.Unlock()
	return <-done
}

// SetOptions changes the policy and its numbers at once; callbacks and
// InitialEnd stay as they are. Appends that wait for an fsync under `commit`
// still get it. It panics on options that Validate refuses.
func (st *Stream) SetOptions(opts StreamOptions) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	old := st.mu.opts
	opts.OnDurable, opts.OnFileDone, opts.InitialEnd = old.OnDurable, old.OnFileDone, old.InitialEnd
	st.mu.opts = opts
	if st.mu.closed {
		return
	}
	st.stopTimerLocked()
	if old.Policy == PolicyCommit && opts.Policy != PolicyCommit && st.unsynced.Load() > 0 {
		st.mu.force = true
	}
	st.hurryLocked()
	st.scheduleLocked()
}

// Drop forgets f, a file about to be closed or deleted, with its unsynced
// bytes, and returns when no operation of the scheduler uses it any more. It
// must not be called under a lock that OnDurable or OnFileDone takes.
func (st *Stream) Drop(f vfs.File) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		at := slices.IndexFunc(st.mu.files, func(fs *fileState) bool { return fs.file == f })
		if at < 0 {
			return
		}
		fs := st.mu.files[at]
		fs.dropped = true
		if fs.busy == 0 {
			st.mu.files = slices.Delete(st.mu.files, at, at+1)
			st.settleLocked(fs, fs.bytes, fs.appends)
			continue
		}
		st.waitLocked()
	}
}

// Close removes the stream without a sync, and returns when no operation and
// no callback of it is under way. Waiters of SyncNow get ErrClosed. It must
// not be called from a callback or under a lock that a callback takes.
func (st *Stream) Close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.mu.closed {
		st.mu.closed = true
		st.stopTimerLocked()
		for _, fs := range st.mu.files {
			fs.dropped = true
		}
		if st.mu.state != running {
			st.answerLocked(st.mu.waiters, ErrClosed)
			st.mu.waiters = nil
		}
	}
	for st.mu.state == running || slices.ContainsFunc(st.mu.files, func(fs *fileState) bool { return fs.busy > 0 }) {
		st.waitLocked()
	}
	for _, fs := range st.mu.files {
		st.settleLocked(fs, fs.bytes, fs.appends)
	}
	st.mu.files = nil
}

// waitLocked gives up the lock until a file or the stream comes to rest.
func (st *Stream) waitLocked() {
	if st.mu.changed == nil {
		st.mu.changed = make(chan struct{})
	}
	ch := st.mu.changed
	st.mu.Unlock()
	<-ch
	st.mu.Lock()
}

func (st *Stream) restLocked() {
	if st.mu.changed != nil {
		close(st.mu.changed)
		st.mu.changed = nil
	}
}

func (st *Stream) answerLocked(waiters []chan error, err error) {
	for _, w := range waiters {
		w <- err // capacity 1, one answer each
	}
}

// settleLocked takes bytes off the account of what is not durable.
func (st *Stream) settleLocked(fs *fileState, bytes, appends int64) {
	fs.bytes -= bytes
	fs.appends -= appends
	st.unsynced.Add(-bytes)
	st.s.count.unsynced.Add(-bytes)
}
