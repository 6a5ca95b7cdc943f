package engine

// Unlinking a file gives all of its blocks back at once. Where the file system tells the disk (mounted with `discard`), an fsync beside it waits until the disk
// has dealt with that: 16 MiB held a commit up for 15 ms, and a segment may have a GiB. So a deleted segment is cut down bit by bit before it is unlinked.
const (
	// cutDownBytes is how much goes at once. See BENCHMARKS.md, two configurations side by side.
	cutDownBytes = 1 << 20
	// cutDownPauseMs lies between two cuts: some 200 MB/s for a segment, and segments go beside each other.
	cutDownPauseMs = 4
)

// removeGently removes the files of a retired segment, its records bit by bit, and calls done. A reader that still holds the file keeps all of it: then
// it is unlinked as it is. So is one that cannot be cut.
func (l *Log) removeGently(s *segment, done func()) {
	_ = s.file.Close() // whoever comes now is refused
	step := l.store.o.CutDownBytes
	if step < 0 || s.file.pooled.InUse() {
		step = s.size.Load()
	}
	l.cutDown(s, s.size.Load()-step, step, done)
}

// cutDown leaves left bytes of a retired segment's records, and goes on with step bytes less after a pause.
func (l *Log) cutDown(s *segment, left, step int64, done func()) {
	if f := l.failure.Load(); f != nil && !f.readable {
		done()
		return
	}
	if left <= 0 || l.shorten(s, left) != nil {
		l.removeFiles(s, s.goneSuffix)
		done()
		return
	}
	l.store.after(l.dir, cutDownPauseMs, func() { l.cutDown(s, left-step, step, done) })
}

// shorten opens the file anew: the segment's own handle is closed, and holding one more for each segment on its way out could be too many.
func (l *Log) shorten(s *segment, size int64) error {
	file, err := l.part.fs.OpenReadWrite(l.part.join(segmentName(s.base, logSuffix) + s.goneSuffix))
	if err != nil {
		return err
	}
	err = file.Truncate(size)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// removeFiles removes all files of a segment that nobody uses any more; suffix is what was appended to their names.
func (l *Log) removeFiles(s *segment, suffix string) {
	_ = s.file.Close()
	for _, x := range []*index{s.offsets.Load(), s.times.Load()} {
		if x != nil {
			_ = x.file.Close()
		}
	}
	if x := s.txns.Load(); x != nil {
		_ = x.close()
	}
	for _, kind := range segmentSuffixes {
		path := l.part.join(segmentName(s.base, kind) + suffix)
		if err := removeFile(l.part.fs, path); err != nil {
			l.store.log.Warn("file of a deleted segment not removed", "path", path, "error", err)
		}
	}
}
