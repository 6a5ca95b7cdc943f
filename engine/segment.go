package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/record"
)

// Names of a partition's files: `<base offset, 20 digits><suffix>`.
const (
	logSuffix     = ".log"
	deletedSuffix = ".deleted" // appended: left the log, to be removed after file.delete.delay.ms
	tmpSuffix     = ".tmp"     // appended: not finished, of no use after a crash
)

// noTimestamp is the max timestamp of a segment whose batches have none.
const noTimestamp int64 = -1

func segmentName(base int64, suffix string) string { return fmt.Sprintf("%020d%s", base, suffix) }

// parseSegmentName gives the base offset of a file name with exactly this suffix.
func parseSegmentName(name, suffix string) (base int64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

// segment is one `.log` file with its indexes. The newest segment of a log is active: it is written under the log's
// lock. Readers take no lock: size is published after the bytes are written and the index entries are checked at use.
type segment struct {
	dir  *partitionDir
	base int64
	file *segFile
	// rewritten is set for what compaction wrote: positions found before in a segment of the same base mean nothing here.
	rewritten bool
	// unsettled: what a killed process has cut off the file may not be fsynced. Guarded by Log.mu.
	unsettled bool
	// retired is set before the files get the names of deleted ones; goneSuffix is then what their names end in.
	retired    atomic.Bool
	goneSuffix string
	// size is the end of the last whole batch.
	size atomic.Int64
	// maxTimestamp is the largest timestamp of a batch and maxTimestampOffset the last offset of the first batch that has it.
	// Valid when timesKnown; the active segment's always are.
	maxTimestamp, maxTimestampOffset atomic.Int64
	timesKnown                       atomic.Bool
	// firstTimestamp is the first batch's max timestamp, noTimestamp until known.
	firstTimestamp atomic.Int64

	// Guarded by the log's lock: bytes since the last index entry and its position, the position up to which entries were written to their
	// files, the newest time entry, when the file was created (ms).
	sinceEntry    int64
	lastEntryPos  int64
	flushedPos    int64
	lastTimeEntry int64
	createdMs     int64

	// sealed: no batch will be added. Only then may a reader rebuild the indexes.
	sealed atomic.Bool
	// lazy guards the opening and rebuilding of the indexes; the pointers are nil until then.
	lazy    sync.Mutex
	offsets atomic.Pointer[index]
	times   atomic.Pointer[index]
	txns    atomic.Pointer[txnIndex]
	tails   tails
	// interval is index.interval.bytes at the time the segment was opened, for rebuilds.
	interval int64
}

// newSegment describes the segment at base; nothing is opened.
func newSegment(dir *partitionDir, base, size, interval int64) *segment {
	s := &segment{dir: dir, base: base, file: newSegFile(dir, segmentName(base, logSuffix)), interval: interval, lastTimeEntry: noTimestamp}
	s.size.Store(size)
	s.maxTimestamp.Store(noTimestamp)
	s.maxTimestampOffset.Store(base)
	s.firstTimestamp.Store(noTimestamp)
	return s
}

func (s *segment) path() string { return s.file.Name() }

// resetIndexes makes the indexes empty, in memory and, with the next flush, on disk: for a new segment and before a rebuild.
func (s *segment) resetIndexes() {
	s.offsets.Store(newIndex(newSegFile(s.dir, segmentName(s.base, indexSuffix)), offsetEntryBytes))
	s.times.Store(newIndex(newSegFile(s.dir, segmentName(s.base, timeIndexSuffix)), timeEntryBytes))
}

// note updates indexes and timestamps for a batch written at pos. Under the log's lock.
func (s *segment) note(b record.Batch, pos int64) {
	if ts := b.MaxTimestamp(); ts > s.maxTimestamp.Load() {
		s.maxTimestampOffset.Store(b.LastOffset())
		s.maxTimestamp.Store(ts)
	}
	if pos == 0 {
		s.firstTimestamp.Store(b.MaxTimestamp())
	}
	// Not for the first batch: its entry would say nothing, and Kafka takes an entry at the base offset for damage.
	if s.sinceEntry > s.interval && pos > s.lastEntryPos {
		raw := encodeOffsetEntry(offsetEntry{rel: uint32(b.LastOffset() - s.base), pos: pos})
		s.offsets.Load().append(raw[:])
		s.noteTime()
		s.sinceEntry, s.lastEntryPos = 0, pos
		if ahead := pos - s.flushedPos; ahead >= indexTailLogBytes || ahead < 0 {
			s.flushIndexes()
			s.flushedPos = pos
		}
	}
	s.sinceEntry += int64(b.Size())
}

// noteTime adds the max timestamp so far to the time index, unless it is there.
func (s *segment) noteTime() {
	if ts := s.maxTimestamp.Load(); ts > s.lastTimeEntry {
		raw := encodeTimeEntry(timeEntry{timestamp: ts, rel: uint32(s.maxTimestampOffset.Load() - s.base)})
		s.times.Load().append(raw[:])
		s.lastTimeEntry = ts
	}
}

// seal ends the writing: the last time entry is added and the indexes are written out. Under the log's lock. The log file is
// synced by the fsync scheduler, not here.
func (s *segment) seal() {
	s.noteTime()
	s.timesKnown.Store(true)
	s.sealed.Store(true)
	s.flushIndexes()
}

// flushIndexes writes the indexes out. What cannot be written now stays in memory, and is rebuilt from the log after a restart.
func (s *segment) flushIndexes() {
	_ = s.offsets.Load().flush()
	_ = s.times.Load().flush()
}

// indexFull says whether an entry more would exceed segment.index.bytes.
func (s *segment) indexFull(indexBytesMax int64) bool {
	return s.offsets.Load().bytes()+offsetEntryBytes > indexBytesMax || s.times.Load().bytes()+2*timeEntryBytes > indexBytesMax
}

// offsetIndex and timeIndex open the index at first use, and build it anew when it is missing or damaged.
func (s *segment) offsetIndex() (*index, error) {
	if x := s.offsets.Load(); x != nil {
		return x, nil
	}
	if err := s.openIndexes(); err != nil {
		return nil, err
	}
	return s.offsets.Load(), nil
}

func (s *segment) timeIndex() (*index, error) {
	if x := s.times.Load(); x != nil {
		return x, nil
	}
	if err := s.openIndexes(); err != nil {
		return nil, err
	}
	return s.times.Load(), nil
}

func (s *segment) openIndexes() error {
	s.lazy.Lock()
	defer s.lazy.Unlock()
	if s.offsets.Load() != nil {
		return nil
	}
	offsets, err := openIndex(newSegFile(s.dir, segmentName(s.base, indexSuffix)), offsetEntryBytes)
	if err == nil {
		var times *index
		times, err = openIndex(newSegFile(s.dir, segmentName(s.base, timeIndexSuffix)), timeEntryBytes)
		if err == nil && s.plausible(offsets, times) {
			s.times.Store(times)
			s.offsets.Store(offsets)
			return nil
		}
	}
	if err != nil && !errors.Is(err, errBadIndex) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.rebuildLocked()
}

// plausible checks the ends of the indexes against the segment; the rest is checked entry by entry at use.
func (s *segment) plausible(offsets, times *index) bool {
	if raw, ok, err := offsets.last(); err != nil || (ok && decodeOffsetEntry(raw[:]).pos >= s.size.Load()) {
		return false
	}
	_, _, err := times.last()
	return err == nil && (times.count() > 0 || s.size.Load() == 0)
}

// rebuild makes the indexes anew by a hop over the headers, after bad turned out to be damaged.
func (s *segment) rebuild(bad *index) error {
	s.lazy.Lock()
	defer s.lazy.Unlock()
	if s.offsets.Load() != bad && s.times.Load() != bad {
		return nil // somebody else was faster
	}
	return s.rebuildLocked()
}

func (s *segment) rebuildLocked() error {
	t := newSegment(s.dir, s.base, s.size.Load(), s.interval)
	t.resetIndexes()
	t.offsets.Load().held, t.times.Load().held = true, true
	c := newCursor(s.file, s.path(), 0, s.size.Load(), s.base)
	defer c.release()
	for c.advance() {
		t.note(c.cur.Batch, c.cur.pos)
	}
	if c.err != nil {
		return c.err
	}
	if s.retired.Load() {
		// The files of these names belong to what replaced this segment.
		t.noteTime()
	} else {
		t.offsets.Load().held, t.times.Load().held = false, false
		t.seal()
	}
	s.adoptIndexes(t)
	return nil
}

// adoptIndexes takes the indexes and times of t, which describes the same file.
func (s *segment) adoptIndexes(t *segment) {
	s.maxTimestampOffset.Store(t.maxTimestampOffset.Load())
	s.maxTimestamp.Store(t.maxTimestamp.Load())
	s.firstTimestamp.Store(t.firstTimestamp.Load())
	s.timesKnown.Store(true)
	s.times.Store(t.times.Load())
	s.offsets.Store(t.offsets.Load())
}

// sealedTimes makes maxTimestamp valid.
func (s *segment) sealedTimes() error {
	if s.timesKnown.Load() {
		return nil
	}
	for range 2 {
		x, err := s.timeIndex()
		if err != nil || s.timesKnown.Load() {
			return err
		}
		raw, ok, err := x.last()
		if err != nil {
			return err
		}
		e := decodeTimeEntry(raw[:])
		if !ok && s.size.Load() == 0 {
			s.timesKnown.Store(true)
			return nil
		}
		if good, err := s.checkLastTime(e); err != nil {
			return err
		} else if ok && good {
			s.maxTimestampOffset.Store(s.base + int64(e.rel))
			s.maxTimestamp.Store(e.timestamp)
			s.timesKnown.Store(true)
			return nil
		}
		if err := s.rebuild(x); err != nil {
			return err
		}
	}
	return nil
}

// checkTimeEntry says whether the batch that e names is there.
func (s *segment) checkTimeEntry(e timeEntry) (bool, error) {
	offset := s.base + int64(e.rel)
	b, ok, err := s.locate(offset, s.size.Load())
	if err != nil || !ok {
		return false, err
	}
	return b.lastOffset == offset && b.maxTimestamp == e.timestamp, nil
}

// checkLastTime says whether e can be the last time entry of the sealed segment: it is true, and no batch after it is later. A
// file that lost its end would otherwise hide the segment's newest records from retention and searches by time. Where
// timestamps rise, as they mostly do, this walks over one batch.
func (s *segment) checkLastTime(e timeEntry) (bool, error) {
	if good, err := s.checkTimeEntry(e); err != nil || !good {
		return false, err
	}
	c, err := s.seek(s.base+int64(e.rel), s.size.Load())
	if err != nil {
		return false, err
	}
	defer c.release()
	for c.advance() {
		if c.cur.MaxTimestamp() > e.timestamp {
			return false, nil
		}
	}
	return true, c.err
}

// located is a batch found by offset or position.
type located struct {
	pos, end               int64
	baseOffset, lastOffset int64
	maxTimestamp           int64
}

func locatedAt(b batchAt) located {
	return located{pos: b.pos, end: b.end(), baseOffset: b.BaseOffset(), lastOffset: b.LastOffset(), maxTimestamp: b.MaxTimestamp()}
}

// locate finds the first batch whose last offset is at least target, in [0, end) of the file. ok is false when all
// batches lie below target.
func (s *segment) locate(target, end int64) (b located, ok bool, err error) {
	c, err := s.seek(target, end)
	if err != nil {
		return b, false, err
	}
	defer c.release()
	for c.advance() {
		if c.cur.LastOffset() >= target {
			return locatedAt(c.cur), true, nil
		}
	}
	return b, false, c.err
}

// seek gives a cursor at a batch at or before the one that holds target.
func (s *segment) seek(target, end int64) (*cursor, error) {
	rel := target - s.base
	if rel <= 0 {
		return newCursor(s.file, s.path(), 0, end, s.base), nil
	}
	for range 2 {
		x, err := s.offsetIndex()
		if err != nil {
			return nil, err
		}
		e, n, err := x.floorOffset(uint32(min(rel, 1<<32-1)))
		if err == nil && (n == 0 || e.pos >= end) {
			break
		}
		if err == nil {
			c := newCursor(s.file, s.path(), e.pos, end, s.base)
			if c.startsAt(s.base + int64(e.rel)) {
				return c, nil
			}
			c.release()
		}
		if !s.sealed.Load() {
			break // the appender owns the index; without it the hop is longer, not wrong
		}
		if err := s.rebuild(x); err != nil {
			return nil, err
		}
	}
	return newCursor(s.file, s.path(), 0, end, s.base), nil
}

// startsAt says whether a batch with this last offset begins where the cursor stands, which does not move.
func (c *cursor) startsAt(lastOffset int64) bool {
	saved := *c
	ok := c.advance() && c.cur.LastOffset() == lastOffset
	at, have := c.at, c.have
	*c = saved
	c.at, c.have = at, have // the buffer has been filled
	return ok
}

// cutBefore finds the largest position at most limit at which a batch ends, walking from the batch at from. from itself is
// the answer when the first batch is longer. next is the offset after the last batch before it.
func (s *segment) cutBefore(from located, limit int64) (pos, next int64, err error) {
	pos, next = from.pos, from.baseOffset
	start := from.pos
	if x := s.offsets.Load(); x != nil && limit-from.pos > s.interval {
		if e, n, err := x.floorPos(limit); err == nil && n > 0 && e.pos > from.pos && e.pos <= limit {
			c := newCursor(s.file, s.path(), e.pos, s.size.Load(), from.baseOffset)
			if c.startsAt(s.base + int64(e.rel)) {
				start = e.pos
			}
			c.release()
		}
	}
	c := newCursor(s.file, s.path(), start, s.size.Load(), from.baseOffset)
	defer c.release()
	for c.advance() {
		if c.cur.pos > limit {
			break
		}
		if c.cur.pos > pos {
			pos, next = c.cur.pos, c.cur.BaseOffset()
		}
		if c.cur.end() <= limit {
			pos, next = c.cur.end(), c.cur.NextOffset()
		} else {
			break
		}
	}
	return pos, next, c.err
}

// txnIndex opens the transaction index at first use. A damaged one is an error: see Log.txnIndexOf.
func (s *segment) txnIndex() (*txnIndex, error) {
	if x := s.txns.Load(); x != nil {
		return x, nil
	}
	s.lazy.Lock()
	defer s.lazy.Unlock()
	if x := s.txns.Load(); x != nil {
		return x, nil
	}
	x, err := openTxnIndex(s.dir.fs, s.dir.join(segmentName(s.base, txnIndexSuffix)))
	if err != nil {
		return nil, err
	}
	s.txns.Store(x)
	return x, nil
}
