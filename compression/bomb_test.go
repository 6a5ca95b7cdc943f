package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// allocated returns the bytes that f allocates, by the runtime's count over the whole process; tests here run alone.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bombs returns small inputs that expand, or claim to expand, hugely.
func bombs() map[string]struct {
	codec Codec
	src   []byte
} {
	type bomb = struct {
		codec Codec
		src   []byte
	}
	const huge = 80 << 20
	out := map[string]bomb{}
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	if _, err := io.CopyN(gz, zeros{}, huge); err != nil {
		panic(err)
	}
	must(0, gz.Close())
	out["gzip of zeros"] = bomb{Gzip, bytes.Clone(b.Bytes())}

	b.Reset()
	zw, _ := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if _, err := io.CopyN(zw, zeros{}, huge); err != nil {
		panic(err)
	}
	must(0, zw.Close())
	out["zstd of zeros"] = bomb{Zstd, bytes.Clone(b.Bytes())}

	// One-byte blocks repeated 128 KiB each, no content size: magic, descriptor 0, window 1 MiB, 5000 blocks.
	rle := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50}
	for i := range 5000 {
		h := uint32(zstdBlockBytesMax)<<3 | 1<<1
		if i == 4999 {
			h |= 1
		}
		rle = append(rle, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	out["zstd of repeat blocks"] = bomb{Zstd, rle}

	// A frame that claims 1 TiB and holds one empty block: single segment, 8-byte content size.
	lie := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 1<<40)
	out["zstd lying size"] = bomb{Zstd, append(lie, 1, 0, 0)}

	// The same with blocks enough to make the claim of 60 MiB possible, but garbage in them.
	lie = binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, 60<<20)
	for range 500 {
		h := uint32(4)<<3 | 2<<1
		lie = append(lie, byte(h), byte(h>>8), byte(h>>16), 9, 9, 9, 9)
	}
	out["zstd lying size, garbage blocks"] = bomb{Zstd, append(lie, 1, 0, 0)}

	out["snappy lying length"] = bomb{Snappy, append(binary.AppendUvarint(nil, 60<<20), 0, 'x')}
	out["snappy of zeros"] = bomb{Snappy, s2.EncodeSnappy(nil, make([]byte, huge))}
	framed := append([]byte(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	out["xerial lying block"] = bomb{Snappy, append(framed, 0x7f, 0xff, 0xff, 0xff, 1, 2)}
	inner := append(binary.AppendUvarint(nil, 60<<20), 0, 'x')
	out["xerial lying length"] = bomb{Snappy, append(binary.BigEndian.AppendUint32(bytes.Clone(framed), uint32(len(inner))), inner...)}

	enc, err := Append(nil, make([]byte, huge), Lz4, LevelDefault)
	must(0, err)
	out["lz4 of zeros"] = bomb{Lz4, enc}
	lz := []byte{0x04, 0x22, 0x4d, 0x18, 0x68, 0x70}
	lz = binary.LittleEndian.AppendUint64(lz, 1<<40)
	lz = append(lz, byte(xxh32(lz[4:14])>>8), 0, 0, 0, 0)
	out["lz4 lying size"] = bomb{Lz4, lz}
	return out
}

func TestBombs(t *testing.T) {
	const limit = 1 << 20
	for name, b := range bombs() {
		for _, bytesMax := range []int{0, 1000, limit} {
			var err error
			var out []byte
			got := allocated(func() { out, err = Decompress(nil, b.src, b.codec, bytesMax) })
			if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCorrupt) || len(out) != 0 {
				t.Errorf("%s, limit %d: %v, %d bytes out", name, bytesMax, err, len(out))
			}
			// Room for a pool that is being filled and one zstd window, none for the claim.
			if most := uint64(4*limit + 2*zstdWindowMax); got > most {
				t.Errorf("%s, limit %d: allocated %d bytes for an input of %d, want at most %d", name, bytesMax, got, len(b.src), most)
			}
		}
	}
}

// TestLiesCostLittleUnderARoomyLimit holds claims within the limit to the same account.
func TestLiesCostLittleUnderARoomyLimit(t *testing.T) {
	for name, b := range bombs() {
		if !strings.Contains(name, "lying") {
			continue
		}
		var err error
		got := allocated(func() { _, err = Decompress(nil, b.src, b.codec, 64<<20) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if most := uint64(4*zstdWindowMax + 8*len(b.src)); got > most {
			t.Errorf("%s: allocated %d bytes for an input of %d, want at most %d", name, got, len(b.src), most)
		}
	}
}
