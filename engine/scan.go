package engine

import (
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/record"
)

// scanBufferBytes is what a scanner reads at a time; it grows only for a batch that is larger and really there.
const scanBufferBytes = 256 << 10

// batchScanner walks the batches of a segment file in order, by large sequential reads into one buffer. It serves
// inspection and compaction; the log's own recovery has its own loop.
type batchScanner struct {
	r    io.ReaderAt
	path string
	pos  int64 // of the next batch
	end  int64 // exclusive
	buf  []byte
	have []byte // unread part of buf: the bytes from pos on
	// afterRead is told how many bytes each read took, for throttling; may be nil.
	afterRead func(n int) error
}

// newBatchScanner walks r from pos to end, both batch borders. buf is reused and may be nil. path only serves errors.
func newBatchScanner(r io.ReaderAt, path string, pos, end int64, buf []byte) *batchScanner {
	return &batchScanner{r: r, path: path, pos: pos, end: end, buf: buf}
}

// next gives the next batch and its position; the batch is valid until the following call. At the end the error is
// io.EOF; bytes that are no whole batch are a CorruptFileError at the batch's position; others are read errors.
// The header is sane and the length fits; the CRC is not checked.
func (s *batchScanner) next() (record.Batch, int64, error) {
	if s.pos >= s.end {
		return nil, s.pos, io.EOF
	}
	for {
		b, _, err := record.Next(s.have)
		if err == nil && b != nil {
			at := s.pos
			s.have = s.have[len(b):]
			s.pos += int64(len(b))
			return b, at, nil
		}
		left := s.end - s.pos
		if err != nil && !errors.Is(err, record.ErrTruncated) {
			return nil, s.pos, s.corrupt("batch header", err.Error(), "a batch of magic 2")
		}
		if int64(len(s.have)) >= left {
			return nil, s.pos, s.corrupt("batch", s.describe(), "a whole batch")
		}
		if err := s.fill(left); err != nil {
			return nil, s.pos, err
		}
	}
}

// fill makes have longer: to a buffer full, or to the whole batch when its header is there and it is larger.
func (s *batchScanner) fill(left int64) error {
	want := int64(scanBufferBytes)
	if len(s.have) >= record.HeaderBytes {
		if size := int64(record.Batch(s.have).Size()); size > want {
			want = size
		}
	}
	if want > left {
		want = left
	}
	if want <= int64(len(s.have)) {
		// The length field asks for no more than there is, and still the batch is not whole.
		return s.corrupt("batch", s.describe(), "a whole batch")
	}
	if int64(cap(s.buf)) < want {
		s.buf = append(make([]byte, 0, want), s.have...)
	} else {
		s.buf = s.buf[:copy(s.buf[:len(s.have)], s.have)]
	}
	n := len(s.buf)
	if err := readFull(s.r, s.buf[n:want], s.pos+int64(n)); err != nil {
		return fmt.Errorf("read %s at byte %d: %w", s.path, s.pos+int64(n), err)
	}
	s.buf = s.buf[:want]
	s.have = s.buf
	if s.afterRead != nil {
		return s.afterRead(int(want) - n)
	}
	return nil
}

func (s *batchScanner) corrupt(what, got, want string) error {
	return corruptFile(s.path, s.pos, what, got, want)
}

// describe says what the unread bytes look like.
func (s *batchScanner) describe() string {
	left := s.end - s.pos
	if len(s.have) >= record.HeaderBytes {
		return fmt.Sprintf("length field %d with %d bytes left in the file", record.Batch(s.have).Length(), left)
	}
	zero := true
	for _, c := range s.have {
		zero = zero && c == 0
	}
	if zero {
		return fmt.Sprintf("%d zero bytes", left)
	}
	return fmt.Sprintf("%d bytes", left)
}
