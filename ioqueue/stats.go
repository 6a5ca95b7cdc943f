package ioqueue

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Stats is a snapshot of a scheduler's counters.
type Stats struct {
	// Syncs counts fsyncs that succeeded; one group may need several (a
	// roll).
	Syncs int64
	// SyncErrors counts fsyncs that failed. None is retried, so it is at most
	// Options.Parallel.
	SyncErrors int64
	// Groups counts group commits: runs that made at least one append
	// durable.
	Groups int64
	// Appends and Bytes count the Written calls, and their bytes, made
	// durable.
	Appends, Bytes int64
	// UnsyncedBytes is how many written bytes are not yet durable, over all
	// streams.
	UnsyncedBytes int64
	// WriteBacks counts early write-back calls.
	WriteBacks int64
	// Queued and Running count streams that wait for a worker and that have
	// one. Jobs counts what was given to Go and has not finished.
	Queued, Running, Jobs int
	// Stalled is how long the oldest fsync in flight has been running.
	Stalled time.Duration
	// Latency is the distribution of fsync durations in seconds.
	Latency Histogram
	// GroupAppends is the distribution of appends per group commit.
	GroupAppends Histogram
}

// Histogram is a snapshot of a distribution in fixed buckets.
type Histogram struct {
	// UpperBounds are the inclusive upper bounds of the buckets, ascending; a
	// last bucket without a bound follows. Not to be changed.
	UpperBounds []float64
	// Counts has one more element than UpperBounds; not cumulative.
	Counts []uint64
	// Sum and Count are over all observations.
	Sum   float64
	Count uint64
}

// Quantile estimates the value below which the share q (0 to 1) of the
// observations lies, by interpolation within a bucket; 0 without
// observations. Values beyond the last bound count as the last bound.
func (h Histogram) Quantile(q float64) float64 {
	rank := q * float64(h.Count)
	seen, lower := 0.0, 0.0
	for i, c := range h.Counts {
		if i == len(h.UpperBounds) {
			break
		}
		upper := h.UpperBounds[i]
		if c > 0 && seen+float64(c) >= rank {
			return lower + (upper-lower)*(rank-seen)/float64(c)
		}
		seen += float64(c)
		lower = upper
	}
	if h.Count == 0 {
		return 0
	}
	return lower
}

// Stats returns the counters.
func (s *Scheduler) Stats() Stats {
	c := &s.count
	out := Stats{
		Syncs:         c.syncs.Load(),
		SyncErrors:    c.syncErrors.Load(),
		Groups:        c.groups.Load(),
		Appends:       c.appends.Load(),
		Bytes:         c.bytes.Load(),
		UnsyncedBytes: c.unsynced.Load(),
		WriteBacks:    c.writeBacks.Load(),
		Jobs:          s.jobs.pending(),
		Latency:       c.latency.snapshot(),
		GroupAppends:  c.groupAppends.snapshot(),
	}
	now := s.opts.Clock.Now().UnixNano()
	for i := range s.started {
		if t := s.started[i].Load(); t != 0 {
			out.Stalled = max(out.Stalled, time.Duration(now-t))
		}
	}
	out.Queued, out.Running = s.ready.counts()
	return out
}

type counters struct {
	syncs, syncErrors, groups atomic.Int64
	appends, bytes            atomic.Int64
	unsynced, writeBacks      atomic.Int64
	latency, groupAppends     histogram
}

func (c *counters) init() {
	// 32 microseconds to 8.4 s by a factor of sqrt(2); 1 to 4096 appends by 2.
	c.latency.init(32e-6, math.Sqrt2, 37)
	c.groupAppends.init(1, 2, 13)
}

func (c *counters) group(appends, bytes int64) {
	c.groups.Add(1)
	c.appends.Add(appends)
	c.bytes.Add(bytes)
	c.groupAppends.observe(float64(appends))
}

// histogram counts observations in buckets of geometric width.
type histogram struct {
	bounds []float64
	counts []atomic.Uint64
	sum    atomic.Uint64 // the bits of a float64
}

func (h *histogram) init(lowest, factor float64, buckets int) {
	h.bounds = make([]float64, buckets)
	h.counts = make([]atomic.Uint64, buckets+1)
	for i := range h.bounds {
		h.bounds[i] = lowest * math.Pow(factor, float64(i))
	}
}

func (h *histogram) observe(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (h *histogram) snapshot() Histogram {
	out := Histogram{UpperBounds: h.bounds, Counts: make([]uint64, len(h.counts))}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
		out.Count += out.Counts[i]
	}
	out.Sum = math.Float64frombits(h.sum.Load())
	return out
}
