package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirmq/weir/compression"
)

// Header is one header of a record. Key is never null, Value is nil for null.
type Header struct {
	Key, Value []byte
}

// Record is one record of a batch. Key and Value are nil for null. The slices are valid until the next call of
// Iterator.Next (Headers) or as long as the iterator's bytes are (Key, Value, and those of the headers).
type Record struct {
	// Attributes is unused by Kafka, 0.
	Attributes int8
	// OffsetDelta is the record's offset less the batch's base offset.
	OffsetDelta int32
	// TimestampDelta is the record's timestamp less the batch's base timestamp, in ms.
	TimestampDelta int64
	Key, Value     []byte
	Headers        []Header
}

// Iterator walks the records of one batch. Use:
//
//	it := batch.Records(buf, limit)
//	for it.Next() {
//		r := it.Record()
//	}
//	if err := it.Err(); err != nil { ... }
//	buf = it.Buffer()
type Iterator struct {
	batch Batch
	src   []byte // what is left of the records
	left  int32  // records that the header still promises
	bytes int    // size of the records, decompressed
	rec   Record
	buf   []byte
	err   error
}

// Records returns an iterator over the records. buf is used for decompression and may be nil; the iterator owns it
// until the walk ends, and Buffer gives it back, perhaps grown. limit is the largest decompressed size in bytes,
// 0 for DecompressedBytesMax(len(b)). Errors show in Err after Next has returned false: ErrTooLarge, ErrCorrupt,
// ErrUnsupportedCodec. The CRC is not checked.
func (b Batch) Records(buf []byte, limit int) Iterator {
	it := Iterator{batch: b, left: b.RecordCount(), src: b.Payload(), buf: buf}
	if limit <= 0 {
		limit = DecompressedBytesMax(len(b))
	}
	if codec := b.Codec(); codec != compression.None && !(it.left == 0 && len(it.src) == 0) {
		out, err := compression.Decompress(buf[:0], it.src, codec, limit)
		if err != nil {
			it.err = codecError(err)
			return it
		}
		it.src, it.buf = out, out
	}
	it.bytes = len(it.src)
	if it.left < 0 {
		it.err = fmt.Errorf("%w: record count %d", ErrCorrupt, it.left)
	}
	return it
}

// codecError maps what compression says to this package's errors.
func codecError(err error) error {
	switch {
	case errors.Is(err, compression.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, compression.ErrUnknownCodec):
		return fmt.Errorf("%w: %w", ErrUnsupportedCodec, err)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Next moves to the next record and reports whether there is one.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	if it.left == 0 {
		if len(it.src) != 0 {
			it.err = fmt.Errorf("%w: %d bytes left after %d records", ErrCorrupt, len(it.src), it.batch.RecordCount())
		}
		return false
	}
	rest, err := it.rec.parse(it.src)
	if err != nil {
		it.err = fmt.Errorf("%w: record %d of %d, at byte %d of %d: %w", ErrCorrupt,
			it.batch.RecordCount()-it.left, it.batch.RecordCount(), it.bytes-len(it.src), it.bytes, err)
		return false
	}
	it.src = rest
	it.left--
	return true
}

// Record returns the current record. It is overwritten by Next.
func (it *Iterator) Record() *Record { return &it.rec }

// Err returns what ended the walk early, nil when all records that the header counts were there and nothing else.
func (it *Iterator) Err() error { return it.err }

// Buffer returns the buffer given to Records, perhaps grown, for the next batch.
func (it *Iterator) Buffer() []byte { return it.buf }

// Bytes returns the size of all records of the batch, decompressed.
func (it *Iterator) Bytes() int { return it.bytes }

// Offset returns the current record's offset.
func (it *Iterator) Offset() int64 { return it.batch.BaseOffset() + int64(it.rec.OffsetDelta) }

// Timestamp returns the current record's timestamp in ms: the batch's when it is a log-append-time batch.
func (it *Iterator) Timestamp() int64 {
	if it.batch.TimestampType() == LogAppendTime {
		return it.batch.MaxTimestamp()
	}
	return it.batch.FirstTimestamp() + it.rec.TimestampDelta
}

// Faults inside a record. The iterator wraps them in ErrCorrupt with the position.
var (
	errVarint       = errors.New("bad varint")
	errRecordLength = errors.New("length beyond the end")
	errFieldLength  = errors.New("field beyond the record's end")
	errHeaderCount  = errors.New("header count beyond the record's end")
	errHeaderKey    = errors.New("null header key")
	errLeftOver     = errors.New("bytes left over in the record")
)

// parse reads one record off src and returns the rest.
func (r *Record) parse(src []byte) (rest []byte, err error) {
	length, n := varint(src)
	if n <= 0 {
		return nil, errVarint
	}
	src = src[n:]
	if length < recordBytesMin-1 || length > int64(len(src)) {
		return nil, errRecordLength
	}
	body, rest := src[:length], src[length:]
	r.Attributes = int8(body[0])
	body = body[1:]
	if r.TimestampDelta, n = varint(body); n <= 0 {
		return nil, errVarint
	}
	body = body[n:]
	delta, n := varint(body)
	if n <= 0 || delta != int64(int32(delta)) {
		return nil, errVarint
	}
	r.OffsetDelta = int32(delta)
	body = body[n:]
	if r.Key, body, err = field(body); err != nil {
		return nil, err
	}
	if r.Value, body, err = field(body); err != nil {
		return nil, err
	}
	if body, err = r.parseHeaders(body); err != nil {
		return nil, err
	}
	if len(body) != 0 {
		return nil, errLeftOver
	}
	return rest, nil
}

// parseHeaders reads the headers into r.Headers, whose space is used again.
func (r *Record) parseHeaders(body []byte) (rest []byte, err error) {
	r.Headers = r.Headers[:0]
	count, n := varint(body)
	if n <= 0 {
		return nil, errVarint
	}
	body = body[n:]
	if count < 0 || count > int64(len(body)/2) {
		return nil, errHeaderCount
	}
	for range count {
		var h Header
		if h.Key, body, err = field(body); err != nil {
			return nil, err
		}
		if h.Key == nil {
			return nil, errHeaderKey
		}
		if h.Value, body, err = field(body); err != nil {
			return nil, err
		}
		r.Headers = append(r.Headers, h)
	}
	return body, nil
}

// field reads a varint length and so many bytes; nil for a negative length.
func field(src []byte) (value, rest []byte, err error) {
	length, n := varint(src)
	if n <= 0 {
		return nil, nil, errVarint
	}
	src = src[n:]
	if length == -1 {
		return nil, src, nil
	}
	if length < 0 || length > int64(len(src)) {
		return nil, nil, errFieldLength
	}
	return src[:length:length], src[length:], nil
}

// varint reads a zig-zag varint as binary.Varint does, with a short way for the one byte that most have.
func varint(src []byte) (v int64, n int) {
	if len(src) > 0 && src[0] < 0x80 {
		return int64(src[0]>>1) ^ -int64(src[0]&1), 1
	}
	return binary.Varint(src)
}
