package engine

import (
	"errors"
	"fmt"
	"math"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
)

// Recovery after an unclean stop is a decision about the first fault that a scan from the recovery point on finds. The
// recovery point is an offset below which everything was fsynced: a crash cannot have touched it. Above it anything may
// be torn, missing or garbage, in any order, because the kernel writes pages as it likes.
//
//	fault found                           | above the recovery point       | below it        | recovery point lost
//	none, next segment follows on         | go on                          | go on           | go on
//	none, end of the newest segment       | done                           | corrupt: a tail | done
//	                                      |                                | is missing      |
//	torn: bad header, length or CRC,      | truncate there, whatever       | corrupt         | newest segment, and no good
//	bytes missing                         | follows                        |                 | batch follows: truncate; else corrupt
//	gap: the segment ends before the next | truncate there: the tail of a  | go on if        | corrupt unless compacted
//	one begins                            | rolled file was not synced     | compacted, else |
//	                                      |                                | corrupt         |
//	overlap: the next segment begins      | truncate there                 | corrupt         | corrupt
//	inside this one                       |                                |                 |
//
// "Corrupt" truncates nothing: the partition is offline, and read-only below the fault. A first segment above the log start is a gap in a log that
// is not compacted (checkFront).
type faultKind uint8

const (
	faultNone faultKind = iota // the segment ends well and the next one follows on
	faultEnd                   // the newest segment ends well
	faultTorn
	faultGap
	faultOverlap
	faultKinds
)

// pointSide says where a fault lies.
type pointSide uint8

const (
	aboveRecoveryPoint pointSide = iota
	belowRecoveryPoint
	recoveryPointLost
	pointSides
)

// recoveryCase is everything that the decision depends on.
type recoveryCase struct {
	fault faultKind
	side  pointSide
	// newest: the fault is in the newest segment. goodAfter: a whole good batch follows it there.
	newest, goodAfter bool
	// compacted: the log is compacted, so that offsets may be missing.
	compacted bool
}

type recoveryAction uint8

const (
	actGoOn recoveryAction = iota + 1
	actDone
	actTruncate
	actCorrupt
)

// decide is the table above.
func decide(c recoveryCase) recoveryAction {
	switch c.fault {
	case faultNone:
		return actGoOn
	case faultEnd:
		if c.side == belowRecoveryPoint {
			return actCorrupt
		}
		return actDone
	case faultGap:
		if c.side == aboveRecoveryPoint {
			return actTruncate
		}
		if c.compacted {
			return actGoOn
		}
		return actCorrupt
	case faultTorn:
		switch c.side {
		case aboveRecoveryPoint:
			return actTruncate
		case recoveryPointLost:
			if c.newest && !c.goodAfter {
				return actTruncate
			}
		}
		return actCorrupt
	case faultOverlap:
		if c.side == aboveRecoveryPoint {
			return actTruncate
		}
		return actCorrupt
	}
	panic(fmt.Sprintf("BUG: recovery case without a decision: %+v", c))
}

// recover scans from the recovery point to the end, decides at the first fault, and leaves o with what is good.
func (l *Log) recover(o *opened, cfg *LogConfig) error {
	point := max(l.start.recoveryPoint, o.logStart)
	first := 0
	for i, s := range o.segs {
		// Not the one that begins at the point: what was cut off the one before may be there again.
		if s.base < point {
			first = i
		}
	}
	o.scanned = true
	o.logEnd, o.reindexFrom = o.segs[first].base, min(o.reindexFrom, point)
	o.lastEpoch, o.gaps = epochUnseen, cfg.Cleanup&CleanupCompact != 0
	o.epochs = l.epochs.load()
	if len(o.epochs) == 0 && l.start.recoveryPoint > 0 {
		o.epochsLost = true // the file was there before the recovery point could move
	}
	for i := first; i < len(o.segs); i++ {
		done, err := l.recoverSegment(o, i, point, cfg)
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	if o.fault == nil && o.logEnd < o.logStart {
		return l.restartAtLogStart(o)
	}
	return nil
}

// recoverSegment scans segment i and acts on what it finds. done ends the recovery.
func (l *Log) recoverSegment(o *opened, i int, point int64, cfg *LogConfig) (done bool, err error) {
	s := o.segs[i]
	end, at, fault := l.scanSegment(o, s, point)
	if fault != nil && !errors.Is(fault, ErrCorrupt) {
		return false, fault
	}
	o.logEnd = max(end, s.base)
	c := recoveryCase{fault: faultNone, newest: i == len(o.segs)-1, compacted: cfg.Cleanup&CleanupCompact != 0}
	switch {
	case fault != nil:
		c.fault = faultTorn
	case c.newest:
		c.fault = faultEnd
	case o.segs[i+1].base > max(o.logEnd, point):
		c.fault = faultGap
	case o.segs[i+1].base < o.logEnd:
		c.fault = faultOverlap
	}
	switch {
	case !l.dir.recoveryKnown:
		c.side = recoveryPointLost
		c.goodAfter = c.fault == faultTorn && goodBatchAfter(s, at, o.logEnd)
	case o.logEnd < l.start.recoveryPoint && l.start.recoveryPoint > o.logStart:
		// What lay between here and a log start above would have been deleted anyway.
		c.side = belowRecoveryPoint
	}
	switch decide(c) {
	case actGoOn:
		s.seal()
		o.logEnd = max(o.logEnd, o.segs[i+1].base)
		return false, nil
	case actTruncate:
		return true, l.cutRecovered(o, i, at, fault)
	case actCorrupt:
		if fault == nil {
			fault = corruptFile(s.path(), at, "offset after the last batch", o.logEnd, l.wantAfter(o, i))
		}
		s.size.Store(at)
		o.segs, o.fault = o.segs[:i+1], fault
	}
	return true, nil
}

// restartAtLogStart empties a log whose records do not reach its start, or do not begin there.
func (l *Log) restartAtLogStart(o *opened) error {
	if err := l.beginCut(o); err != nil {
		return err
	}
	for j := len(o.segs) - 1; j >= 0; j-- {
		l.removeFiles(o.segs[j], "")
	}
	l.store.log.Warn("unclean stop: no records at the log start, the log begins anew there", "partition", l.tp.String(),
		"logStart", o.logStart, "segments", len(o.segs), "first", o.segs[0].base, "end", o.logEnd)
	o.segs, o.logEnd = nil, o.logStart
	return l.syncDir()
}

func (l *Log) wantAfter(o *opened, i int) string {
	if i+1 < len(o.segs) {
		return fmt.Sprintf("%d, where the next segment begins", o.segs[i+1].base)
	}
	return fmt.Sprintf("at least the recovery point %d", l.start.recoveryPoint)
}

// scanSegment checks the batches of a segment from point on, header by header before it, and rebuilds what the indexes
// lack. It returns the offset and position after the last good batch; err is a CorruptFileError when something else follows.
func (l *Log) scanSegment(o *opened, s *segment, point int64) (end, at int64, err error) {
	s.timesKnown.Store(false)
	pos, next, err := l.openIndexesBelow(s, point)
	if err == nil {
		err = l.openTxnIndexBelow(o, s, point)
	}
	if err != nil {
		return 0, 0, err
	}
	sc := newScanner(s.file, s.path(), pos, s.size.Load(), next)
	defer sc.release()
	var misplaced error
	for misplaced == nil && sc.advance() {
		if misplaced = o.checkPlace(sc, next, point); misplaced == nil {
			s.note(sc.cur, sc.at)
			next = sc.next
			o.lastEpoch = sc.cur.PartitionLeaderEpoch()
		}
	}
	s.createdMs = l.store.nowMs()
	s.timesKnown.Store(true)
	at = sc.pos
	if misplaced != nil {
		at = sc.at
	}
	if rerr := s.readFirstTimestampOf(at); rerr != nil {
		return 0, 0, rerr
	}
	return next, at, errors.Join(misplaced, sc.err)
}

// checkPlace checks above the recovery point the two fields that a batch's CRC does not cover, base offset and leader epoch:
// a crash may have torn them off a batch that is otherwise whole. Offsets follow on (unless the log is compacted, or a
// replica of one that is); epochs are those of the leader epoch checkpoint, which is written before a batch of a new epoch.
func (o *opened) checkPlace(sc *scanner, next, point int64) error {
	base, epoch := sc.cur.BaseOffset(), sc.cur.PartitionLeaderEpoch()
	if base < point {
		return nil
	}
	if base < next || (base > next && base > point && !o.gaps) { // a gap that ends at the point is one below it
		return corruptFile(sc.path, sc.at+record.PosBaseOffset, "base offset", base, next)
	}
	want := epoch
	switch {
	case o.epochsLost:
	case len(o.epochs) == 0 && o.lastEpoch != epochUnseen:
		want = o.lastEpoch // no change of epochs was written down: there has been none
	case len(o.epochs) > 0 && base >= o.epochs[0].StartOffset:
		for _, e := range o.epochs {
			if e.StartOffset <= base {
				want = e.Epoch
			}
		}
	}
	if epoch != want {
		return corruptFile(sc.path, sc.at+record.PosPartitionLeaderEpoch, "leader epoch", epoch, want)
	}
	return nil
}

// epochUnseen is lastEpoch before the first batch.
const epochUnseen = math.MinInt32

func (s *segment) readFirstTimestampOf(size int64) error {
	c := newCursor(s.file, s.path(), 0, size, s.base)
	defer c.release()
	if c.advance() {
		s.firstTimestamp.Store(c.cur.MaxTimestamp())
	}
	if errors.Is(c.err, ErrCorrupt) {
		return nil // the caller knows
	}
	return c.err
}

// openIndexesBelow opens the indexes, cuts off what lies above point, and returns where the scan has to begin: at the last
// good entry below point, else at the start of the segment.
func (l *Log) openIndexesBelow(s *segment, point int64) (pos, next int64, err error) {
	pos, next = 0, s.base
	if point <= s.base || s.openIndexesAsActive() != nil {
		s.forgetIndexes()
		return pos, next, nil
	}
	offsets, times := s.offsets.Load(), s.times.Load()
	e, n, err := offsets.floorOffset(uint32(min(point-s.base, 1<<32-1)))
	if err != nil || n == 0 {
		s.forgetIndexes()
		return pos, next, nil
	}
	c := newCursor(s.file, s.path(), e.pos, s.size.Load(), s.base)
	defer c.release()
	if !c.startsAt(s.base + int64(e.rel)) {
		s.forgetIndexes()
		return pos, next, nil
	}
	if err := s.keepIndexesTo(offsets, times, e, n); err != nil {
		s.forgetIndexes()
		return pos, next, nil
	}
	c.advance()
	return e.pos, c.cur.BaseOffset(), nil
}

// forgetIndexes starts over: the scan will fill the indexes from the first batch on.
func (s *segment) forgetIndexes() {
	s.resetIndexes()
	s.sinceEntry, s.lastEntryPos, s.flushedPos, s.lastTimeEntry = 0, 0, 0, noTimestamp
	s.maxTimestamp.Store(noTimestamp)
	s.maxTimestampOffset.Store(s.base)
}

// keepIndexesTo cuts both indexes after the n-th offset entry, e, and takes the max timestamp from the time entry that goes
// with it.
func (s *segment) keepIndexesTo(offsets, times *index, e offsetEntry, n int) error {
	offsets, err := offsets.cut(n)
	if err != nil {
		return err
	}
	s.offsets.Store(offsets)
	last, keep, err := times.floorTimeOffset(e.rel)
	if err != nil {
		return err
	}
	if times, err = times.cut(keep); err != nil {
		return err
	}
	s.times.Store(times)
	if keep == 0 {
		return fmt.Errorf("%w: %s: no entry up to offset %d", errBadIndex, times.file.Name(), s.base+int64(e.rel))
	}
	good, err := s.checkTimeEntry(last)
	if err != nil {
		return err
	}
	if !good {
		return fmt.Errorf("%w: %s: entry %d", errBadIndex, times.file.Name(), last.timestamp)
	}
	s.maxTimestamp.Store(last.timestamp)
	s.maxTimestampOffset.Store(s.base + int64(last.rel))
	s.sinceEntry, s.lastEntryPos, s.flushedPos, s.lastTimeEntry = 0, e.pos, e.pos, last.timestamp
	return nil
}

// openTxnIndexBelow keeps the aborted transactions below point; the replay adds those above. A damaged index is made anew.
func (l *Log) openTxnIndexBelow(o *opened, s *segment, point int64) error {
	x, err := s.txnIndex()
	if errors.Is(err, ErrCorrupt) {
		cause := err
		if x, err = l.restoreTxnIndex(o.segs, s, point, cause); errors.Is(err, ErrCorrupt) {
			// A part of the log that is not scanned is at fault, or this one, of which the scan will tell. The replay of all of it does the same.
			l.store.log.Warn("index of aborted transactions is damaged", "partition", l.tp.String(), "error", err)
			x, o.reindexFrom = newTxnIndex(s.dir.fs, s.dir.join(segmentName(s.base, txnIndexSuffix))), 0
			s.txns.Store(x)
			return x.reset()
		}
	}
	if err != nil {
		return err
	}
	if err := x.truncateTo(point); err != nil {
		return err
	}
	// An entry from above the point may have been torn into one below it. Those that really lie there are whole, and come first.
	for entries := x.load(); len(entries) > 0; entries = entries[:len(entries)-1] {
		last := entries[len(entries)-1]
		good, err := s.abortsAt(last)
		if err != nil {
			return err
		}
		if good {
			break
		}
		if err := x.truncateTo(last.LastOffset); err != nil {
			return err
		}
	}
	return nil
}

// abortsAt says whether the segment holds the marker that an entry of its transaction index names.
func (s *segment) abortsAt(t AbortedTxn) (bool, error) {
	b, ok, err := s.locateScanned(t.LastOffset)
	if err != nil || !ok || b.lastOffset != t.LastOffset {
		return false, err
	}
	batch := make(record.Batch, b.end-b.pos)
	if err := readFull(s.file, batch, b.pos); err != nil {
		return false, err
	}
	p, ok, err := producerBatchOf(batch)
	return err == nil && ok && p.Marker && !p.Commit && p.ProducerID == t.ProducerID, nil
}

// goodBatchAfter looks for a whole batch with a right CRC behind a fault, at any byte.
func goodBatchAfter(s *segment, at, minOffset int64) bool {
	size := s.size.Load()
	const step = 64 << 10
	buf := make([]byte, step+record.HeaderBytes)
	for from := at + 1; from+record.HeaderBytes <= size; from += step {
		n := min(int64(len(buf)), size-from)
		if readFull(s.file, buf[:n], from) != nil {
			return true // unreadable is not evidence of a torn tail
		}
		for i := int64(0); i < step && i+record.HeaderBytes <= n; i++ {
			h := record.Batch(buf[i : i+record.HeaderBytes])
			if h[record.PosMagic] != record.Magic || checkHeader(h, s.path(), from+i, size, minOffset) != nil {
				continue
			}
			if sc := newScanner(s.file, s.path(), from+i, from+i+int64(h.Size()), minOffset); sc.advance() {
				return true
			}
		}
	}
	return false
}

// cutRecovered truncates the log at position at of segment i. The later segments go first, the newest before the older,
// so that a crash in between leaves a log that the same fault ends; then the torn rest.
func (l *Log) cutRecovered(o *opened, i int, at int64, fault error) error {
	if err := l.beginCut(o); err != nil {
		return err
	}
	s := o.segs[i]
	bytes, records := s.size.Load()-at, countRecords(s, at)
	for j := len(o.segs) - 1; j > i; j-- {
		later := o.segs[j]
		bytes += later.size.Load()
		records += countRecords(later, 0)
	}
	for j := len(o.segs) - 1; j > i; j-- {
		l.removeFiles(o.segs[j], "")
	}
	if len(o.segs) > i+1 {
		if err := l.syncDir(); err != nil {
			return err
		}
	}
	if err := s.file.Truncate(at); err != nil {
		return err
	}
	s.size.Store(at)
	s.sealed.Store(false)
	o.segs = o.segs[:i+1]
	l.store.log.Warn("unclean stop: log truncated", "partition", l.tp.String(), "path", s.path(), "pos", at, "offset", o.logEnd,
		"bytes", bytes, "records", records, "fault", fault)
	return nil
}

// beginCut marks that recovery cuts the log, once.
func (l *Log) beginCut(o *opened) error {
	if o.dirty {
		return nil
	}
	o.dirty = true
	return l.dir.cuts.begin()
}

// countRecords counts the offsets of the batches that can still be told in what is about to be cut off.
func countRecords(s *segment, at int64) (n int64) {
	c := newCursor(s.file, s.path(), at, s.size.Load(), s.base)
	defer c.release()
	for c.advance() {
		n += int64(c.cur.LastOffsetDelta()) + 1
	}
	return n
}

// settleRecovered makes durable what was cut, and what lies above the recovery point: a killed process leaves bytes and names in
// the page cache, good to read, that a later power cut would take.
func (l *Log) settleRecovered(o *opened) error {
	active := l.active()
	if active != nil {
		// The first sync makes the name durable, which may be all that was missing.
		active.file.unnamed.Store(true)
	}
	l.part.unnamed.Store(!l.start.clean)
	if !o.scanned && !o.dirty {
		return nil
	}
	// Under `never` the fsync of the next append may not come.
	cutLeft := l.dir.cuts.left && l.cfg.Load().Fsync == ioqueue.PolicyNever
	if !o.dirty && !cutLeft && o.logEnd <= l.start.recoveryPoint && o.logEnd > o.logStart {
		if active != nil {
			// A killed process may have cut off a failed write and not fsynced that. The fsync of the next append will do.
			active.unsettled = true
		}
		return nil
	}
	if o.lazy {
		return nil
	}
	for i, s := range o.segs[:max(len(o.segs)-1, 0)] {
		if o.segs[i+1].base <= l.start.recoveryPoint {
			continue
		}
		s.file.unnamed.Store(true)
		if err := s.file.Sync(); err != nil {
			return syncError(err)
		}
	}
	if active == nil {
		return nil
	}
	return l.stream.SyncNow()
}

// isLazy says whether a log can be used before what a killed process has left of it is durable: nothing that is acknowledged has to be, and no cut
// may be in the page cache only. Its durable offset is then what the recovery point says until the next fsync.
func (l *Log) isLazy(o *opened, cfg *LogConfig) bool {
	return o.scanned && !o.dirty && o.fault == nil && len(o.segs) > 0 && cfg.Fsync == ioqueue.PolicyNever && !l.dir.cuts.left
}

// lazyFrom is the durable offset of such a log.
func (l *Log) lazyFrom(o *opened) int64 {
	return max(min(l.start.recoveryPoint, o.logEnd), o.logStart)
}

// leaveLazy gives the stream what lies above from as written and not fsynced.
func (l *Log) leaveLazy(o *opened, from int64) error {
	for i, s := range o.segs {
		end := nextBase(o.segs, i)
		if i == len(o.segs)-1 {
			end = o.logEnd
		}
		if end <= from {
			continue
		}
		pos := int64(0)
		if from > s.base {
			b, ok, err := s.locateScanned(from)
			if err != nil {
				return err
			}
			if ok {
				pos = b.pos
			}
		}
		s.file.unnamed.Store(true)
		l.stream.Written(s.file, pos, int(s.size.Load()-pos), end)
	}
	return nil
}

// settleLazy makes durable what leaveLazy has left, for a topic that turns out to promise that.
func (l *Log) settleLazy() error {
	if !l.loaded.Load() || l.failure.Load() != nil {
		return nil
	}
	if v := l.off.load(); v.Durable >= v.LogEnd {
		return nil
	}
	if err := l.stream.SyncNow(); err != nil {
		return l.ioError(err)
	}
	return nil
}

// locateScanned is locate for a segment under recovery: it never rebuilds the indexes, and a fault is no batch.
func (s *segment) locateScanned(target int64) (b located, ok bool, err error) {
	pos := int64(0)
	if x := s.offsets.Load(); x != nil && target > s.base {
		if e, n, err := x.floorOffset(uint32(min(target-s.base, 1<<32-1))); err == nil && n > 0 {
			pos = e.pos
		}
	}
	c := newCursor(s.file, s.path(), pos, s.size.Load(), s.base)
	defer c.release()
	for c.advance() {
		if c.cur.LastOffset() >= target {
			return locatedAt(c.cur), true, nil
		}
	}
	if errors.Is(c.err, ErrCorrupt) {
		return b, false, nil
	}
	return b, false, c.err
}
