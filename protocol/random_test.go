package protocol

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// newRNG returns a generator and prints its seed.
func newRNG(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// fill sets every field of a kmsg struct at random. What a version does not carry is simply not encoded.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "Version" {
				fill(rng, f)
			}
		}
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			*tags = kmsg.Tags{}
			for range rng.IntN(3) * rng.IntN(2) {
				tags.Set(uint32(100+rng.IntN(1000)), randomBytes(rng, 200))
			}
		}
	case reflect.Pointer:
		if rng.IntN(3) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Slice:
		n := rng.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(randomBytes(rng, 300))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat("s", rng.IntN(3)*rng.IntN(100)))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(randomInt(rng, v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(rng.Uint32()) & (1<<v.Type().Bits() - 1))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	default:
	}
}

// randomInt favours the edges.
func randomInt(rng *rand.Rand, bits int) int64 {
	switch rng.IntN(5) {
	case 0:
		return -1
	case 1:
		return 0
	case 2:
		return math.MaxInt64 >> (64 - bits)
	}
	return int64(rng.Uint64()) >> (64 - bits)
}

func randomBytes(rng *rand.Rand, most int) []byte {
	b := make([]byte, rng.IntN(most))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// orEmpty returns what a nullable string reads as here.
func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orNil is its inverse.
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// sameJSON compares the exported fields of two values; empty and nil slices of structs are the same to it only when
// both encode alike, so it treats null and [] as one.
func sameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	if errA != nil || errB != nil {
		return false
	}
	return strings.ReplaceAll(string(x), "null", "[]") == strings.ReplaceAll(string(y), "null", "[]")
}
