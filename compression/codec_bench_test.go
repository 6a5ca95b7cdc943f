package compression

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchInput is half random, half text, as record values often are.
func benchInput(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = "the quick brown fox jumps over the lazy dog. "[i%45]
		if i/32%2 == 0 {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range compressed {
		for _, n := range []int{1 << 10, 16 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%d", c, n), func(b *testing.B) {
				src, dst := benchInput(n), []byte(nil)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = Append(dst[:0], src, c, LevelDefault)
				}
			})
		}
	}
}

func BenchmarkDecompress(b *testing.B) {
	for _, c := range compressed {
		for _, n := range []int{1 << 10, 16 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%d", c, n), func(b *testing.B) {
				src, dst := benchInput(n), []byte(nil)
				enc, _ := Append(nil, src, c, LevelDefault)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					dst, _ = Decompress(dst[:0], enc, c, n)
				}
			})
		}
	}
}
