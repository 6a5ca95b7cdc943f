package compression

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format: magic, FLG, BD, [content size], [dictionary id], header checksum, blocks, end mark, [content
// checksum]. Integers are little-endian. We write what Kafka's Java client writes and reads: version 1, independent
// blocks of 64 KiB, no block or content checksums (the batch has its own), no content size.
const (
	lz4Magic = 0x184D2204

	lz4FlagVersionMask     = 0xC0
	lz4FlagVersion         = 0x40
	lz4FlagIndependent     = 0x20
	lz4FlagBlockChecksum   = 0x10
	lz4FlagContentSize     = 0x08
	lz4FlagContentChecksum = 0x04
	lz4FlagReserved        = 0x02
	lz4FlagDictionary      = 0x01

	lz4BlockCode64K = 4
	lz4BlockBytes   = 64 << 10
	lz4Stored       = 1 << 31 // set in a block's size when the block is not compressed

	// lz4RatioMax bounds how much a block can expand: every further byte of a match length stands for 255 bytes.
	lz4RatioMax = 255
	// lz4WindowBytes is how far back a match may reach, over the blocks of a frame with dependent blocks.
	lz4WindowBytes = 64 << 10
)

// lz4FastEncoders and lz4HighEncoders hold *lz4.Compressor and *lz4.CompressorHC, whose tables are large.
var (
	lz4FastEncoders = sync.Pool{New: func() any { return new(lz4.Compressor) }}
	lz4HighEncoders = sync.Pool{New: func() any { return new(lz4.CompressorHC) }}
)

// appendLz4 appends src as one frame. Kafka's levels go to 17, the library's to 9; those above are its 9.
func appendLz4(dst, src []byte, level int) ([]byte, error) {
	compress, release := lz4Compressor(level)
	defer release()
	flags := [2]byte{lz4FlagVersion | lz4FlagIndependent, lz4BlockCode64K << 4}
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, flags[0], flags[1], byte(xxh32(flags[:])>>8))
	for len(src) > 0 {
		block := src[:min(len(src), lz4BlockBytes)]
		src = src[len(block):]
		at := len(dst)
		dst = slices.Grow(dst, 4+lz4.CompressBlockBound(len(block)))
		n, err := compress(block, dst[at+4:at+4+lz4.CompressBlockBound(len(block))])
		if err != nil || n == 0 || n >= len(block) { // incompressible
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(block))|lz4Stored)
			dst = append(dst, block...)
			continue
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
		dst = dst[:at+4+n]
	}
	return append(dst, 0, 0, 0, 0), nil
}

// lz4Compressor takes a block compressor of the level from its pool; release puts it back.
func lz4Compressor(level int) (compress func(src, dst []byte) (int, error), release func()) {
	if level == LevelDefault {
		c := lz4FastEncoders.Get().(*lz4.Compressor)
		return c.CompressBlock, func() { lz4FastEncoders.Put(c) }
	}
	c := lz4HighEncoders.Get().(*lz4.CompressorHC)
	c.Level = lz4.CompressionLevel(1 << (8 + min(level, 9)))
	return c.CompressBlock, func() { lz4HighEncoders.Put(c) }
}

// lz4Frame is a parsed frame descriptor.
type lz4Frame struct {
	flags       byte
	blockMax    int
	contentSize uint64
}

// decompressLz4 appends the content of all frames of src.
func decompressLz4(dst, src []byte, bytesMax int) ([]byte, error) {
	start := len(dst)
	for {
		frame, rest, err := parseLz4Header(src)
		if err != nil {
			return nil, err
		}
		at := len(dst)
		dst, src, err = frame.appendBlocks(dst, rest, bytesMax-(at-start))
		if err != nil {
			return nil, err
		}
		if frame.flags&lz4FlagContentSize != 0 && frame.contentSize != uint64(len(dst)-at) {
			return nil, fmt.Errorf("%w: lz4: content of %d bytes, header says %d", ErrCorrupt, len(dst)-at, frame.contentSize)
		}
		if frame.flags&lz4FlagContentChecksum != 0 {
			if len(src) < 4 || binary.LittleEndian.Uint32(src) != xxh32(dst[at:]) {
				return nil, fmt.Errorf("%w: lz4: content checksum", ErrCorrupt)
			}
			src = src[4:]
		}
		if len(src) == 0 {
			return dst, nil
		}
	}
}

// parseLz4Header reads the frame descriptor.
func parseLz4Header(src []byte) (f lz4Frame, rest []byte, err error) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return f, nil, fmt.Errorf("%w: lz4: no frame magic (%d bytes left)", ErrCorrupt, len(src))
	}
	f.flags = src[4]
	code := src[5] >> 4
	if f.flags&lz4FlagVersionMask != lz4FlagVersion || f.flags&(lz4FlagReserved|lz4FlagDictionary) != 0 ||
		code < 4 || code > 7 || src[5]&0x8f != 0 {
		return f, nil, fmt.Errorf("%w: lz4: frame flags %02x %02x", ErrCorrupt, src[4], src[5])
	}
	f.blockMax = 1 << (8 + 2*int(code))
	n := 6
	if f.flags&lz4FlagContentSize != 0 {
		if len(src) < 15 {
			return f, nil, fmt.Errorf("%w: lz4: frame header of %d bytes", ErrCorrupt, len(src))
		}
		f.contentSize = binary.LittleEndian.Uint64(src[6:])
		n += 8
	}
	if want := byte(xxh32(src[4:n]) >> 8); src[n] != want {
		return f, nil, fmt.Errorf("%w: lz4: header checksum %02x, want %02x", ErrCorrupt, src[n], want)
	}
	return f, src[n+1:], nil
}

// appendBlocks appends the content of the frame's blocks, up to and with the end mark.
func (f lz4Frame) appendBlocks(dst, src []byte, bytesMax int) (out, rest []byte, err error) {
	start := len(dst)
	for {
		if len(src) < 4 {
			return nil, nil, fmt.Errorf("%w: lz4: no end mark", ErrCorrupt)
		}
		size := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if size == 0 {
			return dst, src, nil
		}
		n := int(size &^ lz4Stored)
		if n > f.blockMax || n > len(src) {
			return nil, nil, fmt.Errorf("%w: lz4: block of %d bytes, %d left, at most %d", ErrCorrupt, n, len(src), f.blockMax)
		}
		block := src[:n]
		src = src[n:]
		if f.flags&lz4FlagBlockChecksum != 0 {
			if len(src) < 4 || binary.LittleEndian.Uint32(src) != xxh32(block) {
				return nil, nil, fmt.Errorf("%w: lz4: block checksum", ErrCorrupt)
			}
			src = src[4:]
		}
		if dst, err = f.appendBlock(dst, start, block, size&lz4Stored != 0, bytesMax-(len(dst)-start)); err != nil {
			return nil, nil, err
		}
	}
}

// appendBlock appends the content of one block. dst[start:] is what the frame has given so far.
func (f lz4Frame) appendBlock(dst []byte, start int, block []byte, stored bool, bytesLeft int) ([]byte, error) {
	if stored {
		if len(block) > bytesLeft {
			return nil, tooLarge(Lz4, bytesLeft)
		}
		return append(dst, block...), nil
	}
	most := min(f.blockMax, len(block)*lz4RatioMax)
	room := min(most, bytesLeft)
	if room == 0 { // the library's decoder needs a place to write to
		if len(block) == 1 && block[0] == 0 { // a block of nothing
			return dst, nil
		}
		return nil, tooLarge(Lz4, bytesLeft)
	}
	dst = slices.Grow(dst, room)
	at := len(dst)
	var n int
	var err error
	if f.flags&lz4FlagIndependent != 0 || at == start {
		n, err = lz4.UncompressBlock(block, dst[at:at+room])
	} else {
		n, err = lz4.UncompressBlockWithDict(block, dst[at:at+room], dst[max(start, at-lz4WindowBytes):at])
	}
	if err != nil {
		if room < most { // the limit, not the format, may be what stopped it
			return nil, tooLarge(Lz4, bytesLeft)
		}
		return nil, corrupt(Lz4, err)
	}
	return dst[:at+n], nil
}
