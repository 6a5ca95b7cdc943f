package engine

import (
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
)

// TimestampOffset is a record found by time.
type TimestampOffset struct {
	// Offset is the record's offset, -1 when there is none; Timestamp its time in ms; LeaderEpoch the epoch it was written
	// in, or -1.
	Offset, Timestamp int64
	LeaderEpoch       int32
	// Found is false when no record is that late.
	Found bool
}

var nothingFound = TimestampOffset{Offset: offsetUndefined, Timestamp: record.NoTimestamp, LeaderEpoch: epochUndefined}

// OffsetForTimestamp finds the first record whose timestamp is at least ts (ms), below the bound of isolation.
// Errors: as of Read.
func (l *Log) OffsetForTimestamp(ts int64, isolation Isolation) (TimestampOffset, error) {
	return l.searchTimes(func(v *offsetView) (TimestampOffset, error) {
		limit, _ := v.limit(isolation, l.cfg.Load().Fsync == ioqueue.PolicyCommit)
		segs := l.segments()
		for i, s := range segs {
			if i+1 < len(segs) {
				if segs[i+1].base <= v.LogStart {
					continue
				}
				if err := s.sealedTimes(); err != nil {
					return nothingFound, err
				}
			}
			if s.base >= limit {
				break
			}
			if s.maxTimestamp.Load() < ts {
				continue
			}
			r, err := s.firstAtOrAfter(ts, v.LogStart, limit)
			if r.Found || err != nil {
				return r, err
			}
		}
		return nothingFound, nil
	})
}

// MaxTimestampOffset finds the record with the largest timestamp below the high watermark (KIP-734), the first of them if
// several have it. Errors: as of Read.
func (l *Log) MaxTimestampOffset() (TimestampOffset, error) {
	return l.searchTimes(func(v *offsetView) (TimestampOffset, error) {
		segs := l.segments()
		best := located{maxTimestamp: noTimestamp}
		var in *segment
		for i, s := range segs {
			last := i == len(segs)-1
			if s.base >= v.HighWatermark || (!last && segs[i+1].base <= v.LogStart) {
				continue
			}
			b, ok, err := s.latestBatch(v, last)
			if err != nil {
				return nothingFound, err
			}
			if ok && b.maxTimestamp > best.maxTimestamp {
				best, in = b, s
			}
		}
		if in == nil {
			return nothingFound, nil
		}
		return in.firstAtOrAfter(best.maxTimestamp, max(v.LogStart, best.baseOffset), v.HighWatermark)
	})
}

// searchTimes runs a search again when a truncation came between.
func (l *Log) searchTimes(search func(*offsetView) (TimestampOffset, error)) (TimestampOffset, error) {
	if err := l.load(); err != nil {
		return nothingFound, err
	}
	for try := 0; ; try++ {
		cuts := l.cuts.Load()
		v := l.off.load()
		r, err := search(v)
		if err == nil {
			return r, nil
		}
		if (l.changedUnder(cuts, v.LogStart) || fileGone(err)) && try < readRetries {
			continue
		}
		return nothingFound, l.readError(err)
	}
}

// latestBatch finds the first batch with the segment's largest timestamp among those below the high watermark.
func (s *segment) latestBatch(v *offsetView, active bool) (located, bool, error) {
	if !active {
		if err := s.sealedTimes(); err != nil {
			return located{}, false, err
		}
	}
	if ts, offset := s.maxTimestamp.Load(), s.maxTimestampOffset.Load(); ts != noTimestamp && offset >= v.LogStart && offset < v.HighWatermark {
		if b, ok, err := s.locate(offset, s.size.Load()); err != nil || (ok && b.maxTimestamp == ts) {
			return b, ok, err
		}
	}
	// The latest record is not visible, or deleted: look at all that are.
	c, err := s.seek(v.LogStart, s.size.Load())
	if err != nil {
		return located{}, false, err
	}
	defer c.release()
	best := located{maxTimestamp: noTimestamp}
	for c.advance() && c.cur.BaseOffset() < v.HighWatermark {
		if c.cur.LastOffset() >= v.LogStart && c.cur.MaxTimestamp() > best.maxTimestamp {
			best = locatedAt(c.cur)
		}
	}
	return best, best.maxTimestamp != noTimestamp, c.err
}

// firstAtOrAfter finds the first record in the segment with offset in [from, limit) and a timestamp of at least ts.
func (s *segment) firstAtOrAfter(ts, from, limit int64) (TimestampOffset, error) {
	start, err := s.timeFloor(ts)
	if err != nil {
		return nothingFound, err
	}
	c, err := s.seek(max(start, from), s.size.Load())
	if err != nil {
		return nothingFound, err
	}
	defer c.release()
	for c.advance() && c.cur.BaseOffset() < limit {
		if c.cur.MaxTimestamp() < ts || c.cur.LastOffset() < from {
			continue
		}
		b, err := readBatch(s, c.cur)
		if err != nil {
			return nothingFound, err
		}
		if r := firstRecordAtOrAfter(b, ts, from, limit); r.Found {
			return r, nil
		}
	}
	return nothingFound, c.err
}

// timeFloor is an offset before which no record of the segment has a timestamp of ts or later.
func (s *segment) timeFloor(ts int64) (int64, error) {
	if ts < 0 {
		return s.base, nil
	}
	for range 2 {
		x, err := s.timeIndex()
		if err != nil {
			return 0, err
		}
		e, n, err := x.floorTime(ts)
		if err == nil && n == 0 {
			return s.base, nil
		}
		if err == nil {
			if good, err := s.checkTimeEntry(e); err != nil {
				return 0, err
			} else if good {
				return s.base + int64(e.rel), nil
			}
		}
		if !s.sealed.Load() {
			return s.base, nil
		}
		if err := s.rebuild(x); err != nil {
			return 0, err
		}
	}
	return s.base, nil
}

func firstRecordAtOrAfter(b record.Batch, ts, from, limit int64) (found TimestampOffset) {
	found = nothingFound
	b.Walk(0, func(it *record.Iterator) {
		for it.Next() {
			if offset := it.Offset(); it.Timestamp() >= ts && offset >= from && offset < limit {
				found = TimestampOffset{Offset: offset, Timestamp: it.Timestamp(), LeaderEpoch: b.PartitionLeaderEpoch(), Found: true}
				return
			}
		}
		if it.Err() != nil {
			// Whole by its CRC, but not readable as records: a producer's fault that the header did not show. The batch as such is late enough.
			found = TimestampOffset{
				Offset: max(b.BaseOffset(), from), Timestamp: b.MaxTimestamp(), LeaderEpoch: b.PartitionLeaderEpoch(), Found: true,
			}
		}
	})
	return found
}
