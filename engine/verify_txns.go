package engine

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/weirmq/weir/record"
)

// No checksum covers an index of aborted transactions, and a reader of committed records relies on it: of an entry that has rotted, or is
// gone, the aborted records would be served as committed. So while old records are checked, the index is held against them: every abort
// marker that ends records which were checked must have its entry, and no entry may end the search for a transaction that is open at its
// marker. A transaction that is still open where a check ends is followed to its marker by the headers, because its records are served
// before that marker is. An index that does not pass is made anew from the segment (txnrebuild.go).

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
	if !b.IsTransactional() || b.RecordCount() == 0 {
		return nil // compaction leaves markers without their entries, but takes the aborted records with these
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

// ended takes the marker of a producer's transaction. An index that lacks the entry, or has another in its place, is made anew.
func (c *txnCheck) ended(s *segment, p producerBatch) error {
	first, ok := c.open[p.ProducerID]
	delete(c.open, p.ProducerID)
	if !ok || p.Commit {
		return c.hides(s, p.LastOffset) // what was before is checked by who reads it
	}
	return c.mended(s, func(x *txnIndex) error {
		entries := x.load()
		i, found := x.at(p.LastOffset)
		want := fmt.Sprintf("producer %d, offsets at most %d to %d", p.ProducerID, first, p.LastOffset)
		switch {
		case i == len(entries):
			return corruptFile(x.path, int64(i)*txnIndexEntrySize, "aborted transaction", "none", want)
		case !found || entries[i].ProducerID != p.ProducerID || entries[i].FirstOffset > first:
			return corruptFile(x.path, int64(i)*txnIndexEntrySize, "aborted transaction",
				fmt.Sprintf("producer %d, offsets %d to %d", entries[i].ProducerID, entries[i].FirstOffset, entries[i].LastOffset), want)
		}
		if began, err := c.began(entries[i], first); err != nil || !began {
			return cmp.Or(err, corruptFile(x.path, int64(i)*txnIndexEntrySize+10, "first offset", entries[i].FirstOffset,
				fmt.Sprintf("that of the first batch of producer %d after its last marker", p.ProducerID)))
		}
		return c.stable(x, i)
	})
}

// began says whether a transaction, of which a batch at offset first was the first that was checked, began where its entry says: one that says
// less would hide committed records of the same producer. What lies before is told by the headers; where they are damaged, the entry is taken as
// it is.
func (c *txnCheck) began(t AbortedTxn, first int64) (bool, error) {
	if t.FirstOffset == first {
		return true, nil
	}
	segs, walk := c.log.segments(), beginWalk{txn: t, to: first}
	for i := max(floorSegment(segs, t.FirstOffset), 0); i < len(segs) && segs[i].base < first && !walk.wrong; i++ {
		if err := walk.in(segs[i]); err != nil {
			return errors.Is(err, ErrCorrupt), notCorrupt(err)
		}
	}
	return !walk.wrong, nil
}

// beginWalk looks for the begin of a transaction in the batches up to an offset.
type beginWalk struct {
	txn AbortedTxn
	to  int64
	// seen: a batch at or behind the first offset was there; compaction or the log start may have taken the one that began the transaction away.
	// wrong: that was another's, or the producer's last marker is behind it.
	seen, wrong bool
}

func (w *beginWalk) in(s *segment) error {
	cur, err := s.seek(w.txn.FirstOffset, s.size.Load())
	if err != nil {
		return err
	}
	defer cur.release()
	for !w.wrong && cur.advance() && cur.cur.BaseOffset() < w.to {
		b := cur.cur
		if b.LastOffset() < w.txn.FirstOffset {
			continue
		}
		own := b.ProducerID() == w.txn.ProducerID && b.IsTransactional()
		if !w.seen && b.BaseOffset() <= w.txn.FirstOffset {
			w.wrong = !own || b.BaseOffset() != w.txn.FirstOffset
		}
		w.seen = true
		w.wrong = w.wrong || own && b.IsControl()
	}
	return cur.err
}

// notCorrupt is nil for damage, and else the error.
func notCorrupt(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return nil
	}
	return err
}

// hides checks the entry of the marker at an offset, if there is one, of a transaction whose records are not looked at: while others are
// open behind it, it must not end a search for them.
func (c *txnCheck) hides(s *segment, marker int64) error {
	if len(c.open) == 0 {
		return nil
	}
	return c.mended(s, func(x *txnIndex) error {
		if i, found := x.at(marker); found {
			return c.stable(x, i)
		}
		return nil
	})
}

// stable holds the last stable offset of entry i against the transactions that are open at its marker.
func (c *txnCheck) stable(x *txnIndex, i int) error {
	t := x.load()[i]
	for _, first := range c.open {
		if t.LastStableOffset > first {
			return corruptFile(x.path, int64(i+1)*txnIndexEntrySize-8, "last stable offset", t.LastStableOffset,
				fmt.Sprintf("at most %d, where a transaction is open", first))
		}
	}
	return nil
}

// mended holds a segment's index against what good demands. One that does not pass is made anew, and has to pass then.
func (c *txnCheck) mended(s *segment, good func(x *txnIndex) error) error {
	x, err := c.log.txnIndexOf(s)
	if err != nil {
		return err
	}
	if err = good(x); err == nil {
		return nil
	}
	if x, err = c.log.rebuildTxnIndex(s, x, err); err != nil {
		return err
	}
	return good(x)
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
		if !cur.cur.IsControl() || cur.cur.BaseOffset() < to {
			continue
		}
		first, ok := c.open[cur.cur.ProducerID()]
		if !ok {
			if err := c.hides(s, cur.cur.LastOffset()); err != nil {
				return err
			}
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
