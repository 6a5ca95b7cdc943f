package record

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/weirmq/weir/compression"
)

// Positions of the header fields in a batch, in bytes. They are part of the wire and disk format: do not change.
const (
	PosBaseOffset           = 0
	PosBatchLength          = 8
	PosPartitionLeaderEpoch = 12
	PosMagic                = 16
	PosCRC                  = 17
	PosAttributes           = 21
	PosLastOffsetDelta      = 23
	PosBaseTimestamp        = 27
	PosMaxTimestamp         = 35
	PosProducerID           = 43
	PosProducerEpoch        = 51
	PosBaseSequence         = 53
	PosRecordCount          = 57
)

// Sizes, in bytes, and the only magic value.
const (
	// HeaderBytes is the size of a batch without its records.
	HeaderBytes = 61
	// OverheadBytes is what precedes the part that the batch length field counts.
	OverheadBytes = 12
	// Magic is the only record format served; Kafka 4 dropped the older two.
	Magic = 2
)

// Bits of the attributes.
const (
	AttrCodecMask        = 0x07
	AttrLogAppendTime    = 0x08
	AttrTransactional    = 0x10
	AttrControl          = 0x20
	AttrHasDeleteHorizon = 0x40
)

// Values that stand for "none" in a header.
const (
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoLeaderEpoch   int32 = -1
	NoTimestamp     int64 = -1
)

// TimestampType says what the timestamps of a batch mean.
type TimestampType int8

// The timestamp types of the format.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// String returns Kafka's name of the type, as in message.timestamp.type.
func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// castagnoli is the CRC-32C table; hash/crc32 uses the processor's instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one RecordBatch, header and records. The accessors require at least HeaderBytes, which Next guarantees.
// It shares its bytes with the frame or file buffer that it was cut from.
type Batch []byte

// BaseOffset returns the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[PosBaseOffset:])) }

// Length returns the batch length field: the bytes that follow it. Size is the whole.
func (b Batch) Length() int32 { return int32(binary.BigEndian.Uint32(b[PosBatchLength:])) }

// Size returns the size of the whole batch in bytes, as its length field claims. It may exceed len(b) only for a
// slice that did not come from Next.
func (b Batch) Size() int { return OverheadBytes + int(b.Length()) }

// PartitionLeaderEpoch returns the epoch of the leader that appended the batch.
func (b Batch) PartitionLeaderEpoch() int32 {
	return int32(binary.BigEndian.Uint32(b[PosPartitionLeaderEpoch:]))
}

// Magic returns the format version, 2 for a valid batch.
func (b Batch) Magic() int8 { return int8(b[PosMagic]) }

// CRC returns the stored CRC-32C.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[PosCRC:]) }

// Attributes returns the attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[PosAttributes:])) }

// Codec returns the codec of the records; it may be one that compression does not know (5 to 7).
func (b Batch) Codec() compression.Codec { return compression.Codec(b.Attributes() & AttrCodecMask) }

// TimestampType returns what the timestamps mean.
func (b Batch) TimestampType() TimestampType {
	if b.Attributes()&AttrLogAppendTime != 0 {
		return LogAppendTime
	}
	return CreateTime
}

// IsTransactional reports whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&AttrTransactional != 0 }

// IsControl reports whether the batch holds control records (transaction markers and the like).
func (b Batch) IsControl() bool { return b.Attributes()&AttrControl != 0 }

// HasDeleteHorizon reports whether the base timestamp is the time, in ms, from which compaction may drop the batch's
// tombstones (KIP-534).
func (b Batch) HasDeleteHorizon() bool { return b.Attributes()&AttrHasDeleteHorizon != 0 }

// LastOffsetDelta returns the offset of the last record less the base offset.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[PosLastOffsetDelta:])) }

// FirstTimestamp returns the base timestamp in ms.
func (b Batch) FirstTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[PosBaseTimestamp:])) }

// MaxTimestamp returns the largest timestamp of the records, or the log append time, in ms.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[PosMaxTimestamp:])) }

// ProducerID returns the producer id, NoProducerID for none.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[PosProducerID:])) }

// ProducerEpoch returns the producer epoch, NoProducerEpoch for none.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[PosProducerEpoch:])) }

// BaseSequence returns the sequence number of the first record, NoSequence for none.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[PosBaseSequence:])) }

// LastSequence returns the sequence number of the last record; sequences wrap from 2^31-1 to 0. NoSequence for none.
func (b Batch) LastSequence() int32 { return AddSequence(b.BaseSequence(), b.LastOffsetDelta()) }

// RecordCount returns the record count of the header. After compaction it may be less than LastOffsetDelta()+1.
func (b Batch) RecordCount() int32 { return int32(binary.BigEndian.Uint32(b[PosRecordCount:])) }

// LastOffset returns the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset returns the offset that follows the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// Payload returns the bytes after the header: the records, compressed when Codec is not None.
func (b Batch) Payload() []byte { return b[HeaderBytes:] }

// ComputeCRC returns the CRC-32C of the bytes it has to cover.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[PosAttributes:], castagnoli) }

// SetBaseOffset stamps the base offset. The CRC does not cover it.
func (b Batch) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(b[PosBaseOffset:], uint64(offset))
}

// SetPartitionLeaderEpoch stamps the leader epoch. The CRC does not cover it.
func (b Batch) SetPartitionLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[PosPartitionLeaderEpoch:], uint32(epoch))
}

// SetMaxTimestampLogAppend makes the batch a log-append-time batch of time timestampMs and computes the CRC anew.
// The timestamps of its records are then that time, whatever their deltas say; the payload is not touched.
func (b Batch) SetMaxTimestampLogAppend(timestampMs int64) {
	binary.BigEndian.PutUint16(b[PosAttributes:], uint16(b.Attributes()|AttrLogAppendTime))
	b.SetMaxTimestamp(timestampMs)
}

// SetMaxTimestamp stores the largest timestamp, in ms, and computes the CRC anew.
func (b Batch) SetMaxTimestamp(timestampMs int64) {
	binary.BigEndian.PutUint64(b[PosMaxTimestamp:], uint64(timestampMs))
	b.SetCRC()
}

// NormalizeMaxTimestamp repairs a max timestamp below the base timestamp, which some clients leave unset: it becomes
// the base timestamp, with a new CRC. It reports whether it changed anything. Kafka stores the true maximum instead,
// for which it opens the batch; whoever has opened it knows that maximum (ValidateOptions.Times) and sets it.
func (b Batch) NormalizeMaxTimestamp() bool {
	if b.MaxTimestamp() >= b.FirstTimestamp() || b.Attributes()&(AttrLogAppendTime|AttrHasDeleteHorizon) != 0 {
		return false
	}
	b.SetMaxTimestamp(b.FirstTimestamp())
	return true
}

// SetCRC stores the CRC of the batch as it stands.
func (b Batch) SetCRC() { binary.BigEndian.PutUint32(b[PosCRC:], b.ComputeCRC()) }

// AddSequence returns the sequence number that is delta (>= 0) after base, wrapping from 2^31-1 to 0 as producers do.
// It is NoSequence when base is negative.
func AddSequence(base, delta int32) int32 {
	if base < 0 {
		return NoSequence
	}
	return int32((int64(base) + int64(delta)) & 0x7fffffff)
}
