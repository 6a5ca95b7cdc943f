package compression

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// compressed lists the codecs that change the bytes.
var compressed = []Codec{Gzip, Snappy, Lz4, Zstd}

// payloads returns inputs of many sizes and textures, from a fixed seed.
func payloads() [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := [][]byte{nil}
	for _, n := range []int{1, 2, 15, 100, 4096, 32<<10 - 1, 32 << 10, 32<<10 + 1, 64 << 10, 64<<10 + 1, 200_000, 1 << 20} {
		random, text, half := make([]byte, n), make([]byte, n), make([]byte, n)
		for i := range random {
			random[i] = byte(rng.Uint32())
			text[i] = "the quick brown fox jumps over the lazy dog. "[i%45]
			half[i] = text[i]
			if i/256%2 == 0 {
				half[i] = random[i]
			}
		}
		out = append(out, random, text, half, make([]byte, n))
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	prefix := []byte("kept in front")
	for _, c := range append([]Codec{None}, compressed...) {
		for i, src := range payloads() {
			enc, err := Append(bytes.Clone(prefix), src, c, LevelDefault)
			if err != nil || !bytes.HasPrefix(enc, prefix) {
				t.Fatalf("%s payload %d: append: %v", c, i, err)
			}
			dec, err := Decompress(bytes.Clone(prefix), enc[len(prefix):], c, len(src))
			if err != nil || !bytes.Equal(dec, append(bytes.Clone(prefix), src...)) {
				t.Fatalf("%s payload %d (%d bytes): decompress: %v, got %d bytes", c, i, len(src), err, len(dec))
			}
			roomy := make([]byte, 3, len(src)+4096)
			if dec, err = Decompress(roomy, enc[len(prefix):], c, len(src)+1000); err != nil || !bytes.Equal(dec[3:], src) {
				t.Fatalf("%s payload %d: decompress into room: %v", c, i, err)
			}
		}
	}
}

func TestLimitIsExact(t *testing.T) {
	for _, c := range append([]Codec{None}, compressed...) {
		for i, src := range payloads() {
			if len(src) == 0 {
				continue
			}
			enc, err := Append(nil, src, c, LevelDefault)
			if err != nil {
				t.Fatal(err)
			}
			dst := []byte("x")
			got, err := Decompress(dst, enc, c, len(src)-1)
			if !errors.Is(err, ErrTooLarge) || string(got) != "x" {
				t.Fatalf("%s payload %d: limit one short: %v, %d bytes back", c, i, err, len(got))
			}
		}
	}
}

func TestLevels(t *testing.T) {
	src := payloads()[7]
	for _, c := range append([]Codec{None}, compressed...) {
		for level := -5; level <= 25; level++ {
			enc, err := Append(nil, src, c, level)
			if (CheckLevel(c, level) == nil) != (err == nil) {
				t.Fatalf("%s level %d: Append says %v, CheckLevel %v", c, level, err, CheckLevel(c, level))
			}
			if err != nil {
				if !errors.Is(err, ErrLevel) {
					t.Fatal(err)
				}
				continue
			}
			if dec, err := Decompress(nil, enc, c, len(src)); err != nil || !bytes.Equal(dec, src) {
				t.Fatalf("%s level %d: %v", c, level, err)
			}
		}
	}
	for c, good := range map[Codec][2]int{Gzip: {1, 9}, Lz4: {1, 17}, Zstd: {-131072, 22}} {
		for _, level := range good {
			if err := CheckLevel(c, level); err != nil {
				t.Errorf("%s level %d: %v", c, level, err)
			}
		}
		if CheckLevel(c, good[1]+1) == nil || CheckLevel(c, good[0]-1) == nil && c != Gzip && c != Lz4 {
			t.Errorf("%s: levels beyond %v are allowed", c, good)
		}
	}
}

func TestNames(t *testing.T) {
	for c := None; c <= Zstd; c++ {
		got, err := ParseCodec(c.String())
		if err != nil || got != c || !c.Valid() {
			t.Errorf("%v: parsed as %v, %v", c, got, err)
		}
	}
	if _, err := ParseCodec("brotli"); !errors.Is(err, ErrUnknownCodec) {
		t.Errorf("brotli: %v", err)
	}
	for _, c := range []Codec{-1, 5, 7} {
		if _, err := Append(nil, nil, c, 0); !errors.Is(err, ErrUnknownCodec) || c.Valid() {
			t.Errorf("append %d: %v", c, err)
		}
		if _, err := Decompress(nil, nil, c, 10); !errors.Is(err, ErrUnknownCodec) {
			t.Errorf("decompress %d: %v", c, err)
		}
	}
}

// TestReadsOtherWriters feeds what other writers of each format make.
func TestReadsOtherWriters(t *testing.T) {
	for i, src := range payloads() {
		for name, f := range map[string]func() (Codec, []byte){
			"raw snappy":  func() (Codec, []byte) { return Snappy, s2.EncodeSnappy(nil, src) },
			"better snap": func() (Codec, []byte) { return Snappy, s2.EncodeSnappyBetter(nil, src) },
			"two gzips":   func() (Codec, []byte) { return Gzip, append(gzipOf(src[:len(src)/2]), gzipOf(src[len(src)/2:])...) },
			"lz4 4MB": func() (Codec, []byte) {
				return Lz4, lz4Of(src, lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(true))
			},
			"lz4 blocksum": func() (Codec, []byte) {
				return Lz4, lz4Of(src, lz4.BlockSizeOption(lz4.Block64Kb), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(src))))
			},
			"two lz4":     func() (Codec, []byte) { return Lz4, append(lz4Of(src[:len(src)/3]), lz4Of(src[len(src)/3:])...) },
			"zstd stream": func() (Codec, []byte) { return Zstd, zstdStream(src, zstd.WithWindowSize(1<<20)) },
			"zstd crc": func() (Codec, []byte) {
				return Zstd, zstdStream(src, zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true))
			},
			"two zstds": func() (Codec, []byte) {
				return Zstd, append(zstdStream(src[:len(src)/2]), zstdStream(src[len(src)/2:])...)
			},
		} {
			c, enc := f()
			got, err := Decompress(nil, enc, c, len(src))
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%s, payload %d of %d bytes: %v, got %d bytes", name, i, len(src), err, len(got))
			}
		}
	}
}

// TestLz4DependentBlocks reads a frame whose second block refers back into the first, made by hand.
func TestLz4DependentBlocks(t *testing.T) {
	frame := []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40}
	frame = append(frame, byte(xxh32(frame[4:6])>>8))
	first := []byte("0123456789abcdef")
	frame = append(frame, 16, 0, 0, 0x80)
	frame = append(frame, first...)
	// Token: 0 literals, match of 4+4; offset 16; then 5 literals to end the block.
	block := []byte{0x04, 16, 0, 0x50, 'v', 'w', 'x', 'y', 'z'}
	frame = append(frame, byte(len(block)), 0, 0, 0)
	frame = append(frame, block...)
	frame = append(frame, 0, 0, 0, 0)
	got, err := Decompress(nil, frame, Lz4, 100)
	if want := "0123456789abcdef01234567vwxyz"; err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

// TestLz4BlockBeyondItsFrame refuses a block larger than the frame's descriptor allows.
func TestLz4BlockBeyondItsFrame(t *testing.T) {
	frame := []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82}
	const n = lz4BlockBytes + 1
	frame = append(frame, byte(n&0xff), byte(n>>8&0xff), byte(n>>16), 0x80)
	frame = append(frame, make([]byte, n+4)...)
	if _, err := Decompress(nil, frame, Lz4, 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v, want %v", err, ErrCorrupt)
	}
}

// TestWritesWhatOthersRead checks our output with other readers of each format.
func TestWritesWhatOthersRead(t *testing.T) {
	for i, src := range payloads() {
		enc, _ := Append(nil, src, Lz4, LevelDefault)
		got, err := io.ReadAll(lz4.NewReader(bytes.NewReader(enc)))
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("lz4 payload %d: %v", i, err)
		}
		if enc[4] != 0x60 || enc[5] != 0x40 || enc[6] != 0x82 {
			t.Errorf("lz4 payload %d: descriptor % x, Java writes 60 40 82", i, enc[4:7])
		}
		enc, _ = Append(nil, src, Snappy, LevelDefault)
		if got := xerialReference(t, enc); !bytes.Equal(got, src) {
			t.Errorf("snappy payload %d: reference reader got %d bytes", i, len(got))
		}
		enc, _ = Append(nil, src, Gzip, LevelDefault)
		r, err := gzip.NewReader(bytes.NewReader(enc))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, src) {
			t.Errorf("gzip payload %d: %v", i, err)
		}
	}
}

// xerialReference reads xerial framing the plain way.
func xerialReference(t *testing.T, enc []byte) (out []byte) {
	t.Helper()
	if !bytes.HasPrefix(enc, []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}) {
		t.Fatalf("no xerial header: % x", enc[:min(16, len(enc))])
	}
	for enc = enc[16:]; len(enc) > 0; {
		n := int(enc[0])<<24 | int(enc[1])<<16 | int(enc[2])<<8 | int(enc[3])
		block, err := s2.Decode(nil, enc[4:4+n])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, block...)
		enc = enc[4+n:]
	}
	return out
}

func TestXxh32(t *testing.T) {
	for in, want := range map[string]uint32{
		"":  0x02cc5d05,
		"a": 0x550d7456,
		"Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(in)); got != want {
			t.Errorf("xxh32(%q) = %08x, want %08x", in, got, want)
		}
	}
}

func TestTruncatedAndFlipped(t *testing.T) {
	src := []byte(strings.Repeat("some text that compresses, ", 400))
	for _, c := range compressed {
		enc, _ := Append(nil, src, c, LevelDefault)
		for n := range enc {
			if c == Snappy && (n >= 16 || n == 0) {
				break // a stream of whole blocks may end anywhere between them; the CRC of the batch guards that
			}
			if _, err := Decompress(nil, enc[:n], c, 1<<20); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut at %d of %d: %v", c, n, len(enc), err)
			}
		}
		for range 2000 {
			mad := bytes.Clone(enc)
			mad[rand.IntN(len(mad))] ^= byte(1 + rand.IntN(255))
			out, err := Decompress(nil, mad, c, 1<<20)
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) || len(out) > 1<<20 {
				t.Fatalf("%s: flipped byte: %v, %d bytes", c, err, len(out))
			}
		}
		if _, err := Decompress(nil, append(enc, 1, 2, 3), c, 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s with trailing bytes: %v", c, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	all := payloads()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i, src := range all[:33] {
				c := compressed[(i+w)%len(compressed)]
				enc, err := Append(nil, src, c, LevelDefault)
				if err != nil {
					t.Error(err)
					return
				}
				if dec, err := Decompress(nil, enc, c, len(src)); err != nil || !bytes.Equal(dec, src) {
					t.Errorf("%s: %v", c, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func gzipOf(src []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	must(w.Write(src))
	must(0, w.Close())
	return b.Bytes()
}

func lz4Of(src []byte, opts ...lz4.Option) []byte {
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	must(0, w.Apply(opts...))
	must(w.Write(src))
	must(0, w.Close())
	return b.Bytes()
}

func zstdStream(src []byte, opts ...zstd.EOption) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append(opts, zstd.WithZeroFrames(true), zstd.WithEncoderConcurrency(1))...)
	must(0, err)
	must(w.Write(src))
	must(0, w.Close())
	return b.Bytes()
}

func must(_ int, err error) {
	if err != nil {
		panic(fmt.Sprintf("BUG: test set-up: %v", err))
	}
}
