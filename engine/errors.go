package engine

import (
	"errors"
	"fmt"
)

// Errors of this package, to be tested with errors.Is; the text around them names topic, partition, offsets, path and
// position. The broker maps each to a Kafka error code in its one table.
var (
	// ErrOffsetOutOfRange: the offset lies outside [logStart, logEnd] (or above the high watermark where the operation
	// may not pass it).
	ErrOffsetOutOfRange = errors.New("engine: offset out of range")
	// ErrOffline: the log directory failed (the first write or fsync error takes it offline for good), or the
	// partition is corrupt and serves only reads below the fault.
	ErrOffline = errors.New("engine: log offline")
	// ErrTooLarge: a batch exceeds max.message.bytes or a segment.
	ErrTooLarge = errors.New("engine: batch too large")
	// ErrDuplicateSequence: an idempotent producer repeats a batch that is no longer among the remembered ones, so that
	// its offset is unknown. A remembered repeat is no error: see AppendResult.Duplicate.
	ErrDuplicateSequence = errors.New("engine: duplicate sequence")
	// ErrOutOfOrderSequence: an idempotent producer skipped a sequence number.
	ErrOutOfOrderSequence = errors.New("engine: out of order sequence")
	// ErrInvalidProducerEpoch: the producer's epoch is older than the newest seen: it is fenced.
	ErrInvalidProducerEpoch = errors.New("engine: invalid producer epoch")
	// ErrInvalidTxnState: a transactional batch or marker that does not fit the producer's open transaction.
	ErrInvalidTxnState = errors.New("engine: invalid transaction state")
	// ErrCoordinatorFenced: a transaction marker of a coordinator epoch older than the newest seen.
	ErrCoordinatorFenced = errors.New("engine: transaction coordinator fenced")
	// ErrCorrupt: bytes, on disk or given to Append, that are not what they have to be. On-disk faults are a
	// CorruptFileError with path and position.
	ErrCorrupt = errors.New("engine: corrupt")
	// ErrInvalidTimestamp: a timestamp outside the window that the topic's configuration allows.
	ErrInvalidTimestamp = errors.New("engine: invalid timestamp")
	// ErrInvalidRecord: a well-formed batch that this log must not take, for example a null key in a compacted topic.
	ErrInvalidRecord = errors.New("engine: invalid record")
	// ErrUnsupportedFormat: a batch of a magic other than 2.
	ErrUnsupportedFormat = errors.New("engine: unsupported record format")
	// ErrUnsupportedCodec: a compression codec that is unknown, or not allowed here.
	ErrUnsupportedCodec = errors.New("engine: unsupported codec")
	// ErrNoSpace: the disk is full. The log is as it was before the call and takes appends again when there is space.
	ErrNoSpace = errors.New("engine: no space left on device")
	// ErrStaleLeaderEpoch: an append carries a leader epoch below the newest in the log.
	ErrStaleLeaderEpoch = errors.New("engine: stale leader epoch")
	// ErrClosed: the log or the store is closed, or the log was deleted.
	ErrClosed = errors.New("engine: closed")
	// ErrExists: CreateLog of a partition that exists with another topic id.
	ErrExists = errors.New("engine: log exists")
	// ErrUnknownLog: no such partition in the store.
	ErrUnknownLog = errors.New("engine: unknown log")
	// ErrInvalidConfig: an option or a topic configuration that cannot be.
	ErrInvalidConfig = errors.New("engine: invalid configuration")
	// ErrLocked: another process holds the log directory.
	ErrLocked = errors.New("engine: log directory locked")
	// ErrForeignDirectory: the log directory belongs to another cluster or node.
	ErrForeignDirectory = errors.New("engine: log directory of another cluster")
)

// errSync marks an fsync that failed while a log was opened. The next call would open the log anew, and must not find one that succeeds.
var errSync = errors.New("fsync failed")

// syncError marks err, unless the fsync was not even tried for want of a descriptor.
func syncError(err error) error {
	if err == nil || lacksResources(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errSync, err)
}

// syncDir makes the names in the partition's directory durable, while the log is opened.
func (l *Log) syncDir() error { return syncError(l.part.fs.SyncDir(l.part.path)) }
