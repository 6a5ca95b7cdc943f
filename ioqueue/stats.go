package ioqueue

// Stats is a snapshot of a scheduler's counters. Counters only grow.
type Stats struct {
	// Syncs counts fsyncs that succeeded; one group may need several (a roll).
	Syncs int64
	// SyncErrors counts fsyncs that failed: 0, or about 1, as none is retried.
	SyncErrors int64
	// Appends and Bytes count the Written calls, and their bytes, made durable.
	Appends, Bytes int64
	// UnsyncedBytes is how many written bytes are not yet durable, over all
	// streams.
	UnsyncedBytes int64
	// WriteBacks counts early write-back calls.
	WriteBacks int64
	// Queued and Running count streams that wait for an fsync and that have one in
	// flight. Jobs counts what was given to Go and has not finished.
	Queued, Running, Jobs int
	// Latency is the distribution of fsync durations in seconds.
	Latency Histogram
	// GroupAppends is the distribution of appends per group commit.
	GroupAppends Histogram
}

// Histogram is a snapshot of a distribution in fixed buckets.
type Histogram struct {
	// UpperBounds are the inclusive upper bounds of the buckets, ascending;
	// a last bucket without a bound follows.
	UpperBounds []float64
	// Counts has one more element than UpperBounds; not cumulative.
	Counts []uint64
	// Sum and Count are over all observations.
	Sum   float64
	Count uint64
}

// Stats returns the counters.
func (s *Scheduler) Stats() Stats { return Stats{} }
