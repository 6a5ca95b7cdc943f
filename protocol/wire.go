package protocol

import (
	"encoding/binary"
	"unsafe"
)

// reader reads primitives off a message. After the first read beyond the end, bad is set and every read returns zero.
type reader struct {
	src []byte
	bad bool
}

// fail marks the reader bad and drops the rest.
func (r *reader) fail() {
	r.bad = true
	r.src = nil
}

// span returns the next n bytes, capped so that an append cannot reach beyond them.
func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.src) {
		r.fail()
		return nil
	}
	s := r.src[:n:n]
	r.src = r.src[n:]
	return s
}

func (r *reader) int8() int8 {
	if len(r.src) < 1 {
		r.fail()
		return 0
	}
	v := int8(r.src[0])
	r.src = r.src[1:]
	return v
}

func (r *reader) int16() int16 {
	if len(r.src) < 2 {
		r.fail()
		return 0
	}
	v := int16(binary.BigEndian.Uint16(r.src))
	r.src = r.src[2:]
	return v
}

func (r *reader) int32() int32 {
	if len(r.src) < 4 {
		r.fail()
		return 0
	}
	v := int32(binary.BigEndian.Uint32(r.src))
	r.src = r.src[4:]
	return v
}

func (r *reader) int64() int64 {
	if len(r.src) < 8 {
		r.fail()
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.src))
	r.src = r.src[8:]
	return v
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.span(16))
	return id
}

// uvarint reads an unsigned varint of at most 32 bits in at most 5 bytes.
func (r *reader) uvarint() uint32 {
	var v uint64
	for i := range min(5, len(r.src)) {
		c := r.src[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 0xffffffff {
				break
			}
			r.src = r.src[i+1:]
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

// skipTags skips a tagged field section.
func (r *reader) skipTags() {
	if len(r.src) > 0 && r.src[0] == 0 {
		r.src = r.src[1:]
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.span(int(r.uvarint()))
	}
}

// arrayLen reads an array length and checks it against the bytes left, given that an element has at least
// elemBytesMin bytes. Null reads as 0, with null set.
func (r *reader) arrayLen(flexible bool, elemBytesMin int) (n int, null bool) {
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if r.bad || n == -1 {
		return 0, true
	}
	if n < 0 || n > len(r.src)/elemBytesMin {
		r.fail()
		return 0, false
	}
	return n, false
}

// nullableBytes reads bytes; nil for null. Length below -1 is bad.
func (r *reader) nullableBytes(flexible bool) []byte {
	var n int
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if n == -1 {
		return nil
	}
	return r.span(n)
}

// stringBytes reads the bytes of a string; nil for null.
func (r *reader) stringBytes(flexible bool) []byte {
	var n int
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int16())
	}
	if n == -1 {
		return nil
	}
	return r.span(n)
}

// nullableString reads a string that shares the message's bytes; empty for null.
func (r *reader) nullableString(flexible bool) string {
	b := r.stringBytes(flexible)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// string reads a string that shares the message's bytes; null is bad.
func (r *reader) string(flexible bool) string {
	b := r.stringBytes(flexible)
	if b == nil {
		r.fail()
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func appendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// appendArrayLen appends the length of a non-null array.
func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n)+1)
	}
	return appendInt32(dst, int32(n))
}

// appendString appends a non-null string.
func appendString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		dst = binary.AppendUvarint(dst, uint64(len(s))+1)
	} else {
		dst = appendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

// appendNullString appends a null string.
func appendNullString(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendInt16(dst, -1)
}

// appendBytesLen appends the length in front of non-null bytes.
func appendBytesLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n)+1)
	}
	return appendInt32(dst, int32(n))
}

// uvarintLen returns the size of an unsigned varint in bytes.
func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
