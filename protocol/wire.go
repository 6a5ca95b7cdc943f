package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unsafe"
)

// reader reads primitives off a message. After the first read beyond the end, bad is set and every read returns zero.
type reader struct {
	src []byte
	bad bool
	// left is how many bytes were left where the reader went bad.
	left int
}

// fail marks the reader bad and drops the rest.
func (r *reader) fail() {
	if r.bad {
		return
	}
	r.bad = true
	r.left = len(r.src)
	r.src = nil
}

// done returns the error of a message that has been read from body: nil when all of it was read and well-formed.
func (r *reader) done(key, version int16, body []byte) error {
	if r.bad {
		return fmt.Errorf("%w: api key %d version %d, at byte %d of %d", ErrMalformed, key, version, len(body)-r.left, len(body))
	}
	if len(r.src) > 0 {
		return fmt.Errorf("%w: api key %d version %d, %d bytes of %d", ErrTrailing, key, version, len(r.src), len(body))
	}
	return nil
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

// tags skips a tagged field section where there is one.
func (r *reader) tags(flexible bool) {
	if flexible {
		r.skipTags()
	}
}

// eachTag reads a tagged field section and hands the known fields to known, each as a reader of its own that known
// must empty; known returns false for a tag to skip.
func (r *reader) eachTag(known func(tag uint32, field *reader) bool) {
	if len(r.src) > 0 && r.src[0] == 0 {
		r.src = r.src[1:]
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		tag := r.uvarint()
		field := reader{src: r.span(int(r.uvarint()))}
		if known(tag, &field) && (field.bad || len(field.src) > 0) {
			r.fail()
		}
	}
}

// nullableArrayLen reads an array length and checks it against the bytes left, given that an element has at least
// elemBytesMin bytes; -1 for null. After a failure it is 0.
func (r *reader) nullableArrayLen(flexible bool, elemBytesMin int) int {
	var n int
	if flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	switch {
	case r.bad:
		return 0
	case n < -1 || n > len(r.src)/elemBytesMin:
		r.fail()
		return 0
	}
	return n
}

// arrayLen is nullableArrayLen of an array that must not be null.
func (r *reader) arrayLen(flexible bool, elemBytesMin int) int {
	n := r.nullableArrayLen(flexible, elemBytesMin)
	if n < 0 {
		r.fail()
		return 0
	}
	return n
}

// arrayLenUpTo is arrayLen of an array that must not have more than limit elements.
func (r *reader) arrayLenUpTo(limit int, flexible bool, elemBytesMin int) int {
	n := r.arrayLen(flexible, elemBytesMin)
	if n > limit {
		r.fail()
		return 0
	}
	return n
}

// topic reads what names a topic: an id or a name.
func (r *reader) topic(byID, flexible bool) (name string, id [16]byte) {
	if byID {
		return "", r.uuid()
	}
	return r.string(flexible), id
}

// topicBytesMin is the least size of a topic with its array of partitions, both empty.
func topicBytesMin(byID, flexible bool) int {
	n := pick(flexible, 1+1, 4)
	if byID {
		return n + 16
	}
	return n + pick(flexible, 1, 2)
}

// pick returns a when flexible, else b.
func pick(flexible bool, a, b int) int {
	if flexible {
		return a
	}
	return b
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

// appendNullArray appends a null array.
func appendNullArray(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendInt32(dst, -1)
}

// appendBytesLen appends the length in front of n non-null bytes, which has the form of an array's.
func appendBytesLen(dst []byte, n int, flexible bool) []byte { return appendArrayLen(dst, n, flexible) }

// appendString appends a non-null string, cut at the longest one that the form allows.
func appendString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		dst = binary.AppendUvarint(dst, uint64(len(s))+1)
	} else {
		s = s[:min(len(s), math.MaxInt16)]
		dst = appendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}

// appendNullableString appends a string, null when empty.
func appendNullableString(dst []byte, s string, flexible bool) []byte {
	if s != "" {
		return appendString(dst, s, flexible)
	}
	if flexible {
		return append(dst, 0)
	}
	return appendInt16(dst, -1)
}

// appendTopic appends what names a topic: its id or its name.
func appendTopic(dst []byte, name string, id *[16]byte, byID, flexible bool) []byte {
	if byID {
		return append(dst, id[:]...)
	}
	return appendString(dst, name, flexible)
}

// appendNoTags appends an empty tagged field section where there is one.
func appendNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}

// uvarintLen returns the size of an unsigned varint in bytes.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
