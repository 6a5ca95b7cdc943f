package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/record"
)

// A start after a clean stop reads the checkpoints only, and one after a crash scans only what lies above the recovery point. So the
// first reader of older records is the first who sees what has become of them. Before they are served, every batch is checked once: its
// CRC, which a client would check as well, and its base offset, which no CRC covers and no client can check; and the index of aborted
// transactions is held against them (txnCheck). It happens on a worker, because it reads the disk. What this process wrote, or has
// checked, is trusted from then on.

const (
	// verifyBytes is how much one job checks, more than one fetch takes. While the second half of it is served, the next job runs ahead.
	verifyBytes = 4 << 20
	// trustRangesMax bounds the remembered ranges; readers of old records go forward, so there is about one for each.
	trustRangesMax = 64
)

// offsetRange is [from, to).
type offsetRange struct{ from, to int64 }

func (r offsetRange) middle() int64 { return r.from + (r.to-r.from)/2 }

// verification is what a log knows of its records' health. The zero value trusts nothing.
type verification struct {
	// rot is the first damage that was found; nothing is read from its offset on.
	rot atomic.Pointer[rotAt]
	// walked is used by the job that runs: see txnCheck.
	walked map[int64]walk

	mu struct {
		sync.Mutex
		trusted []offsetRange // disjoint, ascending
		last    offsetRange   // what the last check found good
		running bool
		done    []func() // of those who wait for the job that runs
	}
}

type rotAt struct {
	offset int64
	at     place // of the damaged batch: the headers up to it are good
	err    error
}

// Verified says whether the batches that Read found from an offset up to another, its NextOffset, may be sent. If not, they are checked on a
// worker, and done is called once, then or when another check of this log has ended: the caller has to Read again.
func (l *Log) Verified(from, to int64, done func()) bool {
	v := &l.verification
	if from < to && from >= l.off.appendedFrom.Load() {
		return true
	}
	bound := l.off.appendedFrom.Load()
	start, ok := v.await(offsetRange{from, min(to, bound)}, bound, done)
	if start >= 0 {
		l.dir.sched.Go(func() { l.verifyFrom(start) })
	}
	return ok
}

// await says whether a range may be sent. If not, done waits for the next check to end. start is the offset from which the caller has to
// start one, for this range or, when a reader has come as far as into the last half of what the last one found, for what follows up to
// bound; -1 for none.
func (v *verification) await(r offsetRange, bound int64, done func()) (start int64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	start = r.from
	for _, t := range v.mu.trusted {
		if t.from <= r.from && r.from < t.to {
			start, ok = t.to, r.from < r.to && r.to <= t.to
		}
	}
	if !ok {
		v.mu.done = append(v.mu.done, done)
	}
	if v.mu.running || ok && (v.mu.last.to != start || r.to <= v.mu.last.middle() || start >= bound) {
		return -1, ok
	}
	v.mu.running = true
	return start, ok
}

// trusts says whether a range was found good.
func (v *verification) trusts(r offsetRange) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.mu.trusted, func(t offsetRange) bool { return t.from <= r.from && r.to <= t.to })
}

// verifyFrom checks what follows an offset and tells those who wait.
func (l *Log) verifyFrom(from int64) {
	cuts := l.cuts.Load()
	to, err := l.check(from, l.off.appendedFrom.Load())
	v := &l.verification
	var fault *rotFault
	switch {
	case l.changedUnder(cuts, from):
		to = from // a truncation came between
	case errors.As(err, &fault):
		_ = l.offline(fault.err)
		v.rot.CompareAndSwap(nil, &rotAt{offset: fault.offset, at: fault.at, err: l.failure.Load().err})
		to = fault.offset
	}
	v.mu.Lock()
	if to > from {
		v.trustLocked(offsetRange{from, to})
		v.mu.last = offsetRange{from, to}
	}
	waiting := v.mu.done
	v.mu.done, v.mu.running = nil, false
	v.mu.Unlock()
	for _, done := range waiting {
		done()
	}
}

// trustLocked adds a range to those that may be sent.
func (v *verification) trustLocked(add offsetRange) {
	kept := v.mu.trusted[:0]
	for _, r := range v.mu.trusted {
		if r.to < add.from || r.from > add.to {
			kept = append(kept, r)
			continue
		}
		add.from, add.to = min(add.from, r.from), max(add.to, r.to)
	}
	if len(kept) >= trustRangesMax {
		kept = kept[1:] // it is checked again
	}
	kept = append(kept, add)
	slices.SortFunc(kept, func(a, b offsetRange) int { return cmp.Compare(a.from, b.from) })
	v.mu.trusted = kept
}

// rotFault is damage of the batch at an offset.
type rotFault struct {
	offset int64
	at     place
	err    error
}

func (f *rotFault) Error() string { return f.err.Error() }

// check reads the batches from an offset on, up to a bound or verifyBytes, and returns where it ended. A rotFault names the first batch
// that may not be served; any other error says nothing about what follows the offset.
func (l *Log) check(from, bound int64) (to int64, err error) {
	txns, begin := txnCheck{log: l}, rotFault{offset: from}
	to = from
	for bytes, more := int64(0), true; more && to < bound && bytes < verifyBytes; {
		res, err := l.Read(to, ReadOptions{MaxBytes: verifyBytes - bytes, MinOneBatch: true, Isolation: ReadAll})
		if err != nil {
			if unfinished := txns.finish(to); unfinished != nil {
				return from, begin.unless(unfinished)
			}
			return to, err
		}
		if more = len(res.Spans) > 0; more && bytes == 0 {
			begin.at = l.placeOf(res.Spans[0], from)
		}
		for _, span := range res.Spans {
			if to, err = l.checkSpan(span, to, &txns); err != nil {
				break
			}
			bytes += span.Len
		}
		res.Release()
		if err != nil {
			var fault *rotFault
			if errors.As(err, &fault) {
				err = cmp.Or(begin.unless(txns.finish(fault.offset)), err) // what lies before it will be served
			}
			return from, begin.unless(err)
		}
		if more {
			to = max(to, min(res.NextOffset, l.off.load().LogEnd))
		}
	}
	if err := txns.finish(to); err != nil {
		return from, begin.unless(err)
	}
	// Reads of what is trusted find all indexes that they need open, and good.
	if _, err := l.abortedIn(from, to); err != nil {
		return from, begin.unless(err)
	}
	return to, nil
}

// placeOf is where a span begins, with the batch of an offset.
func (l *Log) placeOf(span Span, offset int64) place {
	segs := l.segments()
	return place{segment: segs[max(floorSegment(segs, offset), 0)].base, pos: span.Pos}
}

// unless makes an error of the check of transactions a fault where f is, at the begin of the check: none of its records may be served.
// Errors that are a fault by themselves, or say nothing about the log, stay what they are.
func (f rotFault) unless(err error) error {
	var fault *rotFault
	if err == nil || errors.As(err, &fault) || errors.Is(err, os.ErrClosed) || fileGone(err) || lacksResources(err) {
		return err
	}
	f.err = err
	return &f
}

// checkSpan checks the batches of a span, in which the batch of offset from is the first.
func (l *Log) checkSpan(span Span, from int64, txns *txnCheck) (next int64, err error) {
	segs := l.segments()
	i := floorSegment(segs, from)
	if i < 0 {
		return from, nil // deleted meanwhile
	}
	compacted := l.cfg.Load().Cleanup&CleanupCompact != 0 || segs[i].rewritten
	bound := min(nextBase(segs, i), l.off.load().LogEnd)
	path := segs[i].path()
	sc := newScanner(span.File, path, span.Pos, span.Pos+span.Len, 0)
	defer sc.release()
	next = from
	fault := func(at int64, err error) error {
		return &rotFault{offset: next, at: place{segment: segs[i].base, pos: at}, err: err}
	}
	var suspect error // a gap: the batch behind it may have another offset than it was given
	for sc.advance() {
		base := sc.cur.BaseOffset()
		if base > next && !compacted && suspect == nil {
			suspect = fault(sc.at, corruptFile(path, sc.at+record.PosBaseOffset, "base offset", base, next))
		}
		if sc.cur.NextOffset() > bound {
			return next, cmp.Or(suspect, fault(sc.at, corruptFile(path, sc.at+record.PosBaseOffset, "base offset", base, next)))
		}
		next = sc.cur.NextOffset()
		if err := txns.note(segs[i], sc.cur); err != nil {
			return next, err
		}
	}
	switch {
	case sc.err == nil:
		return next, nil
	case errors.Is(sc.err, ErrCorrupt):
		return next, cmp.Or(suspect, fault(sc.pos, sc.err))
	case errors.Is(sc.err, os.ErrClosed):
		return from, sc.err // the log is closed, and the next Read says so
	}
	// A disk that cannot read them back has lost them; a reader that only waits for the next try would wait forever.
	return next, fault(sc.pos, fmt.Errorf("%s: %w", path, sc.err))
}
