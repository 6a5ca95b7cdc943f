package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

const (
	offsetIndexEntrySize = 8  // relative offset int32, position int32
	timeIndexEntrySize   = 12 // timestamp int64, relative offset int32
)

// openLog opens a .log file and gives a scanner over all of it.
func (in *inspector) openLog(path string) (f vfs.File, scan *batchScanner, err error) {
	f, err = in.fs.Open(path)
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, newBatchScanner(f, path, 0, size, nil), nil
}

// inspectLog verifies every batch: header, length, CRC, ascending offsets, and the records when asked to.
func (in *inspector) inspectLog() (err error) {
	f, scan, err := in.openLog(in.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in.r.Bytes = scan.end
	base, _ := offsetInName(in.path)
	next := base // the least offset that may come
	var buf []byte
	for {
		b, pos, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if b.BaseOffset() < next {
			return corruptFile(in.path, pos, "base offset", b.BaseOffset(), fmt.Sprintf("at least %d", next))
		}
		if err := b.Validate(record.ValidateOptions{Internal: true}); err != nil {
			return corruptFile(in.path, pos, "batch", err.Error(), "a valid batch")
		}
		next = b.NextOffset()
		in.r.Records += int64(b.RecordCount())
		shown := b.LastOffset() >= in.o.StartOffset
		if shown {
			err = in.visit(batchInfo(b, pos))
		} else {
			in.r.Items++
		}
		if err == nil && in.o.Records {
			buf, err = in.inspectRecords(b, pos, buf, shown)
		}
		if err != nil {
			return err
		}
	}
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
	f, err := in.fs.Open(in.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if in.r.Bytes, err = f.Size(); err != nil {
		return err
	}
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
	f    vfs.File
	scan *batchScanner
	// of the batch read last:
	pos, lastOffset, maxTimestamp int64
	// maxTimestampBefore is the largest timestamp of all batches before it.
	maxTimestampBefore int64
	done               bool
}

// walkLog opens the segment's .log; nil when there is none: then only the index itself is checked.
func (in *inspector) walkLog() (*logWalk, error) {
	base, _ := offsetInName(in.path)
	path := filepath.Join(filepath.Dir(in.path), fmt.Sprintf("%020d.log", base))
	if _, err := in.fs.Stat(path); err != nil {
		in.r.Warnings = append(in.r.Warnings, "no "+filepath.Base(path)+" beside it: entries not compared with the log")
		return nil, nil
	}
	f, scan, err := in.openLog(path)
	if err != nil {
		return nil, err
	}
	return &logWalk{f: f, scan: scan, pos: -1, lastOffset: -1, maxTimestamp: -1, maxTimestampBefore: -1}, nil
}

// to steps on until the batch read last ends at or after offset; false at the log's end or first fault.
func (w *logWalk) to(offset int64) bool {
	for !w.done && (w.pos < 0 || w.lastOffset < offset) {
		b, pos, err := w.scan.next()
		if err != nil {
			w.done = true
			break
		}
		w.maxTimestampBefore = max(w.maxTimestampBefore, w.maxTimestamp)
		w.pos, w.lastOffset, w.maxTimestamp = pos, b.LastOffset(), b.MaxTimestamp()
	}
	return !w.done
}

// inspectOffsetIndex checks that entries ascend and that each points at the batch that ends with its offset.
func (in *inspector) inspectOffsetIndex() (err error) {
	w, err := in.walkLog()
	if err != nil {
		return err
	}
	if w != nil {
		defer func() { err = errors.Join(err, w.f.Close()) }()
	}
	base, _ := offsetInName(in.path)
	lastOffset, lastPos := base-1, int64(-1)
	return in.entries(offsetIndexEntrySize, func(pos int64, e []byte) error {
		offset := base + int64(int32(binary.BigEndian.Uint32(e)))
		at := int64(int32(binary.BigEndian.Uint32(e[4:])))
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
		defer func() { err = errors.Join(err, w.f.Close()) }()
	}
	base, _ := offsetInName(in.path)
	lastTimestamp, lastOffset := int64(-1), base-1
	return in.entries(timeIndexEntrySize, func(pos int64, e []byte) error {
		timestamp := int64(binary.BigEndian.Uint64(e))
		offset := base + int64(int32(binary.BigEndian.Uint32(e[8:])))
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
