package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/vfs"
)

// epochUndefined and offsetUndefined are Kafka's answers for "no such epoch".
const (
	epochUndefined  int32 = -1
	offsetUndefined int64 = -1
)

// epochEntry says that leader epoch Epoch began at StartOffset and lasts until the next entry's StartOffset.
type epochEntry struct {
	Epoch       int32
	StartOffset int64
}

// epochCache is a partition's list of leader epochs, both fields strictly increasing, kept in memory and in the file
// leader-epoch-checkpoint. Truncation after a fail-over is by this list (KIP-101, KIP-279), never by high watermark.
//
// Changes (assign, truncateFromEnd, truncateFromStart) need the log's lock and touch memory only; readers take no lock.
// flush writes the file and may run on a worker, off the log's lock. Until then the file is behind: recovery calls assign for each batch
// from the recovery point on, so flush must have returned before a recovery point passes an epoch's first offset.
type epochCache struct {
	fs   vfs.FS
	path string
	list atomic.Pointer[[]epochEntry] // immutable once stored; nil is empty
	mu   struct {
		sync.Mutex
		flushed *[]epochEntry // what the file holds
	}
}

// openEpochCache reads path (a leader-epoch-checkpoint); a missing file is an empty cache. A damaged file is a
// CorruptFileError: the caller may rebuild the list by a scan of the log, but must not take it for empty.
func openEpochCache(fsys vfs.FS, path string) (*epochCache, error) {
	c := &epochCache{fs: fsys, path: path}
	entries, err := readEpochCheckpoint(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		c.list.Store(&entries)
		c.mu.flushed = &entries
	}
	return c, nil
}

func (c *epochCache) load() []epochEntry {
	if p := c.list.Load(); p != nil {
		return *p
	}
	return nil
}

func (c *epochCache) store(entries []epochEntry) {
	if len(entries) == 0 {
		c.list.Store(nil)
		return
	}
	c.list.Store(&entries)
}

// latest is the newest entry; ok is false for an empty cache.
func (c *epochCache) latest() (e epochEntry, ok bool) {
	l := c.load()
	if len(l) == 0 {
		return epochEntry{Epoch: epochUndefined, StartOffset: offsetUndefined}, false
	}
	return l[len(l)-1], true
}

// assign notes that records from startOffset on carry epoch. Entries that contradict it (a later or equal start, or a
// later or equal epoch) are dropped: the log has been truncated there. It returns whether the list changed.
// Negative epochs (batches of unknown leadership) are ignored.
func (c *epochCache) assign(epoch int32, startOffset int64) bool {
	if epoch < 0 || startOffset < 0 {
		return false
	}
	l := c.load()
	if n := len(l); n > 0 && l[n-1].Epoch == epoch && startOffset >= l[n-1].StartOffset {
		return false
	}
	keep := len(l)
	for keep > 0 && (l[keep-1].Epoch >= epoch || l[keep-1].StartOffset >= startOffset) {
		keep--
	}
	next := make([]epochEntry, keep, keep+1)
	copy(next, l)
	c.store(append(next, epochEntry{Epoch: epoch, StartOffset: startOffset}))
	return true
}

// endOffsetFor answers OffsetForLeaderEpoch (KIP-279): the largest known epoch at or below the asked one, and the
// exclusive end of that epoch; logEnd is the end of the newest. (-1, -1) when the asked epoch is negative, newer than
// all, or the cache is empty. An epoch older than all known ones gives itself with the start of the oldest.
func (c *epochCache) endOffsetFor(epoch int32, logEnd int64) (int32, int64) {
	l := c.load()
	if epoch < 0 || len(l) == 0 || epoch > l[len(l)-1].Epoch {
		return epochUndefined, offsetUndefined
	}
	if epoch == l[len(l)-1].Epoch {
		return epoch, logEnd
	}
	i := len(l) - 1
	for i > 0 && l[i-1].Epoch > epoch {
		i--
	}
	// l[i] is the first entry above the asked epoch.
	if i == 0 {
		return epoch, l[0].StartOffset
	}
	return l[i-1].Epoch, l[i].StartOffset
}

// epochAt is the epoch of the record at offset, or -1.
func (c *epochCache) epochAt(offset int64) int32 {
	l := c.load()
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].StartOffset <= offset {
			return l[i].Epoch
		}
	}
	return epochUndefined
}

// truncateFromEnd drops epochs that start at or above endOffset, after the log was truncated to it.
func (c *epochCache) truncateFromEnd(endOffset int64) bool {
	l := c.load()
	keep := len(l)
	for keep > 0 && l[keep-1].StartOffset >= endOffset {
		keep--
	}
	if keep == len(l) {
		return false
	}
	c.store(append([]epochEntry(nil), l[:keep]...))
	return true
}

// truncateFromStart drops epochs that ended at or below startOffset, after the log's start moved there; the epoch that
// covers startOffset then starts at it.
func (c *epochCache) truncateFromStart(startOffset int64) bool {
	l := c.load()
	covering := -1
	for i, e := range l {
		if e.StartOffset <= startOffset {
			covering = i
		}
	}
	if covering < 0 || (covering == 0 && l[0].StartOffset == startOffset) {
		return false
	}
	next := append([]epochEntry(nil), l[covering:]...)
	next[0].StartOffset = startOffset
	c.store(next)
	return true
}

// clear drops all entries, when the whole log is replaced.
func (c *epochCache) clear() { c.store(nil) }

// dirty says whether the file is behind the list.
func (c *epochCache) dirty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list.Load() != c.mu.flushed
}

// stage writes the list beside its file, if it has changed since the last flush; nil when it has not. Nobody else writes the file until done.
func (c *epochCache) stage() (*stagedFile, error) {
	c.mu.Lock()
	list := c.list.Load()
	if list == c.mu.flushed {
		c.mu.Unlock()
		return nil, nil
	}
	if err := vfs.StageFile(c.fs, c.path, encodeEpochs(list)); err != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("write leader epoch checkpoint: %w", err)
	}
	return &stagedFile{path: c.path, done: func(replaced bool) {
		defer c.mu.Unlock()
		if replaced {
			c.mu.flushed = list
		}
	}}, nil
}

func encodeEpochs(list *[]epochEntry) []byte {
	var entries []epochEntry
	if list != nil {
		entries = *list
	}
	return appendEpochCheckpoint(nil, entries)
}

// flush writes the list to its file, atomically and durably, if it has changed since the last flush.
func (c *epochCache) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list.Load()
	if list == c.mu.flushed {
		return nil
	}
	if err := vfs.WriteFileAtomic(c.fs, c.path, encodeEpochs(list)); err != nil {
		return fmt.Errorf("write leader epoch checkpoint: %w", err)
	}
	c.mu.flushed = list
	return nil
}
