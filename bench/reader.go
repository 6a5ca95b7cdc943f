package bench

import (
	"fmt"
	"io"
)

// streamReader reads a connection in pieces whose size the caller chooses, so that record bytes can be skipped: by a copy that
// is thrown away, or inside the kernel.
type streamReader struct {
	w        *wire
	buf      []byte
	r, n     int // buf[r:n] is unread
	inKernel bool
}

// Sizes of the reader's buffer, bytes: small when record bytes are to stay in the kernel, since what is buffered was copied.
const (
	readerBufferKernel = 4 << 10
	readerBufferCopy   = 256 << 10
	readerBufferMax    = 256 << 20
)

func newStreamReader(w *wire, inKernel bool) *streamReader {
	size := readerBufferCopy
	if inKernel {
		size = readerBufferKernel
	}
	return &streamReader{w: w, buf: make([]byte, size), inKernel: inKernel}
}

// peek returns the next n bytes without consuming them; they are valid until the next call.
func (s *streamReader) peek(n int) ([]byte, error) {
	if s.n-s.r >= n {
		return s.buf[s.r : s.r+n], nil
	}
	if n > len(s.buf) {
		if n > readerBufferMax {
			return nil, fmt.Errorf("%d bytes in one piece: more than %d", n, readerBufferMax)
		}
		grown := make([]byte, n+n/4)
		s.n = copy(grown, s.buf[s.r:s.n])
		s.buf, s.r = grown, 0
	} else if s.r > 0 {
		s.n = copy(s.buf, s.buf[s.r:s.n])
		s.r = 0
	}
	for s.n < n {
		m, err := s.w.c.Read(s.buf[s.n:])
		s.n += m
		if err != nil && s.n < n {
			if err == io.EOF && s.n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return s.buf[:n], nil
}

// take is peek and consume.
func (s *streamReader) take(n int) ([]byte, error) {
	b, err := s.peek(n)
	if err == nil {
		s.r += n
	}
	return b, err
}

// skip consumes n bytes without looking at them.
func (s *streamReader) skip(n int64) error {
	have := min(n, int64(s.n-s.r))
	s.r += int(have)
	n -= have
	if s.inKernel {
		return s.w.discard(n, s.buf)
	}
	for n > 0 {
		s.r, s.n = 0, 0
		m, err := s.w.c.Read(s.buf)
		used := min(int64(m), n)
		n -= used
		s.r, s.n = int(used), m
		if err != nil && n > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
