package engine

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// cleanerWriteBytes is how much of a cleaned segment gathers in memory before it is written.
const cleanerWriteBytes = 1 << 20

// cleanJob is one pass over one log.
type cleanJob struct {
	c    *cleaner
	log  cleanerLog
	cfg  *LogConfig
	view cleanerView
	// firstDirty and end bound the dirty part that may be cleaned; end is a segment's end.
	firstDirty, end int64
	ratio           float64 // dirty bytes of all cleanable bytes, 0 to 1
	forced          bool    // max.compaction.lag.ms is over
	nowMs           int64
	buf             []byte // decompression
}

// before says which of two jobs comes first.
func (j *cleanJob) before(o *cleanJob) bool {
	if j.forced != o.forced {
		return j.forced
	}
	return j.ratio > o.ratio
}

// assess decides whether l is to be cleaned now; nil when not.
func (c *cleaner) assess(l cleanerLog, nowMs int64) (*cleanJob, error) {
	cfg := l.Config()
	v, err := l.cleanerView()
	if err != nil {
		return nil, err
	}
	if cfg.MaxCompactionLagMs != math.MaxInt64 && v.activeFirstMs != noTimestamp && nowMs-v.activeFirstMs > cfg.MaxCompactionLagMs {
		// Only sealed segments can be cleaned.
		if err := l.Roll(); err != nil {
			return nil, err
		}
		if v, err = l.cleanerView(); err != nil {
			return nil, err
		}
	}
	j := &cleanJob{c: c, log: l, cfg: cfg, view: v, nowMs: nowMs}
	j.firstDirty = c.firstDirty(l, v.logStart, v.sealedEnd)
	if err := j.measure(); err != nil {
		return nil, err
	}
	if j.end <= j.firstDirty || (!j.forced && j.ratio <= max(cfg.MinCleanableRatio, 0)) {
		return nil, nil
	}
	return j, nil
}

// measure finds the end of what may be cleaned, the dirty part's share, and whether it has waited too long.
func (j *cleanJob) measure() error {
	var clean, dirty int64
	earliest := int64(math.MaxInt64)
	for i, s := range j.view.sealed {
		end := j.view.endOf(i)
		if end > j.view.lastStable {
			break
		}
		if j.cfg.MinCompactionLagMs > 0 && end > j.firstDirty {
			if err := s.sealedTimes(); err != nil {
				return err
			}
			if s.maxTimestamp.Load() > j.nowMs-j.cfg.MinCompactionLagMs {
				break
			}
		}
		j.end = end
		if end <= j.firstDirty {
			clean += s.size.Load()
			continue
		}
		dirty += s.size.Load()
		if j.cfg.MaxCompactionLagMs != math.MaxInt64 {
			first, err := firstBatchTimestamp(s)
			if err != nil {
				return err
			}
			if first != noTimestamp {
				earliest = min(earliest, first)
			}
		}
	}
	if dirty > 0 {
		j.ratio = float64(dirty) / float64(clean+dirty)
		j.forced = earliest != math.MaxInt64 && j.nowMs-earliest > j.cfg.MaxCompactionLagMs
	}
	return nil
}

// firstBatchTimestamp is the max timestamp of a segment's first batch, noTimestamp for an empty one.
func firstBatchTimestamp(s *segment) (int64, error) {
	c := newCursor(s.file, s.path(), 0, s.size.Load(), s.base)
	defer c.release()
	if c.advance() {
		return c.cur.MaxTimestamp(), nil
	}
	return noTimestamp, c.err
}

// run does the pass.
func (j *cleanJob) run() error {
	started := j.c.o.Clock.Now()
	aborted, err := j.log.abortedIn(j.view.logStart, j.end)
	if err != nil {
		return err
	}
	keys, err := j.mapKeys(aborted)
	if err != nil {
		return err
	}
	// An older record goes because a newer one is there: that one must not be lost in a power cut after the swap.
	if err := j.log.settleBelow(j.end); err != nil {
		return err
	}
	end := keys.lastOffset + 1
	f := &cleanFilter{
		keys: keys, txns: newTxnTracker(aborted), producers: j.view.producers, nowMs: j.nowMs,
		deleteRetentionMs: j.cfg.DeleteRetentionMs, builder: record.NewBuilder(), buf: j.buf,
	}
	replaced, added := 0, 0
	for _, group := range j.groups(end) {
		swapped, err := j.cleanGroup(group, f)
		if err != nil {
			return err
		}
		if swapped {
			replaced, added = replaced+len(group), added+1
		}
	}
	if err := j.c.advanceTo(j.log, end); err != nil {
		return err
	}
	st := &j.c.stats
	st.Cleanings.Add(1)
	st.BytesRead.Add(f.stats.BytesRead)
	st.BytesWritten.Add(f.stats.BytesWritten)
	st.RecordsRead.Add(f.stats.RecordsRead)
	st.RecordsWritten.Add(f.stats.RecordsWritten)
	st.SegmentsReplaced.Add(int64(replaced))
	st.SegmentsAdded.Add(int64(added))
	j.c.o.Logger.Info("log cleaned", "partition", j.log.TopicPartition().String(), "firstDirty", j.firstDirty, "end", end,
		"keys", keys.count, "bytesRead", f.stats.BytesRead, "bytesWritten", f.stats.BytesWritten,
		"recordsRead", f.stats.RecordsRead, "recordsWritten", f.stats.RecordsWritten, "recordsWithoutKey", f.stats.InvalidRecords,
		"segmentsReplaced", replaced, "segmentsAdded", added, "took", j.c.o.Clock.Since(started).Round(time.Millisecond).String())
	return nil
}

// mapKeys reads the dirty part, up to where the map is full.
func (j *cleanJob) mapKeys(aborted []AbortedTxn) (*offsetMap, error) {
	keys := newOffsetMap(j.end-j.firstDirty, j.c.o.DedupeBytesMax)
	keys.lastOffset = j.firstDirty - 1
	txns := newTxnTracker(aborted)
	for i, s := range j.view.sealed {
		if j.view.endOf(i) <= j.firstDirty || s.base >= j.end {
			continue
		}
		full := false
		err := j.scan(s, func(b record.Batch) (bool, error) {
			var err error
			full, err = j.mapBatch(keys, txns, b)
			return !full, err
		})
		if err != nil {
			return nil, err
		}
		if full {
			break
		}
		keys.lastOffset = max(keys.lastOffset, j.view.endOf(i)-1)
	}
	if keys.lastOffset < j.firstDirty {
		return nil, fmt.Errorf("clean from offset %d: one batch has more keys than fit into the map: got room for %d keys in "+
			"log.cleaner.dedupe.buffer.size=%d, want more", j.firstDirty, keys.countMax, j.c.o.DedupeBytesMax)
	}
	return keys, nil
}

// mapBatch notes the keys of a batch; full when they do not all fit.
func (j *cleanJob) mapBatch(keys *offsetMap, txns *txnTracker, b record.Batch) (full bool, err error) {
	if b.LastOffset() < j.firstDirty {
		return false, nil
	}
	if !b.IsControl() && !txns.onData(b) {
		it := b.Records(j.buf, 0)
		for it.Next() {
			if r := it.Record(); r.Key != nil && it.Offset() >= j.firstDirty && !keys.put(r.Key, it.Offset()) {
				j.buf = it.Buffer()
				return true, nil
			}
		}
		j.buf = it.Buffer()
		if err := it.Err(); err != nil {
			return false, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
		}
	} else if b.IsControl() && b.ProducerID() >= 0 {
		txns.onMarker(b)
	}
	keys.lastOffset = b.LastOffset()
	return false, nil
}

// scan walks the batches of a segment, throttled and stoppable.
func (j *cleanJob) scan(s *segment, each func(b record.Batch) (more bool, err error)) error {
	ref, err := s.file.ref()
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path(), err)
	}
	defer ref.Release()
	sc := newScanner(throttledReader{r: ref, t: &j.c.throttle}, s.path(), 0, s.size.Load(), s.base)
	for sc.advance() {
		if j.c.stopping() {
			return errCleaningStopped
		}
		more, err := each(sc.cur)
		if err != nil {
			return fmt.Errorf("%s at byte %d: %w", s.path(), sc.at, err)
		}
		if !more {
			return nil
		}
	}
	return sc.err
}

// groups cuts the segments below end into runs that fit into one segment each.
func (j *cleanJob) groups(end int64) [][]*segment {
	var out [][]*segment
	var group []*segment
	var bytes, indexBytes int64
	for i, s := range j.view.sealed {
		if s.base >= end {
			break
		}
		size := s.size.Load()
		index := (size/max(j.cfg.IndexIntervalBytes, 1) + 1) * timeEntryBytes
		if len(group) > 0 && (bytes+size > j.cfg.SegmentBytes || indexBytes+index > j.cfg.IndexSizeMax ||
			j.view.endOf(i)-1-group[0].base > math.MaxInt32) {
			out = append(out, group)
			group, bytes, indexBytes = nil, 0, 0
		}
		group = append(group, s)
		bytes += size
		indexBytes += index
	}
	if len(group) > 0 {
		out = append(out, group)
	}
	return out
}

// cleanedFile is the segment being written.
type cleanedFile struct {
	f        vfs.File
	throttle *throttle
	buf      []byte
	pos      int64 // of buf in the file
	end      int64 // offset after the last batch
}

func (w *cleanedFile) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if _, err := w.f.WriteAt(w.buf, w.pos); err != nil {
		return fmt.Errorf("%w: write %s at byte %d: %w", errCleanerIO, w.f.Name(), w.pos, err)
	}
	w.pos += int64(len(w.buf))
	n := len(w.buf)
	w.buf = w.buf[:0]
	return w.throttle.spend(n)
}

// cleanGroup writes what stays of a group and swaps it in; false when there was nothing to change.
func (j *cleanJob) cleanGroup(group []*segment, f *cleanFilter) (swapped bool, err error) {
	dir := group[0].dir
	path := dir.join(segmentName(group[0].base, logSuffix) + cleanedSuffix)
	file, err := dir.fs.Create(path)
	if err != nil {
		return false, fmt.Errorf("%w: create %s: %w", errCleanerIO, path, err)
	}
	w := &cleanedFile{f: file, throttle: &j.c.throttle, end: group[0].base}
	changed, err := j.fillCleaned(w, group, f)
	if err == nil && (changed || len(group) > 1) {
		if err = file.Sync(); err != nil {
			err = fmt.Errorf("%w: sync %s: %w", errCleanerIO, path, err)
		}
		swapped = err == nil
	}
	if cerr := file.Close(); cerr != nil && err == nil {
		swapped, err = false, fmt.Errorf("%w: close %s: %w", errCleanerIO, path, cerr)
	}
	if !swapped {
		return false, errors.Join(err, removeFile(dir.fs, path))
	}
	return true, j.log.swapSegments(group, w.pos)
}

// fillCleaned filters all batches of a group into w; changed is false when every batch stays as it is.
func (j *cleanJob) fillCleaned(w *cleanedFile, group []*segment, f *cleanFilter) (changed bool, err error) {
	var header [record.HeaderBytes]byte // of the last batch read
	end := group[0].base                // offset after it
	for _, s := range group {
		err := j.scan(s, func(b record.Batch) (bool, error) {
			before := len(w.buf)
			var err error
			if w.buf, err = f.apply(w.buf, b); err != nil {
				return false, err
			}
			changed = changed || !f.copied
			copy(header[:], b)
			end = b.NextOffset()
			if len(w.buf) > before {
				w.end = end
			}
			if len(w.buf) >= cleanerWriteBytes {
				return true, w.flush()
			}
			return true, nil
		})
		if err != nil {
			return changed, err
		}
	}
	if w.end < end {
		// The swap is known by the offsets of its result: it must end where its sources end.
		w.buf = appendEmptyBatch(w.buf, header[:])
		w.end = end
	}
	if err := w.flush(); err != nil {
		return changed, err
	}
	if w.pos > math.MaxUint32>>1 {
		return changed, fmt.Errorf("%s: cleaned segment has %d bytes, more than an index can address", filepath.Base(w.f.Name()), w.pos)
	}
	return changed, nil
}
