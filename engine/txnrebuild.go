package engine

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/weirmq/weir/record"
)

// An index of aborted transactions that does not pass its checks is made anew: the producer state as of the segment's base offset, from the
// newest good snapshot there or before, else from the first segment on, and then the segment's batches, every one with its CRC. That gives the
// entries that were written when the markers were. Of a transaction that began below all that is left, what is left of it is taken for all: its
// first offset is that of its first record which is still there, and without any it has no entry.
//
// The new file is written and fsynced as `.tmp`, renamed, and the directory fsynced: a crash leaves the damaged one, which the next start finds
// as this one did, or the new one.

// txnIndexOf is segment.txnIndex that makes a damaged index anew. It may read segments and wait for the disk. REQUIRES: mu is not held.
func (l *Log) txnIndexOf(s *segment) (*txnIndex, error) {
	x, err := s.txnIndex()
	if !errors.Is(err, ErrCorrupt) {
		return x, err
	}
	return l.rebuildTxnIndex(s, nil, err)
}

// rebuildTxnIndex replaces the index of a segment, bad, or nil for one that cannot even be read, because of cause. An error that is a
// CorruptFileError of a log says that the log itself is at fault; then cause is a part of it. REQUIRES: as txnIndexOf.
func (l *Log) rebuildTxnIndex(s *segment, bad *txnIndex, cause error) (*txnIndex, error) {
	r := txnRebuild{segs: l.segments(), segment: s, bad: bad, below: l.off.appendedFrom.Load(), cause: cause}
	return l.rebuildTxns(&r)
}

// restoreTxnIndex is rebuildTxnIndex while the log is opened, from the batches below an offset of segs, of a file that cannot be read.
func (l *Log) restoreTxnIndex(segs []*segment, s *segment, below int64, cause error) (*txnIndex, error) {
	return l.rebuildTxns(&txnRebuild{segs: segs, segment: s, below: below, cause: cause})
}

// txnRebuild is a rebuild of the index of a segment of segs.
type txnRebuild struct {
	segs    []*segment
	segment *segment
	bad     *txnIndex
	// below bounds the batches that are read. What bad has from there on was written by this process, and is kept.
	below int64
	cause error
}

func (l *Log) rebuildTxns(r *txnRebuild) (*txnIndex, error) {
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	s := r.segment
	if x := s.txns.Load(); x != r.bad {
		return x, nil // somebody else was faster
	}
	cuts := l.cuts.Load()
	txns, err := l.abortedMarkers(r)
	if err != nil {
		err = fmt.Errorf("index of aborted transactions cannot be made anew: %w", err)
		if errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w (%w)", err, r.cause)
		}
		return nil, err
	}
	x := newTxnIndex(l.part.fs, l.part.join(segmentName(s.base, txnIndexSuffix)))
	if len(txns) > 0 {
		x.entries.Store(&txns)
	}
	unwritten := error(errDamagedLog)
	if l.failure.Load() == nil {
		unwritten = x.stage()
	}
	if unwritten != nil && !staysReadable(unwritten) {
		return nil, l.ioError(unwritten)
	}
	placed, err := l.placeTxnIndex(r, x, unwritten == nil, cuts)
	if err != nil {
		return nil, err
	}
	if !placed {
		return nil, fmt.Errorf("%s is not the log's any more: %w", s.path(), os.ErrClosed)
	}
	attrs := []any{"partition", l.tp.String(), "path", x.path, "transactions", x.count(), "reason", r.cause}
	if unwritten != nil {
		attrs = append(attrs, "unwritten", unwritten)
	}
	l.store.log.Warn("index of aborted transactions made anew from the log", attrs...)
	if unwritten == nil {
		if err := l.syncTxnIndex(s, x); err != nil {
			return nil, l.ioError(err)
		}
	}
	return x, nil
}

// tellMissing logs, once for each index, that recovery adds an entry which had to be there: the recovery point had passed its marker.
func (l *Log) tellMissing(x *txnIndex, t AbortedTxn) {
	if x.told || l.cfg.Load().Cleanup&CleanupCompact != 0 { // cleaned segments have markers without entries
		return
	}
	x.told = true
	missing := corruptFile(x.path, int64(x.count())*txnIndexEntrySize, "aborted transaction", "none",
		fmt.Sprintf("producer %d, offsets %d to %d", t.ProducerID, t.FirstOffset, t.LastOffset))
	l.store.log.Warn("index of aborted transactions made anew from the log", "partition", l.tp.String(), "path", x.path, "reason", missing)
}

// errDamagedLog is why the index of an offline log stays in memory.
var errDamagedLog = errors.New("the log is offline")

// staysReadable says whether a file that could not be written for this reason may be kept in memory instead, until the next start.
func staysReadable(err error) bool {
	return errors.Is(err, errDamagedLog) || isNoSpace(err) || lacksResources(err) || errors.Is(err, syscall.EROFS)
}

// abortedMarkers gives the entries of the abort markers of the segment.
func (l *Log) abortedMarkers(r *txnRebuild) (txns []AbortedTxn, err error) {
	nowMs := l.store.nowMs()
	state, from := l.mu.producers.stateBefore(r.segs[0].base, r.segment.base, nowMs)
	for i := max(floorSegment(r.segs, from), 0); i < len(r.segs) && r.segs[i].base <= r.segment.base; i++ {
		if txns, err = r.replay(i, from, state, nowMs); err != nil {
			return nil, err
		}
	}
	return txns, nil
}

// replay passes the batches of segment i from an offset on to a producer state, and gives the transactions that end there aborted.
func (r *txnRebuild) replay(i int, from int64, state *producerState, nowMs int64) (txns []AbortedTxn, err error) {
	s, end := r.segs[i], nextBase(r.segs, i)
	sc := newScanner(s.file, s.path(), 0, s.size.Load(), s.base)
	defer sc.release()
	for sc.next < r.below && sc.advance() { // what lies behind may be torn
		b := sc.cur
		if b.NextOffset() > end {
			return nil, corruptFile(s.path(), sc.at+record.PosBaseOffset, "base offset", b.BaseOffset(), fmt.Sprintf("a batch that ends before %d", end))
		}
		if b.BaseOffset() < from || b.BaseOffset() >= r.below {
			continue
		}
		p, ok, err := producerBatchOf(b)
		if err != nil || !ok {
			continue // intact, so that is how it was written
		}
		if txn, ended := state.update(p, nowMs); ended && !txn.Committed {
			txns = append(txns, txn.AbortedTxn)
		}
	}
	return txns, sc.err
}

// stage writes the entries beside the file, durably, and leaves that open for more. An error leaves nothing.
func (x *txnIndex) stage() error {
	f, err := x.fs.Create(x.path + tmpSuffix)
	if err != nil {
		return fmt.Errorf("create transaction index: %w", err)
	}
	x.file = f
	var data []byte
	for _, t := range x.load() {
		data = appendTxnIndexEntry(data, t)
	}
	if len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		return nil
	}
	x.unstage()
	return fmt.Errorf("write transaction index: %w", err)
}

// unstage takes back what stage has written.
func (x *txnIndex) unstage() {
	_ = x.close()
	_ = removeFile(x.fs, x.path+tmpSuffix)
}

// placeTxnIndex makes x the index of the segment, on disk too if it is staged, with the entries of bad that this process wrote. It does nothing
// when the segment has left the log meanwhile, or the log was truncated or closed.
func (l *Log) placeTxnIndex(r *txnRebuild, x *txnIndex, staged bool, cuts int64) (placed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.segment.lazy.Lock()
	defer r.segment.lazy.Unlock()
	defer func() {
		if staged && !placed {
			x.unstage()
		}
	}()
	f := l.failure.Load()
	if r.segment.retired.Load() || l.cuts.Load() != cuts || r.segment.txns.Load() != r.bad || f != nil && !f.readable {
		return false, nil
	}
	if r.bad != nil {
		i, _ := r.bad.at(r.below)
		if err := x.adopt(r.bad.load()[i:], staged); err != nil {
			return false, l.ioError(err)
		}
		_ = r.bad.close() // of the file that goes
	}
	switch {
	case staged && x.count() == 0:
		x.unstage()
		err = removeFile(x.fs, x.path)
	case staged:
		x.durable = false
		err = x.fs.Rename(x.path+tmpSuffix, x.path)
	}
	if err != nil {
		return false, l.ioError(err)
	}
	r.segment.txns.Store(x)
	return true, nil
}

// adopt adds entries, in memory only unless the index is staged.
func (x *txnIndex) adopt(entries []AbortedTxn, staged bool) error {
	if !staged {
		all := append(append([]AbortedTxn(nil), x.load()...), entries...)
		x.entries.Store(&all)
		return nil
	}
	for _, t := range entries {
		if err := x.append(t); err != nil {
			return err
		}
	}
	return nil
}
