package record

import "github.com/weirmq/weir/compression"

// Builder builds batches one after the other and reuses its buffers. The zero value is not usable: NewBuilder.
// Set... calls may come in any order before Finish; Finish clears the records and keeps the settings.
type Builder struct {
	codec compression.Codec
}

// NewBuilder returns a builder of batches with the given codec (None when omitted), no producer, base offset 0 and
// leader epoch NoLeaderEpoch. An invalid codec is a bug of the caller and panics.
func NewBuilder(codec ...compression.Codec) *Builder { return &Builder{} }

// Reset drops the records and all settings but codec and level.
func (b *Builder) Reset() {}

// SetCodec changes codec and level; it panics on ones that compression.CheckLevel refuses.
func (b *Builder) SetCodec(c compression.Codec, level int) {}

// SetBaseOffset sets the base offset, 0 by default.
func (b *Builder) SetBaseOffset(offset int64) {}

// SetPartitionLeaderEpoch sets the leader epoch, NoLeaderEpoch by default.
func (b *Builder) SetPartitionLeaderEpoch(epoch int32) {}

// SetProducer sets producer id, epoch and the first record's sequence number.
func (b *Builder) SetProducer(id int64, epoch int16, baseSequence int32) {}

// SetTransactional sets or clears the transactional bit.
func (b *Builder) SetTransactional(on bool) {}

// SetLogAppendTime makes the batch a log-append-time batch of the given time in ms.
func (b *Builder) SetLogAppendTime(timestampMs int64) {}

// SetDeleteHorizon sets the delete horizon in ms (KIP-534), which takes the place of the base timestamp.
func (b *Builder) SetDeleteHorizon(timestampMs int64) {}

// SetLastOffset sets the last offset of the batch where it exceeds the last record's, as compaction needs.
func (b *Builder) SetLastOffset(offset int64) {}

// Append adds a record at the offset after the last one's. Nil key and value mean null. The bytes are copied.
func (b *Builder) Append(timestampMs int64, key, value []byte, headers ...Header) {}

// AppendAt adds a record at the given offset, which must exceed the last one's and not lie below the base offset.
// If no base offset was set and this is the first record, the offset becomes the base offset.
func (b *Builder) AppendAt(offset, timestampMs int64, key, value []byte, headers ...Header) {}

// AppendControl adds a control record and makes the batch a control batch.
func (b *Builder) AppendControl(timestampMs int64, t ControlType, version int16, value []byte) {}

// Count returns the records added since the last Finish.
func (b *Builder) Count() int { return 0 }

// Bytes returns the size the batch would have now without compression.
func (b *Builder) Bytes() int { return 0 }

// Finish appends the batch to dst, with its CRC, and clears the records. Settings stay, but a base sequence advances
// past the batch, and the base offset too, so that the next batch follows on.
func (b *Builder) Finish(dst []byte) []byte { return dst }
