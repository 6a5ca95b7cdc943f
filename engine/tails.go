package engine

import "sync/atomic"

// tailSlots is how many places tails remembers: consumers of one partition are mostly at the same place, or a few appends apart.
const tailSlots = 4

// tails remembers where in a segment reads up to the bound of an isolation have ended. A consumer that follows the log asks for exactly
// that offset next, and then needs neither the index nor a look at batch headers in the file. Entries stay true: a truncation or
// a compaction puts another segment in the place of this one.
type tails [tailSlots]atomic.Pointer[tail]

// tail says that the batches below offset end at pos.
type tail struct{ offset, pos int64 }

func (t *tails) slot(offset int64) *atomic.Pointer[tail] {
	const fibonacci = 0x9e3779b97f4a7c15 // spreads offsets that lie a multiple of a batch's records apart
	return &t[uint64(offset)*fibonacci>>62]
}

// find returns the position of the first batch from offset on, if it is known.
func (t *tails) find(offset int64) (pos int64, ok bool) {
	if e := t.slot(offset).Load(); e != nil && e.offset == offset {
		return e.pos, true
	}
	return 0, false
}

// note remembers that the batches below offset end at pos.
func (t *tails) note(offset, pos int64) {
	if _, ok := t.find(offset); !ok {
		t.slot(offset).Store(&tail{offset: offset, pos: pos})
	}
}
