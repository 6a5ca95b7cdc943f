package ioqueue

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/timewheel"
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
	// Default: 8.
	Parallel int
	// Background is how many of those may be of streams under `never` that
	// nobody waits for. Default: a quarter of Parallel, at least 1.
	Background int
	// Workers is how many jobs given to Go may run at once. Default: 2.
	Workers int
	// WriteBackBytes is after how many written bytes of a file the kernel is
	// asked to start writing them, so that an fsync finds little to do;
	// negative means never. Default: 1 MiB.
	WriteBackBytes int64
	// NoCompany turns off the short adaptive wait for company (see
	// Scheduler), to measure what it gives. Default: false.
	NoCompany bool
	// OnOffline is called once, on a goroutine of its own, with the first
	// error. It must not call Close. Default: nothing.
	OnOffline func(error)
}

// EnsureDefaults fills the zero fields.
func (o *Options) EnsureDefaults() {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Parallel == 0 {
		o.Parallel = 8
	}
	if o.Background == 0 {
		o.Background = max(1, o.Parallel/4)
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	if o.WriteBackBytes == 0 {
		o.WriteBackBytes = 1 << 20
	}
}

// Validate reports the first impossible option.
func (o *Options) Validate() error {
	switch {
	case o.Parallel < 1 || o.Parallel > 256:
		return fmt.Errorf("ioqueue: Parallel %d: want 1 to 256", o.Parallel)
	case o.Background < 1 || o.Background > o.Parallel:
		return fmt.Errorf("ioqueue: Background %d: want 1 to Parallel, which is %d", o.Background, o.Parallel)
	case o.Workers < 1 || o.Workers > 256:
		return fmt.Errorf("ioqueue: Workers %d: want 1 to 256", o.Workers)
	}
	return nil
}

// Scheduler is the one place that fsyncs the files of a log directory. Each
// partition log of the directory is a Stream. The steps of one append:
//
//  1. The log writes into the page cache (vfs.File.Writev) under its own lock
//     and calls Stream.Written: "the bytes up to end offset E are written".
//     That takes the stream's lock for a moment and never waits for a disk.
//  2. By the stream's policy it is now due (commit), due at a later time or
//     number of bytes (interval), or not at all (never). A stream that is due
//     and not queued yet joins the ready queue, once.
//  3. One of Options.Parallel workers takes the stream off the queue. It may
//     wait a little for company, see below. Then it takes a snapshot: the
//     dirty files, oldest first, and the end offset each reaches. What is
//     written from here on belongs to the next group.
//  4. It fsyncs the files in that order, with no lock held.
//  5. After each file it raises the durable offset to the one of the
//     snapshot and calls OnDurable, which lets acknowledgements go.
//  6. If more was written meanwhile, the stream is due again: step 2.
//
// So all appends that arrive during an fsync share the next one, whichever
// connection they come from, and streams are synced side by side, up to
// Parallel. The group forms by itself: the slower the disk, the larger.
//
// Company. Producers that wait for their acknowledgement come back within
// microseconds of it. The first of N to return would start an fsync of its
// own and make the others wait for two: groups of 1 and N-1, N/2 on average.
// So a worker that finds less than the last group answered waits: for
// everybody, while they come back sooner than an fsync takes, else at most half of the last fsync's
// duration; not at all when other streams are in the queue; and if it was in vain, not again for a while.
//
// Roll. SetFile seals the active file. It stays in the stream's list until it
// is synced, and files are synced in order, so no offset of a newer file is
// durable before all of the older ones are. The log's lock is not held for
// that: a roll costs the producers nothing. A sealed file with much to write, as `never` leaves it, is written a MiB at a time before its
// fsync, or the disk's queue would be full of it and nobody else's fsync would come through. For the same reason such streams have no more
// than Options.Background of the workers, see readyQueue.
//
// Errors are sticky. The first failed write (Fail) or fsync takes the
// directory offline: from then on nothing becomes durable, no fsync is
// started, waiters get the error. A failed fsync is never tried again: the
// kernel has dropped the pages that it could not write, and the next fsync
// would report success over a hole.
//
// Invariants:
//   - A stream is idle, queued once, or run by one worker: a file never has
//     two fsyncs in flight, and OnDurable is called in order.
//   - durable only advances to an end offset whose bytes, and all bytes
//     before it, were written before an fsync that has succeeded began, and
//     only while no error is known. TruncateTo alone lowers it; an fsync that began before a
//     TruncateTo no longer counts.
//   - No lock is held in a system call or a callback.
//   - A file given up by Drop is not touched after Drop has returned.
//
// The simpler design is fsync in the appending goroutine under the log's
// lock: ordering is then trivial and there are no states. It costs one fsync
// per append, so throughput is 1/F for a disk with fsync time F whatever the number of producers, and
// everybody who reads the log's offsets under the lock waits F too (Kafka moved four
// such fsyncs out of its lock, KAFKA-15046). At F = 0.24 ms that is 4,100
// appends a second, where 32 producers reach 86,000 here. One goroutine per stream is the other simple
// design: it needs no queue, but 10,000 partitions are then 10,000 stacks,
// and as many fsyncs at once as there are dirty streams, where more than a
// few only lengthen each other.
//
// Syncing the whole file system with one syncfs when many files are dirty was
// built, measured and taken out again. On a quiet ext4 without a journal it is
// cheaper per file: 8 files 220 microseconds with 2 to 8 fdatasyncs in parallel and
// 73 with one syncfs; 64 files 227 (2 in parallel), 116 (8) and 34 (syncfs). But
// it also writes what everybody else on that file system has left to the
// kernel. With compilers at work beside it, groups of 64 partitions took 34 ms
// on average against 1 ms, and throughput fell to a third; with 8 partitions it
// never won. Nor does its error name a file. SyncTogether does it for a stop,
// which makes nobody wait.
type Scheduler struct {
	opts  Options
	wheel *timewheel.Wheel
	err   atomic.Pointer[error]
	count counters

	mu struct {
		sync.Mutex
		closed bool
	}
	ready   readyQueue
	bed     sleeper        // of the worker that has set inBed
	inBed   atomic.Bool    // a worker waits for company in the kernel
	started []atomic.Int64 // per worker: when its fsync began, unix ns; 0 = none
	jobs    jobQueue
	workers sync.WaitGroup
}

// NewScheduler starts a scheduler. It panics on options that Validate
// refuses.
func NewScheduler(opts Options) *Scheduler {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		panic("BUG: " + err.Error())
	}
	s := &Scheduler{
		opts:    opts,
		wheel:   timewheel.New(opts.Clock, time.Millisecond),
		started: make([]atomic.Int64, opts.Parallel),
	}
	s.ready.init(opts.Background)
	s.jobs.limit = opts.Workers
	s.count.init()
	for i := range opts.Parallel {
		s.workers.Go(func() { s.work(i) })
	}
	return s
}

// Close waits for the fsyncs and jobs in flight, runs the jobs still queued
// and stops the goroutines. It does not sync what is still dirty: call
// SyncNow of each stream first. Waiting SyncNow calls get ErrClosed.
func (s *Scheduler) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.ready.close()
	s.workers.Wait()
	s.wheel.Close()
	s.jobs.close()
}

// Err returns the error that took the directory offline, nil while it works.
func (s *Scheduler) Err() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Fail takes the directory offline with err, if it is not already. After
// Fail has returned no durable offset of this scheduler advances any more;
// an OnDurable call that reports an earlier advance may still be on its way. It may be called
// under any lock.
func (s *Scheduler) Fail(err error) {
	if err == nil {
		panic("BUG: ioqueue: Fail without an error")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Err() != nil {
		return
	}
	err = fmt.Errorf("log directory %s is offline: %w", s.opts.Dir, err)
	s.err.Store(&err)
	s.opts.Logger.Error("log directory offline after an I/O error; nothing more is acknowledged from it",
		"dir", s.opts.Dir, "err", err)
	if s.opts.OnOffline != nil && !s.mu.closed {
		s.workers.Go(func() { s.opts.OnOffline(err) })
	}
}

// work is a worker: steps 3 to 6 of one stream after the other.
func (s *Scheduler) work(worker int) {
	for {
		r, ok := s.ready.next()
		if !ok {
			return
		}
		if r.alone {
			r.stream.awaitCompany()
		}
		r.stream.runGroup(worker)
		s.ready.done(r)
	}
}

// stopped returns why no fsync may be started: the sticky error, ErrClosed,
// or nil.
func (s *Scheduler) stopped() error {
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return ErrClosed
	}
	return nil
}
