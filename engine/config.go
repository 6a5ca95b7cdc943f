package engine

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
)

// CleanupPolicy says what retention does with old segments; the bits may be combined.
type CleanupPolicy uint8

// The bits of cleanup.policy.
const (
	// CleanupDelete drops whole segments by age and size.
	CleanupDelete CleanupPolicy = 1 << iota
	// CleanupCompact keeps the newest record of each key.
	CleanupCompact
)

// String is the value of cleanup.policy.
func (p CleanupPolicy) String() string {
	var s []string
	if p&CleanupDelete != 0 {
		s = append(s, "delete")
	}
	if p&CleanupCompact != 0 {
		s = append(s, "compact")
	}
	return strings.Join(s, ",")
}

// LogConfig is the configuration of one partition's log. Names follow Kafka's topic keys; times are in milliseconds and
// sizes in bytes, as there. The zero value of a field means its default, where one is given; -1 means "no limit" where
// Kafka says so. A LogConfig is immutable once given to a Store.
type LogConfig struct {
	// SegmentBytes is segment.bytes: an append that would take the active segment above it rolls. Default: 1 GiB.
	SegmentBytes int64
	// SegmentMs is segment.ms: the age by record timestamps at which a segment is rolled. Default: 7 days.
	SegmentMs int64
	// SegmentJitterMs is segment.jitter.ms: a random part of it is taken off SegmentMs. Default: 0.
	SegmentJitterMs int64
	// IndexIntervalBytes is index.interval.bytes: bytes between two index entries; -1 is an entry per batch. Default: 4096.
	IndexIntervalBytes int64
	// IndexSizeMax is segment.index.bytes: a segment is rolled when one of its indexes is this large. Default: 10 MiB.
	IndexSizeMax int64
	// RetentionBytes is retention.bytes; -1 is no limit. Default: -1.
	RetentionBytes int64
	// RetentionMs is retention.ms; -1 is no limit. Default: 7 days.
	RetentionMs int64
	// FileDeleteDelayMs is file.delete.delay.ms: how long removed files stay; -1 is none. Default: 60 s.
	FileDeleteDelayMs int64
	// MessageBytesMax is max.message.bytes, the largest batch. Default: 1,048,588.
	MessageBytesMax int
	// TimestampType is message.timestamp.type. Default: CreateTime.
	TimestampType record.TimestampType
	// TimestampBeforeMaxMs and TimestampAfterMaxMs bound a record's distance from now, for CreateTime.
	// Default: no limit, and no limit.
	TimestampBeforeMaxMs, TimestampAfterMaxMs int64
	// Cleanup is cleanup.policy. Default: CleanupDelete.
	Cleanup CleanupPolicy
	// MinCleanableRatio is min.cleanable.dirty.ratio, 0 to 1; negative means 0. Default: 0.5.
	MinCleanableRatio float64
	// MinCompactionLagMs and MaxCompactionLagMs bound how long a record stays uncompacted. Default: 0 and no limit.
	MinCompactionLagMs, MaxCompactionLagMs int64
	// DeleteRetentionMs is delete.retention.ms: how long tombstones stay after a cleaning; -1 is none. Default: 1 day.
	DeleteRetentionMs int64
	// Strict opens every batch and checks each record (validation=strict). Default: false, header and CRC.
	Strict bool
	// Preallocate reserves a segment's space when it is created. Default: false.
	Preallocate bool
	// Fsync is the class of durability, see ioqueue.Policy. Default: PolicyCommit.
	Fsync ioqueue.Policy
	// FsyncInterval and FsyncIntervalBytes bound what PolicyInterval leaves unsynced. Default: 1 s and 64 MiB.
	FsyncInterval      time.Duration
	FsyncIntervalBytes int64
	// FsyncMaxDelay is how long a commit may wait for company. Default: 0.
	FsyncMaxDelay time.Duration
}

// EnsureDefaults fills the zero fields and returns the result.
func (c LogConfig) EnsureDefaults() LogConfig {
	const week = 7 * 24 * 3600 * 1000
	setDefault(&c.SegmentBytes, 1<<30)
	setDefault(&c.SegmentMs, week)
	setDefault(&c.IndexIntervalBytes, 4096)
	setDefault(&c.IndexSizeMax, 10<<20)
	setDefault(&c.RetentionBytes, -1)
	setDefault(&c.RetentionMs, week)
	setDefault(&c.FileDeleteDelayMs, 60_000)
	setDefault(&c.MessageBytesMax, 1_048_588)
	setDefault(&c.TimestampBeforeMaxMs, math.MaxInt64)
	setDefault(&c.TimestampAfterMaxMs, math.MaxInt64)
	setDefault(&c.Cleanup, CleanupDelete)
	setDefault(&c.MinCleanableRatio, 0.5)
	setDefault(&c.MaxCompactionLagMs, math.MaxInt64)
	setDefault(&c.DeleteRetentionMs, 24*3600*1000)
	setDefault(&c.FsyncInterval, time.Second)
	setDefault(&c.FsyncIntervalBytes, 64<<20)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first field, in Kafka's key name, whose value is outside its range.
func (c LogConfig) Validate() error {
	for _, r := range []struct {
		key         string
		got, lo, hi int64
	}{
		{"segment.bytes", c.SegmentBytes, 128, math.MaxInt32},
		{"segment.ms", c.SegmentMs, 1, math.MaxInt64},
		{"segment.jitter.ms", c.SegmentJitterMs, 0, math.MaxInt64},
		{"index.interval.bytes", c.IndexIntervalBytes, -1, math.MaxInt32},
		{"segment.index.bytes", c.IndexSizeMax, 24, math.MaxInt32},
		{"retention.bytes", c.RetentionBytes, -1, math.MaxInt64},
		{"retention.ms", c.RetentionMs, -1, math.MaxInt64},
		{"file.delete.delay.ms", c.FileDeleteDelayMs, -1, math.MaxInt64},
		{"max.message.bytes", int64(c.MessageBytesMax), 0, math.MaxInt32},
		{"message.timestamp.before.max.ms", c.TimestampBeforeMaxMs, 0, math.MaxInt64},
		{"message.timestamp.after.max.ms", c.TimestampAfterMaxMs, 0, math.MaxInt64},
		{"cleanup.policy", int64(c.Cleanup), 1, 3},
		{"min.compaction.lag.ms", c.MinCompactionLagMs, 0, math.MaxInt64},
		{"max.compaction.lag.ms", c.MaxCompactionLagMs, 1, math.MaxInt64},
		{"delete.retention.ms", c.DeleteRetentionMs, -1, math.MaxInt64},
		{"fsync.interval.ms", c.FsyncInterval.Milliseconds(), 1, 3_600_000},
		{"fsync.interval.bytes", c.FsyncIntervalBytes, 1, math.MaxInt64},
		{"fsync.max.delay.ms", c.FsyncMaxDelay.Milliseconds(), 0, 60_000},
	} {
		if r.got < r.lo || r.got > r.hi {
			return fmt.Errorf("%w: %s: got %d, want %d to %d", ErrInvalidConfig, r.key, r.got, r.lo, r.hi)
		}
	}
	if c.MinCleanableRatio > 1 {
		return fmt.Errorf("%w: min.cleanable.dirty.ratio: got %g, want 0 to 1", ErrInvalidConfig, c.MinCleanableRatio)
	}
	return nil
}

// streamOptions is the part of the configuration that the fsync scheduler needs.
func (c *LogConfig) streamOptions() ioqueue.StreamOptions {
	return ioqueue.StreamOptions{
		Policy:        c.Fsync,
		Interval:      c.FsyncInterval,
		IntervalBytes: c.FsyncIntervalBytes,
		MaxDelay:      c.FsyncMaxDelay,
	}
}
