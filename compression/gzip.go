package compression

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipEncoder is a pooled writer together with the slice it writes to.
type gzipEncoder struct {
	w   *gzip.Writer
	out sliceWriter
}

// sliceWriter is an io.Writer that appends to a slice.
type sliceWriter struct{ b []byte }

// Write appends p.
func (s *sliceWriter) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// gzipEncoders holds *gzipEncoder by level; index 0 is the default level.
var gzipEncoders [10]sync.Pool

// gzipDecoder is a pooled reader together with its source and room for the byte that tells "full" from "too much".
type gzipDecoder struct {
	r     gzip.Reader
	src   bytes.Reader
	probe [1]byte
}

// gzipDecoders holds *gzipDecoder.
var gzipDecoders = sync.Pool{New: func() any { return new(gzipDecoder) }}

// appendGzip appends src as one gzip member.
func appendGzip(dst, src []byte, level int) ([]byte, error) {
	pool := &gzipEncoders[level]
	e, _ := pool.Get().(*gzipEncoder)
	if e == nil {
		e = new(gzipEncoder)
		if level == LevelDefault {
			level = gzip.DefaultCompression
		}
		w, err := gzip.NewWriterLevel(&e.out, level)
		if err != nil {
			return dst, err
		}
		e.w = w
	}
	e.out.b = dst
	e.w.Reset(&e.out)
	_, err := e.w.Write(src)
	if err == nil {
		err = e.w.Close()
	}
	out := e.out.b
	e.out.b = nil
	pool.Put(e)
	return out, err
}

// decompressGzip appends the content of all members of src.
func decompressGzip(dst, src []byte, bytesMax int) ([]byte, error) {
	d := gzipDecoders.Get().(*gzipDecoder)
	defer func() {
		d.src.Reset(nil)
		gzipDecoders.Put(d)
	}()
	d.src.Reset(src)
	if err := d.r.Reset(&d.src); err != nil {
		return nil, corrupt(Gzip, unexpected(err))
	}
	return readLimited(dst, &d.r, limits{codec: Gzip, srcBytes: len(src), bytesMax: bytesMax}, d.probe[:])
}

// limits is what readLimited needs to know besides the reader.
type limits struct {
	codec    Codec
	srcBytes int
	bytesMax int
}

// readLimited appends everything that r gives, at most bytesMax bytes. The buffer grows with what has been read, from
// a first guess of four times the input. probe is one byte of scratch.
func readLimited(dst []byte, r io.Reader, l limits, probe []byte) ([]byte, error) {
	end := len(dst) + l.bytesMax
	if room := min(4*l.srcBytes, l.bytesMax); cap(dst)-len(dst) < room {
		dst = slices.Grow(dst, room)
	}
	for {
		if len(dst) == end {
			n, err := io.ReadFull(r, probe)
			switch {
			case n > 0:
				return nil, tooLarge(l.codec, l.bytesMax)
			case errors.Is(err, io.EOF):
				return dst, nil
			default:
				return nil, corrupt(l.codec, err)
			}
		}
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(512, min(len(dst), end-len(dst))))
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), end)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, corrupt(l.codec, err)
		}
	}
}

// unexpected turns an end of input where a frame should begin into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
