package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/vfs"
)

// cleanerRetryAfter is how long a log whose cleaning failed is left alone.
const cleanerRetryAfter = 5 * time.Minute

// errCleaningStopped ends a cleaning because the store closes or the log changed under it. Nothing is lost.
var errCleaningStopped = errors.New("engine: cleaning stopped")

// cleanerOptions configures a cleaner.
type cleanerOptions struct {
	FS     vfs.FS
	Clock  clock.Clock
	Logger *slog.Logger
	// DedupeBytesMax is log.cleaner.dedupe.buffer.size: memory for the map from keys to offsets, in use while a log is
	// cleaned only, and then only as much as its dirty records need. Default: 128 MiB (4.2 million keys a pass).
	DedupeBytesMax int64
	// IOBytesPerSecond is log.cleaner.io.max.bytes.per.second, for reads and writes together. Default: 0, no limit.
	IOBytesPerSecond int64
	// Backoff is log.cleaner.backoff.ms: the wait between looks when there is nothing to clean. Default: 15 s.
	Backoff time.Duration
	// Logs gives the logs to look at; only the compacted ones are touched.
	Logs func() []cleanerLog
}

// EnsureDefaults fills in zero fields.
func (o *cleanerOptions) EnsureDefaults() {
	if o.DedupeBytesMax == 0 {
		o.DedupeBytesMax = 128 << 20
	}
	if o.Backoff == 0 {
		o.Backoff = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// cleanerLog is what the cleaner needs of a log.
type cleanerLog interface {
	TopicPartition() TopicPartition
	Config() *LogConfig
	Err() error
	Roll() error
	// settleBelow makes the log durable up to end and moves the recovery point there, in its checkpoint: recovery takes
	// the offsets that compaction leaves out for damage anywhere above.
	settleBelow(end int64) error
	// checkpointDir is the log directory that holds the partition's directory.
	checkpointDir() string
	// cleanerView describes the sealed segments; an error means that the log cannot be cleaned now.
	cleanerView() (cleanerView, error)
	// abortedIn gives the aborted transactions that overlap [from, to), by first offset.
	abortedIn(from, to int64) ([]AbortedTxn, error)
	// swapSegments puts the cleaned file of old[0].base, which is written and synced and has size bytes, in the place of
	// old. errCleaningStopped when old is not a run of the log's segments any more.
	swapSegments(old []*segment, size int64) error
	// ioError takes log or directory offline as the error demands.
	ioError(err error) error
}

// cleanerView is a log at one moment.
type cleanerView struct {
	// sealed segments, ascending, all but the active one; sealedEnd is the offset after the last of them.
	sealed    []*segment
	sealedEnd int64
	// activeFirstMs is the timestamp of the first batch of the active segment, noTimestamp when there is none.
	activeFirstMs        int64
	logStart, lastStable int64
	producers            map[int64]activeProducer
}

// endOf is the offset after sealed[i].
func (v *cleanerView) endOf(i int) int64 {
	if i+1 < len(v.sealed) {
		return v.sealed[i+1].base
	}
	return v.sealedEnd
}

// cleanerStats are totals since the start.
type cleanerStats struct {
	Cleanings, Failures             atomic.Int64
	BytesRead, BytesWritten         atomic.Int64
	RecordsRead, RecordsWritten     atomic.Int64
	SegmentsReplaced, SegmentsAdded atomic.Int64
}

// cleaner compacts logs (cleanup.policy=compact), one at a time, on one goroutine: of each key the newest record stays.
//
// A log has a clean part, where no key has two records, and behind it a dirty part up to the first segment that may not
// be cleaned: the active one, one above the last stable offset, or one younger than min.compaction.lag.ms. When the dirty
// part's share of the bytes exceeds min.cleanable.dirty.ratio, or it is older than max.compaction.lag.ms, a pass begins
// with the log that has the largest share:
//
//  1. The dirty part is read and the newest offset of each key noted (offsetMap). Memory bounds the map; when it is full
//     the pass covers the dirty part up to there.
//  2. All segments from the start of the log to there are read again, in groups that fit into one segment, and what stays
//     (cleanFilter) is written to a new segment, synced, and swapped in (cleaner_swap.go).
//  3. The end of the pass is the new border between clean and dirty, kept in cleaner-offset-checkpoint. Losing that file
//     costs a longer pass and nothing else.
//
// Readers and appends go on all the time. A simpler design, compaction per segment without the map over the whole dirty
// part, leaves a record per key and segment and never gets the log smaller than its keys times its segments.
//
// Goroutine: run, owned by the store. Locks: none held while reading or writing; swapSegments takes the log's.
type cleaner struct {
	o     cleanerOptions
	stats cleanerStats
	wake  chan struct{}
	quit  chan struct{}
	done  sync.WaitGroup

	throttle throttle
	// retryAt belongs to the goroutine (or to the caller of cleanFilthiest in tests).
	retryAt map[TopicPartition]time.Time

	mu struct {
		sync.Mutex                                     // held while a checkpoint is written
		dirty      map[string]map[TopicPartition]int64 // by log directory: first dirty offset, as in its checkpoint
	}
}

// newCleaner makes a cleaner that does nothing until start.
func newCleaner(o cleanerOptions) *cleaner {
	o.EnsureDefaults()
	c := &cleaner{
		o: o, wake: make(chan struct{}, 1), quit: make(chan struct{}),
		retryAt: map[TopicPartition]time.Time{},
	}
	c.mu.dirty = map[string]map[TopicPartition]int64{}
	c.throttle = throttle{clock: o.Clock, bytesPerSecond: o.IOBytesPerSecond, quit: c.quit}
	return c
}

// start begins to work in the background.
func (c *cleaner) start() {
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		c.run()
	}()
}

// stop ends the work at the next batch and waits for it. It must be called once.
func (c *cleaner) stop() {
	close(c.quit)
	c.done.Wait()
}

// poke makes the cleaner look now.
func (c *cleaner) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cleaner) stopping() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

func (c *cleaner) run() {
	for {
		t := c.o.Clock.NewTimer(c.o.Backoff)
		select {
		case <-c.quit:
			t.Stop()
			return
		case <-c.wake:
			t.Stop()
		case <-t.C():
		}
		for !c.stopping() && c.cleanFilthiest() {
		}
	}
}

// cleanFilthiest cleans the log that needs it most; false when none does.
func (c *cleaner) cleanFilthiest() bool {
	now := c.o.Clock.Now()
	var best *cleanJob
	for _, l := range c.o.Logs() {
		if l.Config().Cleanup&CleanupCompact == 0 || l.Err() != nil {
			continue
		}
		if until, ok := c.retryAt[l.TopicPartition()]; ok {
			if now.Before(until) {
				continue
			}
			delete(c.retryAt, l.TopicPartition())
		}
		job, err := c.assess(l, now.UnixMilli())
		if err != nil {
			c.failed(l, err)
			continue
		}
		if job != nil && (best == nil || job.before(best)) {
			best = job
		}
		if c.stopping() {
			return false
		}
	}
	if best == nil {
		return false
	}
	if err := best.run(); err != nil {
		c.failed(best.log, err)
	}
	return true
}

// failed notes that a log could not be assessed or cleaned, and leaves it alone for a while.
func (c *cleaner) failed(l cleanerLog, err error) {
	tp := l.TopicPartition()
	c.retryAt[tp] = c.o.Clock.Now().Add(cleanerRetryAfter)
	if errors.Is(err, errCleaningStopped) || l.Err() != nil {
		c.o.Logger.Info("cleaning ended early", "partition", tp.String(), "reason", err)
		return
	}
	c.stats.Failures.Add(1)
	var corrupt *CorruptFileError
	if errors.As(err, &corrupt) || errors.Is(err, errCleanerIO) {
		err = l.ioError(err)
	}
	c.o.Logger.Error("cleaning failed", "partition", tp.String(), "retryAfter", cleanerRetryAfter, "error", err)
}

// errCleanerIO marks errors of writing and syncing: a disk that cannot be trusted any more.
var errCleanerIO = errors.New("engine: cleaner I/O")

// firstDirty is where the dirty part of l begins, from the checkpoint.
func (c *cleaner) firstDirty(l cleanerLog, logStart, end int64) int64 {
	c.mu.Lock()
	offset, ok := c.checkpointLocked(l.checkpointDir())[l.TopicPartition()]
	c.mu.Unlock()
	if !ok || offset < logStart || offset > end {
		// Unknown, or of another history: everything counts as dirty, which is always right.
		return logStart
	}
	return offset
}

func (c *cleaner) checkpointLocked(dir string) map[TopicPartition]int64 {
	if m, ok := c.mu.dirty[dir]; ok {
		return m
	}
	m, err := readOffsetCheckpoint(c.o.FS, filepath.Join(dir, cleanerOffsetCheckpointName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.o.Logger.Warn("cleaner checkpoint passed over, compacted logs are cleaned from their start", "dir", dir, "error", err)
	}
	if m == nil {
		m = map[TopicPartition]int64{}
	}
	c.mu.dirty[dir] = m
	return m
}

// cutBack keeps the clean part of a log below offset, -1 for a log that is deleted or replaced whole: what is written there
// from now on is dirty. It is called before the log changes. The cleaner may be nil.
func (c *cleaner) cutBack(dir string, tp TopicPartition, offset int64) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.checkpointLocked(dir)
	have, ok := m[tp]
	if !ok || have <= offset {
		return nil
	}
	m[tp] = offset
	if offset < 0 {
		delete(m, tp)
	}
	return writeOffsetCheckpoint(c.o.FS, filepath.Join(dir, cleanerOffsetCheckpointName), m)
}

// advanceTo notes the end of a pass and drops partitions that are gone from the checkpoint.
func (c *cleaner) advanceTo(l cleanerLog, offset int64) error {
	dir := l.checkpointDir()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := l.Err(); err != nil {
		return fmt.Errorf("%w: %w", errCleaningStopped, err) // deleted meanwhile, perhaps: cutBack has had its say
	}
	m := c.checkpointLocked(dir)
	m[l.TopicPartition()] = offset
	if len(m) > 1 {
		known := make(map[TopicPartition]bool, len(m))
		for _, other := range c.o.Logs() {
			known[other.TopicPartition()] = true
		}
		for tp := range m {
			if !known[tp] {
				delete(m, tp)
			}
		}
	}
	if err := writeOffsetCheckpoint(c.o.FS, filepath.Join(dir, cleanerOffsetCheckpointName), m); err != nil {
		return fmt.Errorf("%w: %w", errCleanerIO, err)
	}
	return nil
}

// throttle slows one goroutine down to a rate of bytes. The zero rate is no limit.
type throttle struct {
	clock          clock.Clock
	bytesPerSecond int64
	quit           <-chan struct{}
	free           time.Time // when everything so far has been paid for
}

// spend accounts for n bytes and waits while the rate is exceeded; errCleaningStopped when stopped meanwhile.
func (t *throttle) spend(n int) error {
	if t.bytesPerSecond <= 0 {
		return nil
	}
	now := t.clock.Now()
	if t.free.Before(now) {
		t.free = now
	}
	t.free = t.free.Add(time.Duration(float64(n) / float64(t.bytesPerSecond) * float64(time.Second)))
	wait := t.free.Sub(now)
	if wait < 10*time.Millisecond {
		return nil // short waits are taken together
	}
	timer := t.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-t.quit:
		return errCleaningStopped
	}
}

// throttledReader is a reader whose reads are accounted for.
type throttledReader struct {
	r io.ReaderAt
	t *throttle
}

// ReadAt implements io.ReaderAt.
func (r throttledReader) ReadAt(p []byte, pos int64) (int, error) {
	n, err := r.r.ReadAt(p, pos)
	if terr := r.t.spend(n); terr != nil {
		return 0, fmt.Errorf("read throttled: %w", terr)
	}
	return n, err
}
