package compression

import (
	"bytes"
	"testing"
)

// FuzzDecompress feeds arbitrary bytes to every decoder under a limit: no panic, no more output than allowed.
func FuzzDecompress(f *testing.F) {
	for _, c := range compressed {
		for _, src := range payloads()[:9] {
			enc, err := Append(nil, src, c, LevelDefault)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(int8(c), enc)
		}
	}
	for _, b := range bombs() {
		if len(b.src) < 64<<10 {
			f.Add(int8(b.codec), b.src)
		}
	}
	f.Fuzz(func(t *testing.T, codec int8, src []byte) {
		const limit = 1 << 16
		c := Codec(codec)
		out, err := Decompress([]byte("abc"), src, c, limit)
		if len(out) > limit+3 || !bytes.HasPrefix(out, []byte("abc")) || err != nil && len(out) != 3 {
			t.Fatalf("%s: %d bytes out, %v", c, len(out), err)
		}
	})
}

// FuzzRoundTrip checks that what Append makes, Decompress undoes.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int8(1), []byte("hello hello hello hello"))
	f.Fuzz(func(t *testing.T, codec int8, src []byte) {
		c := Codec(codec)
		enc, err := Append(nil, src, c, LevelDefault)
		if err != nil {
			return
		}
		dec, err := Decompress(nil, enc, c, len(src))
		if err != nil || !bytes.Equal(dec, src) {
			t.Fatalf("%s: %v", c, err)
		}
	})
}
