package bench

import (
	"fmt"
	"sync"
)

// ledgerMissingMax bounds the sequences that one stream remembers as missing; beyond it they count as lost at once.
const ledgerMissingMax = 1 << 16

// stream is what one reader knows of the batches of one producer in one partition. Producers number them 0, 1, 2...
type stream struct {
	next    uint64
	missing map[uint64]struct{} // skipped over, may still come late
	dropped uint64              // missing beyond ledgerMissingMax
}

// ledger is the truth check of one reader. It belongs to the reader's goroutine; the totals are read after that has ended.
type ledger struct {
	run       uint32
	producers int
	only      []int32    // the partitions that this reader owns
	streams   [][]stream // by partition, then producer; the inner slices are made on first use
	truth     Truth
}

// Truth is what the checks of one run found. Batches are the unit, every field but Checked and Records is a fault.
type Truth struct {
	Checked    int64 `json:"batches_checked"`
	Records    int64 `json:"records_checked"`  // records decoded and checked one by one (verify: full)
	Lost       int64 `json:"lost"`             // acknowledged, never read
	Duplicated int64 `json:"duplicated"`       // read twice at different offsets
	Reordered  int64 `json:"reordered"`        // read after a later one of the same producer and partition
	Corrupt    int64 `json:"corrupt"`          // wrong CRC of batch, record or stamp, or bytes that are not a batch
	OffsetGap  int64 `json:"offset_gaps"`      // base offset other than the end of the batch before
	Foreign    int64 `json:"foreign"`          // stamped by another run
	EndOffset  int64 `json:"end_offset_wrong"` // partitions whose end offset is below the acknowledged records
	// First describes the first fault found.
	First string `json:"first_fault,omitempty"`
}

// Faults is the number of faults.
func (t *Truth) Faults() int64 {
	return t.Lost + t.Duplicated + t.Reordered + t.Corrupt + t.OffsetGap + t.Foreign + t.EndOffset
}

func (t *Truth) add(o *Truth) {
	t.Checked += o.Checked
	t.Records += o.Records
	t.Lost += o.Lost
	t.Duplicated += o.Duplicated
	t.Reordered += o.Reordered
	t.Corrupt += o.Corrupt
	t.OffsetGap += o.OffsetGap
	t.Foreign += o.Foreign
	t.EndOffset += o.EndOffset
	if t.First == "" {
		t.First = o.First
	}
}

func (t *Truth) fault(counter *int64, format string, args ...any) {
	*counter++
	if t.First == "" {
		t.First = fmt.Sprintf(format, args...)
	}
}

func newLedger(run uint32, partitions, producers int) *ledger {
	return &ledger{run: run, producers: producers, streams: make([][]stream, partitions)}
}

// see notes a batch that was read at an offset of a partition.
func (l *ledger) see(partition int32, offset int64, s *stamp) {
	t := &l.truth
	t.Checked++
	if s.run != l.run || int(s.producer) >= l.producers {
		t.fault(&t.Foreign, "partition %d offset %d: batch of run %d producer %d, want run %d", partition, offset, s.run, s.producer, l.run)
		return
	}
	if l.streams[partition] == nil {
		l.streams[partition] = make([]stream, l.producers)
	}
	st := &l.streams[partition][s.producer]
	switch {
	case s.seq == st.next:
		st.next++
	case s.seq > st.next:
		st.skip(s.seq)
	default:
		if _, ok := st.missing[s.seq]; ok {
			delete(st.missing, s.seq)
			t.fault(&t.Reordered, "partition %d offset %d: producer %d batch %d came after batch %d", partition, offset, s.producer,
				s.seq, st.next-1)
			return
		}
		t.fault(&t.Duplicated, "partition %d offset %d: producer %d batch %d was read before", partition, offset, s.producer, s.seq)
	}
}

func (s *stream) skip(seq uint64) {
	if s.missing == nil {
		s.missing = map[uint64]struct{}{}
	}
	for ; s.next < seq; s.next++ {
		if len(s.missing) < ledgerMissingMax {
			s.missing[s.next] = struct{}{}
			continue
		}
		s.dropped += seq - s.next
		s.next = seq
	}
	s.next = seq + 1
}

// finish compares with what producers had acknowledged and counts what is lost.
func (l *ledger) finish(sent *sentLedger) {
	for _, p := range l.only {
		for producer := 0; producer < l.producers; producer++ {
			var st stream
			if l.streams[p] != nil {
				st = l.streams[p][producer]
			}
			end, failed := sent.get(producer, p)
			lost := int64(st.dropped)
			if end > st.next {
				lost += int64(end - st.next)
			}
			first := st.next
			for seq := range st.missing {
				lost++
				first = min(first, seq)
			}
			for seq := range failed { // not acknowledged: may be absent
				if _, missing := st.missing[seq]; missing || (seq >= st.next && seq < end) {
					lost--
				}
			}
			if lost > 0 {
				l.truth.fault(&l.truth.Lost, "partition %d: %d acknowledged batches of producer %d never came, the first near %d",
					p, lost, producer, first)
				l.truth.Lost += lost - 1
			}
		}
	}
}

// sentLedger is what the producers sent: per producer and partition the number of batches, and those that were refused.
type sentLedger struct {
	mu struct {
		sync.Mutex
		failed map[[2]int32]map[uint64]struct{} // (producer, partition) -> sequences without an acknowledgement
	}
	next [][]uint64 // by producer and partition; written by that producer's sender only
}

func newSentLedger(producers, partitions int) *sentLedger {
	s := &sentLedger{next: make([][]uint64, producers)}
	s.mu.failed = map[[2]int32]map[uint64]struct{}{}
	for i := range s.next {
		s.next[i] = make([]uint64, partitions)
	}
	return s
}

func (s *sentLedger) fail(producer int, partition int32, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]int32{int32(producer), partition}
	if s.mu.failed[key] == nil {
		s.mu.failed[key] = map[uint64]struct{}{}
	}
	s.mu.failed[key][seq] = struct{}{}
}

// get returns the number of batches sent and the failed ones. Call it after the senders have ended.
func (s *sentLedger) get(producer int, partition int32) (end uint64, failed map[uint64]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next[producer][partition], s.mu.failed[[2]int32{int32(producer), partition}]
}

// acked is the number of batches of a partition that were acknowledged.
func (s *sentLedger) acked(partition int32) (n uint64) {
	for producer := range s.next {
		end, failed := s.get(producer, partition)
		n += end - uint64(len(failed))
	}
	return n
}
