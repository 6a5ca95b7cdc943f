package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// Names in a log directory that are not partitions.
const (
	lockName     = ".lock"
	deleteSuffix = "-delete" // `<topic>-<n>.<id>-delete`: a deleted partition, to be removed
)

// logDir is one log directory: its lock, its fsync scheduler and its checkpoint files.
type logDir struct {
	store *Store
	path  string
	lock  io.Closer
	cuts  *cutMark
	// whole is the file system that holds the directory, for flushTogether; nil where that cannot be believed.
	whole vfs.FileSystem
	meta  MetaProperties
	sched *ioqueue.Scheduler
	// stopping: a clean stop has begun.
	stopping atomic.Bool
	// failure is the error that took the directory offline.
	failure atomic.Pointer[error]

	// What the checkpoints said at start. recoveryKnown is false when the recovery points were missing or damaged, startsKnown when the log
	// starts were.
	clean         bool
	recoveryKnown bool
	startsKnown   bool
	start         map[TopicPartition]startPoint

	space dirSpace

	// moved says that an offset in the checkpoints may have changed since the last pass.
	moved atomic.Bool
	// ckptMu covers the reading of the logs' offsets and the writing of the files: two passes must not cross.
	ckptMu     sync.Mutex
	ckptStarts map[TopicPartition]int64 // what log-start-offset-checkpoint holds
	ckptHW     map[TopicPartition]int64
	ckptPoints map[TopicPartition]int64

	logs map[TopicPartition]*Log // guarded by store.mu
}

// openDir locks a directory, formats it when it is empty, and reads its checkpoints. The clean-shutdown mark is gone,
// durably, when it returns.
func openDir(s *Store, path string) (d *logDir, err error) {
	d = &logDir{store: s, path: path, logs: map[TopicPartition]*Log{}, start: map[TopicPartition]startPoint{}}
	fsys := s.o.FS
	if err := fsys.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(path, lockName))
	if err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, fmt.Errorf("%w: %s: another broker is using it; stop that one, or name another directory", ErrLocked, path)
		}
		return nil, err
	}
	// Before the first write: it tells of what goes wrong from here on.
	whole, unbelieved := fsys.OpenFileSystem(path)
	if unbelieved != nil {
		s.log.Debug("a clean stop will fsync files one by one", "dir", path, "error", unbelieved)
	} else {
		d.whole = whole
	}
	defer func() {
		if err != nil {
			if whole != nil {
				_ = whole.Close()
			}
			_ = lock.Close()
		}
	}()
	d.lock = lock
	if err := d.identify(); err != nil {
		return nil, err
	}
	if err := d.readCheckpoints(); err != nil {
		return nil, err
	}
	if d.cuts, err = openCutMark(fsys, path, d.clean); err != nil {
		return nil, err
	}
	d.sched = ioqueue.NewScheduler(ioqueue.Options{
		Dir: path, Clock: s.o.Clock, Logger: s.log, Parallel: s.o.SyncParallel, OnOffline: d.offline,
	})
	return d, nil
}

// identify reads meta.properties, or writes it into an empty directory.
func (d *logDir) identify() error {
	o := &d.store.o
	m, err := ReadMetaProperties(o.FS, d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.format()
	}
	if err != nil {
		return err
	}
	if o.ClusterID != "" && m.ClusterID != o.ClusterID {
		return fmt.Errorf("%w: %s: cluster.id got %q, want %q", ErrForeignDirectory, filepath.Join(d.path, metaPropertiesName), m.ClusterID, o.ClusterID)
	}
	if m.NodeID != o.NodeID {
		return fmt.Errorf("%w: %s: node.id got %d, want %d", ErrForeignDirectory, filepath.Join(d.path, metaPropertiesName), m.NodeID, o.NodeID)
	}
	d.meta = m
	return nil
}

func (d *logDir) format() error {
	o := &d.store.o
	names, err := o.FS.List(d.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := parsePartitionDir(name); ok {
			return fmt.Errorf("%w: %s is not there, but the partition %s is", ErrForeignDirectory, filepath.Join(d.path, metaPropertiesName), name)
		}
	}
	if err := syncParents(o.FS, d.path); err != nil {
		return err
	}
	if o.ClusterID == "" {
		o.ClusterID = d.store.newID().String()
	}
	d.meta = MetaProperties{ClusterID: o.ClusterID, NodeID: o.NodeID, DirectoryID: d.store.newID()}
	// An intact recovery point file always exists from now on: one that is missing later means damage, not a new directory.
	if err := writeOffsetCheckpoint(o.FS, filepath.Join(d.path, recoveryPointCheckpointName), nil); err != nil {
		return err
	}
	return WriteMetaProperties(o.FS, d.path, d.meta)
}

// syncParents makes the names of a new directory, and of the parents that came with it, durable.
func syncParents(fsys vfs.FS, path string) error {
	for {
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		if err := fsys.SyncDir(parent); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return nil // not ours, so it was there before
			}
			return fmt.Errorf("sync directory %s: %w", parent, err)
		}
		path = parent
	}
}

// readCheckpoints fills start. A damaged file costs a longer or more careful recovery, never data.
func (d *logDir) readCheckpoints() error {
	fsys := d.store.o.FS
	_, clean, err := readCleanShutdown(fsys, d.path)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	points, err := d.readCheckpoint(recoveryPointCheckpointName)
	if err != nil {
		return err
	}
	d.recoveryKnown = points != nil
	d.clean = clean && d.recoveryKnown
	starts, err := d.readCheckpoint(logStartCheckpointName)
	if err != nil {
		return err
	}
	// They are written before the first recovery point is.
	d.startsKnown = starts != nil || points != nil && len(points) == 0
	marks, err := d.readCheckpoint(replicationOffsetCheckpointName)
	if err != nil {
		return err
	}
	for tp, offset := range points {
		d.start[tp] = startPoint{clean: d.clean, recoveryPoint: offset, logStart: starts[tp], highWatermark: marks[tp]}
	}
	for tp, offset := range starts {
		if _, ok := points[tp]; !ok {
			d.start[tp] = startPoint{logStart: offset, highWatermark: marks[tp]}
		}
	}
	d.ckptPoints, d.ckptStarts, d.ckptHW = points, starts, marks
	if !clean {
		// What a killed process has renamed is what was read, but a power cut would still bring the file before it back; and files are
		// removed because of what this one says.
		if err := fsys.SyncDir(d.path); err != nil {
			return fmt.Errorf("sync directory %s: %w", d.path, err)
		}
	}
	return removeCleanShutdown(fsys, d.path)
}

// readCheckpoint gives nil for a missing or damaged file.
func (d *logDir) readCheckpoint(name string) (map[TopicPartition]int64, error) {
	m, err := readOffsetCheckpoint(d.store.o.FS, filepath.Join(d.path, name))
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ErrCorrupt):
		d.store.log.Error("checkpoint damaged, the logs are recovered without it", "dir", d.path, "error", err)
		return nil, nil
	}
	return nil, err
}

// fail takes the directory offline because of an error of reading or writing.
func (d *logDir) fail(err error) { d.sched.Fail(err) }

// offline is called once by the scheduler, without locks: no durable offset advances any more.
func (d *logDir) offline(err error) {
	if !d.failure.CompareAndSwap(nil, &err) {
		return
	}
	d.store.log.Error("log directory offline", "dir", d.path, "error", err)
	for _, l := range d.store.logsOf(d) {
		_ = l.offline(err)
	}
	if f := d.store.o.OnOffline; f != nil {
		f(d.path, err)
	}
}

// err is why the directory is offline, or nil.
func (d *logDir) err() error {
	if p := d.failure.Load(); p != nil {
		return *p
	}
	return d.sched.Err()
}

// parsePartitionDir takes `<topic>-<n>` apart.
func parsePartitionDir(name string) (TopicPartition, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || i == len(name)-1 || name[i+1] < '0' || name[i+1] > '9' {
		return TopicPartition{}, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	tp := TopicPartition{Topic: name[:i], Partition: int32(n)}
	return tp, err == nil && tp.String() == name && validTopic(tp.Topic)
}

// parseDeletedDir gives the partition whose directory was renamed by DeleteLog.
func parseDeletedDir(name string) (TopicPartition, bool) {
	rest, ok := strings.CutSuffix(name, deleteSuffix)
	i := strings.LastIndexByte(rest, '.')
	if !ok || i < 0 {
		return TopicPartition{}, false
	}
	return parsePartitionDir(rest[:i])
}

// validTopic is Kafka's rule for names; it keeps a name inside its directory.
func validTopic(topic string) bool {
	if topic == "" || topic == "." || topic == ".." || len(topic) > 249 {
		return false
	}
	for i := range len(topic) {
		c := topic[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// checkpoint writes the files whose content has changed. Before a recovery point passes an offset, what recovery would
// rebuild above it (leader epochs, aborted transactions) is made durable.
func (d *logDir) checkpoint(highWatermarks bool) error {
	if err := d.err(); err != nil {
		return err
	}
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	d.moved.Store(false)
	logs := d.store.logsOf(d)
	points := make(map[TopicPartition]int64, len(logs))
	starts := make(map[TopicPartition]int64)
	marks := make(map[TopicPartition]int64, len(logs))
	for _, l := range logs {
		point, start, hw, ok, err := l.checkpointState()
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		points[l.tp], marks[l.tp] = point, hw
		if start > 0 {
			starts[l.tp] = start
		}
	}
	// Partitions that nobody has asked for yet, because their directory is missing, keep what was known of them.
	d.store.mu.Lock()
	for tp, sp := range d.start {
		if d.logs[tp] == nil && sp.recoveryPoint > 0 {
			points[tp], starts[tp], marks[tp] = sp.recoveryPoint, sp.logStart, sp.highWatermark
		}
	}
	d.store.mu.Unlock()
	// The log starts first: a segment below one may be gone, and a recovery point may lie only in what is left.
	if err := d.writeIfChanged(logStartCheckpointName, &d.ckptStarts, starts); err != nil {
		return err
	}
	if err := d.writeIfChanged(recoveryPointCheckpointName, &d.ckptPoints, points); err != nil {
		return err
	}
	if !highWatermarks {
		return nil
	}
	return d.writeIfChanged(replicationOffsetCheckpointName, &d.ckptHW, marks)
}

func (d *logDir) writeIfChanged(name string, have *map[TopicPartition]int64, want map[TopicPartition]int64) error {
	if *have != nil && equalOffsets(*have, want) {
		return nil
	}
	if err := writeOffsetCheckpoint(d.store.o.FS, filepath.Join(d.path, name), want); err != nil {
		switch {
		case isNoSpace(err):
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		case lacksResources(err):
			return fmt.Errorf("%w: %s: %w", ErrOffline, d.path, err)
		}
		d.fail(err)
		return fmt.Errorf("%w: %s: %w", ErrOffline, d.path, err)
	}
	*have = want
	return nil
}

func equalOffsets(a, b map[TopicPartition]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for tp, x := range a {
		if y, ok := b[tp]; !ok || x != y {
			return false
		}
	}
	return true
}

// startsAt notes that the log has been replaced by one that may start lower than it did when it was opened.
func (d *logDir) startsAt(l *Log, offset int64) {
	d.ckptMu.Lock()
	defer d.ckptMu.Unlock()
	l.start.logStart = min(l.start.logStart, offset)
}

// checkpointState gives what the checkpoints say of this log; ok is false when it has no directory. The directory's
// checkpoint lock is held.
func (l *Log) checkpointState() (point, start, hw int64, ok bool, err error) {
	if !l.loaded.Load() {
		sp := l.start
		return sp.recoveryPoint, sp.logStart, sp.highWatermark, l.known || sp.recoveryPoint > 0, nil
	}
	v := l.off.load()
	if f := l.failure.Load(); f != nil {
		// What was known stays: a later start has to see the same fault, not a log that ends where it lies.
		point, start = l.checkpointed.Load(), max(l.start.logStart, v.LogStart)
		if restart := l.restartAt.Load(); restart >= 0 {
			point, start = min(point, restart), restart // it was being replaced when it failed
		}
		return point, start, v.HighWatermark, l.known || l.checkpointed.Load() > 0 || start > 0, nil
	}
	point, start = min(v.Durable, l.recoveryCap.Load()), v.LogStart
	if restart := l.restartAt.Load(); restart >= 0 {
		point, start = min(point, restart), restart
	}
	if v.LogEnd == 0 && start == 0 {
		return 0, 0, 0, false, nil
	}
	if point != l.checkpointed.Load() {
		if err := l.settle(); err != nil {
			return 0, 0, 0, false, err
		}
		l.checkpointed.Store(point)
	}
	return point, start, v.HighWatermark, true, nil
}

// settle makes durable what recovery does not rebuild below the recovery point.
func (l *Log) settle() error {
	if l.part.unnamed.Load() || l.active() == nil {
		// The first sync of a segment writes it.
	} else if err := l.part.writeMetadata(); err != nil && !isNoSpace(err) {
		return l.ioError(err)
	}
	if err := l.epochs.flush(); err != nil {
		return l.ioError(err)
	}
	// Of sealed segments too: the worker that a roll gives them to may not have come to it.
	segs := l.segments()
	settled := l.checkpointed.Load()
	for i := len(segs) - 1; i >= 0; i-- {
		if x := segs[i].txns.Load(); x != nil {
			if err := l.syncTxnIndex(segs[i], x); err != nil {
				return l.ioError(err)
			}
		}
		if segs[i].base <= settled {
			break
		}
	}
	return nil
}
