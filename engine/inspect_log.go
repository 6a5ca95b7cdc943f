package engine

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// openSized opens a file and gives its size.
func (in *inspector) openSized(path string) (f vfs.File, size int64, err error) {
	f, err = in.fs.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err = f.Size()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// inspectLog verifies every batch: header, length, CRC, ascending offsets, and the records when asked to.
func (in *inspector) inspectLog() (err error) {
	f, size, err := in.openSized(in.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in.r.Bytes = size
	base, _ := offsetInName(in.path)
	records := in.o.Records || in.o.RecordsOf != nil && in.o.RecordsOf(in.path)
	scan := newScanner(f, in.path, 0, size, base)
	var buf []byte
	for scan.advance() {
		b, pos := scan.cur, scan.at
		if err := b.Validate(record.ValidateOptions{Internal: true, SkipCRC: true}); err != nil {
			return corruptFile(in.path, pos, "batch", err.Error(), "a valid batch")
		}
		in.r.Records += int64(b.RecordCount())
		shown := b.LastOffset() >= in.o.StartOffset
		if shown {
			err = in.visit(batchInfo(b, pos))
		} else {
			in.r.Items++
		}
		if err == nil && records {
			buf, err = in.inspectRecords(b, pos, buf, shown)
		}
		if err != nil {
			return err
		}
	}
	return scan.err
}

func (in *inspector) inspectRecords(b record.Batch, pos int64, buf []byte, shown bool) ([]byte, error) {
	it := b.Records(buf, in.o.RecordBytesMax)
	last := b.BaseOffset() - 1
	for it.Next() {
		offset := it.Offset()
		if offset <= last || offset > b.LastOffset() {
			return it.Buffer(), corruptFile(in.path, pos, "record offset", offset, fmt.Sprintf("%d to %d", last+1, b.LastOffset()))
		}
		last = offset
		if !shown || in.o.Visit == nil {
			continue
		}
		r := it.Record()
		info := &RecordInfo{Pos: pos, Offset: offset, Timestamp: it.Timestamp(), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			info.Headers = append(info.Headers, HeaderInfo{Key: string(h.Key), Value: h.Value})
		}
		if err := in.o.Visit(in.path, info); err != nil {
			return it.Buffer(), err
		}
	}
	if err := it.Err(); err != nil {
		return it.Buffer(), corruptFile(in.path, pos, "records", err.Error(), "as many whole records as the header says")
	}
	return it.Buffer(), nil
}

// entries walks the fixed-size entries of an index. A run of zeros at the end is space reserved for entries to come.
func (in *inspector) entries(size int, each func(pos int64, e []byte) error) (err error) {
	f, fileSize, err := in.openSized(in.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in.r.Bytes = fileSize
	buf := make([]byte, size*4096)
	zerosFrom := int64(-1)
	for pos := int64(0); pos < in.r.Bytes; {
		n := min(int64(len(buf)), in.r.Bytes-pos)
		if err := readFull(f, buf[:n], pos); err != nil {
			return fmt.Errorf("read %s at byte %d: %w", in.path, pos, err)
		}
		for i := 0; i < int(n); i += size {
			at := pos + int64(i)
			if int(n)-i < size {
				return corruptFile(in.path, at, "bytes left for an entry", int(n)-i, size)
			}
			e := buf[i : i+size]
			switch zero := allZero(e); {
			case zero && at > 0 && zerosFrom < 0:
				zerosFrom = at
			case !zero && zerosFrom >= 0:
				return corruptFile(in.path, zerosFrom, "entry", "zeros before other entries", "an entry above its predecessor")
			}
			if zerosFrom < 0 {
				if err := each(at, e); err != nil {
					return err
				}
			}
		}
		pos += n
	}
	if zerosFrom >= 0 {
		in.r.Warnings = append(in.r.Warnings, fmt.Sprintf("zeros from byte %d to the end: not trimmed at a clean stop", zerosFrom))
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// logWalk steps through the .log file beside an index, so that ascending index entries can be checked in one pass.
type logWalk struct {
	f   vfs.File
	cur *cursor
	// pos, lastOffset and maxTimestamp are of the batch read last; pos is -1 before the first.
	pos, lastOffset, maxTimestamp int64
	// maxTimestampBefore is the largest timestamp of all batches before it.
	maxTimestampBefore int64
}

// walkLog opens the segment's .log; nil when there is none: then only the index itself is checked.
func (in *inspector) walkLog() (*logWalk, error) {
	base, _ := offsetInName(in.path)
	path := filepath.Join(filepath.Dir(in.path), fmt.Sprintf("%020d.log", base))
	if _, err := in.fs.Stat(path); err != nil {
		in.r.Warnings = append(in.r.Warnings, "no "+filepath.Base(path)+" beside it: entries not compared with the log")
		return nil, nil
	}
	f, size, err := in.openSized(path)
	if err != nil {
		return nil, err
	}
	return &logWalk{
		f: f, cur: newCursor(f, path, 0, size, base), pos: -1, lastOffset: -1, maxTimestamp: -1, maxTimestampBefore: -1,
	}, nil
}

func (w *logWalk) close() error {
	w.cur.release()
	return w.f.Close()
}

// to steps on until the batch read last ends at or after offset; false at the log's end or first fault.
func (w *logWalk) to(offset int64) bool {
	for w.pos < 0 || w.lastOffset < offset {
		if !w.cur.advance() {
			return false
		}
		b := w.cur.cur
		w.maxTimestampBefore = max(w.maxTimestampBefore, w.maxTimestamp)
		w.pos, w.lastOffset, w.maxTimestamp = b.pos, b.LastOffset(), b.MaxTimestamp()
	}
	return true
}

// inspectOffsetIndex checks that entries ascend and that each points at the batch that ends with its offset.
func (in *inspector) inspectOffsetIndex() (err error) {
	w, err := in.walkLog()
	if err != nil {
		return err
	}
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	base, _ := offsetInName(in.path)
	lastOffset, lastPos := base-1, int64(-1)
	return in.entries(offsetEntryBytes, func(pos int64, e []byte) error {
		entry := decodeOffsetEntry(e)
		offset, at := base+int64(entry.rel), entry.pos
		if offset <= lastOffset {
			return corruptFile(in.path, pos, "offset", offset, fmt.Sprintf("more than %d", lastOffset))
		}
		if at <= lastPos {
			return corruptFile(in.path, pos+4, "log position", at, fmt.Sprintf("more than %d", lastPos))
		}
		if w != nil {
			if !w.to(offset) {
				return corruptFile(in.path, pos, "offset", offset, "an offset of a good batch in the log")
			}
			if w.lastOffset != offset || w.pos != at {
				return corruptFile(in.path, pos, "offset, log position", fmt.Sprint(offset, at), fmt.Sprint(w.lastOffset, w.pos))
			}
		}
		lastOffset, lastPos = offset, at
		return in.visit(&IndexEntryInfo{Pos: pos, Offset: offset, LogPosition: at})
	})
}

// inspectTimeIndex checks that entries ascend in both fields and that each names the last offset of a batch with the
// largest timestamp so far.
func (in *inspector) inspectTimeIndex() (err error) {
	w, err := in.walkLog()
	if err != nil {
		return err
	}
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	base, _ := offsetInName(in.path)
	lastTimestamp, lastOffset := int64(-1), base-1
	return in.entries(timeEntryBytes, func(pos int64, e []byte) error {
		entry := decodeTimeEntry(e)
		timestamp, offset := entry.timestamp, base+int64(entry.rel)
		if timestamp <= lastTimestamp {
			return corruptFile(in.path, pos, "timestamp", timestamp, fmt.Sprintf("more than %d", lastTimestamp))
		}
		if offset <= lastOffset {
			return corruptFile(in.path, pos+8, "offset", offset, fmt.Sprintf("more than %d", lastOffset))
		}
		if w != nil {
			if !w.to(offset) {
				return corruptFile(in.path, pos+8, "offset", offset, "an offset of a good batch in the log")
			}
			if w.lastOffset != offset || w.maxTimestamp != timestamp || w.maxTimestampBefore >= timestamp {
				return corruptFile(in.path, pos, "timestamp, offset", fmt.Sprint(timestamp, offset),
					fmt.Sprintf("%d %d, and more than %d", w.maxTimestamp, w.lastOffset, w.maxTimestampBefore))
			}
		}
		lastTimestamp, lastOffset = timestamp, offset
		return in.visit(&TimeIndexEntryInfo{Pos: pos, Timestamp: timestamp, Offset: offset})
	})
}
