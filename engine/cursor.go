package engine

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/weirmq/weir/record"
)

// cursorBytes is what a cursor reads at once: enough to cover the default index interval with one call.
const cursorBytes = 8 << 10

// batchAt is the header of a batch and where it lies.
type batchAt struct {
	record.Batch       // header bytes only; valid until the cursor moves
	pos          int64 // of the first byte
}

// end is the position after the batch.
func (b batchAt) end() int64 { return b.pos + int64(b.Size()) }

// cursor hops over the batch headers of a segment's file in [pos, end). It checks what a hop relies on: magic, lengths and
// rising offsets, not the CRC.
type cursor struct {
	file io.ReaderAt
	path string
	pos  int64 // of the next header
	end  int64
	next int64 // least base offset that the next batch may have
	err  error
	cur  batchAt
	buf  *[cursorBytes]byte
	at   int64 // position of buf[0]
	have int   // valid bytes in buf
}

// cursorBuffers holds buffers that live for a call only.
var cursorBuffers = sync.Pool{New: func() any { return new([cursorBytes]byte) }}

// newCursor starts at pos, where a batch begins whose base offset is at least minOffset. release must be called.
func newCursor(file io.ReaderAt, path string, pos, end, minOffset int64) *cursor {
	return &cursor{file: file, path: path, pos: pos, end: end, next: minOffset, buf: cursorBuffers.Get().(*[cursorBytes]byte)}
}

func (c *cursor) release() {
	if c.buf != nil {
		cursorBuffers.Put(c.buf)
		c.buf = nil
	}
}

// advance moves to the next batch; false at the end or on an error, which stays in err.
func (c *cursor) advance() bool {
	if c.err != nil || c.pos >= c.end {
		return false
	}
	if c.end-c.pos < record.HeaderBytes {
		c.err = corruptFile(c.path, c.pos, "bytes left for a batch header", c.end-c.pos, record.HeaderBytes)
		return false
	}
	h, err := c.header()
	if err != nil {
		c.err = err
		return false
	}
	if err := checkHeader(h, c.path, c.pos, c.end, c.next); err != nil {
		c.err = err
		return false
	}
	c.cur = batchAt{Batch: h, pos: c.pos}
	c.pos = c.cur.end()
	c.next = h.NextOffset()
	return true
}

// header gives the bytes of the header at pos.
func (c *cursor) header() (record.Batch, error) {
	i := c.pos - c.at
	if i < 0 || i+record.HeaderBytes > int64(c.have) {
		n := min(cursorBytes, c.end-c.pos)
		got, err := c.file.ReadAt(c.buf[:n], c.pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read batch header at byte %d: %w", c.pos, err)
		}
		if got < record.HeaderBytes {
			return nil, corruptFile(c.path, c.pos, "bytes in the file for a batch header", got, record.HeaderBytes)
		}
		c.at, c.have, i = c.pos, got, 0
	}
	return record.Batch(c.buf[i : i+record.HeaderBytes]), nil
}

// checkHeader checks the fields that place a batch: h is at pos of a file whose batches end at end.
func checkHeader(h record.Batch, path string, pos, end, minOffset int64) error {
	if h.Magic() != record.Magic {
		return corruptFile(path, pos+record.PosMagic, "magic", h.Magic(), record.Magic)
	}
	if n := int64(h.Length()); n < record.HeaderBytes-record.OverheadBytes || n > end-pos-record.OverheadBytes {
		return corruptFile(path, pos+record.PosBatchLength, "batch length", n,
			fmt.Sprintf("%d to %d", record.HeaderBytes-record.OverheadBytes, end-pos-record.OverheadBytes))
	}
	if h.BaseOffset() < minOffset {
		return corruptFile(path, pos+record.PosBaseOffset, "base offset", h.BaseOffset(), fmt.Sprintf("at least %d", minOffset))
	}
	if h.LastOffsetDelta() < 0 || h.NextOffset() < h.BaseOffset() {
		return corruptFile(path, pos+record.PosLastOffsetDelta, "last offset delta", h.LastOffsetDelta(), "0 or more")
	}
	return nil
}

// scanReadBytes is what a scanner reads at once, little enough for a core's own cache, so that the CRC does not wait for memory. A batch that is
// larger is read whole, and lies inside the file.
const scanReadBytes = 256 << 10

// scanBuffers holds the buffers of scanners that were released, *[]byte of at most scanPooledMax bytes.
var scanBuffers sync.Pool

const scanPooledMax = 2 << 20

// scanner reads whole batches and checks their CRC, for recovery, replay and verification.
type scanner struct {
	file io.ReaderAt
	path string
	pos  int64 // of the next batch
	end  int64
	next int64
	err  error
	cur  record.Batch // whole; valid until the scanner moves
	at   int64        // position of cur
	buf  []byte
	from int64 // position of buf[0]
	have int
}

func newScanner(file io.ReaderAt, path string, pos, end, minOffset int64) *scanner {
	return &scanner{file: file, path: path, pos: pos, end: end, next: minOffset}
}

// advance moves to the next batch; false at the end or on an error, which stays in err. A CorruptFileError names the
// first bad byte; anything else is an error of the disk.
func (s *scanner) advance() bool {
	if s.err != nil || s.pos >= s.end {
		return false
	}
	h, err := s.bytes(record.HeaderBytes)
	if err == nil {
		err = checkHeader(record.Batch(h), s.path, s.pos, s.end, s.next)
	}
	if err != nil {
		s.err = err
		return false
	}
	b, err := s.bytes(record.Batch(h).Size())
	if err != nil {
		s.err = err
		return false
	}
	batch := record.Batch(b)
	if got, want := batch.ComputeCRC(), batch.CRC(); got != want {
		s.err = corruptFile(s.path, s.pos+record.PosCRC, "batch crc", fmt.Sprintf("%08x", got), fmt.Sprintf("%08x", want))
		return false
	}
	s.cur, s.at = batch, s.pos
	s.pos += int64(len(b))
	s.next = batch.NextOffset()
	return true
}

// release gives the buffer back: nothing that the scanner gave may be used any more. Whoever scans once in a while may leave it out.
func (s *scanner) release() {
	if buf := s.buf; cap(buf) > 0 && cap(buf) <= scanPooledMax {
		scanBuffers.Put(&buf)
	}
	s.buf, s.have = nil, 0
}

// grow makes room for n bytes, and keeps the first s.have.
func (s *scanner) grow(n int) {
	if s.buf == nil {
		if pooled, ok := scanBuffers.Get().(*[]byte); ok {
			s.buf = *pooled
		}
	}
	if cap(s.buf) >= n {
		return
	}
	grown := make([]byte, max(n, scanReadBytes))
	copy(grown, s.buf[:s.have])
	s.buf = grown
}

// bytes gives n bytes at pos, which lie before end for a header that was checked.
func (s *scanner) bytes(n int) ([]byte, error) {
	if int64(n) > s.end-s.pos {
		return nil, corruptFile(s.path, s.pos, "bytes left for a batch", s.end-s.pos, n)
	}
	i := s.pos - s.from
	if i < 0 || i+int64(n) > int64(s.have) {
		rest := 0 // of the batch, which was read with those before it
		if i >= 0 && i < int64(s.have) {
			rest = copy(s.buf, s.buf[i:s.have])
		}
		want := int(min(max(int64(n), scanReadBytes), s.end-s.pos))
		s.have = rest
		s.grow(want)
		got, err := s.file.ReadAt(s.buf[rest:want], s.pos+int64(rest))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read batch at byte %d: %w", s.pos, err)
		}
		got += rest
		s.from, s.have, i = s.pos, got, 0
		if got < n {
			return nil, corruptFile(s.path, s.pos, "bytes in the file for a batch", got, n)
		}
	}
	return s.buf[i : i+int64(n)], nil
}
