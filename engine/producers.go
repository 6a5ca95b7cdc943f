package engine

import (
	"fmt"
	"log/slog"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/vfs"
)

const (
	// producerBatchesKept is how many of a producer's last batches are remembered for duplicate detection; clients keep
	// at most five requests in flight under idempotence, so a retry is always among them.
	producerBatchesKept = 5
	noProducerID        = int64(-1)
	noProducerEpoch     = int16(-1)
	noSequence          = int32(-1)
	noTxnOffset         = int64(-1)
)

// producerOptions configures a producerState.
type producerOptions struct {
	FS     vfs.FS
	Dir    string // the partition's directory, home of the snapshots
	Logger *slog.Logger
	// ExpirationMs is producer.id.expiration.ms: an idle producer without open transaction is forgotten after it.
	// Default: 86,400,000 (one day).
	ExpirationMs int64
	// CountMax bounds the producers remembered; beyond it the least recently used without open transaction is forgotten,
	// which costs that producer its duplicate detection, never a write. Default: 65,536 (about 16 MiB when full).
	CountMax int
}

// EnsureDefaults fills in zero fields.
func (o *producerOptions) EnsureDefaults() {
	if o.ExpirationMs == 0 {
		o.ExpirationMs = 86_400_000
	}
	if o.CountMax == 0 {
		o.CountMax = 65_536
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// producerBatch is what the producer state needs of one record batch; build it with producerBatchOf. Offsets are those
// in the header and may be provisional for check, final for update.
type producerBatch struct {
	ProducerID             int64
	Epoch                  int16
	BaseSequence           int32 // -1 when the producer uses no sequences (coordinator writes)
	LastSequence           int32
	BaseOffset, LastOffset int64
	MaxTimestampMs         int64
	Transactional          bool
	// Marker is set for a transaction marker (a control batch that commits or aborts).
	Marker bool
	// Commit and CoordinatorEpoch describe the marker.
	Commit           bool
	CoordinatorEpoch int32
}

// producerDuplicate is the batch that a retry repeats: its offsets and its max timestamp as first written.
type producerDuplicate struct {
	BaseOffset, LastOffset int64
	TimestampMs            int64
}

// completedTxn is a transaction that a marker has just ended.
type completedTxn struct {
	AbortedTxn
	Committed bool
}

// batchMeta is one remembered batch.
type batchMeta struct {
	lastSequence int32
	offsetDelta  int32 // last offset - first offset; also last - first sequence
	lastOffset   int64
	timestampMs  int64
}

func (m batchMeta) firstSequence() int32 { return addSequence(m.lastSequence, -m.offsetDelta) }

// producerEntry is the state of one producer id. An empty entry (count 0) knows the epoch only.
type producerEntry struct {
	id               int64
	epoch            int16
	count            uint8 // batches[:count] are valid, oldest first
	coordinatorEpoch int32
	txnFirstOffset   int64 // -1: no open transaction
	timestampMs      int64 // of the last batch or marker, as stored in snapshots
	seenMs           int64 // broker clock of the last update or load, for expiry
	batches          [producerBatchesKept]batchMeta
	prev, next       *producerEntry // use order, most recent first; owned by producerState
}

func (e *producerEntry) lastSequence() int32 {
	if e.count == 0 {
		return noSequence
	}
	return e.batches[e.count-1].lastSequence
}

func (e *producerEntry) addBatch(m batchMeta) {
	if e.count == producerBatchesKept {
		copy(e.batches[:], e.batches[1:])
		e.count--
	}
	e.batches[e.count] = m
	e.count++
}

// setEpoch moves to another epoch, which starts without batches.
func (e *producerEntry) setEpoch(epoch int16) {
	if e.epoch != epoch {
		e.epoch, e.count = epoch, 0
	}
}

// openTxn is a transaction that is not finished, or (last >= 0) finished by a marker that is not yet below the high
// watermark.
type openTxn struct{ producerID, first, last int64 }

// producerState is what a partition knows of its idempotent and transactional producers: per producer id the epoch and
// the last five batches, the open transactions and, for the last stable offset, those whose marker is not below the
// high watermark yet.
//
// All methods need the log's lock, except writeSnapshot, which is made to run on a worker. An append runs check on each
// batch, assigns offsets, writes, and calls update for each batch in offset order; recovery and truncation call reload,
// then update for every batch from the offset that reload gave. A partition without such producers owns no memory beyond
// the struct.
type producerState struct {
	opts     producerOptions
	entries  map[int64]*producerEntry
	recent   producerEntry // list head: next is the most, prev the least recently used
	ongoing  []openTxn     // by first offset
	finished []openTxn     // by first offset; marker at or above the high watermark

	snapshots struct {
		sync.Mutex // held while the files are written and removed; no append takes it
		listed     bool
		offsets    []int64 // ascending
		// generation is bumped by every truncation: a snapshot prepared before it is not written. Changed under the log's lock and this one,
		// so that an append reads it without waiting for whoever is at the files: a fsync behind a busy disk takes seconds.
		generation atomic.Uint64
		// staged and stagedIn are offset and generation of the snapshot that stageSnapshot has put in place; -1: none.
		staged   int64
		stagedIn uint64
	}
}

// newProducerState gives an empty state that has not looked at the disk yet.
func newProducerState(opts producerOptions) *producerState {
	opts.EnsureDefaults()
	s := &producerState{opts: opts}
	s.snapshots.staged = -1
	s.recent.next, s.recent.prev = &s.recent, &s.recent
	return s
}

// addSequence steps a sequence number by delta; sequences run from 0 to MaxInt32 and wrap to 0.
func addSequence(seq, delta int32) int32 {
	if seq < 0 {
		return seq
	}
	return int32((int64(seq) + int64(delta)) & math.MaxInt32)
}

// count is the number of producers remembered.
func (s *producerState) count() int { return len(s.entries) }

// check validates a batch that is about to be appended, without changing anything. client is false for writes by the
// broker itself (markers, group and transaction state), whose sequences are not checked. A repeated batch is no error:
// isDuplicate is true and dup tells where it lies; it must not be appended again. Errors match ErrInvalidProducerEpoch,
// ErrOutOfOrderSequence, ErrCoordinatorFenced or ErrInvalidTxnState. Not for replication and recovery: what a leader
// accepted is taken as it is.
func (s *producerState) check(b producerBatch, client bool) (dup producerDuplicate, isDuplicate bool, err error) {
	e := s.entries[b.ProducerID]
	if e == nil {
		// Unknown (new, expired or deleted with the log's start): any sequence is taken, as it cannot be judged.
		return dup, false, nil
	}
	if b.Epoch < e.epoch {
		return dup, false, fmt.Errorf("%w: producer id %d: epoch got %d, want at least %d",
			ErrInvalidProducerEpoch, b.ProducerID, b.Epoch, e.epoch)
	}
	if b.Marker {
		if b.CoordinatorEpoch < e.coordinatorEpoch {
			return dup, false, fmt.Errorf("%w: producer id %d: coordinator epoch got %d, want at least %d",
				ErrCoordinatorFenced, b.ProducerID, b.CoordinatorEpoch, e.coordinatorEpoch)
		}
		return dup, false, nil
	}
	if client && b.BaseSequence >= 0 {
		if dup, ok := e.findDuplicate(b); ok {
			return dup, true, nil
		}
		if err := e.checkSequence(b); err != nil {
			return dup, false, err
		}
	}
	if e.txnFirstOffset >= 0 && !b.Transactional {
		return dup, false, fmt.Errorf("%w: producer id %d: batch is not transactional while the transaction from offset %d is open",
			ErrInvalidTxnState, b.ProducerID, e.txnFirstOffset)
	}
	return dup, false, nil
}

// inTxn says whether the producer has a transaction open.
func (s *producerState) inTxn(id int64) bool {
	e := s.entries[id]
	return e != nil && e.txnFirstOffset >= 0
}

func (e *producerEntry) findDuplicate(b producerBatch) (producerDuplicate, bool) {
	if b.Epoch != e.epoch {
		return producerDuplicate{}, false
	}
	for _, m := range e.batches[:e.count] {
		if m.lastSequence == b.LastSequence && m.firstSequence() == b.BaseSequence {
			return producerDuplicate{
				BaseOffset: m.lastOffset - int64(m.offsetDelta), LastOffset: m.lastOffset, TimestampMs: m.timestampMs,
			}, true
		}
	}
	return producerDuplicate{}, false
}

func (e *producerEntry) checkSequence(b producerBatch) error {
	want := int32(0)
	if b.Epoch == e.epoch && e.lastSequence() >= 0 {
		want = addSequence(e.lastSequence(), 1)
	}
	if b.BaseSequence != want {
		return fmt.Errorf("%w: producer id %d epoch %d: base sequence got %d, want %d (last known epoch %d, sequence %d)",
			ErrOutOfOrderSequence, b.ProducerID, b.Epoch, b.BaseSequence, want, e.epoch, e.lastSequence())
	}
	return nil
}

// update notes a batch that is in the log at its final offsets. nowMs is the broker's clock. For a marker that ends a
// transaction with records in this partition, ended is true and txn describes it; an aborted one belongs into the
// segment's txnIndex.
func (s *producerState) update(b producerBatch, nowMs int64) (txn completedTxn, ended bool) {
	e := s.entries[b.ProducerID]
	if e == nil {
		e = s.insert(b.ProducerID)
		e.epoch = b.Epoch
	}
	s.touch(e)
	e.setEpoch(b.Epoch)
	e.seenMs, e.timestampMs = nowMs, b.MaxTimestampMs
	if b.Marker {
		e.coordinatorEpoch = b.CoordinatorEpoch
		return s.endTxn(e, b)
	}
	e.addBatch(batchMeta{
		lastSequence: b.LastSequence, offsetDelta: int32(b.LastOffset - b.BaseOffset),
		lastOffset: b.LastOffset, timestampMs: b.MaxTimestampMs,
	})
	if b.Transactional && e.txnFirstOffset < 0 {
		e.txnFirstOffset = b.BaseOffset
		s.ongoing = insertTxn(s.ongoing, openTxn{producerID: b.ProducerID, first: b.BaseOffset, last: noTxnOffset})
	}
	return completedTxn{}, false
}

func (s *producerState) endTxn(e *producerEntry, b producerBatch) (completedTxn, bool) {
	if e.txnFirstOffset < 0 {
		// A marker without records here moves no offset and hides no record.
		return completedTxn{}, false
	}
	first := e.txnFirstOffset
	e.txnFirstOffset = noTxnOffset
	for i, t := range s.ongoing {
		if t.producerID == e.id {
			s.ongoing = append(s.ongoing[:i], s.ongoing[i+1:]...)
			break
		}
	}
	s.finished = insertTxn(s.finished, openTxn{producerID: e.id, first: first, last: b.LastOffset})
	lastStable := b.LastOffset + 1
	if len(s.ongoing) > 0 {
		lastStable = s.ongoing[0].first
	}
	return completedTxn{
		AbortedTxn: AbortedTxn{ProducerID: e.id, FirstOffset: first, LastOffset: b.LastOffset, LastStableOffset: lastStable},
		Committed:  b.Commit,
	}, true
}

func insertTxn(list []openTxn, t openTxn) []openTxn {
	i := sort.Search(len(list), func(i int) bool { return list[i].first > t.first })
	list = append(list, openTxn{})
	copy(list[i+1:], list[i:])
	list[i] = t
	return list
}

// firstUnstableOffset is the first offset that belongs to a transaction which is open or whose marker lies at or above
// highWatermark; ok is false when there is none, and the last stable offset is the high watermark.
// It forgets the finished ones below highWatermark.
func (s *producerState) firstUnstableOffset(highWatermark int64) (offset int64, ok bool) {
	kept := s.finished[:0]
	for _, t := range s.finished {
		if t.last >= highWatermark {
			kept = append(kept, t)
		}
	}
	s.finished = kept
	switch {
	case len(s.ongoing) == 0 && len(s.finished) == 0:
		return 0, false
	case len(s.finished) == 0 || (len(s.ongoing) > 0 && s.ongoing[0].first < s.finished[0].first):
		return s.ongoing[0].first, true
	default:
		return s.finished[0].first, true
	}
}

// activeProducers copies, for the cleaner, the last data offset and epoch of every producer.
func (s *producerState) activeProducers() map[int64]activeProducer {
	out := make(map[int64]activeProducer, len(s.entries))
	for id, e := range s.entries {
		a := activeProducer{Epoch: e.epoch, LastDataOffset: -1}
		if e.count > 0 {
			a.LastDataOffset = e.batches[e.count-1].lastOffset
		}
		out[id] = a
	}
	return out
}

// activeProducer is what the cleaner needs of a producer: its epoch and the last offset of its newest data batch (-1: none).
type activeProducer struct {
	Epoch          int16
	LastDataOffset int64
}

// expire forgets producers that were not seen for ExpirationMs and have no open transaction; it returns how many.
func (s *producerState) expire(nowMs int64) int {
	n := 0
	for e := s.recent.prev; e != &s.recent; {
		older := e.prev
		if nowMs-e.seenMs < s.opts.ExpirationMs {
			break // everything else was seen later
		}
		if e.txnFirstOffset < 0 {
			s.remove(e)
			n++
		}
		e = older
	}
	return n
}

// clear forgets everything in memory.
func (s *producerState) clear() {
	s.entries = nil
	s.recent.next, s.recent.prev = &s.recent, &s.recent
	s.ongoing, s.finished = nil, nil
}

func (s *producerState) insert(id int64) *producerEntry {
	if s.entries == nil {
		s.entries = make(map[int64]*producerEntry)
	}
	for e := s.recent.prev; len(s.entries) >= s.opts.CountMax && e != &s.recent; {
		older := e.prev
		if e.txnFirstOffset < 0 {
			s.remove(e)
		}
		e = older
	}
	e := &producerEntry{id: id, epoch: noProducerEpoch, txnFirstOffset: noTxnOffset}
	s.entries[id] = e
	s.link(e)
	return e
}

func (s *producerState) link(e *producerEntry) {
	e.next, e.prev = s.recent.next, &s.recent
	e.next.prev, s.recent.next = e, e
}

func (s *producerState) unlink(e *producerEntry) { e.prev.next, e.next.prev = e.next, e.prev }

func (s *producerState) touch(e *producerEntry) {
	if s.recent.next != e {
		s.unlink(e)
		s.link(e)
	}
}

func (s *producerState) remove(e *producerEntry) {
	s.unlink(e)
	delete(s.entries, e.id)
}
