package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// StoreOptions configures a Store.
type StoreOptions struct {
	// FS is where everything lives. Default: vfs.OS().
	FS vfs.FS
	// Clock gives the time of appends, retention and timers. Default: clock.Real().
	Clock clock.Clock
	// Logger takes what recovery and retention did, and errors. Default: slog.Default().
	Logger *slog.Logger
	// Seed drives jitter and generated ids. Default: 0, from the operating system's randomness.
	Seed uint64
	// Dirs are the log directories (log.dirs), created when missing. At least one.
	Dirs []string
	// ClusterID and NodeID are written to meta.properties of an empty directory and compared with that of a used one.
	// An empty ClusterID accepts what is there, or makes one up for a first start: Store.ClusterID tells.
	ClusterID string
	NodeID    int32
	// OpenFilesMax caps the open files of partitions. Default: 8000.
	OpenFilesMax int
	// RecoveryThreads is how many partitions are recovered at once, per directory. Default: 4.
	RecoveryThreads int
	// SyncParallel is how many fsyncs run at once, per directory. Default: ioqueue's.
	SyncParallel int
	// SyncTogetherMin is from how many logs with something to make durable on a clean stop syncs the file system of a directory
	// whole instead of their files one by one, where the system can be believed in that; negative is never. Default: 64.
	SyncTogetherMin int
	// CutDownBytes is how much of a deleted segment goes at once, so that the disk is not held up by many blocks that are given back
	// together; negative is all. Default: 1 MiB.
	CutDownBytes int64
	// CheckpointInterval is how often the recovery points are written if they moved; negative is never, for tests.
	// Default: 1 s.
	CheckpointInterval time.Duration
	// RetentionInterval is how often retention looks at the logs (log.retention.check.interval.ms); negative is never.
	// Default: 5 min.
	RetentionInterval time.Duration
	// DiskLimits gives what is done about disks that fill up, and is asked every DiskCheckInterval (negative is never).
	// Default: nil, nothing is done; 1 s.
	DiskLimits        func() DiskLimits
	DiskCheckInterval time.Duration
	// CleanerBackoff is log.cleaner.backoff.ms, the wait between looks for something to compact; negative switches compaction
	// off. Default: 15 s.
	CleanerBackoff time.Duration
	// CleanerDedupeBytes is log.cleaner.dedupe.buffer.size. Default: 128 MiB.
	CleanerDedupeBytes int64
	// CleanerIOBytesPerSecond is log.cleaner.io.max.bytes.per.second. Default: 0, no limit.
	CleanerIOBytesPerSecond int64
	// ProducerExpirationMs is producer.id.expiration.ms. Default: 86,400,000.
	ProducerExpirationMs int64
	// Config gives a topic's configuration for logs that are found at start, before CreateLog or UpdateConfig name one. Until then
	// nothing takes records away from them: no retention, no compaction. Default: all defaults.
	Config func(topic string) LogConfig
	// OnOffline is called once for each directory that fails, without locks. Default: nothing.
	OnOffline func(dir string, err error)
	// OnWoken is called after one or more Waiter.Wake calls of a log, on the same goroutine and without locks, so that what they announced can be done
	// together. Default: nothing.
	OnWoken func()
}

// EnsureDefaults fills the zero fields.
func (o *StoreOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Config == nil {
		o.Config = func(string) LogConfig { return LogConfig{} }
	}
	setDefault(&o.OpenFilesMax, 8000)
	setDefault(&o.RecoveryThreads, 4)
	setDefault(&o.SyncTogetherMin, 64)
	setDefault(&o.CutDownBytes, cutDownBytes)
	setDefault(&o.CheckpointInterval, time.Second)
	setDefault(&o.RetentionInterval, 5*time.Minute)
	setDefault(&o.DiskCheckInterval, time.Second)
	setDefault(&o.ProducerExpirationMs, 86_400_000)
}

// Validate reports options that cannot be.
func (o *StoreOptions) Validate() error {
	if len(o.Dirs) == 0 {
		return fmt.Errorf("%w: log.dirs: got none, want at least one directory", ErrInvalidConfig)
	}
	seen := map[string]bool{}
	for _, dir := range o.Dirs {
		if seen[filepath.Clean(dir)] {
			return fmt.Errorf("%w: log.dirs: %s is named twice", ErrInvalidConfig, dir)
		}
		seen[filepath.Clean(dir)] = true
	}
	if o.NodeID < 0 {
		return fmt.Errorf("%w: node.id: got %d, want 0 or more", ErrInvalidConfig, o.NodeID)
	}
	return nil
}

// Store holds all log directories of a broker and the partitions in them. Its methods may be called from any goroutine.
type Store struct {
	o    StoreOptions
	log  *slog.Logger
	pool *vfs.Pool
	dirs []*logDir
	// failedDirs are directories that could not be opened; they have no logs.
	failedDirs map[string]error
	lastConfig atomic.Pointer[LogConfig] // see sharedConfig
	// leftovers are removals that wait until the store is open.
	leftovers []func()

	cleaner *cleaner // nil when compaction is off

	stop   chan struct{}
	done   sync.WaitGroup
	randMu sync.Mutex
	rand   *rand.Rand

	mu struct {
		sync.RWMutex
		logs   map[TopicPartition]*Log
		closed bool
	}
}

// OpenStore locks the directories, reads the checkpoints, recovers what an unclean stop left and starts the background
// work. A directory that fails is offline in the result; the error is for options, foreign or locked directories, and
// for no usable directory at all.
func OpenStore(o StoreOptions) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		o: o, log: o.Logger, pool: vfs.NewPool(o.FS, o.OpenFilesMax), failedDirs: map[string]error{},
		stop: make(chan struct{}), rand: rand.New(rand.NewPCG(o.Seed, 0x656e67696e65)),
	}
	s.mu.logs = map[TopicPartition]*Log{}
	err := s.openDirs()
	if err == nil {
		err = s.findLogs()
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	s.recoverLogs()
	for _, remove := range s.leftovers {
		remove()
	}
	s.leftovers = nil
	s.done.Add(1)
	for _, d := range s.dirs {
		s.measureDisk(d) // no segment goes before the configurations are known
	}
	go s.background()
	s.startCleaner()
	return s, nil
}

func (s *Store) startCleaner() {
	if s.o.CleanerBackoff < 0 {
		return
	}
	s.cleaner = newCleaner(cleanerOptions{
		FS: s.o.FS, Clock: s.o.Clock, Logger: s.log, DedupeBytesMax: s.o.CleanerDedupeBytes,
		IOBytesPerSecond: s.o.CleanerIOBytesPerSecond, Backoff: s.o.CleanerBackoff,
		Logs: func() (logs []cleanerLog) {
			for _, l := range s.Logs() {
				if l.configured.Load() {
					logs = append(logs, l)
				}
			}
			return logs
		},
	})
	s.cleaner.start()
}

func (s *Store) stopBackground() {
	close(s.stop)
	if s.cleaner != nil {
		s.cleaner.stop()
	}
	s.done.Wait()
}

func (s *Store) openDirs() error {
	var last error
	for _, path := range s.o.Dirs {
		d, err := openDir(s, path)
		switch {
		case err == nil:
			s.dirs = append(s.dirs, d)
			if s.o.ClusterID == "" {
				s.o.ClusterID = d.meta.ClusterID
			}
		case errors.Is(err, ErrLocked) || errors.Is(err, ErrForeignDirectory) || errors.Is(err, ErrCorrupt):
			return err
		default:
			last = err
			s.failedDirs[path] = err
			s.log.Error("log directory offline", "dir", path, "error", err)
			if f := s.o.OnOffline; f != nil {
				f(path, err)
			}
		}
	}
	if len(s.dirs) == 0 {
		return fmt.Errorf("%w: no log directory can be used: %w", ErrOffline, last)
	}
	return nil
}

// findLogs lists the partitions. Nothing of them is opened.
func (s *Store) findLogs() error {
	for _, d := range s.dirs {
		names, err := s.o.FS.List(d.path)
		if err != nil {
			d.fail(err)
			continue
		}
		for _, name := range names {
			if tp, ok := parseDeletedDir(name); ok {
				// The deletion was under way: the directory is missing by intent, unless another log has come in its place.
				if _, found := slices.BinarySearch(names, tp.String()); !found {
					delete(d.start, tp)
				}
				remove := func() { d.removeTreeGently(filepath.Join(d.path, name), nil) }
				s.leftovers = append(s.leftovers, func() { s.removeLater(d, tp, 0, remove) })
			}
		}
		for _, name := range names {
			tp, ok := parsePartitionDir(name)
			if !ok {
				continue
			}
			if other := s.mu.logs[tp]; other != nil {
				return fmt.Errorf("%w: partition %s lies in %s and in %s", ErrCorrupt, tp, other.dir.path, d.path)
			}
			if !d.startsKnown {
				d.guessStart(tp)
			}
			l := s.newLog(d, tp, s.o.Config(tp.Topic).EnsureDefaults())
			l.known, l.mu.onDisk = true, true
		}
	}
	return nil
}

// newLog registers a log. s.mu is held, or the store is not shared yet.
func (s *Store) newLog(d *logDir, tp TopicPartition, cfg LogConfig) *Log {
	l := &Log{store: s, dir: d, tp: tp, start: d.start[tp], jitter: s.float()}
	l.part = &partitionDir{fs: s.o.FS, pool: s.pool, path: filepath.Join(d.path, tp.String())}
	l.cfg.Store(s.sharedConfig(cfg))
	l.recoveryCap.Store(noCap)
	l.restartAt.Store(-1)
	l.checkpointed.Store(l.start.recoveryPoint)
	s.mu.logs[tp], d.logs[tp] = l, l
	return l
}

// recoverLogs loads the logs of directories that were not shut down cleanly, in parallel.
func (s *Store) recoverLogs() {
	var wg sync.WaitGroup
	for _, d := range s.dirs {
		if d.clean {
			continue
		}
		work := make(chan *Log)
		for range s.o.RecoveryThreads {
			wg.Go(func() {
				for l := range work {
					_ = l.load() // a fault is in the log's Err, and was logged
				}
			})
		}
		wg.Go(func() {
			for _, l := range s.logsOf(d) {
				work <- l
			}
			close(work)
		})
	}
	wg.Wait()
	for _, d := range s.dirs {
		d.settleCuts()
	}
}

// ClusterID is the cluster id in meta.properties.
func (s *Store) ClusterID() string { return s.o.ClusterID }

// CreateLog opens or creates the log of tp. A log that exists with the same id (or where one of the two is unknown) is
// returned as it is, with cfg applied. A directory appears on disk with the first append. Errors: ErrExists (another
// id), ErrInvalidConfig, ErrOffline (no directory is online, or one could not be opened at start, so that nobody knows which
// partitions it holds), ErrClosed.
func (s *Store) CreateLog(tp TopicPartition, id TopicID, cfg LogConfig) (*Log, error) {
	cfg = cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", tp, err)
	}
	if !validTopic(tp.Topic) || tp.Partition < 0 {
		return nil, fmt.Errorf("%w: partition %q", ErrInvalidConfig, tp.String())
	}
	if err := s.forgetDeleted(tp); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	l := s.mu.logs[tp]
	if l == nil {
		d, err := s.placeLocked(tp)
		if err == nil {
			l = s.newLog(d, tp, cfg)
			l.configured.Store(true)
			l.part.setTopicID(id, true)
		}
		s.mu.Unlock()
		return l, err
	}
	s.mu.Unlock()
	if err := l.claim(id); err != nil {
		return nil, err
	}
	first := !l.configured.Load()
	l.setConfig(cfg)
	if first && cfg.Fsync == ioqueue.PolicyCommit {
		if err := l.settleLazy(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// claim compares the topic id with the one on disk, and writes it where there is none.
func (l *Log) claim(id TopicID) error {
	have := l.part.topicID()
	if have == (TopicID{}) && l.known {
		var err error
		have, err = readPartitionMetadata(l.part.fs, l.part.path)
		switch {
		case isNotExist(err):
			have = TopicID{}
		case err != nil:
			return l.offline(err)
		default:
			l.part.setTopicID(have, false)
		}
	}
	if have == (TopicID{}) && id != (TopicID{}) {
		l.part.setTopicID(id, true)
		if l.known {
			// Before more is done in the topic's name. A full disk puts it off to the next checkpoint.
			if err := l.part.writeMetadata(); err != nil && !isNoSpace(err) && !isNotExist(err) {
				return l.ioError(err)
			}
		}
		return nil
	}
	if id != (TopicID{}) && have != id {
		return fmt.Errorf("%w: %s: topic id got %s, want %s", ErrExists, l.tp, id, have)
	}
	return nil
}

// placeLocked picks the directory for a new partition: where its checkpoints say it was, else the one with the fewest partitions.
func (s *Store) placeLocked(tp TopicPartition) (*logDir, error) {
	for path, err := range s.failedDirs {
		// An empty log in its place would look as if all records were deleted.
		return nil, fmt.Errorf("%w: %s: the partition may lie in %s, which could not be opened: %w", ErrOffline, tp, path, err)
	}
	var best *logDir
	for _, d := range s.dirs {
		if sp, ok := d.start[tp]; ok && sp.recoveryPoint > 0 {
			return d, nil
		}
		if d.err() == nil && (best == nil || len(d.logs) < len(best.logs)) {
			best = d
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: %s: no log directory is online", ErrOffline, tp)
	}
	return best, nil
}

// Log returns the log of tp, or nil.
func (s *Store) Log(tp TopicPartition) *Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.logs[tp]
}

// Logs returns all logs, in no order.
func (s *Store) Logs() []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Log, 0, len(s.mu.logs))
	for _, l := range s.mu.logs {
		out = append(out, l)
	}
	return out
}

func (s *Store) logsOf(d *logDir) []*Log {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Log, 0, len(d.logs))
	for _, l := range d.logs {
		out = append(out, l)
	}
	return out
}

// UpdateConfig changes a log's configuration; it takes effect with the next append, roll or retention run.
// Errors: ErrUnknownLog, ErrInvalidConfig.
func (s *Store) UpdateConfig(tp TopicPartition, cfg LogConfig) error {
	cfg = cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", tp, err)
	}
	l := s.Log(tp)
	if l == nil {
		return fmt.Errorf("%w: %s", ErrUnknownLog, tp)
	}
	l.setConfig(cfg)
	return nil
}

// DirStats describes one log directory.
type DirStats struct {
	// Dir is the path as given in the options; Err why it is offline, nil while it is online.
	Dir string
	Err error
	// Logs counts the partitions, Bytes the size of their segments, as far as they were looked at since the start.
	Logs  int
	Bytes int64
	// TotalBytes and FreeBytes are the file system's.
	TotalBytes, FreeBytes int64
	// Space is what the disk limits do.
	Space SpaceStats
	// Queue is the fsync scheduler's part.
	Queue ioqueue.Stats
}

// DirStats describes all log directories in the order of the options.
func (s *Store) DirStats() []DirStats {
	byPath := map[string]*logDir{}
	for _, d := range s.dirs {
		byPath[d.path] = d
	}
	out := make([]DirStats, 0, len(s.o.Dirs))
	for _, path := range s.o.Dirs {
		d := byPath[path]
		if d == nil {
			out = append(out, DirStats{Dir: path, Err: s.failedDirs[path]})
			continue
		}
		st := DirStats{Dir: path, Err: d.err(), Space: d.spaceStats(), Queue: d.sched.Stats()}
		for _, l := range s.logsOf(d) {
			st.Logs++
			if l.loaded.Load() {
				st.Bytes += l.Size()
			}
		}
		if u, err := s.o.FS.DiskUsage(path); err == nil {
			st.TotalBytes, st.FreeBytes = u.TotalBytes, u.FreeBytes
		}
		out = append(out, st)
	}
	return out
}

func (s *Store) nowMs() int64 { return s.o.Clock.Now().UnixMilli() }

func (s *Store) float() float64 {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	return s.rand.Float64()
}

// newID makes a random UUID (version 4), never zero.
func (s *Store) newID() (id TopicID) {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	for i := range id {
		id[i] = byte(s.rand.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// abandon frees the directories of a store that did not open.
func (s *Store) abandon() {
	for _, d := range s.dirs {
		d.sched.Close()
		d.closeWhole()
		d.cuts.close()
		_ = d.lock.Close()
	}
}

// Close flushes everything, writes the checkpoints and the clean-shutdown mark and frees the directories. When ctx ends
// first, the rest is left as after a crash: nothing acknowledged is lost, the next start recovers.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.mu.closed = true
	s.mu.Unlock()
	s.stopBackground()
	errs := make([]error, len(s.dirs))
	var wg sync.WaitGroup
	for i, d := range s.dirs {
		wg.Go(func() { errs[i] = d.close(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// crash ends a store as a process that dies would: nothing is flushed, no mark is written. For tests.
func (s *Store) crash() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.stopBackground()
	for _, d := range s.dirs {
		for _, l := range s.logsOf(d) {
			l.shut()
		}
		d.sched.Close()
		d.closeWhole()
		d.cuts.close()
		_ = d.lock.Close()
	}
}
