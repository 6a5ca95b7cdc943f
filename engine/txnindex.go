package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/vfs"
)

// The transaction index `<base offset, 20 digits>.txnindex` is Kafka's: a run of fixed entries, one per aborted
// transaction whose abort marker lies in the segment, in marker order, big-endian:
//
//	version int16 = 0 | producer id int64 | first offset int64 | last offset int64 | last stable offset int64
//
// A segment without aborted transactions has no file. Unlike the offset and time indexes a lost entry changes what a
// read_committed consumer sees, and no checksum tells of it: so the file is synced when its segment is sealed, above the recovery point it
// is rebuilt from the segment, and below it is held against the markers before records are served (verify_txns.go).
const (
	txnIndexSuffix    = ".txnindex"
	txnIndexVersion   = 0
	txnIndexEntrySize = 2 + 4*8
	// txnIndexBytesMax bounds what is read into memory for one segment: 256 MiB is 7.8 million aborted transactions.
	txnIndexBytesMax = 256 << 20
)

// AbortedTxn is one aborted transaction of one producer: a read_committed reader drops the producer's transactional
// records from FirstOffset to the abort marker at LastOffset.
type AbortedTxn struct {
	// ProducerID is the producer that aborted.
	ProducerID int64 `json:"producerId"`
	// FirstOffset is the offset of the transaction's first record; LastOffset that of its abort marker (inclusive).
	FirstOffset int64 `json:"firstOffset"`
	LastOffset  int64 `json:"lastOffset"`
	// LastStableOffset is the last stable offset once this transaction was complete: no transaction that was still
	// open then starts before it. It ends searches early.
	LastStableOffset int64 `json:"lastStableOffset"`
}

// txnIndex holds the aborted transactions of one segment. The writer (reserve, append, truncateTo, reset, sync, close) needs the
// log's lock; collect and count may run at any time beside it: entries are published as an immutable prefix.
type txnIndex struct {
	fs      vfs.FS
	path    string
	entries atomic.Pointer[[]AbortedTxn]
	// file is open from the first append until seal or close; nil before.
	file    vfs.File
	durable bool // nothing was written or cut since the last sync
	changes int  // counts what made it not so
	// syncing is held over an fsync: of two at a time, one could take the error that the other has to see. failed is the first error.
	syncing sync.Mutex
	failed  error
	// reserved: the file may reach beyond the entries. told: the log says that entries were missing.
	reserved, told bool
}

// openTxnIndex reads the index at path; a missing file is an empty index and costs one failed open. A file whose length
// or entries are impossible is a CorruptFileError: the caller has it made anew from the segment (Log.rebuildTxnIndex).
func openTxnIndex(fsys vfs.FS, path string) (*txnIndex, error) {
	x := newTxnIndex(fsys, path)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open transaction index: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of transaction index: %w", err)
	}
	if size > txnIndexBytesMax {
		return nil, corruptFile(path, 0, "file size in bytes", size, fmt.Sprintf("at most %d", txnIndexBytesMax))
	}
	data := make([]byte, size)
	if err := readFull(f, data, 0); err != nil {
		return nil, fmt.Errorf("read transaction index: %w", err)
	}
	entries, err := parseTxnIndex(data, path)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		x.entries.Store(&entries)
	}
	// Who cut it last may have been killed before the fsync.
	x.durable = false
	return x, nil
}

// newTxnIndex is an empty index that touches the disk only when an entry is appended: for segments known to have no file.
func newTxnIndex(fsys vfs.FS, path string) *txnIndex {
	return &txnIndex{fs: fsys, path: path, durable: true}
}

// parseTxnIndex decodes and checks a whole index file; path only serves error messages.
func parseTxnIndex(data []byte, path string) ([]AbortedTxn, error) {
	var entries []AbortedTxn
	for pos := 0; pos < len(data); pos += txnIndexEntrySize {
		if len(data)-pos < txnIndexEntrySize {
			return entries, corruptFile(path, int64(pos), "bytes left for an entry", len(data)-pos, txnIndexEntrySize)
		}
		e := data[pos : pos+txnIndexEntrySize]
		if v := int16(binary.BigEndian.Uint16(e)); v != txnIndexVersion {
			return entries, corruptFile(path, int64(pos), "entry version", v, txnIndexVersion)
		}
		t := AbortedTxn{
			ProducerID:       int64(binary.BigEndian.Uint64(e[2:])),
			FirstOffset:      int64(binary.BigEndian.Uint64(e[10:])),
			LastOffset:       int64(binary.BigEndian.Uint64(e[18:])),
			LastStableOffset: int64(binary.BigEndian.Uint64(e[26:])),
		}
		if t.ProducerID < 0 || t.FirstOffset < 0 || t.LastOffset < t.FirstOffset {
			return entries, corruptFile(path, int64(pos), "entry (producer id, first offset, last offset)",
				fmt.Sprint(t.ProducerID, t.FirstOffset, t.LastOffset), "0 <= producer id, 0 <= first <= last")
		}
		if n := len(entries); n > 0 && entries[n-1].LastOffset >= t.LastOffset {
			return entries, corruptFile(path, int64(pos), "last offset", t.LastOffset, fmt.Sprintf("more than %d", entries[n-1].LastOffset))
		}
		least := int64(0)
		if n := len(entries); n > 0 {
			least = entries[n-1].LastStableOffset
		}
		if t.LastStableOffset < least || t.LastStableOffset > t.LastOffset+1 {
			return entries, corruptFile(path, int64(pos), "last stable offset", t.LastStableOffset, fmt.Sprintf("%d to %d", least, t.LastOffset+1))
		}
		entries = append(entries, t)
	}
	return entries, nil
}

// appendTxnIndexEntry appends the encoding of t to dst.
func appendTxnIndexEntry(dst []byte, t AbortedTxn) []byte {
	dst = binary.BigEndian.AppendUint16(dst, txnIndexVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.ProducerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.FirstOffset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.LastOffset))
	return binary.BigEndian.AppendUint64(dst, uint64(t.LastStableOffset))
}

// load gives the published entries; the slice is immutable.
func (x *txnIndex) load() []AbortedTxn {
	if p := x.entries.Load(); p != nil {
		return *p
	}
	return nil
}

// at finds the entry of the marker at an offset; without one, where it would be.
func (x *txnIndex) at(marker int64) (i int, found bool) {
	return slices.BinarySearchFunc(x.load(), marker, func(t AbortedTxn, marker int64) int { return cmp.Compare(t.LastOffset, marker) })
}

// count is the number of aborted transactions in the segment.
func (x *txnIndex) count() int { return len(x.load()) }

// append adds the transaction that the marker just written has aborted. REQUIRES: LastOffset above all before it.
// The entry is visible to collect at once, on disk before append returns, durable after sync.
func (x *txnIndex) append(t AbortedTxn) error {
	entries := x.load()
	if n := len(entries); n > 0 && entries[n-1].LastOffset >= t.LastOffset {
		return fmt.Errorf("%s: transaction index entry out of order: last offset got %d, want more than %d",
			x.path, t.LastOffset, entries[n-1].LastOffset)
	}
	if err := x.openForWrite(); err != nil {
		return err
	}
	x.change()
	var buf [txnIndexEntrySize]byte
	pos := int64(len(entries)) * txnIndexEntrySize
	if _, err := x.file.WriteAt(appendTxnIndexEntry(buf[:0], t), pos); err != nil {
		return fmt.Errorf("write transaction index at byte %d: %w", pos, err)
	}
	// Readers hold shorter prefixes of the same array; the slot written here is beyond all of them.
	entries = append(entries, t)
	x.entries.Store(&entries)
	x.reserved = false // more than one is used up by the appends that follow at once
	return nil
}

// reserve makes room for the next n entries, so that a full disk fails here and not in append. What is written is no valid entry: should
// a crash leave it, the index is rebuilt. An error that wraps ENOSPC leaves the index as it was.
func (x *txnIndex) reserve(n int) error {
	if err := x.openForWrite(); err != nil {
		return err
	}
	x.change()
	x.reserved = true
	pos := int64(x.count()) * txnIndexEntrySize
	if _, err := x.file.WriteAt(bytes.Repeat([]byte{0xff}, n*txnIndexEntrySize), pos); err != nil {
		if cut := x.giveBack(); cut != nil {
			return cut
		}
		return fmt.Errorf("reserve %d entries of transaction index at byte %d: %w", n, pos, err)
	}
	return nil
}

// giveBack cuts off what reserve has made room for and append has not used.
func (x *txnIndex) giveBack() error {
	if !x.reserved {
		return nil
	}
	x.reserved = false
	x.change()
	if err := x.file.Truncate(int64(x.count()) * txnIndexEntrySize); err != nil {
		return fmt.Errorf("truncate transaction index after a full disk: %w", err)
	}
	return nil
}

func (x *txnIndex) change() {
	x.durable = false
	x.changes++
}

func (x *txnIndex) openForWrite() error {
	if x.file != nil {
		return nil
	}
	f, err := x.fs.OpenReadWrite(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = x.fs.Create(x.path)
	}
	if err != nil {
		return fmt.Errorf("open transaction index for writing: %w", err)
	}
	x.file = f
	return nil
}

// collect appends to dst the aborted transactions that overlap [fetchOffset, endOffset). complete is true when no later
// segment can hold another one, so the caller's walk over segments may end.
func (x *txnIndex) collect(dst []AbortedTxn, fetchOffset, endOffset int64) (txns []AbortedTxn, complete bool) {
	for _, t := range x.load() {
		if t.LastOffset >= fetchOffset && t.FirstOffset < endOffset {
			dst = append(dst, t)
		}
		if t.LastStableOffset >= endOffset {
			return dst, true
		}
	}
	return dst, false
}

// truncateTo drops the transactions whose marker is at or above offset.
func (x *txnIndex) truncateTo(offset int64) error {
	entries := x.load()
	keep := len(entries)
	for keep > 0 && entries[keep-1].LastOffset >= offset {
		keep--
	}
	if keep == len(entries) {
		return nil
	}
	if err := x.openForWrite(); err != nil {
		return err
	}
	x.change()
	if err := x.file.Truncate(int64(keep) * txnIndexEntrySize); err != nil {
		return fmt.Errorf("truncate transaction index: %w", err)
	}
	// A copy, because the next append must not write into slots that readers of the longer slice still see.
	kept := append([]AbortedTxn(nil), entries[:keep]...)
	x.entries.Store(&kept)
	return nil
}

// reset empties the index and removes its file, before a rebuild.
func (x *txnIndex) reset() error {
	x.entries.Store(nil)
	err := x.close()
	if rerr := x.fs.Remove(x.path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
		err = fmt.Errorf("remove transaction index: %w", rerr)
	}
	x.durable = true
	return err
}

// sync makes all entries and the file's name durable; free when nothing was written. Called when the segment is sealed
// and before a recovery point passes it, off the append path's lock where the log allows it.
func (x *txnIndex) sync() error {
	if x.durable {
		return nil
	}
	if err := x.openForWrite(); err != nil {
		return err
	}
	if err := x.file.Sync(); err != nil {
		return fmt.Errorf("sync transaction index: %w", err)
	}
	if err := x.fs.SyncDir(filepath.Dir(x.path)); err != nil {
		return fmt.Errorf("sync directory of transaction index: %w", err)
	}
	x.durable = true
	return nil
}

// close closes the file; the entries stay readable.
func (x *txnIndex) close() error {
	if x.file == nil {
		return nil
	}
	f := x.file
	x.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close transaction index: %w", err)
	}
	return nil
}
