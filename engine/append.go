package engine

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"github.com/weirmq/weir/record"
)

// appendPlan is what is known of an append before the log's lock is taken.
type appendPlan struct {
	batches []record.Batch
	few     [2]record.Batch // room for the usual one batch
	bytes   []byte
	o       AppendOptions
	nowMs   int64
	records int64 // offsets that the batches take
}

// Append adds one or more batches (v2, back to back) and stamps them in place: base offset, leader epoch, and under
// LogAppendTime the timestamp. The bytes may be reused when it returns. All or none are appended. The result is not yet
// durable: see AppendResult.EndOffset. Errors: ErrCorrupt, ErrTooLarge, ErrInvalidRecord, ErrInvalidTimestamp,
// ErrUnsupportedFormat, ErrUnsupportedCodec, ErrOutOfOrderSequence, ErrInvalidProducerEpoch, ErrInvalidTxnState,
// ErrTransactionCoordinatorFenced, ErrStaleLeaderEpoch, ErrNoSpace, ErrOffline, ErrClosed, ErrOffsetOutOfRange
// (OriginReplica: not at the log end).
func (l *Log) Append(batches []byte, o AppendOptions) (AppendResult, error) {
	if err := l.load(); err != nil {
		return AppendResult{}, err
	}
	p := appendPlan{bytes: batches, o: o, nowMs: l.store.nowMs()}
	if err := l.plan(&p); err != nil {
		return AppendResult{}, err
	}
	if err := l.announceEpochs(&p); err != nil {
		return AppendResult{}, err
	}
	res, v, err := l.appendPlanned(&p)
	if v != nil {
		l.wakeReached(v)
	}
	return res, err
}

// announceEpochs writes a new leader epoch down before its first batch is written: recovery holds the batches' epochs, which their CRCs
// do not cover, against that. It happens once in a leadership. The first epoch of a new log is written later: an
// empty list says that there was no change.
func (l *Log) announceEpochs(p *appendPlan) error {
	latest, ok := l.epochs.latest()
	newest := p.o.LeaderEpoch
	if p.o.Origin == OriginReplica {
		newest = p.batches[len(p.batches)-1].PartitionLeaderEpoch()
	}
	if !l.epochsOwed.Load() && (newest <= latest.Epoch || (!ok && l.off.load().LogEnd == 0)) {
		return nil
	}
	l.mu.Lock()
	if f := l.failure.Load(); f != nil {
		l.mu.Unlock()
		return f.err
	}
	if err := l.materializeLocked(); err != nil {
		l.mu.Unlock()
		return err
	}
	// Appends of the same epoch that come meanwhile, or after a full disk has refused the file, must wait for it as well.
	l.epochsOwed.Store(true)
	if p.o.Origin == OriginReplica {
		for _, b := range p.batches {
			if e, _ := l.epochs.latest(); b.PartitionLeaderEpoch() > e.Epoch && b.BaseOffset() >= l.off.load().LogEnd {
				l.epochs.assign(b.PartitionLeaderEpoch(), b.BaseOffset())
			}
		}
	} else if e, _ := l.epochs.latest(); newest > e.Epoch {
		l.epochs.assign(newest, l.off.load().LogEnd)
	}
	l.mu.Unlock()
	return l.payEpochs()
}

// payEpochs writes the leader epochs that are owed to their file.
func (l *Log) payEpochs() error {
	if err := l.epochs.flush(); err != nil {
		return l.ioError(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.epochs.dirty() {
		l.epochsOwed.Store(false)
	}
	return nil
}

// plan cuts and validates the batches, without the lock.
func (l *Log) plan(p *appendPlan) error {
	cfg := l.cfg.Load()
	p.batches = p.few[:0]
	for rest := p.bytes; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			return l.batchError(err)
		}
		if err := l.validate(b, cfg, p); err != nil {
			return err
		}
		p.batches = append(p.batches, b)
		p.records += int64(b.LastOffsetDelta()) + 1
		rest = next
	}
	if len(p.batches) == 0 {
		return fmt.Errorf("%w: %s: append of no batch", ErrInvalidRecord, l.tp)
	}
	if int64(len(p.bytes)) > cfg.SegmentBytes && p.o.Origin != OriginReplica {
		return fmt.Errorf("%w: %s: append of %d bytes, segment.bytes is %d", ErrTooLarge, l.tp, len(p.bytes), cfg.SegmentBytes)
	}
	return nil
}

func (l *Log) validate(b record.Batch, cfg *LogConfig, p *appendPlan) error {
	client := p.o.Origin == OriginClient
	opts := record.ValidateOptions{Internal: !client, SkipCRC: p.o.Validated, ZstdForbidden: p.o.ZstdForbidden}
	if client {
		opts.MaxBytes = cfg.MessageBytesMax
		opts.Strict = cfg.Strict
		opts.KeyRequired = cfg.Cleanup&CleanupCompact != 0
	}
	if opts.Strict || opts.KeyRequired {
		opts.Times = &record.TimestampRange{}
	}
	if err := b.Validate(opts); err != nil {
		return l.batchError(err)
	}
	if p.o.Origin == OriginReplica {
		return nil
	}
	if cfg.TimestampType == record.LogAppendTime {
		b.SetMaxTimestampLogAppend(p.nowMs)
		return nil
	}
	if !client {
		return nil
	}
	return l.checkTimestamps(b, opts.Times, cfg, p.nowMs)
}

// checkTimestamps holds the timestamps against the window around now, and repairs the batch's largest one, by which the time index and
// retention go: from the records where they have been looked at, else only where the header contradicts itself.
func (l *Log) checkTimestamps(b record.Batch, times *record.TimestampRange, cfg *LogConfig, nowMs int64) error {
	first := b.FirstTimestamp()
	switch {
	case times == nil:
		b.NormalizeMaxTimestamp()
	case times.MaxMs != b.MaxTimestamp():
		b.SetMaxTimestamp(times.MaxMs)
	}
	if times != nil {
		first = times.MinMs
	}
	if ts := b.MaxTimestamp(); ts != record.NoTimestamp && ts > nowMs && ts-nowMs > cfg.TimestampAfterMaxMs {
		return fmt.Errorf("%w: %s: timestamp %d is %d ms after the broker's %d, message.timestamp.after.max.ms is %d",
			ErrInvalidTimestamp, l.tp, ts, ts-nowMs, nowMs, cfg.TimestampAfterMaxMs)
	}
	if ts := first; ts != record.NoTimestamp && ts < nowMs && nowMs-ts > cfg.TimestampBeforeMaxMs {
		return fmt.Errorf("%w: %s: timestamp %d is %d ms before the broker's %d, message.timestamp.before.max.ms is %d",
			ErrInvalidTimestamp, l.tp, ts, nowMs-ts, nowMs, cfg.TimestampBeforeMaxMs)
	}
	return nil
}

// batchError gives an error of package record this package's class.
func (l *Log) batchError(err error) error {
	class := ErrInvalidRecord
	for _, c := range []struct{ from, to error }{
		{record.ErrCorrupt, ErrCorrupt},
		{record.ErrTooLarge, ErrTooLarge},
		{record.ErrInvalidTimestamp, ErrInvalidTimestamp},
		{record.ErrUnsupportedMagic, ErrUnsupportedFormat},
		{record.ErrUnsupportedCodec, ErrUnsupportedCodec},
	} {
		if errors.Is(err, c.from) {
			class = c.to
			break
		}
	}
	return fmt.Errorf("%w: %s: %w", class, l.tp, err)
}

// appendPlanned does the part under the lock. The view is set when offsets moved.
func (l *Log) appendPlanned(p *appendPlan) (res AppendResult, v *offsetView, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.failure.Load(); f != nil {
		return res, nil, f.err
	}
	if l.mu.cutting {
		return res, nil, l.refuseCutting()
	}
	cfg := l.cfg.Load()
	old := l.off.load()
	res = AppendResult{LogAppendTimeMs: record.NoTimestamp, LogStartOffset: old.LogStart}
	if cfg.TimestampType == record.LogAppendTime {
		res.LogAppendTimeMs = p.nowMs
	}
	if err := l.stampLocked(p, old.LogEnd, &res); err != nil {
		return res, nil, err
	}
	if p.o.Origin != OriginReplica {
		dup, err := l.checkProducersLocked(p, &res)
		if dup || err != nil {
			return res, nil, err
		}
	}
	if p.o.Origin == OriginClient {
		// Not before: a repeat of what is written already is acknowledged whatever the disk.
		if err := l.dir.admit(); err != nil {
			return res, nil, err
		}
	}
	seg, err := l.segmentForLocked(p, cfg, old.LogEnd)
	if err != nil {
		return res, nil, err
	}
	if err := l.reserveAbortsLocked(p, seg); err != nil {
		return res, nil, err
	}
	pos := seg.size.Load()
	if err := l.writeLocked(seg, p.bytes, pos); err != nil {
		if x := seg.txns.Load(); x != nil {
			if cut := x.giveBack(); cut != nil {
				return res, nil, l.ioError(cut)
			}
		}
		return res, nil, err
	}
	if err := l.noteLocked(p, seg, pos); err != nil {
		return res, nil, err
	}
	a := noAdvance()
	a.logEnd, a.logEndAt = res.EndOffset, place{segment: seg.base, pos: pos + int64(len(p.bytes))}
	l.counters.appends.Add(1)
	l.counters.appendedBytes.Add(int64(len(p.bytes)))
	l.dir.space.appended.Add(int64(len(p.bytes)))
	v = l.applyLocked(a)
	// Only now: the fsync may end before this function does, and durable may not pass a log end that is not known yet.
	l.stream.Written(seg.file, pos, len(p.bytes), res.EndOffset)
	return res, v, nil
}

// stampLocked assigns offsets and epoch, in the bytes and in res.
func (l *Log) stampLocked(p *appendPlan, logEnd int64, res *AppendResult) error {
	latest, _ := l.epochs.latest()
	if p.o.Origin == OriginReplica {
		for next, i := logEnd, 0; i < len(p.batches); i++ {
			if b := p.batches[i]; b.BaseOffset() < next {
				return fmt.Errorf("%w: %s: replicated batch at offset %d, log end is %d", ErrOffsetOutOfRange, l.tp, b.BaseOffset(), next)
			}
			next = p.batches[i].NextOffset()
		}
	} else {
		if logEnd > math.MaxInt64-p.records {
			return fmt.Errorf("%w: %s: no offsets left after %d", ErrOffsetOutOfRange, l.tp, logEnd)
		}
		epoch := p.o.LeaderEpoch
		if epoch >= 0 && epoch < latest.Epoch {
			return fmt.Errorf("%w: %s: got %d, the log has %d", ErrStaleLeaderEpoch, l.tp, epoch, latest.Epoch)
		}
		epoch = max(epoch, latest.Epoch)
		next := logEnd
		for _, b := range p.batches {
			b.SetBaseOffset(next)
			b.SetPartitionLeaderEpoch(epoch)
			next = b.NextOffset()
		}
	}
	res.BaseOffset = p.batches[0].BaseOffset()
	res.LastOffset = p.batches[len(p.batches)-1].LastOffset()
	res.EndOffset = res.LastOffset + 1
	return nil
}

// checkProducersLocked runs the idempotence checks. For a repeat it fills res with the first time's offsets.
func (l *Log) checkProducersLocked(p *appendPlan, res *AppendResult) (duplicate bool, err error) {
	for _, b := range p.batches {
		pb, ok, err := producerBatchOf(b)
		if err != nil {
			return false, l.batchError(err)
		}
		if !ok {
			continue
		}
		dup, isDup, err := l.mu.producers.check(pb, p.o.Origin == OriginClient)
		if err != nil {
			return false, fmt.Errorf("%s: %w", l.tp, err)
		}
		if isDup {
			l.counters.duplicates.Add(1)
			res.Duplicate, res.BaseOffset, res.LastOffset, res.EndOffset = true, dup.BaseOffset, dup.LastOffset, dup.LastOffset+1
			if res.LogAppendTimeMs != record.NoTimestamp {
				res.LogAppendTimeMs = dup.TimestampMs
			}
			return true, nil
		}
	}
	return false, nil
}

// writeLocked puts the bytes behind the last batch, or leaves the segment as it was.
func (l *Log) writeLocked(seg *segment, bytes []byte, pos int64) error {
	n, err := seg.file.WriteAt(bytes, pos)
	if err == nil {
		return nil
	}
	if n == 0 && lacksResources(err) || !isNoSpace(err) {
		return l.ioError(fmt.Errorf("append to %s at byte %d: %w", seg.path(), pos, err))
	}
	// What arrived of the batch must go before anything else is written: a later, shorter batch would leave its rest behind
	// as a torn batch in the middle of the log.
	if merr := l.dir.cuts.begin(); merr != nil {
		return l.failDir(merr)
	}
	if terr := seg.file.Truncate(pos); terr != nil {
		return l.failDir(fmt.Errorf("cut back %s to byte %d after a full disk: %w", seg.path(), pos, terr))
	}
	l.mu.cutting = true
	l.mu.cuts++
	l.stream.TruncateTo(seg.file, l.off.load().LogEnd)
	l.dir.sched.Go(l.finishCut)
	l.store.log.Warn("disk full, append refused", "partition", l.tp.String(), "path", seg.path(), "pos", pos, "bytes", len(bytes), "written", n)
	return fmt.Errorf("%w: %s: append of %d bytes at byte %d: %w", ErrNoSpace, l.tp, len(bytes), pos, err)
}

func (l *Log) refuseCutting() error {
	return fmt.Errorf("%w: %s: the rest of a failed write is being cut off", ErrNoSpace, l.tp)
}

// finishCut makes the cut of a failed write durable, on a worker of the directory, and opens the log again.
func (l *Log) finishCut() {
	if l.syncCut() == nil {
		l.dir.cuts.end()
	}
}

// syncCut makes a cut durable; appends that waited for one are taken again.
func (l *Log) syncCut() error {
	l.mu.Lock()
	cuts := l.mu.cuts
	l.mu.Unlock()
	err := l.stream.SyncNow()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.mu.cuts == cuts {
		l.mu.cutting = false
	}
	return err
}

// noteLocked brings indexes, epochs and producers up to the batches just written at pos.
func (l *Log) noteLocked(p *appendPlan, seg *segment, pos int64) error {
	at := pos
	for _, b := range p.batches {
		seg.note(b, at)
		at += int64(len(b))
		l.epochs.assign(b.PartitionLeaderEpoch(), b.BaseOffset())
		if err := l.noteProducerLocked(b, seg, p.nowMs); err != nil {
			return err
		}
	}
	// Published last: a reader that sees the size finds whole batches below it.
	seg.size.Store(at)
	return nil
}

// noteProducerLocked updates the producer state for a batch in the log, and the segment's transaction index when it ends
// an aborted transaction that the index does not have yet.
func (l *Log) noteProducerLocked(b record.Batch, seg *segment, nowMs int64) error {
	pb, ok, err := producerBatchOf(b)
	if err != nil || !ok {
		return err
	}
	txn, ended := l.mu.producers.update(pb, nowMs)
	if pb.Transactional {
		l.openTxns.Store(true)
	}
	if !ended || txn.Committed {
		return nil
	}
	x, err := seg.txnIndex()
	if err != nil {
		return l.ioError(err)
	}
	if have := x.load(); len(have) > 0 && have[len(have)-1].LastOffset >= txn.LastOffset {
		return nil
	}
	if !l.loaded.Load() && txn.LastOffset < l.start.recoveryPoint {
		l.tellMissing(x, txn.AbortedTxn)
	}
	if err := x.append(txn.AbortedTxn); err != nil {
		// The marker is written, so a reader of committed records would miss that it aborts. The next start rebuilds the index.
		return l.offline(err)
	}
	return nil
}

// reserveAbortsLocked takes the space in the transaction index that the aborts of an append need, before its first byte is written: a
// full disk must refuse the marker, since a marker that is written cannot do without its entry.
func (l *Log) reserveAbortsLocked(p *appendPlan, seg *segment) error {
	n := 0
	var began map[int64]bool // by producer, of transactions within the append; nil while there are none
	for _, b := range p.batches {
		if !b.IsTransactional() {
			continue
		}
		pb, ok, err := producerBatchOf(b)
		if err != nil {
			return l.batchError(err)
		}
		switch {
		case !ok:
		case !pb.Marker && len(p.batches) > 1:
			if began == nil {
				began = map[int64]bool{}
			}
			began[pb.ProducerID] = true
		case pb.Marker:
			if !pb.Commit && (began[pb.ProducerID] || l.mu.producers.inTxn(pb.ProducerID)) {
				n++
			}
		}
	}
	if n == 0 {
		return nil
	}
	x, err := seg.txnIndex()
	if err == nil {
		err = x.reserve(n)
	}
	if err == nil {
		return nil
	}
	if isNoSpace(err) {
		l.store.log.Warn("disk full, end of a transaction refused", "partition", l.tp.String(), "error", err)
	}
	return l.ioError(err)
}

// isNoSpace says whether the disk, or a quota, is full.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// lacksResources says whether an operation was not even tried, for want of descriptors or memory: no verdict on the disk.
func lacksResources(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}
