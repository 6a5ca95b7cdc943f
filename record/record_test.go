package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/compression"
)

// item is a record as a test wants it.
type item struct {
	offset, ts int64
	key, value []byte
	headers    []Header
}

// allCodecs are the codecs under test.
var allCodecs = []compression.Codec{compression.None, compression.Gzip, compression.Snappy, compression.Lz4, compression.Zstd}

// randomItems returns n records with nulls, empty fields, headers and timestamps in any order.
func randomItems(rng *rand.Rand, n int) []item {
	field := func() []byte {
		switch rng.IntN(5) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, rng.IntN(200))
		for i := range b {
			b[i] = byte('a' + rng.IntN(6))
		}
		return b
	}
	items := make([]item, n)
	for i := range items {
		items[i] = item{offset: int64(i), ts: 1_700_000_000_000 + rng.Int64N(100_000) - 50_000, key: field(), value: field()}
		for range rng.IntN(4) * rng.IntN(2) {
			h := Header{Key: field(), Value: field()}
			if h.Key == nil {
				h.Key = []byte("h")
			}
			items[i].headers = append(items[i].headers, h)
		}
	}
	return items
}

// build returns the batch of the items.
func build(b *Builder, items []item) Batch {
	for _, it := range items {
		b.Append(it.ts, it.key, it.value, it.headers...)
	}
	return b.Finish(nil)
}

// same reports how a record differs from an item, "" when it does not.
func same(it *Iterator, want item, base int64) string {
	r := it.Record()
	switch {
	case it.Offset() != base+want.offset:
		return fmt.Sprintf("offset %d, want %d", it.Offset(), base+want.offset)
	case it.Timestamp() != want.ts:
		return fmt.Sprintf("timestamp %d, want %d", it.Timestamp(), want.ts)
	case !bytes.Equal(r.Key, want.key) || (r.Key == nil) != (want.key == nil):
		return fmt.Sprintf("key %q, want %q", r.Key, want.key)
	case !bytes.Equal(r.Value, want.value) || (r.Value == nil) != (want.value == nil):
		return fmt.Sprintf("value %q, want %q", r.Value, want.value)
	case len(r.Headers) != len(want.headers):
		return fmt.Sprintf("%d headers, want %d", len(r.Headers), len(want.headers))
	}
	for i, h := range r.Headers {
		w := want.headers[i]
		if !bytes.Equal(h.Key, w.Key) || !bytes.Equal(h.Value, w.Value) || (h.Value == nil) != (w.Value == nil) {
			return fmt.Sprintf("header %d %q=%q, want %q=%q", i, h.Key, h.Value, w.Key, w.Value)
		}
	}
	return ""
}

func TestBuildValidateIterate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var buf []byte
	for _, codec := range allCodecs {
		b := NewBuilder(codec)
		for round := range 60 {
			items := randomItems(rng, 1+rng.IntN(1+round*3))
			b.Reset()
			batch := build(b, items)
			got, rest, err := Next(append(bytes.Clone(batch), 1, 2, 3))
			if err != nil || len(rest) != 3 || !bytes.Equal(got, batch) {
				t.Fatalf("%s: Next: %v, rest %d bytes", codec, err, len(rest))
			}
			if err := got.Validate(ValidateOptions{Strict: true, MaxBytes: len(batch)}); err != nil {
				t.Fatalf("%s: %v", codec, err)
			}
			got.SetBaseOffset(777)
			got.SetPartitionLeaderEpoch(12)
			if err := got.CheckCRC(); err != nil || got.BaseOffset() != 777 || got.PartitionLeaderEpoch() != 12 {
				t.Fatalf("%s: after stamping: %v", codec, err)
			}
			if got.LastOffset() != 777+int64(len(items))-1 || got.Codec() != codec || got.NextOffset() != got.LastOffset()+1 {
				t.Fatalf("%s: last offset %d of %d records", codec, got.LastOffset(), len(items))
			}
			it := got.Records(buf, 0)
			n := 0
			for ; it.Next(); n++ {
				if diff := same(&it, items[n], 777); diff != "" {
					t.Fatalf("%s record %d: %s", codec, n, diff)
				}
			}
			if it.Err() != nil || n != len(items) {
				t.Fatalf("%s: %d of %d records, %v", codec, n, len(items), it.Err())
			}
			buf = it.Buffer()
		}
	}
}

// TestAgainstKmsg holds the builder's bytes to those of kmsg's encoder and reads the header back with it.
func TestAgainstKmsg(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 200 {
		items := randomItems(rng, 1+rng.IntN(50))
		b := NewBuilder()
		b.SetBaseOffset(rng.Int64N(1 << 40))
		b.SetPartitionLeaderEpoch(rng.Int32N(1000))
		b.SetProducer(rng.Int64N(1<<40), int16(rng.IntN(100)), rng.Int32N(1<<30))
		b.SetTransactional(rng.IntN(2) == 0)
		batch := build(b, items)

		var k kmsg.RecordBatch
		if err := k.ReadFrom(batch); err != nil {
			t.Fatal(err)
		}
		var body []byte
		for _, it := range items {
			r := kmsg.Record{OffsetDelta: int32(it.offset), TimestampDelta64: it.ts - items[0].ts, Key: it.key, Value: it.value}
			for _, h := range it.headers {
				r.Headers = append(r.Headers, kmsg.Header{Key: string(h.Key), Value: h.Value})
			}
			r.Length = int32(len(r.AppendTo(nil)) - 1) // the length itself, still 0, takes one byte
			body = r.AppendTo(body)
		}
		if !bytes.Equal(body, k.Records) || !bytes.Equal(k.AppendTo(nil), batch) {
			t.Fatalf("kmsg encodes other bytes for %d records", len(items))
		}
		if k.FirstOffset != batch.BaseOffset() || k.Length != batch.Length() ||
			k.PartitionLeaderEpoch != batch.PartitionLeaderEpoch() ||
			k.Magic != batch.Magic() || uint32(k.CRC) != batch.CRC() || k.Attributes != batch.Attributes() ||
			k.LastOffsetDelta != batch.LastOffsetDelta() || k.FirstTimestamp != batch.FirstTimestamp() ||
			k.MaxTimestamp != batch.MaxTimestamp() || k.ProducerID != batch.ProducerID() || k.ProducerEpoch != batch.ProducerEpoch() ||
			k.FirstSequence != batch.BaseSequence() || k.NumRecords != batch.RecordCount() {
			t.Fatalf("views differ from kmsg: %+v", k)
		}
	}
}

// good returns a batch that a client may send.
func good(codec compression.Codec) Batch {
	b := NewBuilder(codec)
	b.SetProducer(5, 1, 100)
	return build(b, []item{{ts: 1000, key: []byte("k"), value: []byte("v")}, {ts: 3000, value: []byte("w")}, {ts: 2000}})
}

func TestValidateRefuses(t *testing.T) {
	be16 := func(b Batch, pos int, v int16) { b[pos], b[pos+1] = byte(v>>8), byte(v) }
	be32 := func(b Batch, pos int, v int32) { be16(b, pos, int16(v>>16)); be16(b, pos+2, int16(v)) }
	be64 := func(b Batch, pos int, v int64) { be32(b, pos, int32(v>>32)); be32(b, pos+4, int32(v)) }
	zeroProducer := func(b Batch) { // as kafkajs sends it
		be64(b, PosProducerID, -1)
		be16(b, PosProducerEpoch, 0)
		be32(b, PosBaseSequence, 0)
	}
	client, internal, strict := ValidateOptions{}, ValidateOptions{Internal: true}, ValidateOptions{Strict: true}
	for name, c := range map[string]struct {
		opts   ValidateOptions
		change func(b Batch)
		want   error // nil: accepted
	}{
		"as it is":                 {client, func(Batch) {}, nil},
		"strict":                   {strict, func(Batch) {}, nil},
		"too large":                {ValidateOptions{MaxBytes: 80}, func(Batch) {}, ErrTooLarge},
		"exactly the limit":        {ValidateOptions{MaxBytes: len(good(0))}, func(Batch) {}, nil},
		"key required":             {ValidateOptions{KeyRequired: true}, func(Batch) {}, ErrInvalid},
		"base offset":              {client, func(b Batch) { b.SetBaseOffset(1) }, ErrInvalid},
		"internal base offset":     {internal, func(b Batch) { b.SetBaseOffset(1) }, nil},
		"internal negative offset": {internal, func(b Batch) { b.SetBaseOffset(-1) }, ErrInvalid},
		"magic 0":                  {client, func(b Batch) { b[PosMagic] = 0 }, ErrUnsupportedMagic},
		"magic 1":                  {client, func(b Batch) { b[PosMagic] = 1 }, ErrUnsupportedMagic},
		"magic 3":                  {client, func(b Batch) { b[PosMagic] = 3 }, ErrCorrupt},
		"length too small":         {client, func(b Batch) { be32(b, PosBatchLength, 48) }, ErrCorrupt},
		"length zero":              {client, func(b Batch) { be32(b, PosBatchLength, 0) }, ErrCorrupt},
		"length negative":          {client, func(b Batch) { be32(b, PosBatchLength, -1) }, ErrCorrupt},
		"length huge":              {client, func(b Batch) { be32(b, PosBatchLength, 1<<31-1) }, ErrCorrupt},
		"length one less":          {client, func(b Batch) { be32(b, PosBatchLength, b.Length()-1) }, ErrCorrupt},
		"codec 5":                  {client, func(b Batch) { be16(b, PosAttributes, 5) }, ErrUnsupportedCodec},
		"control":                  {client, func(b Batch) { be16(b, PosAttributes, AttrControl) }, ErrInvalid},
		"internal control":         {internal, func(b Batch) { be16(b, PosAttributes, AttrControl) }, nil},
		"horizon":                  {client, func(b Batch) { be16(b, PosAttributes, AttrHasDeleteHorizon) }, ErrInvalid},
		"log append time":          {client, func(b Batch) { be16(b, PosAttributes, AttrLogAppendTime) }, ErrInvalidTimestamp},
		"count 2":                  {client, func(b Batch) { be32(b, PosRecordCount, 2) }, ErrInvalid},
		"count 0":                  {client, func(b Batch) { be32(b, PosRecordCount, 0); be32(b, PosLastOffsetDelta, -1) }, ErrInvalid},
		"count -1":                 {client, func(b Batch) { be32(b, PosRecordCount, -1); be32(b, PosLastOffsetDelta, -2) }, ErrInvalid},
		"count of billions":        {client, func(b Batch) { be32(b, PosRecordCount, 1<<30); be32(b, PosLastOffsetDelta, 1<<30-1) }, ErrInvalid},
		"count 4, both":            {client, func(b Batch) { be32(b, PosRecordCount, 4); be32(b, PosLastOffsetDelta, 3) }, ErrInvalid},
		"strict, lying count":      {strict, func(b Batch) { be32(b, PosRecordCount, 2); be32(b, PosLastOffsetDelta, 1) }, ErrInvalid},
		"lying count, not strict":  {client, func(b Batch) { be32(b, PosRecordCount, 2); be32(b, PosLastOffsetDelta, 1) }, nil},
		"internal gap":             {internal, func(b Batch) { be32(b, PosLastOffsetDelta, 9) }, nil},
		"internal gap, negative":   {internal, func(b Batch) { be32(b, PosLastOffsetDelta, -1) }, ErrInvalid},
		"base timestamp -2":        {client, func(b Batch) { be64(b, PosBaseTimestamp, -2) }, ErrInvalidTimestamp},
		"max timestamp -2":         {client, func(b Batch) { be64(b, PosMaxTimestamp, -2) }, ErrInvalidTimestamp},
		"max timestamp unset":      {client, func(b Batch) { be64(b, PosMaxTimestamp, -1) }, nil},
		"producer -2":              {client, func(b Batch) { be64(b, PosProducerID, -2) }, ErrInvalid},
		"producer without epoch":   {client, func(b Batch) { be16(b, PosProducerEpoch, -1) }, ErrInvalid},
		"producer without seq":     {client, func(b Batch) { be32(b, PosBaseSequence, -1) }, ErrInvalid},
		"marker without seq":       {internal, func(b Batch) { be32(b, PosBaseSequence, -1) }, nil},
		"transactional, nobody's":  {client, func(b Batch) { be64(b, PosProducerID, -1); be16(b, PosAttributes, AttrTransactional) }, ErrInvalid},
		"zeros without producer":   {client, zeroProducer, nil},
		"strict, key too long":     {strict, func(b Batch) { b[HeaderBytes+4] = 126 }, ErrInvalid},
		"strict, record length":    {strict, func(b Batch) { b[HeaderBytes] += 2 }, ErrInvalid},
		"strict, offset delta":     {strict, func(b Batch) { b[HeaderBytes+3] = 2 }, ErrInvalid},
		"key too long, not strict": {client, func(b Batch) { b[HeaderBytes+4] = 126 }, nil},
	} {
		b := good(compression.None)
		c.change(b)
		b.SetCRC()
		if err := b.Validate(c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	b := good(compression.None)
	b[len(b)-1] ^= 1
	if err := b.Validate(client); !errors.Is(err, ErrCorrupt) {
		t.Errorf("flipped bit: %v", err)
	}
	if err := b.Validate(ValidateOptions{SkipCRC: true}); err != nil {
		t.Errorf("flipped bit, CRC skipped: %v", err)
	}
	if err := good(compression.Zstd).Validate(ValidateOptions{ZstdForbidden: true}); !errors.Is(err, ErrUnsupportedCodec) {
		t.Errorf("zstd forbidden: %v", err)
	}
	for count, want := range map[int32]error{64 << 20 / recordBytesMin: nil, 64<<20/recordBytesMin + 1: ErrInvalid, 1<<31 - 1: ErrInvalid} {
		b := good(compression.Lz4)
		be32(b, PosRecordCount, count)
		be32(b, PosLastOffsetDelta, count-1)
		if err := b.Validate(ValidateOptions{SkipCRC: true}); !errors.Is(err, want) {
			t.Errorf("%d records in %d compressed bytes: %v, want %v", count, len(b), err, want)
		}
	}
	var fault *RecordFault
	if err := good(compression.Lz4).Validate(ValidateOptions{KeyRequired: true}); !errors.As(err, &fault) || fault.Index != 1 {
		t.Errorf("key required: %v", err)
	}
}

// TestStrictFindsLeftOverBytes hides a byte inside a record, which its length counts and its fields do not.
func TestStrictFindsLeftOverBytes(t *testing.T) {
	b := NewBuilder()
	b.Append(1, []byte("k"), []byte("v"))
	batch := Batch(append(b.Finish(nil), 0))
	batch[HeaderBytes] += 2 // zig-zag: one more
	batch[PosBatchLength+3]++
	batch.SetCRC()
	if err := batch.Validate(ValidateOptions{Strict: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want %v", err, ErrInvalid)
	}
	if err := batch.Validate(ValidateOptions{Strict: true, Internal: true}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("internal: %v, want %v", err, ErrCorrupt)
	}
}

func TestNextAtEveryCut(t *testing.T) {
	b := good(compression.None)
	if batch, rest, err := Next(nil); batch != nil || rest != nil || err != nil {
		t.Fatalf("empty: %v %v %v", batch, rest, err)
	}
	for n := 1; n < len(b); n++ {
		if _, rest, err := Next(b[:n]); !errors.Is(err, ErrTruncated) || !errors.Is(err, ErrCorrupt) || len(rest) != n {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := Next(make([]byte, 4096)); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrTruncated) {
		t.Fatalf("zeros: %v", err)
	}
}

func TestBombIsRefusedByStrict(t *testing.T) {
	for _, codec := range allCodecs[1:] {
		b := NewBuilder(codec)
		b.Append(1, nil, make([]byte, 4<<20))
		batch := Batch(b.Finish(nil))
		if err := batch.Validate(ValidateOptions{Strict: true, DecompressedBytesMax: 1 << 20}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if err := batch.Validate(ValidateOptions{Strict: true}); err != nil {
			t.Errorf("%s with room: %v", codec, err)
		}
		batch[HeaderBytes+20] ^= 0xff
		batch.SetCRC()
		if err := batch.Validate(ValidateOptions{Strict: true, Internal: true}); codec != compression.Snappy && err == nil {
			t.Errorf("%s: flipped payload byte accepted", codec)
		}
	}
}

func TestLogAppendTime(t *testing.T) {
	b := good(compression.Zstd)
	b.SetMaxTimestampLogAppend(99_000)
	if err := b.Validate(ValidateOptions{Strict: true, Internal: true}); err != nil {
		t.Fatal(err)
	}
	if b.TimestampType() != LogAppendTime || b.MaxTimestamp() != 99_000 || b.Codec() != compression.Zstd {
		t.Fatalf("type %s, max %d, codec %s", b.TimestampType(), b.MaxTimestamp(), b.Codec())
	}
	it := b.Records(nil, 0)
	for it.Next() {
		if it.Timestamp() != 99_000 {
			t.Fatalf("timestamp %d", it.Timestamp())
		}
	}
	build := NewBuilder()
	build.SetLogAppendTime(5)
	build.Append(1, nil, nil)
	if b := Batch(build.Finish(nil)); b.TimestampType() != LogAppendTime || b.MaxTimestamp() != 5 || b.FirstTimestamp() != 1 {
		t.Fatalf("built: type %s, max %d, base %d", b.TimestampType(), b.MaxTimestamp(), b.FirstTimestamp())
	}
}

func TestNormalizeMaxTimestamp(t *testing.T) {
	b := good(compression.None)
	if b.NormalizeMaxTimestamp() || b.MaxTimestamp() != 3000 {
		t.Fatal("changed a good batch")
	}
	b.SetMaxTimestamp(NoTimestamp)
	if !b.NormalizeMaxTimestamp() || b.MaxTimestamp() != 1000 || b.CheckCRC() != nil {
		t.Fatalf("max timestamp %d, %v", b.MaxTimestamp(), b.CheckCRC())
	}
}

func TestBuilderFollowsOn(t *testing.T) {
	b := NewBuilder()
	b.SetProducer(9, 2, 0x7ffffffe)
	b.SetBaseOffset(10)
	first := build(b, make([]item, 3))
	second := build(b, make([]item, 1))
	if first.BaseSequence() != 0x7ffffffe || first.LastSequence() != 0 || second.BaseSequence() != 1 || second.BaseOffset() != 13 {
		t.Fatalf("sequences %d..%d, %d; second base offset %d", first.BaseSequence(), first.LastSequence(),
			second.BaseSequence(), second.BaseOffset())
	}
	if b.Count() != 0 || b.Bytes() != HeaderBytes {
		t.Fatalf("after Finish: %d records, %d bytes", b.Count(), b.Bytes())
	}
	if AddSequence(NoSequence, 5) != NoSequence || AddSequence(0x7fffffff, 1) != 0 {
		t.Fatal("AddSequence")
	}
}

// TestBuilderForCompaction keeps offsets with gaps, the last offset, the horizon, and an empty batch.
func TestBuilderForCompaction(t *testing.T) {
	b := NewBuilder(compression.Lz4)
	b.SetBaseOffset(100)
	b.SetDeleteHorizon(50_000)
	b.SetLastOffset(109)
	b.AppendAt(102, 40_000, []byte("a"), nil)
	b.AppendAt(107, 41_000, []byte("b"), nil)
	batch := Batch(b.Finish(nil))
	if err := batch.Validate(ValidateOptions{Strict: true, Internal: true}); err != nil {
		t.Fatal(err)
	}
	if batch.BaseOffset() != 100 || batch.LastOffset() != 109 || batch.RecordCount() != 2 || !batch.HasDeleteHorizon() ||
		batch.FirstTimestamp() != 50_000 || batch.MaxTimestamp() != 41_000 {
		t.Fatalf("offsets %d..%d, %d records, horizon %t", batch.BaseOffset(), batch.LastOffset(), batch.RecordCount(), batch.HasDeleteHorizon())
	}
	want := []item{{offset: 2, ts: 40_000, key: []byte("a")}, {offset: 7, ts: 41_000, key: []byte("b")}}
	it := batch.Records(nil, 0)
	for i := 0; it.Next(); i++ {
		if diff := same(&it, want[i], 100); diff != "" {
			t.Fatal(diff)
		}
	}
	b.Reset()
	b.SetBaseOffset(5)
	b.SetProducer(1, 1, 7)
	b.SetLastOffset(9)
	empty := Batch(b.Finish(nil))
	err := empty.Validate(ValidateOptions{Strict: true, Internal: true})
	if err != nil || empty.RecordCount() != 0 || empty.LastOffset() != 9 {
		t.Fatalf("empty batch: %v, last offset %d", err, empty.LastOffset())
	}
	b.Reset()
	b.AppendAt(42, 1, nil, nil)
	if got := Batch(b.Finish(nil)); got.BaseOffset() != 42 || got.LastOffset() != 42 {
		t.Fatalf("AppendAt without base offset: %d..%d", got.BaseOffset(), got.LastOffset())
	}
}

func TestEndTxnMarker(t *testing.T) {
	for _, commit := range []bool{true, false} {
		marker := EndTxnMarker{Commit: commit, ProducerID: 77, ProducerEpoch: 3, CoordinatorEpoch: 8, TimestampMs: 123}
		batch := Batch(AppendEndTxnMarker(nil, marker))
		if err := batch.Validate(ValidateOptions{Strict: true, Internal: true}); err != nil {
			t.Fatal(err)
		}
		if err := batch.Validate(ValidateOptions{}); !errors.Is(err, ErrInvalid) {
			t.Fatalf("from a client: %v", err)
		}
		if !batch.IsControl() || !batch.IsTransactional() || batch.ProducerID() != 77 || batch.BaseSequence() != NoSequence {
			t.Fatalf("attributes %x, producer %d", batch.Attributes(), batch.ProducerID())
		}
		it := batch.Records(nil, 0)
		if !it.Next() {
			t.Fatal(it.Err())
		}
		var key kmsg.ControlRecordKey
		var value kmsg.EndTxnMarker
		if err := errors.Join(key.ReadFrom(it.Record().Key), value.ReadFrom(it.Record().Value)); err != nil {
			t.Fatal(err)
		}
		kind, epoch, err := ParseEndTxnMarker(it.Record())
		if err != nil || epoch != 8 || value.CoordinatorEpoch != 8 || int16(kind) != int16(key.Type) || (kind == ControlCommit) != commit {
			t.Fatalf("%s, epoch %d, %v; kmsg says %v, %v", kind, epoch, err, key, value)
		}
	}
	for _, r := range []*Record{{}, {Key: []byte{0, 0, 0, 2}}, {Key: []byte{0, 0, 0, 1}, Value: []byte{0}}} {
		if _, _, err := ParseEndTxnMarker(r); err == nil {
			t.Errorf("%v: no error", r)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	b := NewBuilder()
	key, value := []byte("key"), make([]byte, 100)
	var dst []byte
	var sum int64
	step := func() {
		for range 10 {
			b.Append(1000, key, value)
		}
		dst = b.Finish(dst[:0])
		batch, _, err := Next(dst)
		if err != nil {
			t.Fatal(err)
		}
		batch.SetBaseOffset(0)
		if err := batch.Validate(ValidateOptions{Strict: true}); err != nil {
			t.Fatal(err)
		}
		it := batch.Records(nil, 0)
		for it.Next() {
			sum += it.Offset()
		}
		b.Reset()
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
}
