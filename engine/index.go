package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// Formats of the index files, Kafka's, big-endian, entries ascending. Do not change.
//
//	.index      offset less the segment's base uint32 | position uint32
//	.timeindex  timestamp int64 | offset less the segment's base uint32
//
// The offset of an entry is the last offset of a batch, the position that of the batch's first byte. A time entry says
// that its batch was the first to reach that timestamp, which none before it exceeds.
//
// Index files are derived data: never fsynced, and never evidence about the log. Whoever follows an entry checks that a
// batch with that last offset (and timestamp) is there; an entry that fails the check makes the index worthless, and it is built
// anew from the log. That check is what makes a binary search in a damaged file safe: it can end at an entry that is not the nearest, but not
// at a wrong one.
const (
	indexSuffix          = ".index"
	timeIndexSuffix      = ".timeindex"
	offsetEntryBytes     = 8
	timeEntryBytes       = 12
	indexTailEntries     = 1024    // entries kept in memory before they are written; 4 MiB of log at the default interval
	indexTailLogBytes    = 4 << 20 // bytes of log whose entries are kept in memory only, where batches are larger: a kill has them scanned again
	indexSearchPageBytes = 4096    // once a search is down to this much, it is read at once
)

// errBadIndex says that an index file cannot be used; the log is not touched by it.
var errBadIndex = errors.New("engine: index is damaged")

// index is one index file: entries on disk, and the newest ones in memory only. Appending (append, flush) needs the
// log's lock; count, entry and floor may run beside it.
type index struct {
	file     *segFile
	entryLen int
	keyLen   int  // the entry's first bytes, by which it is sorted
	fresh    bool // the file does not exist yet, or belongs to an older segment: the first write creates it
	held     bool // entries stay in memory: the file may belong to another segment by now
	view     atomic.Pointer[indexView]
}

// indexView is an immutable state: entries [0, inFile) are on disk, the rest in tail.
type indexView struct {
	inFile int
	tail   []byte
}

// offsetEntry and timeEntry are decoded entries.
type offsetEntry struct {
	rel uint32
	pos int64
}

type timeEntry struct {
	timestamp int64
	rel       uint32
}

// newIndex is an empty index whose file is created, or emptied, with the first flush.
func newIndex(file *segFile, entryLen int) *index {
	x := &index{file: file, entryLen: entryLen, keyLen: 4, fresh: true}
	if entryLen == timeEntryBytes {
		x.keyLen = 8
	}
	x.view.Store(&indexView{})
	return x
}

// openIndex takes the file as it is; a length that is no multiple of the entry's is errBadIndex. A missing file
// matches fs.ErrNotExist.
func openIndex(file *segFile, entryLen int) (*index, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size%int64(entryLen) != 0 || size > 1<<31 {
		return nil, fmt.Errorf("%w: %s: size got %d bytes, want a multiple of %d", errBadIndex, file.Name(), size, entryLen)
	}
	x := newIndex(file, entryLen)
	x.fresh = false
	x.view.Store(&indexView{inFile: int(size) / entryLen})
	return x, nil
}

func (x *index) count() int {
	v := x.view.Load()
	return v.inFile + len(v.tail)/x.entryLen
}

func (x *index) bytes() int64 { return int64(x.count()) * int64(x.entryLen) }

// append adds an encoded entry. When enough have gathered they are written; a failed write keeps them in memory.
func (x *index) append(entry []byte) {
	v := x.view.Load()
	tail := v.tail
	if tail == nil {
		tail = make([]byte, 0, 32*x.entryLen)
	}
	// Readers hold shorter prefixes of the same array; the bytes written here are beyond all of them.
	next := &indexView{inFile: v.inFile, tail: append(tail, entry...)}
	x.view.Store(next)
	if len(next.tail)/x.entryLen >= indexTailEntries {
		_ = x.flush()
	}
}

// flush writes the tail to the file; after an error it stays in memory and the next flush tries again.
func (x *index) flush() error {
	if x.held {
		return nil
	}
	v := x.view.Load()
	if x.fresh {
		// Not before there is something to write: a new partition costs one file, not three.
		if err := x.file.create(); err != nil {
			return fmt.Errorf("create index: %w", err)
		}
		x.fresh = false
	}
	if len(v.tail) == 0 {
		return nil
	}
	if _, err := x.file.WriteAt(v.tail, int64(v.inFile)*int64(x.entryLen)); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	x.view.Store(&indexView{inFile: v.inFile + len(v.tail)/x.entryLen})
	return nil
}

// read gives entries [from, from+n), in buf or in memory; n entries that cross from the file into the tail must fit buf.
func (x *index) read(v *indexView, from, n int, buf []byte) ([]byte, error) {
	if from >= v.inFile {
		start := (from - v.inFile) * x.entryLen
		return v.tail[start : start+n*x.entryLen], nil
	}
	inFile := min(n, v.inFile-from)
	b := buf[:inFile*x.entryLen]
	if err := readFull(x.file, b, int64(from)*int64(x.entryLen)); err != nil {
		return nil, fmt.Errorf("read index %s, entry %d: %w", x.file.Name(), from, err)
	}
	if inFile < n {
		b = append(b, v.tail[:(n-inFile)*x.entryLen]...)
	}
	return b, nil
}

func (x *index) key(entry []byte) uint64 {
	if x.keyLen == 8 {
		return binary.BigEndian.Uint64(entry)
	}
	return uint64(binary.BigEndian.Uint32(entry))
}

// posKey is the position of an offset entry, which ascends as well.
func posKey(entry []byte) uint64 { return uint64(binary.BigEndian.Uint32(entry[4:])) }

// timeRelKey is the offset of a time entry, which ascends as well.
func timeRelKey(entry []byte) uint64 { return uint64(binary.BigEndian.Uint32(entry[8:])) }

// floor finds how many entries have a key of at most want, and copies the last of them, entry n-1.
func (x *index) floor(want uint64, key func([]byte) uint64) (raw [timeEntryBytes]byte, n int, err error) {
	v := x.view.Load()
	count := v.inFile + len(v.tail)/x.entryLen
	buf := cursorBuffers.Get().(*[cursorBytes]byte)
	defer cursorBuffers.Put(buf)
	// Invariant: the key of entry lo-1 is at most want, that of entry hi is above it.
	lo, hi := 0, count
	if count > v.inFile {
		if key(v.tail[:x.entryLen]) <= want {
			lo = v.inFile + 1
		} else {
			hi = v.inFile
		}
	}
	for hi-lo > indexSearchPageBytes/x.entryLen && lo < v.inFile {
		mid := lo + (hi-lo)/2
		e, err := x.read(v, mid, 1, buf[:])
		if err != nil {
			return raw, 0, err
		}
		if key(e) <= want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < hi {
		e, err := x.read(v, lo, hi-lo, buf[:])
		if err != nil {
			return raw, 0, err
		}
		a, b := 0, hi-lo
		for a < b {
			mid := a + (b-a)/2
			if key(e[mid*x.entryLen:]) <= want {
				a = mid + 1
			} else {
				b = mid
			}
		}
		if a > 0 {
			copy(raw[:], e[(a-1)*x.entryLen:a*x.entryLen])
			return raw, lo + a, nil
		}
	}
	if lo == 0 {
		return raw, 0, nil
	}
	e, err := x.read(v, lo-1, 1, buf[:])
	copy(raw[:], e)
	return raw, lo, err
}

// last copies the newest entry.
func (x *index) last() (raw [timeEntryBytes]byte, ok bool, err error) {
	v := x.view.Load()
	n := v.inFile + len(v.tail)/x.entryLen
	if n == 0 {
		return raw, false, nil
	}
	buf := cursorBuffers.Get().(*[cursorBytes]byte)
	defer cursorBuffers.Put(buf)
	e, err := x.read(v, n-1, 1, buf[:])
	copy(raw[:], e)
	return raw, err == nil, err
}

// floorOffset finds the last entry at or below the relative offset; n counts the entries up to it, 0 for none.
func (x *index) floorOffset(rel uint32) (e offsetEntry, n int, err error) {
	return x.floorOffsetBy(uint64(rel), x.key)
}

// floorPos finds the last entry whose batch begins at or before pos.
func (x *index) floorPos(pos int64) (e offsetEntry, n int, err error) {
	return x.floorOffsetBy(uint64(pos), posKey)
}

func (x *index) floorOffsetBy(want uint64, key func([]byte) uint64) (e offsetEntry, n int, err error) {
	raw, n, err := x.floor(want, key)
	return decodeOffsetEntry(raw[:]), n, err
}

// floorTime finds the last entry at or below the timestamp, which must not be negative.
func (x *index) floorTime(timestamp int64) (e timeEntry, n int, err error) {
	return x.floorTimeBy(uint64(timestamp), x.key)
}

// floorTimeOffset finds the last time entry at or below the relative offset.
func (x *index) floorTimeOffset(rel uint32) (e timeEntry, n int, err error) {
	return x.floorTimeBy(uint64(rel), timeRelKey)
}

func (x *index) floorTimeBy(want uint64, key func([]byte) uint64) (e timeEntry, n int, err error) {
	raw, n, err := x.floor(want, key)
	return decodeTimeEntry(raw[:]), n, err
}

func decodeOffsetEntry(raw []byte) offsetEntry {
	return offsetEntry{rel: binary.BigEndian.Uint32(raw), pos: int64(binary.BigEndian.Uint32(raw[4:]))}
}

func decodeTimeEntry(raw []byte) timeEntry {
	return timeEntry{timestamp: int64(binary.BigEndian.Uint64(raw)), rel: binary.BigEndian.Uint32(raw[8:])}
}

func encodeOffsetEntry(e offsetEntry) (raw [offsetEntryBytes]byte) {
	binary.BigEndian.PutUint32(raw[:], e.rel)
	binary.BigEndian.PutUint32(raw[4:], uint32(e.pos))
	return raw
}

func encodeTimeEntry(e timeEntry) (raw [timeEntryBytes]byte) {
	binary.BigEndian.PutUint64(raw[:], uint64(e.timestamp))
	binary.BigEndian.PutUint32(raw[8:], e.rel)
	return raw
}

// cut makes an index of the first n entries, for a truncated segment; readers of x are not disturbed, as long as they
// check what they find. The file is cut to match.
func (x *index) cut(n int) (*index, error) {
	v := x.view.Load()
	y := newIndex(x.file, x.entryLen)
	y.fresh = x.fresh
	if n >= v.inFile {
		tail := v.tail[:min(len(v.tail), (n-v.inFile)*x.entryLen)]
		y.view.Store(&indexView{inFile: v.inFile, tail: append([]byte(nil), tail...)})
		return y, nil
	}
	if err := x.file.Truncate(int64(n) * int64(x.entryLen)); err != nil {
		return nil, fmt.Errorf("cut index: %w", err)
	}
	y.view.Store(&indexView{inFile: n})
	return y, nil
}
