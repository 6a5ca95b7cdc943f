package engine

import "path/filepath"

// Unlinking a file gives all of its blocks back at once. Where the file system tells the disk (mounted with `discard`), an fsync beside it waits until the disk
// has dealt with that: 16 MiB held a commit up for 15 ms, and a segment may have a GiB. So a deleted segment is cut down bit by bit before it is unlinked.
const (
	// cutDownBytes is how much goes at once. See BENCHMARKS.md, two configurations side by side.
	cutDownBytes = 1 << 20
	// cutDownPauseMs lies between two cuts: some 200 MB/s for a segment, and segments go beside each other.
	cutDownPauseMs = 4
)

// fadingFile is a file that is being cut down.
type fadingFile struct {
	path string
	size int64 // bytes that are left of it
	// over says that the file has to be left as it is.
	over func() bool
	// freed is told of the bytes of each cut.
	freed func(n int64)
	// done is called once, when there is little left, the file cannot be cut, there is no time to lose, or over says so.
	done func()
}

// cutDown takes the next bytes of a file, and goes on after a pause. When the disk is nearly full nothing is as urgent as its space.
func (d *logDir) cutDown(f *fadingFile) {
	left := f.size - d.store.o.CutDownBytes
	if left <= 0 || f.over() || d.space.state.Load() != spaceFree || d.store.shorten(f.path, left) != nil {
		f.done()
		return
	}
	f.freed(f.size - left)
	f.size = left
	d.store.after(d, cutDownPauseMs, func() { d.cutDown(f) })
}

// removeGently removes the files of a retired segment, its records bit by bit. A reader that still holds the file keeps all of it: then it is unlinked
// as it is. So is one that cannot be cut. freed is told of the bytes of records as they go.
func (l *Log) removeGently(s *segment, freed func(n int64)) {
	_ = s.file.Close() // whoever comes now is refused
	f := &fadingFile{path: l.part.join(segmentName(s.base, logSuffix) + s.goneSuffix), size: s.size.Load(), freed: freed}
	f.over = func() bool { // the files belong to somebody else now
		failure := l.failure.Load()
		return failure != nil && !failure.readable
	}
	f.done = func() {
		if !f.over() {
			l.removeFiles(s, s.goneSuffix)
		}
		freed(f.size)
	}
	if l.store.o.CutDownBytes < 0 || s.file.pooled.InUse() {
		f.done()
		return
	}
	l.dir.cutDown(f)
}

// removeTreeGently removes the directory of a deleted partition, its large files bit by bit before that, one after the other. Those that readers hold,
// of the segments segs, they keep whole.
func (d *logDir) removeTreeGently(path string, segs []*segment) {
	files := d.store.largeFiles(path, segs)
	var next func()
	next = func() {
		if len(files) == 0 {
			d.store.removeTree(path)
			return
		}
		f := files[0]
		files = files[1:]
		f.over, f.freed, f.done = func() bool { return false }, func(int64) {}, next
		d.cutDown(f)
	}
	next()
}

func (s *Store) removeTree(path string) {
	if err := s.o.FS.RemoveAll(path); err != nil {
		s.log.Warn("deleted partition not removed, the next start tries again", "path", path, "error", err)
	}
}

// largeFiles lists the files in the directory of a deleted partition that are too large to be unlinked as they are, without those that a reader of one of
// the segments holds.
func (s *Store) largeFiles(dir string, segs []*segment) (files []*fadingFile) {
	step := s.o.CutDownBytes
	if step < 0 {
		return nil
	}
	held := map[string]bool{}
	for _, seg := range segs {
		held[segmentName(seg.base, logSuffix)] = seg.file.pooled.InUse()
	}
	names, _ := s.o.FS.List(dir) // an error shows when the directory is removed
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := s.o.FS.Stat(path); err == nil && info.Size > step && !held[name] {
			files = append(files, &fadingFile{path: path, size: info.Size})
		}
	}
	return files
}

// shorten opens the file anew: the segment's own handle is closed, and holding one more for each file on its way out could be too many.
func (s *Store) shorten(path string, size int64) error {
	file, err := s.o.FS.OpenReadWrite(path)
	if err != nil {
		return err
	}
	err = file.Truncate(size)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// close refuses further use of the segment's files; readers that hold one go on.
func (s *segment) close() {
	_ = s.file.Close()
	for _, x := range []*index{s.offsets.Load(), s.times.Load()} {
		if x != nil {
			_ = x.file.Close()
		}
	}
	if x := s.txns.Load(); x != nil {
		_ = x.close()
	}
}

// removeFiles removes all files of a segment that nobody uses any more; suffix is what was appended to their names.
func (l *Log) removeFiles(s *segment, suffix string) {
	s.close()
	for _, kind := range segmentSuffixes {
		path := l.part.join(segmentName(s.base, kind) + suffix)
		if err := removeFile(l.part.fs, path); err != nil {
			l.store.log.Warn("file of a deleted segment not removed", "path", path, "error", err)
		}
	}
}
