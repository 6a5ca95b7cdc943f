package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"

	"github.com/weirmq/weir/ioqueue"
)

// readRetries is how often a read that met a truncation starts over.
const readRetries = 8

// Read finds the batches from offset on; it copies no record bytes. An offset inside a batch returns the whole batch.
// At the bound of the isolation the result is empty. The caller must call ReadResult.Release.
// Errors: ErrOffsetOutOfRange (the result still holds the offsets), ErrOffline (with ErrCorrupt, path and position where
// the log is damaged), ErrClosed. A log that is offline for appends still reads.
func (l *Log) Read(offset int64, o ReadOptions) (ReadResult, error) {
	if err := l.load(); err != nil {
		return ReadResult{}, err
	}
	l.counters.reads.Add(1)
	if rot := l.verification.rot.Load(); rot != nil && offset >= rot.offset {
		return ReadResult{}, rot.err
	}
	for try := 0; ; try++ {
		cuts := l.cuts.Load()
		res, err := l.read(offset, o)
		if err == nil || errors.Is(err, ErrOffsetOutOfRange) {
			// Unless a truncation came between them, the bound and the segment belong together.
			if res.tail != nil && cuts&1 == 0 && l.cuts.Load() == cuts {
				last := &res.Spans[len(res.Spans)-1]
				res.tail.note(res.NextOffset, last.Pos+last.Len)
			}
			res.tail = nil
			return res, err
		}
		res.Release()
		if (l.changedUnder(cuts, offset) || fileGone(err)) && try < readRetries {
			continue
		}
		return res, l.readError(err)
	}
}

// changedUnder says whether a read that failed may have met a truncation or a deletion. It waits for one under way.
func (l *Log) changedUnder(cuts, offset int64) bool {
	if cuts&1 == 1 || l.cuts.Load() != cuts {
		l.mu.Lock()
		//lint:ignore SA2001 the truncation holds the lock until it is over
		l.mu.Unlock()
		return true
	}
	return offset < l.off.load().LogStart
}

// fileGone says that a segment was removed after it was found in the list; the list of now has what replaced it.
func fileGone(err error) bool { return errors.Is(err, syscall.EBADF) || isNotExist(err) }

func (l *Log) read(offset int64, o ReadOptions) (ReadResult, error) {
	v := l.off.load()
	res := ReadResult{NextOffset: offset, HighWatermark: v.HighWatermark, LastStable: v.LastStable, LogStart: v.LogStart}
	if offset < v.LogStart || offset > v.LogEnd {
		return res, fmt.Errorf("%w: %s: got %d, the log has %d to %d", ErrOffsetOutOfRange, l.tp, offset, v.LogStart, v.LogEnd)
	}
	limit, at := v.limit(o.Isolation, l.cfg.Load().Fsync == ioqueue.PolicyCommit)
	if rot := l.verification.rot.Load(); rot != nil && rot.offset < limit {
		limit, at = rot.offset, rot.at
	}
	if offset >= limit || (o.MaxBytes <= 0 && !o.MinOneBatch) {
		return res, nil
	}
	segs := l.segments()
	for i := floorSegment(segs, offset); i >= 0 && i < len(segs); i++ {
		more, err := l.readSegment(segs, i, limit, at, o, &res)
		if err != nil {
			return res, err
		}
		if !more {
			break
		}
	}
	if o.Isolation == ReadCommitted && len(res.Spans) > 0 {
		var err error
		if res.Aborted, err = abortedIn(segs, offset, res.NextOffset, (*segment).txnIndex); err != nil {
			if !errors.Is(err, ErrCorrupt) || l.verification.trusts(offsetRange{offset, res.NextOffset}) || offset >= l.off.appendedFrom.Load() {
				return res, err
			}
			res.NextOffset, res.tail = offset, nil // of no use as it is: Verified has the index made anew, on a worker
		}
	}
	return res, nil
}

// floorSegment is the index of the last segment whose base is at most offset, -1 for none.
func floorSegment(segs []*segment, offset int64) int {
	i, found := slices.BinarySearchFunc(segs, offset, func(s *segment, offset int64) int { return cmp.Compare(s.base, offset) })
	if found {
		return i
	}
	return i - 1
}

// readSegment adds what segment i gives from res.NextOffset on. more says that the next segment may follow.
func (l *Log) readSegment(segs []*segment, i int, limit int64, at place, o ReadOptions, res *ReadResult) (more bool, err error) {
	s := segs[i]
	if s.base >= limit {
		return false, nil
	}
	end, err := readEnd(segs, i, limit, at)
	if err != nil {
		return false, err
	}
	if pos, ok := s.tails.find(res.NextOffset); ok && pos < end && end-pos <= o.MaxBytes-res.Bytes && limit <= nextBase(segs, i) {
		return false, res.addTail(s, pos, end, limit)
	}
	first, ok, err := s.locate(res.NextOffset, end)
	if err != nil {
		return false, err
	}
	last := i == len(segs)-1
	if !ok {
		// Nothing up to the next segment: compaction has removed it.
		if !last {
			res.NextOffset = max(res.NextOffset, segs[i+1].base)
		}
		return !last, nil
	}
	if first.baseOffset >= limit {
		return false, nil
	}
	room := o.MaxBytes - res.Bytes
	upTo, next := end, limit
	switch {
	case end-first.pos <= room:
		if !last && segs[i+1].base <= limit {
			next = segs[i+1].base
		}
	case first.end-first.pos > room:
		if !o.MinOneBatch || res.Bytes > 0 {
			return false, nil
		}
		upTo, next = first.end, first.lastOffset+1
	default:
		if upTo, next, err = s.cutBefore(first, first.pos+room); err != nil {
			return false, err
		}
	}
	if upTo == end && next == limit {
		return false, res.addTail(s, first.pos, end, limit)
	}
	return upTo == end && next < limit, res.add(s, first.pos, upTo, next)
}

// add adds the bytes from pos to end of a segment, after which the batch at offset next follows.
func (r *ReadResult) add(s *segment, pos, end, next int64) error {
	ref, err := s.file.ref()
	if err != nil {
		return err
	}
	r.Spans = append(r.Spans, Span{File: ref, Pos: pos, Len: end - pos})
	r.Bytes += end - pos
	r.NextOffset = next
	return nil
}

// addTail is add for the last bytes below limit: where they end is where the reader goes on.
func (r *ReadResult) addTail(s *segment, pos, end, limit int64) error {
	if err := r.add(s, pos, end, limit); err != nil {
		return err
	}
	r.tail = &s.tails
	return nil
}

// nextBase is the base offset of the segment after i.
func nextBase(segs []*segment, i int) int64 {
	if i+1 < len(segs) {
		return segs[i+1].base
	}
	return math.MaxInt64
}

// readEnd is the position in segment i at which a read up to the offset limit ends.
func readEnd(segs []*segment, i int, limit int64, at place) (int64, error) {
	s := segs[i]
	if i+1 < len(segs) && segs[i+1].base <= limit {
		return s.size.Load(), nil
	}
	if at.pos >= 0 && at.segment == s.base && !s.rewritten {
		return at.pos, nil
	}
	if at.pos >= 0 && at.segment > s.base {
		return s.size.Load(), nil // the list is older than the offsets; the segment is sealed by now
	}
	size := s.size.Load()
	b, ok, err := s.locate(limit, size)
	if err != nil {
		return 0, err
	}
	if ok {
		return b.pos, nil
	}
	return size, nil
}

// abortedIn collects the aborted transactions that overlap [offset, end), by first offset, from what indexOf gives.
func abortedIn(segs []*segment, offset, end int64, indexOf func(*segment) (*txnIndex, error)) (txns []AbortedTxn, err error) {
	for i := max(floorSegment(segs, offset), 0); i < len(segs); i++ {
		x, err := indexOf(segs[i])
		if err != nil {
			return nil, err
		}
		var complete bool
		if txns, complete = x.collect(txns, offset, end); complete {
			break
		}
	}
	slices.SortFunc(txns, func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return txns, nil
}
