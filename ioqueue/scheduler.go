package ioqueue

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/vfs"
)

// ErrClosed is returned by operations on a closed stream or scheduler.
var ErrClosed = errors.New("ioqueue: closed")

// Options configure a Scheduler.
type Options struct {
	// Dir names the log directory in logs and errors.
	Dir string
	// Clock tells the time. Default: clock.Real().
	Clock clock.Clock
	// Logger receives the scheduler's logs. Default: discard.
	Logger *slog.Logger
	// Parallel is how many fsyncs may run at once, of different streams.
	// Default: 4.
	Parallel int
	// Workers is how many jobs given to Go may run at once. Default: 2.
	Workers int
	// WriteBackBytes is after how many written bytes of a file the kernel is
	// asked to start writing them, so that an fsync finds little to do;
	// negative means never. Default: 1 MiB.
	WriteBackBytes int64
	// OnOffline is called once, without locks, with the first error. Default: nothing.
	OnOffline func(error)
}

// Scheduler is the one place that fsyncs the files of a log directory.
type Scheduler struct {
	opts Options
}

// NewScheduler starts a scheduler. Panics on impossible options.
func NewScheduler(opts Options) *Scheduler { return &Scheduler{opts: opts} }

// Close waits for the fsyncs and jobs in flight and stops the goroutines. It does not sync
// what is still dirty: call SyncNow of each stream first.
func (s *Scheduler) Close() {}

// Err returns the error that took the directory offline, nil while it works.
func (s *Scheduler) Err() error { return nil }

// Fail takes the directory offline with err, if it is not already. After Fail has returned no
// durable offset of this scheduler advances any more.
func (s *Scheduler) Fail(err error) {}

// Go runs f on one of the directory's workers: deletes, preallocation, all
// that may block on the disk. It never blocks and never refuses; the queue is
// unbounded, so callers must bound what they hand in. After Close f runs in the caller's
// goroutine.
func (s *Scheduler) Go(f func()) {}

// Stream is the written and synced state of one partition log. All methods
// are safe for concurrent use; SetFile, Written and TruncateTo must be
// ordered by the caller (the log's lock), because they speak of positions.
type Stream struct {
	durable atomic.Int64
}

// NewStream adds a stream. Panics on impossible options.
func (s *Scheduler) NewStream(opts StreamOptions) *Stream { return &Stream{} }

// SetFile makes f the active file. The one before it is sealed: if it has
// unsynced bytes it is synced in the background, before any byte of f counts
// as durable. The caller keeps the old file open until OnFileDone or Drop.
// Never blocks.
func (st *Stream) SetFile(f vfs.File) {}

// Written says that n bytes at pos of f, up to endOffset (exclusive), are in the page cache. By
// policy it schedules an fsync. Never blocks on the disk.
func (st *Stream) Written(f vfs.File, pos int64, n int, endOffset int64) {}

// TruncateTo says that the log was cut to endOffset, inside f, which is the
// active file from now on. The cut counts as an unsynced change of f: nothing
// appended after it is durable before an fsync of f that began after this call. Files
// beyond f must be given to Drop. Durable is lowered to endOffset if it was
// beyond. Never blocks.
func (st *Stream) TruncateTo(f vfs.File, endOffset int64) {}

// Durable returns the end offset (exclusive) of what survives a power
// failure.
func (st *Stream) Durable() int64 { return st.durable.Load() }

// UnsyncedBytes returns how many written bytes are not yet durable.
func (st *Stream) UnsyncedBytes() int64 { return 0 }

// SyncNow fsyncs what is dirty, and the active file even if it seems clean,
// and returns when all that was written before the call is durable, or with
// the error that took the directory offline, or ErrClosed. It must not be called under a lock that
// OnDurable or OnFileDone takes.
func (st *Stream) SyncNow() error { return nil }

// SetOptions changes the policy and its numbers at once. Appends that wait
// for an fsync under the old policy still get it.
func (st *Stream) SetOptions(opts StreamOptions) {}

// Drop forgets f, a file about to be closed or deleted, with its unsynced bytes, and
// returns when no operation of the scheduler uses it any more. It must not be
// called under a lock that OnDurable or OnFileDone takes.
func (st *Stream) Drop(f vfs.File) {}

// Close removes the stream without a sync, and returns when no operation uses its
// files any more. Waiters of SyncNow get ErrClosed.
func (st *Stream) Close() {}
