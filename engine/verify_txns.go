package engine

import (
	"fmt"
	"sort"

	"github.com/weirmq/weir/record"
)

// No checksum covers an index of aborted transactions, and a reader of committed records relies on it: of an entry that has rotted, or is
// gone, the aborted records would be served as committed. So while old records are checked, the index is held against them: every abort
// marker that ends records which were checked must have its entry. A transaction that is still open where a check ends is followed to its
// marker by the headers, because its records are served before that marker is.

// walkedMax bounds the remembered walks; there is one for each producer with a transaction beyond the end of a check.
const walkedMax = 1000

// walk is what following a transaction found: its producer's first marker behind offset from is at offset marker, in good order.
type walk struct{ from, marker int64 }

// txnCheck holds the index against the batches that one job checks, in their order.
type txnCheck struct {
	log  *Log
	open map[int64]int64 // by producer: the first offset that was checked of the transaction that is open
}

// note takes the next batch, whole, which is in segment s. The error is a CorruptFileError of the index.
func (c *txnCheck) note(s *segment, b record.Batch) error {
	if !b.IsTransactional() {
		return nil
	}
	p, ok, err := producerBatchOf(b)
	if err != nil || !ok {
		return nil // intact, so that is how it was written; nothing ends with it
	}
	if !p.Marker {
		if c.open == nil {
			c.open = map[int64]int64{}
		}
		if _, ok := c.open[p.ProducerID]; !ok {
			c.open[p.ProducerID] = p.BaseOffset
		}
		return nil
	}
	return c.ended(s, p)
}

// ended takes the marker of a producer's transaction.
func (c *txnCheck) ended(s *segment, p producerBatch) error {
	first, ok := c.open[p.ProducerID]
	delete(c.open, p.ProducerID)
	if !ok || p.Commit {
		return nil // what was before is checked by who reads it
	}
	x, err := s.txnIndex()
	if err != nil {
		return err
	}
	entries := x.load()
	i := sort.Search(len(entries), func(i int) bool { return entries[i].LastOffset >= p.LastOffset })
	want := fmt.Sprintf("producer %d, offsets at most %d to %d", p.ProducerID, first, p.LastOffset)
	if i == len(entries) {
		return corruptFile(x.path, int64(i)*txnIndexEntrySize, "aborted transaction", "none", want)
	}
	if t := entries[i]; t.ProducerID != p.ProducerID || t.FirstOffset > first || t.LastOffset != p.LastOffset {
		return corruptFile(x.path, int64(i)*txnIndexEntrySize, "aborted transaction",
			fmt.Sprintf("producer %d, offsets %d to %d", t.ProducerID, t.FirstOffset, t.LastOffset), want)
	}
	return nil
}

// finish follows what is open at offset to, the end of the check, to its markers.
func (c *txnCheck) finish(to int64) error {
	stable := c.log.off.load().LastStable
	walked := c.log.verification.walked
	for id, first := range c.open {
		// Nobody is served an open transaction's records as committed; and one may be followed for many checks.
		if w, ok := walked[id]; first >= stable || ok && w.from <= first && to <= w.marker {
			delete(c.open, id)
		}
	}
	segs := c.log.segments()
	for i := max(floorSegment(segs, to), 0); i < len(segs) && len(c.open) > 0; i++ {
		if err := c.follow(segs[i], to); err != nil {
			return err
		}
	}
	return nil
}

// follow is finish in one segment.
func (c *txnCheck) follow(s *segment, to int64) error {
	cur, err := s.seek(to, s.size.Load())
	if err != nil {
		return err
	}
	defer cur.release()
	for len(c.open) > 0 && cur.advance() {
		first, ok := c.open[cur.cur.ProducerID()]
		if !ok || !cur.cur.IsControl() || cur.cur.BaseOffset() < to {
			continue
		}
		b, err := readBatch(s, cur.cur)
		if err != nil {
			return err
		}
		p, ok, err := producerBatchOf(b)
		if err != nil || !ok || !p.Marker {
			continue
		}
		if err := c.ended(s, p); err != nil {
			return err
		}
		v := &c.log.verification
		if v.walked == nil || len(v.walked) >= walkedMax {
			v.walked = map[int64]walk{}
		}
		v.walked[p.ProducerID] = walk{from: first, marker: p.LastOffset}
	}
	return cur.err
}
