package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func testProducers(t testing.TB) *producerState {
	fs := vfs.NewMem(vfs.MemOptions{})
	if err := fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	return newProducerState(producerOptions{FS: fs, Dir: "p"})
}

// dataBatch is n records of producer 7 from sequence seq, at offset.
func dataBatch(epoch int16, seq int32, n int32, offset int64) producerBatch {
	return producerBatch{
		ProducerID: 7, Epoch: epoch, BaseSequence: seq, LastSequence: addSequence(seq, n-1),
		BaseOffset: offset, LastOffset: offset + int64(n) - 1, MaxTimestampMs: 1000 + offset,
	}
}

func markerBatch(id int64, epoch int16, commit bool, coordinator int32, offset int64) producerBatch {
	return producerBatch{
		ProducerID: id, Epoch: epoch, BaseSequence: noSequence, LastSequence: noSequence, BaseOffset: offset, LastOffset: offset,
		Marker: true, Commit: commit, CoordinatorEpoch: coordinator, Transactional: true,
	}
}

func TestProducerSequences(t *testing.T) {
	s := testProducers(t)
	next := int64(0)
	appendBatch := func(b producerBatch) {
		t.Helper()
		b.LastOffset = next + b.LastOffset - b.BaseOffset
		b.BaseOffset = next
		if _, dup, err := s.check(b, true); dup || err != nil {
			t.Fatalf("check %+v: duplicate %v, err %v, want a new batch", b, dup, err)
		}
		s.update(b, 0)
		next = b.LastOffset + 1
	}
	refuse := func(b producerBatch, want error) {
		t.Helper()
		if _, dup, err := s.check(b, true); dup || !errors.Is(err, want) {
			t.Fatalf("check %+v: duplicate %v, err %v, want %v", b, dup, err, want)
		}
	}
	appendBatch(dataBatch(0, 41, 2, 0)) // unknown producer: any sequence
	appendBatch(dataBatch(0, 43, 3, 0))
	refuse(dataBatch(0, 47, 1, 0), ErrOutOfOrderSequence)
	refuse(dataBatch(0, 45, 1, 0), ErrOutOfOrderSequence)
	refuse(dataBatch(0, 43, 2, 0), ErrOutOfOrderSequence) // a duplicate must repeat the whole batch
	refuse(dataBatch(1, 5, 1, 0), ErrOutOfOrderSequence)  // a new epoch starts at 0
	appendBatch(dataBatch(1, 0, 1, 0))
	refuse(dataBatch(0, 46, 1, 0), ErrInvalidProducerEpoch)
	refuse(dataBatch(0, 43, 3, 0), ErrInvalidProducerEpoch) // even a repeat
	refuse(dataBatch(1, 43, 3, 0), ErrOutOfOrderSequence)   // a batch of the old epoch is no repeat in the new
	appendBatch(dataBatch(1, 1, 1, 0))
	if _, dup, err := s.check(dataBatch(1, 9, 1, 0), false); dup || err != nil {
		t.Fatalf("the broker's own batch: duplicate %v, err %v, want its sequence not checked", dup, err)
	}
}

func TestProducerDuplicates(t *testing.T) {
	s := testProducers(t)
	var all []producerBatch
	seq := int32(math.MaxInt32 - 5)
	offset := int64(100)
	for n := int32(1); n <= 7; n++ {
		b := dataBatch(3, seq, n, offset)
		s.update(b, 0)
		all = append(all, b)
		seq, offset = addSequence(seq, n), offset+int64(n)+10
	}
	if seq >= math.MaxInt32-5 {
		t.Fatalf("sequence %d did not wrap", seq)
	}
	for i, b := range all {
		again := b
		again.BaseOffset, again.LastOffset = 999, 999+b.LastOffset-b.BaseOffset
		dup, isDup, err := s.check(again, true)
		if i < len(all)-producerBatchesKept {
			if isDup || !errors.Is(err, ErrOutOfOrderSequence) {
				t.Errorf("batch %d, no longer remembered: duplicate %v, err %v, want ErrOutOfOrderSequence", i, isDup, err)
			}
			continue
		}
		want := producerDuplicate{BaseOffset: b.BaseOffset, LastOffset: b.LastOffset, TimestampMs: b.MaxTimestampMs}
		if err != nil || !isDup || dup != want {
			t.Errorf("batch %d: got %+v, %v, %v, want %+v", i, dup, isDup, err, want)
		}
	}
}

func TestProducerTransactions(t *testing.T) {
	s := testProducers(t)
	data := func(id, offset int64) producerBatch {
		b := dataBatch(0, 0, 1, offset)
		b.ProducerID, b.BaseSequence, b.LastSequence, b.Transactional = id, noSequence, noSequence, true
		return b
	}
	wantUnstable := func(highWatermark, want int64, wantOK bool) {
		t.Helper()
		if got, ok := s.firstUnstableOffset(highWatermark); got != want || ok != wantOK {
			t.Fatalf("first unstable offset under high watermark %d: got %d, %v, want %d, %v", highWatermark, got, ok, want, wantOK)
		}
	}
	wantUnstable(10, 0, false)
	s.update(data(1, 10), 0)
	s.update(data(2, 11), 0)
	s.update(data(1, 12), 0)
	wantUnstable(13, 10, true)
	plain := dataBatch(0, 0, 1, 13)
	plain.ProducerID = 1
	if _, _, err := s.check(plain, true); !errors.Is(err, ErrInvalidTxnState) && !errors.Is(err, ErrOutOfOrderSequence) {
		t.Fatalf("plain batch inside a transaction: got %v", err)
	}
	plain.BaseSequence = noSequence
	if _, _, err := s.check(plain, true); !errors.Is(err, ErrInvalidTxnState) {
		t.Fatalf("plain batch inside a transaction: got %v, want ErrInvalidTxnState", err)
	}
	txn, ended := s.update(markerBatch(2, 0, false, 5, 13), 0)
	want := completedTxn{AbortedTxn: AbortedTxn{ProducerID: 2, FirstOffset: 11, LastOffset: 13, LastStableOffset: 10}}
	if !ended || txn != want {
		t.Fatalf("abort: got %+v, %v, want %+v", txn, ended, want)
	}
	txn, ended = s.update(markerBatch(1, 0, true, 5, 14), 0)
	want = completedTxn{AbortedTxn: AbortedTxn{ProducerID: 1, FirstOffset: 10, LastOffset: 14, LastStableOffset: 15}, Committed: true}
	if !ended || txn != want {
		t.Fatalf("commit: got %+v, %v, want %+v", txn, ended, want)
	}
	wantUnstable(13, 10, true) // both markers above the high watermark
	wantUnstable(14, 10, true)
	wantUnstable(15, 0, false)
	if _, ended = s.update(markerBatch(1, 0, true, 5, 15), 0); ended {
		t.Fatal("a marker without a transaction ended one")
	}
	if _, _, err := s.check(markerBatch(1, 0, true, 4, 16), false); !errors.Is(err, ErrCoordinatorFenced) {
		t.Fatalf("marker of an older coordinator: got %v, want ErrCoordinatorFenced", err)
	}
	s.update(markerBatch(1, 2, false, 6, 16), 0)
	if _, _, err := s.check(data(1, 17), true); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Fatalf("batch of an epoch older than a marker's: got %v, want ErrInvalidProducerEpoch", err)
	}
}

func TestProducerExpiryAndBound(t *testing.T) {
	s := newProducerState(producerOptions{ExpirationMs: 100, CountMax: 3})
	add := func(id, nowMs int64, transactional bool) {
		b := dataBatch(0, 0, 1, id)
		b.ProducerID, b.Transactional = id, transactional
		s.update(b, nowMs)
	}
	add(1, 0, true)
	add(2, 10, false)
	add(3, 50, false)
	if n := s.expire(99); n != 0 {
		t.Fatalf("expired %d producers before their time", n)
	}
	if n := s.expire(110); n != 1 || s.count() != 2 || s.entries[1] == nil || s.entries[3] == nil {
		t.Fatalf("expired %d, left %d, want 1 gone and the open transaction kept", n, s.count())
	}
	add(4, 120, false)
	add(3, 130, false)
	add(5, 140, false)
	if s.count() != 3 || s.entries[4] != nil || s.entries[1] == nil {
		t.Fatalf("over the bound: left %d, want the least recently used without transaction gone", s.count())
	}
	for id := int64(10); id < 20; id++ {
		add(id, 150, true)
	}
	if s.count() < 11 {
		t.Fatalf("left %d producers, want no open transaction forgotten", s.count())
	}
}

// buildData makes a batch of n records.
func buildData(offset int64, n int, id int64, epoch int16, seq int32, transactional bool) record.Batch {
	b := record.NewBuilder()
	b.SetBaseOffset(offset)
	b.SetProducer(id, epoch, seq)
	b.SetTransactional(transactional)
	for i := range n {
		b.Append(1000+offset+int64(i), []byte(fmt.Sprint("k", i)), []byte("v"))
	}
	return b.Finish(nil)
}

func buildMarker(offset, id int64, epoch int16, commit bool) record.Batch {
	b := record.Batch(record.AppendEndTxnMarker(nil, record.EndTxnMarker{
		Commit: commit, ProducerID: id, ProducerEpoch: epoch, CoordinatorEpoch: 9, TimestampMs: 1000 + offset,
	}))
	b.SetBaseOffset(offset)
	return b
}

func TestProducerBatchOf(t *testing.T) {
	if _, ok, err := producerBatchOf(buildData(5, 2, -1, -1, -1, false)); ok || err != nil {
		t.Fatalf("batch without producer: got %v, %v", ok, err)
	}
	got, ok, err := producerBatchOf(buildData(5, 2, 7, 3, 11, true))
	want := producerBatch{
		ProducerID: 7, Epoch: 3, BaseSequence: 11, LastSequence: 12, BaseOffset: 5, LastOffset: 6, MaxTimestampMs: 1006, Transactional: true,
	}
	if !ok || err != nil || got != want {
		t.Fatalf("data: got %+v, %v, %v, want %+v", got, ok, err, want)
	}
	got, ok, err = producerBatchOf(buildMarker(9, 7, 3, true))
	want = producerBatch{
		ProducerID: 7, Epoch: 3, BaseSequence: -1, LastSequence: -1, BaseOffset: 9, LastOffset: 9, MaxTimestampMs: 1009,
		Transactional: true, Marker: true, Commit: true, CoordinatorEpoch: 9,
	}
	if !ok || err != nil || got != want {
		t.Fatalf("marker: got %+v, %v, %v, want %+v", got, ok, err, want)
	}
	empty := record.Batch(appendEmptyBatch(nil, buildMarker(9, 7, 3, true)))
	if _, ok, err := producerBatchOf(empty); ok || err != nil {
		t.Fatalf("emptied marker: got %v, %v, want none", ok, err)
	}
	bad := buildMarker(9, 7, 3, true)
	bad[len(bad)-1], bad[record.HeaderBytes] = 0xff, 0xff
	if _, _, err := producerBatchOf(bad); !errors.Is(err, record.ErrCorrupt) {
		t.Fatalf("damaged marker: got %v, want record.ErrCorrupt", err)
	}
	leader := record.NewBuilder()
	leader.SetProducer(7, 0, -1)
	leader.AppendControl(0, record.ControlLeaderChange, 0, []byte("x"))
	if _, ok, _ := producerBatchOf(leader.Finish(nil)); ok {
		t.Fatal("a control batch that is no marker concerns the producer state")
	}
}

// TestProducerStateSurvivesRestart runs random appends, snapshots, truncations and restarts against the plain list of
// batches: the state is always that of a replay of the list.
func TestProducerStateSurvivesRestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem(vfs.MemOptions{})
		if err := fs.MkdirAll("p"); err != nil {
			t.Fatal(err)
		}
		opts := producerOptions{FS: fs, Dir: "p"}
		s := newProducerState(opts)
		var log []producerBatch
		end := int64(0)
		replay := func(s *producerState, from, to int64) {
			for _, b := range log {
				if b.BaseOffset >= from && b.BaseOffset < to {
					s.update(b, 0)
				}
			}
		}
		var pending []pendingSnapshot
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				b := dataBatch(int16(rapid.IntRange(0, 1).Draw(t, "epoch")), 0, int32(rapid.IntRange(1, 3).Draw(t, "n")), end)
				b.ProducerID = rapid.Int64Range(0, 3).Draw(t, "id")
				b.Transactional = rapid.Bool().Draw(t, "transactional")
				if rapid.IntRange(0, 2).Draw(t, "marker") == 0 {
					b = markerBatch(b.ProducerID, b.Epoch, rapid.Bool().Draw(t, "commit"), 1, end)
				} else if e := s.entries[b.ProducerID]; e != nil && e.epoch == b.Epoch {
					b.LastSequence = addSequence(max(e.lastSequence(), 0), b.LastSequence+1)
					b.BaseSequence = addSequence(b.LastSequence, -int32(b.LastOffset-b.BaseOffset))
				}
				log = append(log, b)
				s.update(b, 0)
				end = b.LastOffset + 1
			},
			"snapshot": func(*rapid.T) { pending = append(pending, s.prepareSnapshot(end)) },
			"write": func(t *rapid.T) {
				for _, p := range pending {
					if err := s.writeSnapshot(p); err != nil {
						t.Fatal(err)
					}
				}
				pending = nil
			},
			"truncate": func(t *rapid.T) {
				keep := rapid.IntRange(0, len(log)).Draw(t, "keep")
				log = log[:keep]
				end = 0
				if keep > 0 {
					end = log[keep-1].LastOffset + 1
				}
				from, err := s.reload(0, end, 0)
				if err != nil {
					t.Fatal(err)
				}
				replay(s, from, end)
			},
			"restart": func(t *rapid.T) {
				pending = nil
				s = newProducerState(opts)
				from, err := s.reload(0, end, 0)
				if err != nil {
					t.Fatal(err)
				}
				replay(s, from, end)
			},
			"": func(t *rapid.T) {
				want := newProducerState(opts)
				replay(want, 0, end)
				if got, want := s.snapshotEntries(), want.snapshotEntries(); !slices.Equal(got, want) {
					t.Fatalf("end %d: got %+v, want %+v", end, got, want)
				}
				if !slices.Equal(s.ongoing, want.ongoing) {
					t.Fatalf("end %d: open transactions: got %+v, want %+v", end, s.ongoing, want.ongoing)
				}
			},
		})
	})
}
