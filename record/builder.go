package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/weirmq/weir/compression"
)

// Builder builds batches one after the other and reuses its buffers. The zero value is not usable: NewBuilder.
// Settings hold for the batches to come; those that concern the records (base offset, delete horizon) have to be made
// before the first Append. Finish clears the records and keeps the settings.
type Builder struct {
	codec compression.Codec
	level int

	attributes    int16 // without the codec
	leaderEpoch   int32
	producerID    int64
	producerEpoch int16
	baseSequence  int32
	appendTimeMs  int64
	horizonMs     int64 // NoTimestamp for none
	baseOffset    int64
	baseOffsetSet bool
	lastOffset    int64 // -1: that of the last record

	body       []byte // the records, not compressed
	count      int32
	nextDelta  int32
	baseTimeMs int64
	maxTimeMs  int64
}

// NewBuilder returns a builder of batches with the given codec (None when omitted), no producer, base offset 0 and
// leader epoch NoLeaderEpoch. An invalid codec is a bug of the caller and panics.
func NewBuilder(codec ...compression.Codec) *Builder {
	b := &Builder{}
	if len(codec) > 0 {
		b.SetCodec(codec[0], compression.LevelDefault)
	}
	b.Reset()
	return b
}

// Reset drops the records and all settings but codec and level.
func (b *Builder) Reset() {
	*b = Builder{
		codec: b.codec, level: b.level, body: b.body, leaderEpoch: NoLeaderEpoch,
		producerID: NoProducerID, producerEpoch: NoProducerEpoch, baseSequence: NoSequence, horizonMs: NoTimestamp,
	}
	b.clearRecords()
}

// clearRecords drops the records.
func (b *Builder) clearRecords() {
	b.body = b.body[:0]
	b.count, b.nextDelta, b.lastOffset = 0, 0, -1
	b.maxTimeMs = NoTimestamp
}

// SetCodec changes codec and level; it panics on ones that compression.CheckLevel refuses.
func (b *Builder) SetCodec(c compression.Codec, level int) {
	if err := compression.CheckLevel(c, level); err != nil {
		panic(fmt.Sprintf("BUG: record: %v", err))
	}
	b.codec, b.level = c, level
}

// SetBaseOffset sets the base offset, 0 by default.
func (b *Builder) SetBaseOffset(offset int64) {
	if b.count > 0 {
		panic("BUG: record: SetBaseOffset after Append")
	}
	b.baseOffset, b.baseOffsetSet = offset, true
}

// SetPartitionLeaderEpoch sets the leader epoch, NoLeaderEpoch by default.
func (b *Builder) SetPartitionLeaderEpoch(epoch int32) { b.leaderEpoch = epoch }

// SetProducer sets producer id, epoch and the first record's sequence number.
func (b *Builder) SetProducer(id int64, epoch int16, baseSequence int32) {
	b.producerID, b.producerEpoch, b.baseSequence = id, epoch, baseSequence
}

// SetTransactional sets or clears the transactional bit.
func (b *Builder) SetTransactional(on bool) { b.setAttribute(AttrTransactional, on) }

// setAttribute sets or clears one attribute bit.
func (b *Builder) setAttribute(bit int16, on bool) {
	b.attributes &^= bit
	if on {
		b.attributes |= bit
	}
}

// SetLogAppendTime makes the batch a log-append-time batch of the given time in ms; a negative time undoes it.
func (b *Builder) SetLogAppendTime(timestampMs int64) {
	b.setAttribute(AttrLogAppendTime, timestampMs >= 0)
	b.appendTimeMs = timestampMs
}

// SetDeleteHorizon sets the delete horizon in ms (KIP-534), which takes the place of the base timestamp; a negative
// time undoes it. It has to be set before the first Append of a batch.
func (b *Builder) SetDeleteHorizon(timestampMs int64) {
	if b.count > 0 {
		panic("BUG: record: SetDeleteHorizon after Append")
	}
	b.setAttribute(AttrHasDeleteHorizon, timestampMs >= 0)
	b.horizonMs = max(timestampMs, NoTimestamp)
}

// SetLastOffset sets the last offset of the batch where it exceeds the last record's, as compaction needs.
func (b *Builder) SetLastOffset(offset int64) { b.lastOffset = offset }

// Append adds a record at the offset after the last one's. Nil key and value mean null. The bytes are copied.
func (b *Builder) Append(timestampMs int64, key, value []byte, headers ...Header) {
	b.add(b.nextDelta, timestampMs, key, value, headers)
}

// AppendAt adds a record at the given offset, which must exceed the last one's and not lie below the base offset.
// If no base offset was set and this is the first record, the offset becomes the base offset.
func (b *Builder) AppendAt(offset, timestampMs int64, key, value []byte, headers ...Header) {
	if b.count == 0 && !b.baseOffsetSet {
		b.baseOffset = offset
	}
	delta := offset - b.baseOffset
	if delta < int64(b.nextDelta) || delta > math.MaxInt32 {
		panic(fmt.Sprintf("BUG: record: offset %d in a batch at %d with next offset delta %d", offset, b.baseOffset, b.nextDelta))
	}
	b.add(int32(delta), timestampMs, key, value, headers)
}

// AppendControl adds a control record and makes the batch a control batch. It is alone in its batch.
func (b *Builder) AppendControl(timestampMs int64, t ControlType, version int16, value []byte) {
	b.setAttribute(AttrControl, true)
	var key [4]byte
	binary.BigEndian.PutUint16(key[:], uint16(version))
	binary.BigEndian.PutUint16(key[2:], uint16(t))
	b.add(b.nextDelta, timestampMs, key[:], value, nil)
}

// add encodes one record.
func (b *Builder) add(delta int32, timestampMs int64, key, value []byte, headers []Header) {
	if b.count == 0 {
		b.baseTimeMs, b.maxTimeMs = timestampMs, timestampMs
		if b.horizonMs >= 0 {
			b.baseTimeMs = b.horizonMs
		}
	}
	b.maxTimeMs = max(b.maxTimeMs, timestampMs)
	timeDelta := timestampMs - b.baseTimeMs
	size := 1 + varintLen(timeDelta) + varintLen(int64(delta)) + fieldLen(key) + fieldLen(value) + varintLen(int64(len(headers)))
	for i := range headers {
		size += varintLen(int64(len(headers[i].Key))) + len(headers[i].Key) + fieldLen(headers[i].Value)
	}
	dst := binary.AppendVarint(b.body, int64(size))
	dst = append(dst, 0) // attributes
	dst = binary.AppendVarint(dst, timeDelta)
	dst = binary.AppendVarint(dst, int64(delta))
	dst = appendField(dst, key)
	dst = appendField(dst, value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for i := range headers {
		dst = binary.AppendVarint(dst, int64(len(headers[i].Key)))
		dst = append(dst, headers[i].Key...)
		dst = appendField(dst, headers[i].Value)
	}
	b.body = dst
	b.count++
	b.nextDelta = delta + 1
}

// Count returns the records added since the last Finish.
func (b *Builder) Count() int { return int(b.count) }

// Bytes returns the size the batch would have now without compression.
func (b *Builder) Bytes() int { return HeaderBytes + len(b.body) }

// Finish appends the batch to dst, with its CRC, and clears the records. Settings stay, but the base sequence, if
// any, advances past the batch, and the base offset too, so that the next batch follows on; the control bit goes.
// A batch without records is legal only with SetLastOffset, as compaction writes them.
func (b *Builder) Finish(dst []byte) []byte {
	start := len(dst)
	last := b.nextDelta - 1
	if b.lastOffset >= 0 {
		last = max(last, int32(b.lastOffset-b.baseOffset))
	}
	if last < 0 {
		panic("BUG: record: Finish of a batch without records")
	}
	var header [HeaderBytes]byte
	dst = append(dst, header[:]...)
	switch {
	case b.codec == compression.None || len(b.body) == 0:
		dst = append(dst, b.body...)
	default:
		var err error
		if dst, err = compression.Append(dst, b.body, b.codec, b.level); err != nil {
			panic(fmt.Sprintf("BUG: record: compression to memory: %v", err))
		}
	}
	b.putHeader(dst[start:], last)
	b.baseSequence = AddSequence(b.baseSequence, last+1)
	b.baseOffset += int64(last) + 1
	b.setAttribute(AttrControl, false)
	b.clearRecords()
	return dst
}

// putHeader fills in the header of a batch whose payload is in place.
func (b *Builder) putHeader(batch []byte, last int32) {
	baseTimeMs, maxTimeMs := b.baseTimeMs, b.maxTimeMs
	if b.count == 0 {
		baseTimeMs = b.horizonMs
	}
	if b.attributes&AttrLogAppendTime != 0 {
		maxTimeMs = b.appendTimeMs
	}
	be := binary.BigEndian
	be.PutUint64(batch[PosBaseOffset:], uint64(b.baseOffset))
	be.PutUint32(batch[PosBatchLength:], uint32(len(batch)-OverheadBytes))
	be.PutUint32(batch[PosPartitionLeaderEpoch:], uint32(b.leaderEpoch))
	batch[PosMagic] = Magic
	be.PutUint16(batch[PosAttributes:], uint16(b.attributes|int16(b.codec)))
	be.PutUint32(batch[PosLastOffsetDelta:], uint32(last))
	be.PutUint64(batch[PosBaseTimestamp:], uint64(baseTimeMs))
	be.PutUint64(batch[PosMaxTimestamp:], uint64(maxTimeMs))
	be.PutUint64(batch[PosProducerID:], uint64(b.producerID))
	be.PutUint16(batch[PosProducerEpoch:], uint16(b.producerEpoch))
	be.PutUint32(batch[PosBaseSequence:], uint32(b.baseSequence))
	be.PutUint32(batch[PosRecordCount:], uint32(b.count))
	Batch(batch).SetCRC()
}

// varintLen returns the size of a zig-zag varint in bytes.
func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

// fieldLen returns the size of a nullable field with its length.
func fieldLen(f []byte) int {
	if f == nil {
		return 1
	}
	return varintLen(int64(len(f))) + len(f)
}

// appendField appends a nullable field with its length.
func appendField(dst, f []byte) []byte {
	if f == nil {
		return append(dst, 1) // -1
	}
	dst = binary.AppendVarint(dst, int64(len(f)))
	return append(dst, f...)
}
