package engine

import (
	"context"
	"log/slog"
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
	// OpenFilesMax caps the open segment files. Default: 8000.
	OpenFilesMax int
	// RecoveryThreads is how many partitions are recovered at once, per directory. Default: 4.
	RecoveryThreads int
	// SyncParallel is how many fsyncs run at once, per directory. Default: ioqueue's.
	SyncParallel int
	// CheckpointInterval is how often the recovery points are written if they moved. Default: 1 s.
	CheckpointInterval time.Duration
	// RetentionInterval is how often retention looks at the logs (log.retention.check.interval.ms). Default: 5 min.
	RetentionInterval time.Duration
	// Config gives a topic's configuration for logs that are found at start, before CreateLog or UpdateConfig name one.
	// Default: all defaults.
	Config func(topic string) LogConfig
	// OnOffline is called once for each directory that fails, without locks. Default: nothing.
	OnOffline func(dir string, err error)
}

// Store holds all log directories of a broker and the partitions in them. Its methods may be called from any goroutine.
type Store struct{}

// OpenStore locks the directories, reads the checkpoints, recovers what an unclean stop left and starts the background
// work. A directory that fails is offline in the result; the error is for options, foreign or locked directories, and
// for no usable directory at all.
func OpenStore(o StoreOptions) (*Store, error) { return nil, nil }

// ClusterID is the cluster id in meta.properties.
func (s *Store) ClusterID() string { return "" }

// CreateLog opens or creates the log of tp. A log that exists with the same id is returned as it is, with cfg applied.
// A directory appears on disk with the first append. Errors: ErrExists (another id), ErrInvalidConfig, ErrOffline (no
// directory is online), ErrClosed.
func (s *Store) CreateLog(tp TopicPartition, id TopicID, cfg LogConfig) (*Log, error) { return nil, nil }

// Log returns the log of tp, or nil.
func (s *Store) Log(tp TopicPartition) *Log { return nil }

// Logs returns all logs, in no order.
func (s *Store) Logs() []*Log { return nil }

// DeleteLog removes the log of tp: waiters get ErrClosed, the directory is renamed at once and removed later. It is
// durable when it returns. Errors: ErrUnknownLog, ErrOffline.
func (s *Store) DeleteLog(tp TopicPartition) error { return nil }

// UpdateConfig changes a log's configuration; it takes effect with the next append, roll or retention run.
func (s *Store) UpdateConfig(tp TopicPartition, cfg LogConfig) error { return nil }

// DirStats describes one log directory.
type DirStats struct {
	// Dir is the path as given in the options; Err why it is offline, nil while it is online.
	Dir string
	Err error
	// Logs counts the partitions, Bytes the size of their segments.
	Logs  int
	Bytes int64
	// TotalBytes and FreeBytes are the file system's.
	TotalBytes, FreeBytes int64
	// Queue is the fsync scheduler's part.
	Queue ioqueue.Stats
}

// DirStats describes all log directories in the order of the options.
func (s *Store) DirStats() []DirStats { return nil }

// Close flushes everything, writes the checkpoints and the clean-shutdown mark and frees the directories. When ctx ends
// first, the rest is left as after a crash: nothing acknowledged is lost, the next start recovers.
func (s *Store) Close(ctx context.Context) error { return nil }

// Log is one partition: an ordered sequence of record batches. Its methods may be called from any goroutine; readers
// take no lock.
type Log struct{}

// TopicPartition names the log.
func (l *Log) TopicPartition() TopicPartition { return TopicPartition{} }

// TopicID is the topic's id, zero when it is not known.
func (l *Log) TopicID() TopicID { return TopicID{} }

// Dir is the partition's directory; it may not exist before the first append.
func (l *Log) Dir() string { return "" }

// Config is the configuration in force. REQUIRES: not modified.
func (l *Log) Config() *LogConfig { return nil }

// Append adds one or more batches (v2, back to back) and stamps them in place: base offset, leader epoch, and under
// LogAppendTime the timestamp. The bytes may be reused when it returns. All or none are appended. The result is not yet
// durable: see AppendResult.EndOffset. Errors: ErrCorrupt, ErrTooLarge, ErrInvalidRecord, ErrInvalidTimestamp,
// ErrUnsupportedFormat, ErrUnsupportedCodec, ErrOutOfOrderSequence, ErrDuplicateSequence, ErrInvalidProducerEpoch,
// ErrInvalidTxnState, ErrStaleLeaderEpoch, ErrNoSpace, ErrOffline, ErrClosed, ErrOffsetOutOfRange (OriginReplica: not at the log end).
func (l *Log) Append(batches []byte, o AppendOptions) (AppendResult, error) {
	return AppendResult{}, nil
}

// Read finds the batches from offset on; it copies no record bytes. An offset inside a batch returns the whole batch.
// At the bound of the isolation the result is empty. The caller must call ReadResult.Release.
// Errors: ErrOffsetOutOfRange (the result still holds the offsets), ErrOffline, ErrCorrupt (with path and position), ErrClosed.
func (l *Log) Read(offset int64, o ReadOptions) (ReadResult, error) { return ReadResult{}, nil }

// Offsets returns a consistent snapshot of the offsets.
func (l *Log) Offsets() Offsets { return Offsets{} }

// SetReplicated hands the high watermark to the caller (on) or to the log (off, the default: a single replica, whose
// high watermark is the durable offset under PolicyCommit, else the log end).
func (l *Log) SetReplicated(on bool) {}

// SetHighWatermark moves the high watermark forward to offset, at most to the log end, when the log is replicated.
func (l *Log) SetHighWatermark(offset int64) {}

// LeaderEpoch is the newest leader epoch in the log, -1 when there is none.
func (l *Log) LeaderEpoch() int32 { return -1 }

// EndOffsetForEpoch answers OffsetForLeaderEpoch (KIP-279): the largest epoch at or below the asked one and its exclusive
// end; (-1, -1) when unknown.
func (l *Log) EndOffsetForEpoch(epoch int32) (int32, int64) { return -1, -1 }

// TimestampOffset is a record found by time.
type TimestampOffset struct {
	// Offset is the record's offset, -1 when there is none; Timestamp its time in ms; LeaderEpoch the epoch it was written in, or -1.
	Offset, Timestamp int64
	LeaderEpoch       int32
	// Found is false when no record is that late.
	Found bool
}

// OffsetForTimestamp finds the first record whose timestamp is at least ts (ms), below the bound of isolation.
func (l *Log) OffsetForTimestamp(ts int64, isolation Isolation) (TimestampOffset, error) {
	return TimestampOffset{}, nil
}

// MaxTimestampOffset finds the record with the largest timestamp (KIP-734), the first of them if several have it.
func (l *Log) MaxTimestampOffset() (TimestampOffset, error) { return TimestampOffset{}, nil }

// DeleteRecords moves the log start to before, at most to the high watermark (-1 means the high watermark); durable when
// it returns. It returns the log start. Errors: ErrOffsetOutOfRange, ErrOffline.
func (l *Log) DeleteRecords(before int64) (int64, error) { return 0, nil }

// TruncateTo drops everything at and above offset, or more where offset lies inside a batch: the whole batch goes.
// Durable when it returns.
func (l *Log) TruncateTo(offset int64) error { return nil }

// TruncateFullyAndStartAt drops everything and continues at offset, for a follower whose log lies below the leader's start.
func (l *Log) TruncateFullyAndStartAt(offset int64) error { return nil }

// Sync makes everything appended so far durable, whatever the policy. It blocks.
func (l *Log) Sync() error { return nil }

// Roll closes the active segment, if it holds anything, so that retention or compaction may take it.
func (l *Log) Roll() error { return nil }

// Size is the bytes of all segments' logs.
func (l *Log) Size() int64 { return 0 }

// LogStats are counters of one log.
type LogStats struct {
	// Segments and Bytes describe what is on disk.
	Segments int
	Bytes    int64
	// UnsyncedBytes were appended and are not yet durable.
	UnsyncedBytes int64
	// Appends, AppendedBytes and Reads count since the log was opened; Duplicates are repeats of idempotent producers.
	Appends, AppendedBytes, Reads, Duplicates int64
	// Producers is the number of producers whose sequence numbers are remembered.
	Producers int
}

// Stats returns the counters.
func (l *Log) Stats() LogStats { return LogStats{} }

// Err is why the log takes no appends: ErrOffline with the reason, ErrClosed, or nil.
func (l *Log) Err() error { return nil }

// Watch registers w. It returns false, and does not call Wake, when the offset is already reached or the log has failed.
func (l *Log) Watch(w *Waiter) bool { return false }

// Unwatch takes w back. It returns false when Wake was or is being called.
func (l *Log) Unwatch(w *Waiter) bool { return false }

// FileRef is a counted reference to an open segment file. It stays readable after the segment left the log.
type FileRef struct{}

// Fd is the file descriptor for sendfile; false when the file is not the operating system's.
func (f *FileRef) Fd() (int, bool) { return 0, false }

// ReadAt copies bytes out of the segment.
func (f *FileRef) ReadAt(p []byte, pos int64) (int, error) { return 0, nil }

// Retain adds a reference.
func (f *FileRef) Retain() {}

// Release gives a reference back.
func (f *FileRef) Release() {}
