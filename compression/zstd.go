package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The parts of the zstd frame format (RFC 8878) that the size check needs.
const (
	zstdBlockHeaderBytes = 3
	zstdBlockBytesMax    = 128 << 10
	zstdChecksumBytes    = 4
	// zstdTrusted is how many times its size a frame may claim, or its blocks allow, to be decoded in one piece into a
	// buffer of that size. More is decoded as a stream, into a buffer that grows with what comes out.
	zstdTrusted = 64
	// zstdTrustedBytes is the size up to which the claim does not matter.
	zstdTrustedBytes = 1 << 20
	// zstdWindowMax bounds the window, which the stream decoder allocates.
	zstdWindowMax = 8 << 20
	// zstdSizeUnknown marks a frame without a content size.
	zstdSizeUnknown = -1
)

// zstdEncoders holds one encoder per speed of the library, made when first used. An encoder serves any number of
// goroutines through EncodeAll, at most GOMAXPROCS at a time.
var zstdEncoders [zstd.SpeedBestCompression + 1]struct {
	once sync.Once
	enc  *zstd.Encoder
	err  error
}

// zstdDecoder is the decoder for frames whose size is known to be modest. It serves any number of goroutines.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0))
})

// appendZstd appends src as one frame with its content size and without a checksum (the batch has one).
func appendZstd(dst, src []byte, level int) ([]byte, error) {
	speed := zstd.SpeedDefault
	if level != LevelDefault {
		speed = zstd.EncoderLevelFromZstd(level)
	}
	e := &zstdEncoders[speed]
	e.once.Do(func() {
		e.enc, e.err = zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true),
			zstd.WithWindowSize(zstdWindowMax/4), zstd.WithLowerEncoderMem(true))
	})
	if e.err != nil {
		return dst, e.err
	}
	return e.enc.EncodeAll(src, dst), nil
}

// decompressZstd appends the content of all frames of src.
func decompressZstd(dst, src []byte, bytesMax int) ([]byte, error) {
	size, bound, err := zstdSize(src)
	if err != nil {
		return nil, err
	}
	if size != zstdSizeUnknown {
		if size > bound {
			return nil, fmt.Errorf("%w: zstd: %d bytes claim %d, can hold %d", ErrCorrupt, len(src), size, bound)
		}
		bound = size
		if size > int64(bytesMax) {
			return nil, tooLarge(Zstd, bytesMax)
		}
	}
	if bound > int64(bytesMax) || bound > max(zstdTrustedBytes, zstdTrusted*int64(len(src))) {
		return decompressZstdStream(dst, src, bytesMax)
	}
	dec, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	out, err := dec.DecodeAll(src, dst)
	if err != nil {
		return nil, corrupt(Zstd, err)
	}
	if len(out)-len(dst) > bytesMax {
		return nil, tooLarge(Zstd, bytesMax)
	}
	return out, nil
}

// decompressZstdStream decodes input whose size is unknown or hard to believe. It is the path of bombs and of very
// repetitive data, so its decoder is not pooled.
func decompressZstdStream(dst, src []byte, bytesMax int) ([]byte, error) {
	dec, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindowMax))
	if err != nil {
		return nil, corrupt(Zstd, err)
	}
	defer dec.Close()
	out, err := readLimited(dst, dec, limits{codec: Zstd, srcBytes: len(src), bytesMax: bytesMax}, make([]byte, 1))
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, fmt.Errorf("%w: zstd: window beyond %d bytes", ErrTooLarge, zstdWindowMax)
	}
	return out, err
}

// zstdSize walks the frames and blocks of src without decoding. size is the sum of the content sizes that the frames
// claim, zstdSizeUnknown when one claims none; bound is the most that their blocks can hold.
func zstdSize(src []byte) (size, bound int64, err error) {
	if len(src) == 0 {
		return 0, 0, fmt.Errorf("%w: zstd: empty input", ErrCorrupt)
	}
	for len(src) > 0 {
		var h zstd.Header
		if err := h.Decode(src); err != nil {
			return 0, 0, corrupt(Zstd, unexpected(err))
		}
		if h.Skippable {
			n := int64(h.HeaderSize) + int64(h.SkippableSize)
			if n > int64(len(src)) {
				return 0, 0, fmt.Errorf("%w: zstd: skippable frame of %d bytes, %d left", ErrCorrupt, n, len(src))
			}
			src = src[n:]
			continue
		}
		n, frameBound, err := zstdBlocks(src[h.HeaderSize:])
		if err != nil {
			return 0, 0, err
		}
		n += h.HeaderSize
		if h.HasCheckSum {
			n += zstdChecksumBytes
		}
		if n > len(src) {
			return 0, 0, fmt.Errorf("%w: zstd: frame of %d bytes, %d left", ErrCorrupt, n, len(src))
		}
		src = src[n:]
		bound += frameBound
		switch {
		case !h.HasFCS || size == zstdSizeUnknown:
			size = zstdSizeUnknown
		case h.FrameContentSize > uint64(frameBound):
			return 0, 0, fmt.Errorf("%w: zstd: frame claims %d bytes, its blocks can hold %d", ErrCorrupt, h.FrameContentSize, frameBound)
		default:
			size += int64(h.FrameContentSize)
		}
	}
	return size, bound, nil
}

// zstdBlocks walks the blocks of a frame: n is the bytes they take, bound the most they can hold.
func zstdBlocks(src []byte) (n int, bound int64, err error) {
	for {
		if len(src)-n < zstdBlockHeaderBytes {
			return 0, 0, fmt.Errorf("%w: zstd: frame ends in a block header", ErrCorrupt)
		}
		header := uint32(src[n]) | uint32(binary.LittleEndian.Uint16(src[n+1:]))<<8
		n += zstdBlockHeaderBytes
		size := int(header >> 3)
		if size > zstdBlockBytesMax {
			return 0, 0, fmt.Errorf("%w: zstd: block of %d bytes", ErrCorrupt, size)
		}
		switch header >> 1 & 3 {
		case 0: // stored
			bound += int64(size)
			n += size
		case 1: // one byte, repeated
			bound += int64(size)
			n++
		case 2: // compressed
			bound += zstdBlockBytesMax
			n += size
		default:
			return 0, 0, fmt.Errorf("%w: zstd: reserved block type", ErrCorrupt)
		}
		if n > len(src) {
			return 0, 0, fmt.Errorf("%w: zstd: block ends %d bytes beyond the input", ErrCorrupt, n-len(src))
		}
		if header&1 != 0 {
			return n, bound, nil
		}
	}
}
