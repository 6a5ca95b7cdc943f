package bench

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/record"
)

func testSpec(mod func(*Spec)) *Spec {
	s := &Spec{Conns: 1, Partitions: 1, ValueBytes: 100, Records: 10}
	if mod != nil {
		mod(s)
	}
	s.EnsureDefaults()
	return s
}

func TestCRCPatchEqualsRecomputing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tab := range []*crc32.Table{castagnoli, crc32.IEEETable} {
		for _, suffix := range []int{0, 1, 7, 4096, 70_001} {
			msg := make([]byte, 50+suffix)
			for i := range msg {
				msg[i] = byte(rng.Uint32())
			}
			before := crc32.Checksum(msg, tab)
			p := newCRCPatch(tab, suffix)
			diff := make([]byte, 20)
			for i := range diff {
				diff[i] = byte(rng.Uint32())
				msg[30+i] ^= diff[i]
			}
			if got, want := before^p.delta(diff), crc32.Checksum(msg, tab); got != want {
				t.Fatalf("suffix %d: got %08x, want %08x", suffix, got, want)
			}
		}
	}
}

func TestTemplatesStampedBatchesAreValid(t *testing.T) {
	for _, codec := range codecNames {
		for _, payload := range []string{"random", "text"} {
			for _, shape := range [][2]int{{8, 1}, {10, 300}, {1024, 1}, {1024, 64}, {200_000, 2}} {
				spec := testSpec(func(s *Spec) { s.Codec, s.Payload, s.ValueBytes, s.Records = codec, payload, shape[0], shape[1] })
				src, err := newPayloadSource(payload, 1)
				if err != nil {
					t.Fatal(err)
				}
				tpl, err := newTemplate(spec, src, rand.New(rand.NewPCG(3, 4)))
				if err != nil {
					t.Fatalf("%s %s %v: %v", codec, payload, shape, err)
				}
				checkRendered(t, tpl, spec)
			}
		}
	}
}

func checkRendered(t *testing.T, tpl *template, spec *Spec) {
	t.Helper()
	want := stamp{run: 77, producer: 9, seq: 12345, intended: 1_790_000_000_123_456_789, template: 3}
	raw := tpl.render(&want, 1_790_000_000_123)
	batch, rest, err := record.Next(raw)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Next: %v, %d bytes left", err, len(rest))
	}
	if err := batch.Validate(record.ValidateOptions{Strict: true, DecompressedBytesMax: 1 << 30}); err != nil {
		t.Fatalf("%s %s: %v", spec.Codec, spec.Payload, err)
	}
	if got, ok := readStamp(raw[tpl.stampPos:]); !ok || got != want {
		t.Fatalf("stamp in the raw bytes: %+v %v", got, ok)
	}
	it := batch.Records(nil, 1<<30)
	for i := 0; it.Next(); i++ {
		r := it.Record()
		if i == 0 {
			if got, ok := readStamp(r.Key); !ok || got != want {
				t.Fatalf("stamp in the record: %+v %v", got, ok)
			}
		}
		if binary.LittleEndian.Uint32(r.Value) != valueCheck(i, r.Value) {
			t.Fatalf("record %d: wrong check", i)
		}
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
}
