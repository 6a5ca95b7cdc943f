package bench

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/weirmq/weir/record"
)

// stampBytes is the size of the key of each batch's first record:
//
//	pos len  field (little-endian)
//	  0   4  run id: tells this run's records from older ones
//	  4   4  producer: index of the connection that sent the batch
//	  8   8  sequence: 0, 1, 2... per producer and partition
//	 16   8  intended send time, ns on the run's clock
//	 24   4  CRC-32C of the 24 bytes before
//	 28   4  template: which of the run's templates
const stampBytes = 32

// checkBytes is the head of each value: CRC-32C over the record's index in its batch (4 bytes, little-endian) and the rest.
const checkBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stamp identifies one batch.
type stamp struct {
	run, producer uint32
	seq           uint64
	intended      int64
	template      uint32
}

func (s *stamp) put(b []byte) {
	binary.LittleEndian.PutUint32(b, s.run)
	binary.LittleEndian.PutUint32(b[4:], s.producer)
	binary.LittleEndian.PutUint64(b[8:], s.seq)
	binary.LittleEndian.PutUint64(b[16:], uint64(s.intended))
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	binary.LittleEndian.PutUint32(b[28:], s.template)
}

// readStamp decodes the stamp at the start of b; ok is false when its CRC is wrong.
func readStamp(b []byte) (s stamp, ok bool) {
	s = stamp{run: binary.LittleEndian.Uint32(b), producer: binary.LittleEndian.Uint32(b[4:]), seq: binary.LittleEndian.Uint64(b[8:]),
		intended: int64(binary.LittleEndian.Uint64(b[16:])), template: binary.LittleEndian.Uint32(b[28:])}
	return s, binary.LittleEndian.Uint32(b[24:]) == crc32.Checksum(b[:24], castagnoli)
}

// valueCheck computes the CRC that stands at the head of the value of record index.
func valueCheck(index int, value []byte) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(index))
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, value[checkBytes:])
}

// template is a finished batch of which only 16 bytes of timestamps, the CRC and the stamp change from request to request.
//
// In a compressed batch the stamp must stay at a fixed place, byte for byte, and the rest of the compressed form must not
// depend on it. Every codec allows that: gzip by a stored block, zstd by a raw block (a flush after the first record), lz4 and
// snappy because 32 random bytes can only become literals. newTemplate proves it for each batch by changing the stamp and
// decompressing. gzip ends with a CRC of the content, which is corrected in the same linear way.
type template struct {
	batch       []byte // with zeros in place of timestamps, stamp and gzip checksum
	crc         uint32 // of batch as it stands
	stampPos    int
	trailPos    int // of the 4 bytes of gzip's checksum, 0 for none
	times       *crcPatch
	stamp       *crcPatch
	trail       *crcPatch // effect of the trailer's change on the batch's CRC
	content     *crcPatch // effect of the stamp's change on gzip's checksum
	contentCRC  uint32
	valueBytes  int64
	recordCount int32
}

// head is the size of the part of a template that every request needs a copy of.
func (t *template) head() int { return t.stampPos + stampBytes }

// timesPos and timesLen delimit base timestamp and max timestamp.
const (
	timesPos = record.PosBaseTimestamp
	timesLen = 16
)

// stampInto writes the changing fields into head, a copy of the first t.head() bytes of the batch, and returns gzip's
// checksum (0 when there is none) for the 4 bytes at trailPos.
func (t *template) stampInto(head []byte, s *stamp, timestampMs int64) (trailer uint32) {
	binary.BigEndian.PutUint64(head[timesPos:], uint64(timestampMs))
	binary.BigEndian.PutUint64(head[timesPos+8:], uint64(timestampMs))
	s.put(head[t.stampPos:])
	crc := t.crc ^ t.times.delta(head[timesPos:timesPos+timesLen]) ^ t.stamp.delta(head[t.stampPos:t.stampPos+stampBytes])
	if t.trailPos > 0 {
		trailer = t.contentCRC ^ t.content.delta(head[t.stampPos:t.stampPos+stampBytes])
		var tb [4]byte
		binary.LittleEndian.PutUint32(tb[:], trailer)
		crc ^= t.trail.delta(tb[:])
	}
	binary.BigEndian.PutUint32(head[record.PosCRC:], crc)
	return trailer
}

// newTemplate builds one batch of spec's shape from src. Errors: a payload that cannot be read.
func newTemplate(spec *Spec, src *payloadSource, rng *rand.Rand) (*template, error) {
	for attempt := 0; attempt < 8; attempt++ {
		t, err := tryTemplate(spec, src, rng)
		if err == nil {
			return t, nil
		}
		if !errors.Is(err, errStampMoved) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("codec %s: cannot keep the stamp of %d records of %d bytes in place", spec.Codec, spec.Records, spec.ValueBytes)
}

// errStampMoved: by bad luck the compressor found the random stamp compressible; another one will do.
var errStampMoved = errors.New("bench: stamp not verbatim in the compressed batch")

func tryTemplate(spec *Spec, src *payloadSource, rng *rand.Rand) (*template, error) {
	key := make([]byte, stampBytes)
	for i := range key {
		key[i] = byte(rng.Uint32())
	}
	builder := record.NewBuilder()
	value := make([]byte, spec.ValueBytes)
	for i := 0; i < spec.Records; i++ {
		src.fill(value[checkBytes:])
		binary.LittleEndian.PutUint32(value, valueCheck(i, value))
		if i == 0 {
			builder.Append(0, key, value)
		} else {
			builder.Append(0, nil, value)
		}
	}
	plain := builder.Finish(nil)
	at := bytes.Index(plain[record.HeaderBytes:], key)
	payload := plain[record.HeaderBytes:]
	split := at + stampBytes
	packed, err := compressAround(codecNumber(spec.Codec), payload, split)
	if err != nil {
		return nil, err
	}
	pos := bytes.Index(packed, key)
	if pos < 0 || bytes.LastIndex(packed, key) != pos {
		return nil, errStampMoved
	}
	t := &template{batch: append(append([]byte(nil), plain[:record.HeaderBytes]...), packed...), stampPos: record.HeaderBytes + pos,
		valueBytes: spec.BatchValueBytes(), recordCount: int32(spec.Records)}
	batch := t.batch
	binary.BigEndian.PutUint32(batch[record.PosBatchLength:], uint32(len(batch)-record.OverheadBytes))
	binary.BigEndian.PutUint16(batch[record.PosAttributes:], uint16(codecNumber(spec.Codec)))
	clear(batch[timesPos : timesPos+timesLen])
	clear(batch[t.stampPos:t.head()])
	if spec.Codec == "gzip" {
		t.trailPos = len(batch) - 8
		clear(batch[t.trailPos : t.trailPos+4])
		t.trail = newCRCPatch(castagnoli, 4)
		t.content = newCRCPatch(crc32.IEEETable, len(payload)-split)
		clear(payload[at:split])
		t.contentCRC = crc32.ChecksumIEEE(payload)
	}
	t.crc = record.Batch(batch).ComputeCRC()
	t.times = newCRCPatch(castagnoli, len(batch)-timesPos-timesLen)
	t.stamp = newCRCPatch(castagnoli, len(batch)-t.head())
	return t, t.prove()
}

// prove stamps a copy and reads it back through the record package.
func (t *template) prove() error {
	b := record.Batch(t.render(&stamp{run: 0x5eed, producer: 3, seq: 1 << 40, intended: 1 << 50}, 1_700_000_000_000))
	if err := b.CheckCRC(); err != nil {
		return fmt.Errorf("BUG: template checksum: %w", err)
	}
	it := b.Records(nil, 1<<30)
	n := 0
	for ; it.Next(); n++ {
		r := it.Record()
		if n == 0 {
			if s, ok := readStamp(r.Key); !ok || s.seq != 1<<40 {
				return errStampMoved
			}
		}
		if len(r.Value) < checkBytes || binary.LittleEndian.Uint32(r.Value) != valueCheck(n, r.Value) {
			return errStampMoved
		}
	}
	if err := it.Err(); err != nil || n != int(t.recordCount) {
		return errStampMoved
	}
	return nil
}

// render returns a whole stamped batch: for tests and for senders that want one slice.
func (t *template) render(s *stamp, timestampMs int64) []byte {
	b := append([]byte(nil), t.batch...)
	trailer := t.stampInto(b, s, timestampMs)
	if t.trailPos > 0 {
		binary.LittleEndian.PutUint32(b[t.trailPos:], trailer)
	}
	return b
}

// compressAround compresses payload so that its bytes up to split (an incompressible stamp at the end) come out verbatim.
func compressAround(codec int, payload []byte, split int) ([]byte, error) {
	var out bytes.Buffer
	switch codecNames[codec] {
	case "gzip":
		out.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
		out.Write([]byte{0, byte(split), byte(split >> 8), ^byte(split), ^byte(split >> 8)}) // a stored block, not the last
		out.Write(payload[:split])
		w, err := flate.NewWriter(&out, flate.DefaultCompression)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(payload[split:]); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		var tail [8]byte
		binary.LittleEndian.PutUint32(tail[:], crc32.ChecksumIEEE(payload))
		binary.LittleEndian.PutUint32(tail[4:], uint32(len(payload)))
		out.Write(tail[:])
	case "snappy":
		// Kafka's Java client wants the xerial framing: magic, version 1, compatible version 1, then length and block.
		block := s2.EncodeSnappy(nil, payload)
		out.WriteString("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
		out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(block))))
		out.Write(block)
	case "lz4":
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.ChecksumOption(false), lz4.BlockSizeOption(lz4.Block4Mb), lz4.ConcurrencyOption(1)); err != nil {
			return nil, err
		}
		if _, err := w.Write(payload); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	case "zstd":
		w, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		for _, part := range [][]byte{payload[:split], payload[split:]} {
			if _, err := w.Write(part); err != nil {
				return nil, err
			}
			if err := w.Flush(); err != nil {
				return nil, err
			}
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	default:
		out.Write(payload)
	}
	return out.Bytes(), nil
}

// newTemplates builds the run's templates: enough that the target does not see the same bytes over and over, few enough to
// stay in cache.
func newTemplates(spec *Spec) ([]*template, error) {
	src, err := newPayloadSource(spec.Payload, spec.Seed)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(spec.Seed, 0x7374616d70))
	n := int(max(1, min(16, (4<<20)/max(1, spec.BatchValueBytes()))))
	out := make([]*template, n)
	for i := range out {
		if out[i], err = newTemplate(spec, src, rng); err != nil {
			return nil, err
		}
	}
	return out, nil
}
