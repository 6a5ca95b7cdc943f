package engine

// spareName is the next segment's file while it has no base offset. A name with this end is never taken for data and goes at the
// next start.
const spareName = "next.tmp"

// spareAhead is at which part of segment.bytes the next segment is made ready: from the last quarter on.
const spareAhead = 4

// spareState is where the next segment's file stands.
type spareState uint8

const (
	spareNone spareState = iota
	spareMaking
	spareReady
	spareRefused // not tried again before the next roll
)

// prepareSpareLocked has a worker make the file of the next segment, with its space reserved, when the active one nears its end. A roll
// then is a rename, and no append waits for an allocation of segment.bytes, which holds the file's lock. Only under `preallocate`: without a
// reservation there is nothing to gain, since making an empty file takes as long as renaming one.
func (l *Log) prepareSpareLocked(size int64, cfg *LogConfig) {
	if !cfg.Preallocate || l.mu.spare != spareNone || size < cfg.SegmentBytes-cfg.SegmentBytes/spareAhead {
		return
	}
	l.mu.spare = spareMaking
	bytes := cfg.SegmentBytes
	l.dir.sched.Go(func() {
		state := l.makeSpare(bytes)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.spare = state
	})
}

// makeSpare is best effort: a full disk, or one without fallocate, is found out by the append that needs the space.
func (l *Log) makeSpare(bytes int64) spareState {
	file, err := l.part.fs.Create(l.part.join(spareName))
	if err != nil {
		return spareRefused
	}
	state := spareReady
	if err := file.Preallocate(0, bytes); err != nil {
		l.store.log.Debug("next segment not preallocated", "partition", l.tp.String(), "bytes", bytes, "error", err)
		state = spareRefused
	}
	_ = file.Close() // many partitions, few descriptors: the segment opens it again
	if state == spareRefused {
		_ = removeFile(l.part.fs, l.part.join(spareName))
	}
	return state
}

// takeSpareLocked gives the prepared file to a new segment, and reports whether there was one. Its name becomes durable like that of a
// file just made.
func (l *Log) takeSpareLocked(seg *segment) bool {
	state := l.mu.spare
	if state == spareMaking {
		return false // it will be there for the roll after this one
	}
	l.mu.spare = spareNone
	if state != spareReady {
		return false
	}
	if err := l.part.fs.Rename(l.part.join(spareName), seg.file.Name()); err != nil {
		return false
	}
	seg.file.unnamed.Store(true)
	return true
}

// dropSpare gives the reserved space back when the log is closed.
func (l *Log) dropSpare() {
	l.mu.Lock()
	ready := l.mu.spare == spareReady
	l.mu.spare = spareRefused
	l.mu.Unlock()
	if ready {
		_ = removeFile(l.part.fs, l.part.join(spareName))
	}
}
