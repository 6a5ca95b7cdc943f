package engine

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/record"
)

// txnTracker follows transactions through the batches of one cleaning pass, in offset order: which data batches belong
// to an aborted transaction, and which markers have no data left in front of them.
type txnTracker struct {
	aborted []AbortedTxn // by first offset, not yet reached
	ongoing map[int64]bool
	// observed holds the producers of which a transactional batch was seen since their last marker.
	observed map[int64]bool
}

// newTxnTracker takes the aborted transactions that overlap the range, by first offset.
func newTxnTracker(aborted []AbortedTxn) *txnTracker {
	return &txnTracker{aborted: aborted, ongoing: map[int64]bool{}, observed: map[int64]bool{}}
}

func (t *txnTracker) reach(offset int64) {
	for len(t.aborted) > 0 && t.aborted[0].FirstOffset <= offset {
		t.ongoing[t.aborted[0].ProducerID] = true
		t.aborted = t.aborted[1:]
	}
}

// onData says whether the records of a data batch were aborted.
func (t *txnTracker) onData(b record.Batch) (aborted bool) {
	t.reach(b.LastOffset())
	if !b.IsTransactional() {
		return false
	}
	t.observed[b.ProducerID()] = true
	return t.ongoing[b.ProducerID()]
}

// onMarker says whether the marker b ends a transaction of which no batch is left: then it may go, in time.
func (t *txnTracker) onMarker(b record.Batch) (discardable bool) {
	t.reach(b.LastOffset())
	id := b.ProducerID()
	discardable = !t.observed[id]
	delete(t.observed, id)
	delete(t.ongoing, id)
	return discardable
}

// cleanStats counts what a cleaning did.
type cleanStats struct {
	BytesRead, BytesWritten     int64
	RecordsRead, RecordsWritten int64
	InvalidRecords              int64 // without key
}

// cleanFilter decides, batch by batch, what of a compacted log stays:
//
//   - of each key the newest record, as far as the map reaches; what lies beyond it stays;
//   - a tombstone (null value) until its delete horizon has passed: the first cleaning that meets it sets the horizon
//     to now + delete.retention.ms in the batch (KIP-534), so that every consumer that reads within that time sees it;
//   - no record of an aborted transaction;
//   - a transaction's marker while a batch of the transaction is left, then until its own delete horizon;
//   - the newest batch of every known producer, without records if need be, because a restart learns the producer's
//     sequence from it; in its place the newest marker, for the epoch.
//
// A batch that stays whole is copied as it is; of others a batch with the same offsets, producer and codec is made.
type cleanFilter struct {
	keys              *offsetMap
	txns              *txnTracker
	producers         map[int64]activeProducer
	nowMs             int64
	deleteRetentionMs int64
	recordBytesMax    int
	stats             cleanStats

	builder *record.Builder
	buf     []byte // for decompression
	keep    []bool // by record of the batch at hand
	copied  bool   // the last batch was appended unchanged
}

// apply appends to dst what stays of b. Errors are those of opening the batch.
func (f *cleanFilter) apply(dst []byte, b record.Batch) ([]byte, error) {
	f.copied = false
	f.stats.BytesRead += int64(len(b))
	f.stats.RecordsRead += int64(b.RecordCount())
	before := len(dst)
	var err error
	if b.IsControl() {
		dst, err = f.control(dst, b)
	} else {
		dst, err = f.data(dst, b)
	}
	if err != nil {
		return dst, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
	}
	f.stats.BytesWritten += int64(len(dst) - before)
	if len(dst) > before {
		f.stats.RecordsWritten += int64(record.Batch(dst[before:]).RecordCount())
	}
	return dst, nil
}

func (f *cleanFilter) copy(dst []byte, b record.Batch) []byte {
	f.copied = true
	return append(dst, b...)
}

// drop leaves nothing of b, or its header when it holds the producer's last sequence.
func (f *cleanFilter) drop(dst []byte, b record.Batch) []byte {
	switch {
	case !f.lastOfProducer(b):
		return dst
	case b.RecordCount() == 0:
		return f.copy(dst, b)
	default:
		return appendEmptyBatch(dst, b)
	}
}

func (f *cleanFilter) lastOfProducer(b record.Batch) bool {
	p, ok := f.producers[b.ProducerID()]
	if !ok || b.ProducerID() < 0 {
		return false
	}
	if p.LastDataOffset >= 0 {
		return b.LastOffset() == p.LastDataOffset
	}
	return b.IsControl() && b.ProducerEpoch() == p.Epoch
}

func (f *cleanFilter) control(dst []byte, b record.Batch) ([]byte, error) {
	if b.ProducerID() < 0 {
		return f.copy(dst, b), nil // not a transaction marker
	}
	if b.RecordCount() == 0 {
		return f.drop(dst, b), nil
	}
	it := b.Records(f.buf, f.recordBytesMax)
	if !it.Next() {
		return dst, it.Err()
	}
	r := it.Record()
	kind, _, err := record.ParseEndTxnMarker(r)
	if err != nil {
		return dst, err
	}
	if kind != record.ControlCommit && kind != record.ControlAbort {
		return f.copy(dst, b), nil
	}
	if !f.txns.onMarker(b) {
		return f.copy(dst, b), nil
	}
	if b.HasDeleteHorizon() {
		if b.FirstTimestamp() <= f.nowMs {
			return f.drop(dst, b), nil
		}
		return f.copy(dst, b), nil
	}
	f.prepare(b, true)
	f.builder.AppendControl(it.Timestamp(), kind, int16(binary.BigEndian.Uint16(r.Key)), r.Value)
	dst = f.builder.Finish(dst)
	f.buf = it.Buffer()
	return dst, nil
}

func (f *cleanFilter) data(dst []byte, b record.Batch) ([]byte, error) {
	if f.txns.onData(b) || b.RecordCount() == 0 {
		return f.drop(dst, b), nil
	}
	if b.BaseOffset() > f.keys.lastOffset {
		return f.copy(dst, b), nil
	}
	kept, tombstones, err := f.choose(b)
	if err != nil {
		return dst, err
	}
	setHorizon := tombstones && !b.HasDeleteHorizon()
	switch {
	case kept == 0:
		return f.drop(dst, b), nil
	case kept == len(f.keep) && !setHorizon:
		return f.copy(dst, b), nil
	}
	f.prepare(b, setHorizon)
	it := b.Records(f.buf, f.recordBytesMax)
	for i := 0; it.Next(); i++ {
		if f.keep[i] {
			r := it.Record()
			f.builder.AppendAt(it.Offset(), it.Timestamp(), r.Key, r.Value, r.Headers...)
		}
	}
	f.buf = it.Buffer()
	if err := it.Err(); err != nil {
		return dst, err
	}
	return f.builder.Finish(dst), nil
}

// choose fills keep for the records of b; tombstones says that one of those kept has no value.
func (f *cleanFilter) choose(b record.Batch) (kept int, tombstones bool, err error) {
	f.keep = f.keep[:0]
	horizonPassed := b.HasDeleteHorizon() && b.FirstTimestamp() <= f.nowMs
	it := b.Records(f.buf, f.recordBytesMax)
	next := b.BaseOffset()
	for it.Next() {
		r := it.Record()
		keep := true
		offset := it.Offset()
		if offset < next || offset > b.LastOffset() {
			// Only produce requests to compacted topics are opened, and this topic may have been none when it was written.
			f.buf = it.Buffer()
			return 0, false, fmt.Errorf("%w: record offset got %d, want %d to %d", record.ErrCorrupt, offset, next, b.LastOffset())
		}
		next = offset + 1
		switch {
		case offset > f.keys.lastOffset:
		case r.Key == nil:
			f.stats.InvalidRecords++
			keep = false
		case offset < f.keys.get(r.Key):
			keep = false
		case r.Value == nil:
			keep = !horizonPassed
			tombstones = tombstones || keep
		}
		if keep {
			kept++
		}
		f.keep = append(f.keep, keep)
	}
	f.buf = it.Buffer()
	return kept, tombstones, it.Err()
}

// prepare sets the builder up for a batch with the header of b.
func (f *cleanFilter) prepare(b record.Batch, setHorizon bool) {
	f.builder.Reset()
	f.builder.SetCodec(b.Codec(), compression.LevelDefault)
	f.builder.SetBaseOffset(b.BaseOffset())
	f.builder.SetLastOffset(b.LastOffset())
	f.builder.SetPartitionLeaderEpoch(b.PartitionLeaderEpoch())
	f.builder.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	f.builder.SetTransactional(b.IsTransactional())
	if b.TimestampType() == record.LogAppendTime {
		f.builder.SetLogAppendTime(b.MaxTimestamp())
	}
	switch {
	case setHorizon:
		f.builder.SetDeleteHorizon(addMs(f.nowMs, f.deleteRetentionMs))
	case b.HasDeleteHorizon():
		f.builder.SetDeleteHorizon(b.FirstTimestamp())
	}
}

// addMs adds without overflow.
func addMs(t, d int64) int64 {
	if d > math.MaxInt64-t {
		return math.MaxInt64
	}
	return t + max(d, 0)
}

// appendEmptyBatch appends the header of b as a batch without records: same offsets and producer, no timestamps, as no
// record has them any more and a time index must not name it.
func appendEmptyBatch(dst []byte, b record.Batch) []byte {
	start := len(dst)
	dst = append(dst, b[:record.HeaderBytes]...)
	e := record.Batch(dst[start:])
	binary.BigEndian.PutUint32(e[record.PosBatchLength:], record.HeaderBytes-record.OverheadBytes)
	binary.BigEndian.PutUint16(e[record.PosAttributes:], uint16(b.Attributes())&^(record.AttrCodecMask|record.AttrHasDeleteHorizon))
	noTime := int64(record.NoTimestamp)
	binary.BigEndian.PutUint64(e[record.PosBaseTimestamp:], uint64(noTime))
	binary.BigEndian.PutUint64(e[record.PosMaxTimestamp:], uint64(noTime))
	binary.BigEndian.PutUint32(e[record.PosRecordCount:], 0)
	e.SetCRC()
	return dst
}
