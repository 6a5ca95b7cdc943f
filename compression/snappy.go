package compression

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// The framing of Java's snappy streams: the header, then blocks of a big-endian length and a raw snappy block.
const (
	xerialHeaderBytes = 16
	xerialBlockBytes  = 32 << 10 // what Java's writer uses; a reader accepts any
	xerialVersion     = 1
	// snappyRatioMax bounds how much a raw snappy block can expand: its densest element makes 64 bytes of 3.
	snappyRatioMax = 22
)

// xerialMagic starts the framing.
const xerialMagic = "\x82SNAPPY\x00"

// appendXerial appends src in xerial framing.
func appendXerial(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = binary.BigEndian.AppendUint32(dst, xerialVersion)
	dst = binary.BigEndian.AppendUint32(dst, xerialVersion)
	for len(src) > 0 {
		block := src[:min(len(src), xerialBlockBytes)]
		src = src[len(block):]
		at := len(dst)
		dst = slices.Grow(dst, 4+s2.MaxEncodedLen(len(block)))
		room := dst[at+4 : cap(dst)]
		encoded := s2.EncodeSnappy(room, block)
		dst = dst[:at+4+len(encoded)]
		if len(encoded) > 0 && &encoded[0] != &dst[at+4] {
			copy(dst[at+4:], encoded)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(encoded)))
	}
	return dst
}

// decompressSnappy appends the content of src, which is in xerial framing or one raw block. Headers in the middle, as
// concatenated streams have them, are skipped.
func decompressSnappy(dst, src []byte, bytesMax int) ([]byte, error) {
	magic := []byte(xerialMagic)
	if !bytes.HasPrefix(src, magic) {
		return appendSnappyBlock(dst, src, bytesMax)
	}
	start := len(dst)
	for len(src) > 0 {
		if bytes.HasPrefix(src, magic) {
			if len(src) < xerialHeaderBytes {
				return nil, fmt.Errorf("%w: snappy: xerial header of %d bytes, want %d", ErrCorrupt, len(src), xerialHeaderBytes)
			}
			src = src[xerialHeaderBytes:]
			continue
		}
		if len(src) < 4 {
			return nil, fmt.Errorf("%w: snappy: %d bytes where a block length should be", ErrCorrupt, len(src))
		}
		n := int64(binary.BigEndian.Uint32(src))
		src = src[4:]
		if n > int64(len(src)) {
			return nil, fmt.Errorf("%w: snappy: block of %d bytes, %d left", ErrCorrupt, n, len(src))
		}
		var err error
		if dst, err = appendSnappyBlock(dst, src[:n], bytesMax-(len(dst)-start)); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return dst, nil
}

// appendSnappyBlock appends the content of one raw block. The length that the block claims is checked against the
// limit and against what so many bytes can expand to before anything is allocated.
func appendSnappyBlock(dst, block []byte, bytesMax int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, corrupt(Snappy, err)
	}
	if n > bytesMax {
		return nil, tooLarge(Snappy, bytesMax)
	}
	if n/snappyRatioMax > len(block) {
		return nil, fmt.Errorf("%w: snappy: block of %d bytes claims %d", ErrCorrupt, len(block), n)
	}
	dst = slices.Grow(dst, n)
	at := len(dst)
	out, err := s2.Decode(dst[at:at+n:at+n], block)
	if err != nil {
		return nil, corrupt(Snappy, err)
	}
	if len(out) > 0 && &out[0] != &dst[:at+1][at] {
		copy(dst[at:at+n], out)
	}
	return dst[:at+n], nil
}
