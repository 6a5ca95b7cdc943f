package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

// payloadSource makes record values of a fixed size. Not safe for concurrent use.
type payloadSource struct {
	kind string
	rng  *rand.Rand
	file []byte
	pos  int
	text []byte
}

// newPayloadSource opens the source named by a Spec's Payload: random, text or file:PATH.
func newPayloadSource(name string, seed uint64) (*payloadSource, error) {
	p := &payloadSource{kind: name, rng: rand.New(rand.NewPCG(seed, 0x77656972))}
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		if len(data) == 0 {
			return nil, fmt.Errorf("payload: file %s is empty", path)
		}
		p.kind, p.file = "file", data
	}
	return p, nil
}

// fill overwrites dst with the next payload.
func (p *payloadSource) fill(dst []byte) {
	switch p.kind {
	case "file":
		for n := 0; n < len(dst); {
			c := copy(dst[n:], p.file[p.pos:])
			n += c
			p.pos = (p.pos + c) % len(p.file)
		}
	case "text":
		for n := 0; n < len(dst); {
			if len(p.text) == 0 {
				p.text = p.appendEvent(p.text[:0])
			}
			c := copy(dst[n:], p.text)
			n += c
			p.text = p.text[c:]
		}
	default:
		for len(dst) >= 8 {
			binary.LittleEndian.PutUint64(dst, p.rng.Uint64())
			dst = dst[8:]
		}
		for i := range dst {
			dst[i] = byte(p.rng.Uint32())
		}
	}
}

// appendEvent appends one JSON event: fixed keys, skewed categories, random identifiers and numbers, so that codecs reach
// the ratios (about 3 to 6) that they reach on application logs.
func (p *payloadSource) appendEvent(dst []byte) []byte {
	pick := func(words []string) string {
		i := int(float64(len(words)) * p.rng.Float64() * p.rng.Float64())
		return words[i]
	}
	dst = append(dst, `{"event":"`...)
	dst = append(dst, pick([]string{"page_view", "click", "add_to_cart", "search", "checkout", "refund", "login"})...)
	dst = append(dst, `","user":"`...)
	dst = strconv.AppendUint(dst, p.rng.Uint64()>>20, 36)
	dst = append(dst, `","session":"`...)
	dst = strconv.AppendUint(dst, p.rng.Uint64(), 16)
	dst = append(dst, `","country":"`...)
	dst = append(dst, pick([]string{"DE", "US", "FR", "IN", "BR", "JP", "GB", "NG", "PL", "SE"})...)
	dst = append(dst, `","path":"/shop/`...)
	dst = append(dst, pick([]string{"shoes", "books", "kitchen", "garden", "music", "toys", "bikes", "lamps"})...)
	dst = append(dst, '/')
	dst = strconv.AppendUint(dst, uint64(p.rng.IntN(20000)), 10)
	dst = append(dst, `","duration_ms":`...)
	dst = strconv.AppendUint(dst, uint64(p.rng.ExpFloat64()*180), 10)
	dst = append(dst, `,"price":`...)
	dst = strconv.AppendFloat(dst, p.rng.ExpFloat64()*40, 'f', 2, 64)
	dst = append(dst, `,"agent":"`...)
	dst = append(dst, pick([]string{"Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0)", "app/7.2.1 android"})...)
	return append(dst, "\"}\n"...)
}
