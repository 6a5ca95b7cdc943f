package compression

import (
	"errors"
	"fmt"
)

// Codec is the compression codec of a record batch. The values are those of the low three bits of a batch's
// attributes, so they are part of the wire and disk format.
type Codec int8

// The codecs of the Kafka protocol.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	Lz4    Codec = 3
	Zstd   Codec = 4
)

// LevelDefault asks Append for the codec's usual level: gzip 6, lz4 fast, zstd 3. Snappy has no levels.
const LevelDefault = 0

// Errors of this package, to be tested with errors.Is. The text around them says what was found.
var (
	// ErrTooLarge says that the decompressed form would exceed the caller's limit.
	ErrTooLarge = errors.New("compression: decompressed size exceeds the limit")
	// ErrCorrupt says that the compressed bytes are not what the codec's format demands.
	ErrCorrupt = errors.New("compression: corrupt input")
	// ErrUnknownCodec says that a codec number or name is none of the five.
	ErrUnknownCodec = errors.New("compression: unknown codec")
	// ErrLevel says that a compression level lies outside the codec's range.
	ErrLevel = errors.New("compression: level out of range")
)

// Valid reports whether c is a codec that this package knows, None included.
func (c Codec) Valid() bool { return c >= None && c <= Zstd }

// String returns Kafka's name of the codec: none, gzip, snappy, lz4 or zstd.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case Lz4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec(%d)", int8(c))
}

// ParseCodec is the inverse of String. It accepts "uncompressed", which is what Kafka's topic configuration says for
// none. Any other name gives ErrUnknownCodec.
func ParseCodec(name string) (Codec, error) {
	switch name {
	case "none", "uncompressed":
		return None, nil
	case "gzip":
		return Gzip, nil
	case "snappy":
		return Snappy, nil
	case "lz4":
		return Lz4, nil
	case "zstd":
		return Zstd, nil
	}
	return None, fmt.Errorf("%w %q (want none, gzip, snappy, lz4 or zstd)", ErrUnknownCodec, name)
}

// CheckLevel reports whether level suits the codec: LevelDefault always does; gzip takes 1..9, lz4 1..17 (as Kafka's
// compression.lz4.level), zstd -131072..22, none and snappy nothing else. The error is ErrLevel or ErrUnknownCodec.
func CheckLevel(c Codec, level int) error {
	if !c.Valid() {
		return fmt.Errorf("%w: %d", ErrUnknownCodec, int8(c))
	}
	if level == LevelDefault {
		return nil
	}
	low, high := 0, 0
	switch c {
	case Gzip:
		low, high = 1, 9
	case Lz4:
		low, high = 1, 17
	case Zstd:
		low, high = -131072, 22
	case None, Snappy:
	}
	if level < low || level > high {
		return fmt.Errorf("%w: %s level %d (want %d for the default, or %d..%d)", ErrLevel, c, level, LevelDefault, low, high)
	}
	return nil
}

// Append compresses src with codec c and appends the result to dst. None appends src as it is. The level is
// LevelDefault or what CheckLevel allows. The errors are ErrUnknownCodec and ErrLevel; memory writes cannot fail.
func Append(dst, src []byte, c Codec, level int) ([]byte, error) {
	if err := CheckLevel(c, level); err != nil {
		return dst, err
	}
	switch c {
	case Gzip:
		return appendGzip(dst, src, level)
	case Snappy:
		return appendXerial(dst, src), nil
	case Lz4:
		return appendLz4(dst, src, level)
	case Zstd:
		return appendZstd(dst, src, level)
	case None:
	}
	return append(dst, src...), nil
}

// Decompress appends the decompressed form of src to dst and returns the longer slice. At most bytesMax bytes are
// appended: more gives ErrTooLarge. Malformed input, trailing bytes included, gives ErrCorrupt, a codec other than
// the five ErrUnknownCodec. On an error the returned slice is dst at its old length.
func Decompress(dst, src []byte, c Codec, bytesMax int) ([]byte, error) {
	if bytesMax < 0 {
		bytesMax = 0
	}
	var (
		out []byte
		err error
	)
	switch c {
	case None:
		if len(src) > bytesMax {
			return dst, tooLarge(c, bytesMax)
		}
		return append(dst, src...), nil
	case Gzip:
		out, err = decompressGzip(dst, src, bytesMax)
	case Snappy:
		out, err = decompressSnappy(dst, src, bytesMax)
	case Lz4:
		out, err = decompressLz4(dst, src, bytesMax)
	case Zstd:
		out, err = decompressZstd(dst, src, bytesMax)
	default:
		return dst, fmt.Errorf("%w: %d", ErrUnknownCodec, int8(c))
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// tooLarge is the error for output beyond bytesMax.
func tooLarge(c Codec, bytesMax int) error {
	return fmt.Errorf("%w: %s, limit %d bytes", ErrTooLarge, c, bytesMax)
}

// corrupt wraps what a decoder complained about.
func corrupt(c Codec, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, c, err)
}
