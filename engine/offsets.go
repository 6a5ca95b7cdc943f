package engine

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Offsets is a snapshot of a log's offsets. All are exclusive ends except LogStart, which is the first readable offset.
// LogStart <= LastStable <= HighWatermark <= LogEnd, and Durable <= LogEnd.
type Offsets struct {
	// LogStart is the first offset that may be read.
	LogStart int64
	// LastStable is the end for read_committed: no transaction below it is open.
	LastStable int64
	// HighWatermark is the end for consumers.
	HighWatermark int64
	// Durable is the end of what has been fsynced.
	Durable int64
	// LogEnd is the offset that the next record gets.
	LogEnd int64
}

// place is where in the log an offset lies: the first byte after the batches below it. pos is -1 when only the offset
// is known; the reader then looks it up.
type place struct {
	segment int64 // base offset of the segment
	pos     int64
}

var unknownPlace = place{pos: -1}

// mark is a batch boundary that was appended and is not yet below the high watermark.
type mark struct {
	offset int64
	place
}

// offsetView is one immutable state: the offsets, and the places of the three that bound reads.
type offsetView struct {
	Offsets
	lastStableAt, highWatermarkAt, durableAt, logEndAt place
}

// offsetState holds a log's offsets. Readers load a view without a lock; set is the only place where they change.
type offsetState struct {
	view atomic.Pointer[offsetView]
	// appendedFrom is the offset from which on this process has written the records itself.
	appendedFrom atomic.Int64
	mu           struct {
		sync.Mutex
		// marks are the boundaries above the durable offset or the high watermark, ascending, at most marksMax.
		marks  []mark
		wasSet bool
	}
}

// marksMax bounds the remembered boundaries of a log whose fsync lags; beyond it reads at the bound look places up.
const marksMax = 4096

func (o *offsetState) load() *offsetView { return o.view.Load() }

// setLocked publishes next; the caller holds mu. All changes of offsets go through here.
func (o *offsetState) setLocked(next *offsetView) {
	n := next.Offsets
	if n.LogStart < 0 || n.LogStart > n.LastStable || n.LastStable > n.HighWatermark || n.HighWatermark > n.LogEnd || n.Durable > n.LogEnd {
		panic(fmt.Sprintf("BUG: offsets out of order, want logStart <= lastStable <= highWatermark <= logEnd and durable <= logEnd: %+v", n))
	}
	o.view.Store(next)
}

// advance is what an event changes. Fields that are negative stay as they are.
type advance struct {
	logStart, highWatermark, durable, logEnd int64
	logEndAt                                 place
	// durableNow, if set, is asked for durable under the lock: a number that was right before a truncation may arrive after it.
	durableNow func() int64
}

func noAdvance() advance {
	return advance{logStart: -1, highWatermark: -1, durable: -1, logEnd: -1, logEndAt: unknownPlace}
}

// advanceRule says how the high watermark follows.
type advanceRule struct {
	replicated bool // somebody else sets it
	commit     bool // it follows durable, else logEnd
}

// apply moves offsets forward and returns the new view. firstUnstable gives the first offset of an open transaction for a high watermark.
func (o *offsetState) apply(a advance, rule advanceRule, firstUnstable func(highWatermark int64) (int64, bool)) *offsetView {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.applyLocked(a, rule, firstUnstable)
}

// applyUnless is apply without transactions; it does nothing and returns nil when openTxns is set. The check is under the
// lock: an append that opens a transaction sets it before its own apply, so a view either precedes that append or sees the flag.
func (o *offsetState) applyUnless(openTxns *atomic.Bool, a advance, rule advanceRule) *offsetView {
	o.mu.Lock()
	defer o.mu.Unlock()
	if openTxns.Load() {
		return nil
	}
	return o.applyLocked(a, rule, nil)
}

func (o *offsetState) applyLocked(a advance, rule advanceRule, firstUnstable func(highWatermark int64) (int64, bool)) *offsetView {
	old := o.view.Load()
	next := new(offsetView)
	*next = *old
	if a.logEnd > old.LogEnd {
		next.LogEnd, next.logEndAt = a.logEnd, a.logEndAt
		if len(o.mu.marks) < marksMax {
			o.mu.marks = append(o.mu.marks, mark{offset: a.logEnd, place: a.logEndAt})
		}
	}
	if a.durableNow != nil {
		a.durable = a.durableNow()
	}
	if a.durable > old.Durable {
		next.Durable = min(a.durable, next.LogEnd)
		next.durableAt = o.placeLocked(next.Durable, next)
	}
	hw := old.HighWatermark
	switch {
	case rule.replicated:
		hw = max(hw, min(a.highWatermark, next.LogEnd))
	case rule.commit:
		hw = max(hw, next.Durable)
	default:
		hw = next.LogEnd
	}
	if hw > old.HighWatermark {
		next.HighWatermark = hw
		next.highWatermarkAt = o.placeLocked(hw, next)
	}
	if a.logStart > old.LogStart {
		next.LogStart = min(a.logStart, next.HighWatermark)
	}
	o.setStable(old, next, firstUnstable)
	o.dropMarksLocked(min(next.HighWatermark, next.Durable))
	o.setLocked(next)
	return next
}

// setStable recomputes the last stable offset of next. It never moves back.
func (o *offsetState) setStable(old, next *offsetView, firstUnstable func(int64) (int64, bool)) {
	stable, at := next.HighWatermark, next.highWatermarkAt
	if firstUnstable != nil {
		if first, ok := firstUnstable(next.HighWatermark); ok && first < stable {
			stable, at = first, unknownPlace
		}
	}
	if stable < old.LastStable || (stable == old.LastStable && at == unknownPlace) {
		stable, at = old.LastStable, old.lastStableAt
	}
	if stable < next.LogStart {
		stable, at = next.LogStart, unknownPlace
	}
	next.LastStable, next.lastStableAt = stable, at
}

func (o *offsetState) placeLocked(offset int64, v *offsetView) place {
	if offset == v.LogEnd {
		return v.logEndAt
	}
	lo, hi := 0, len(o.mu.marks)
	for lo < hi {
		if mid := (lo + hi) / 2; o.mu.marks[mid].offset < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(o.mu.marks) && o.mu.marks[lo].offset == offset {
		return o.mu.marks[lo].place
	}
	return unknownPlace
}

func (o *offsetState) dropMarksLocked(below int64) {
	n := 0
	for n < len(o.mu.marks) && o.mu.marks[n].offset <= below {
		n++
	}
	if n == len(o.mu.marks) {
		o.mu.marks = o.mu.marks[:0]
		return
	}
	if n > 0 {
		o.mu.marks = o.mu.marks[:copy(o.mu.marks, o.mu.marks[n:])]
	}
}

// reset sets all offsets anew, at opening and truncation.
func (o *offsetState) reset(v offsetView) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.marks = nil
	o.setLocked(&v)
	if !o.mu.wasSet || v.LogEnd < o.appendedFrom.Load() {
		o.mu.wasSet = true
		o.appendedFrom.Store(v.LogEnd)
	}
}

// limit is the exclusive end for reads of an isolation, with its place.
func (v *offsetView) limit(i Isolation, commit bool) (int64, place) {
	switch i {
	case ReadCommitted:
		return v.LastStable, v.lastStableAt
	case ReadLogEnd:
		if commit {
			// A follower copies only what is durable: what could still vanish here must not live on there alone.
			return v.Durable, v.durableAt
		}
		return v.LogEnd, v.logEndAt
	case ReadAll:
		return v.LogEnd, v.logEndAt
	default:
		return v.HighWatermark, v.highWatermarkAt
	}
}

// noCap is the recovery cap of a log that is not being truncated.
const noCap = math.MaxInt64
