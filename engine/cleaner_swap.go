package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// The swap of a cleaned segment for its sources survives a crash at any point. The sources are consecutive sealed
// segments; the result takes the base offset B of the first and ends with the last offset of the last (an empty batch
// there, if need be), so that it names exactly what it replaces. With each step durable before the next begins:
//
//	1  B.log.cleaned is written and synced.                  A crash before 2: the file is dropped, nothing happened.
//	2  it is renamed to B.log.swap.                          From here the swap is decided; recovery repeats steps 3 and 4.
//	3  all files of the sources are renamed to *.deleted.
//	4  B.log.swap is renamed to B.log.                       Done. The *.deleted files are removed later.
//
// Indexes are not carried over but built anew. Transaction indexes vanish with the sources: their entries hide records
// of aborted transactions, and the result holds none.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
)

// segmentSuffixes are all files that a segment may have.
var segmentSuffixes = [...]string{logSuffix, indexSuffix, timeIndexSuffix, txnIndexSuffix}

// recoverSwaps brings a partition's directory out of an interrupted cleaning, before its segments are loaded: it drops
// *.cleaned and finishes *.swap. names are the directory's entries; the result is what is there afterwards. An error
// that is a CorruptFileError means that a decided swap cannot be read: the partition must not be loaded, as its sources
// may be gone.
func recoverSwaps(fsys vfs.FS, dir string, names []string) ([]string, error) {
	var swaps []int64
	changed := false
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, cleanedSuffix):
			changed = true
			if err := removeFile(fsys, filepath.Join(dir, name)); err != nil {
				return nil, err
			}
		case strings.HasSuffix(name, swapSuffix):
			changed = true
			base, ok := parseSegmentName(strings.TrimSuffix(name, swapSuffix), logSuffix)
			if ok {
				swaps = append(swaps, base)
				continue
			}
			// An index of a swap, as Kafka leaves them: derived data.
			if err := removeFile(fsys, filepath.Join(dir, name)); err != nil {
				return nil, err
			}
		}
	}
	if !changed {
		return names, nil
	}
	if err := fsys.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("sync %s: %w", dir, syncError(err))
	}
	for _, base := range swaps {
		if err := finishSwap(fsys, dir, base, names); err != nil {
			return nil, fmt.Errorf("finish the swap of a cleaned segment: %w", err)
		}
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	return names, nil
}

func finishSwap(fsys vfs.FS, dir string, base int64, names []string) error {
	swap := filepath.Join(dir, segmentName(base, logSuffix)+swapSuffix)
	end, err := nextOffsetOf(fsys, swap, base)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(segmentSuffixes[:], filepath.Ext(name)) {
			continue
		}
		if source, ok := offsetInName(name); ok && source >= base && (source == base || source < end) {
			if err := removeFile(fsys, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return syncError(err)
	}
	if err := fsys.Rename(swap, strings.TrimSuffix(swap, swapSuffix)); err != nil {
		return err
	}
	return syncError(fsys.SyncDir(dir))
}

// nextOffsetOf walks a whole segment file and gives the offset after its last batch. The CRCs are checked: the result
// decides what is removed.
func nextOffsetOf(fsys vfs.FS, path string, base int64) (end int64, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	s := newScanner(f, path, 0, size, base)
	for s.advance() {
	}
	return s.next, s.err
}

// decideSwap is step 2: cleaned becomes the swap file, durably. decided is true once that may be on disk, with an error or without.
func decideSwap(fsys vfs.FS, dir string, base int64) (decided bool, err error) {
	name := filepath.Join(dir, segmentName(base, logSuffix))
	if err := fsys.SyncDir(dir); err != nil {
		return false, fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := fsys.Rename(name+cleanedSuffix, name+swapSuffix); err != nil {
		return false, fmt.Errorf("rename cleaned segment: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return true, fmt.Errorf("sync %s: %w", dir, err)
	}
	return true, nil
}

// completeSwap is steps 3 and 4 for segments that may be in use: readers that still hold one go on under its new name.
func completeSwap(fsys vfs.FS, dir string, old []*segment) error {
	for _, s := range old {
		if err := retireSegment(s); err != nil {
			return err
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	name := filepath.Join(dir, segmentName(old[0].base, logSuffix))
	if err := fsys.Rename(name+swapSuffix, name); err != nil {
		return fmt.Errorf("rename cleaned segment: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// retireSegment renames all files of a segment to `*.<n>.deleted`; n tells it from an earlier segment of the same base
// whose files are still there.
func retireSegment(s *segment) error {
	s.lazy.Lock() // an index that is being rebuilt is written before its name changes; none is written afterwards
	s.retired.Store(true)
	s.lazy.Unlock()
	s.goneSuffix = fmt.Sprintf(".%d%s", s.dir.retirements.Add(1), deletedSuffix)
	name := segmentName(s.base, logSuffix) + s.goneSuffix
	// The file stays open while its name changes, so that no reader tries to open the old one in between.
	err := s.file.with(func(vfs.File) error { return s.file.rename(name) })
	if err != nil {
		return fmt.Errorf("rename %s: %w", s.path(), err)
	}
	open := map[string]*index{indexSuffix: s.offsets.Load(), timeIndexSuffix: s.times.Load()}
	for _, suffix := range segmentSuffixes[1:] {
		name := segmentName(s.base, suffix)
		var err error
		if x := open[suffix]; x != nil {
			err = x.file.rename(name + s.goneSuffix)
		} else {
			err = s.dir.fs.Rename(s.dir.join(name), s.dir.join(name+s.goneSuffix))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rename %s: %w", s.dir.join(name), err)
		}
	}
	return nil
}
