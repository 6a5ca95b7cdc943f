package engine

import (
	"fmt"
	"strconv"

	"github.com/weirmq/weir/record"
)

// BatchInfo is one batch of a .log file.
type BatchInfo struct {
	// Pos is the position of the batch in the file, Size its bytes.
	Pos  int64 `json:"position"`
	Size int   `json:"size"`
	// BaseOffset and LastOffset (inclusive) bound the batch; Count is the records that the header claims.
	BaseOffset  int64 `json:"baseOffset"`
	LastOffset  int64 `json:"lastOffset"`
	Count       int32 `json:"count"`
	LeaderEpoch int32 `json:"partitionLeaderEpoch"`
	// BaseTimestamp and MaxTimestamp are in ms since 1970. Under DeleteHorizon the base timestamp is the time from which tombstones may go.
	BaseTimestamp int64  `json:"baseTimestamp"`
	MaxTimestamp  int64  `json:"maxTimestamp"`
	TimestampType string `json:"timestampType"`
	Codec         string `json:"codec"`
	ProducerID    int64  `json:"producerId"`
	ProducerEpoch int16  `json:"producerEpoch"`
	BaseSequence  int32  `json:"baseSequence"`
	LastSequence  int32  `json:"lastSequence"`
	Transactional bool   `json:"isTransactional"`
	Control       bool   `json:"isControl"`
	DeleteHorizon bool   `json:"hasDeleteHorizon"`
	CRC           uint32 `json:"crc"`
}

func batchInfo(b record.Batch, pos int64) *BatchInfo {
	return &BatchInfo{
		Pos: pos, Size: len(b), BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(), Count: b.RecordCount(),
		LeaderEpoch: b.PartitionLeaderEpoch(), BaseTimestamp: b.FirstTimestamp(), MaxTimestamp: b.MaxTimestamp(),
		TimestampType: b.TimestampType().String(), Codec: b.Codec().String(), ProducerID: b.ProducerID(),
		ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(), LastSequence: b.LastSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(), DeleteHorizon: b.HasDeleteHorizon(), CRC: b.CRC(),
	}
}

// Position implements InspectItem.
func (i *BatchInfo) Position() int64 { return i.Pos }

// String is one line with every field of the header.
func (i *BatchInfo) String() string {
	return fmt.Sprintf("batch offsets %d-%d count %d position %d size %d codec %s %s base %d max %d leader epoch %d "+
		"producer %d epoch %d sequence %d-%d%s%s%s crc %08x", i.BaseOffset, i.LastOffset, i.Count, i.Pos, i.Size, i.Codec,
		i.TimestampType, i.BaseTimestamp, i.MaxTimestamp, i.LeaderEpoch, i.ProducerID, i.ProducerEpoch, i.BaseSequence,
		i.LastSequence, flag(i.Transactional, " transactional"), flag(i.Control, " control"),
		flag(i.DeleteHorizon, " delete-horizon"), i.CRC)
}

func flag(on bool, s string) string {
	if on {
		return s
	}
	return ""
}

// HeaderInfo is one header of a record.
type HeaderInfo struct {
	// Key is the header's name; Value is nil for null.
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// RecordInfo is one record of a batch. The slices are valid during Visit.
type RecordInfo struct {
	// Pos is the position of the batch.
	Pos int64 `json:"position"`
	// Offset is the record's own; Timestamp in ms.
	Offset    int64 `json:"offset"`
	Timestamp int64 `json:"timestamp"`
	// Key and Value are nil for null.
	Key     []byte       `json:"key"`
	Value   []byte       `json:"value"`
	Headers []HeaderInfo `json:"headers,omitempty"`
}

// Position implements InspectItem.
func (i *RecordInfo) Position() int64 { return i.Pos }

// String is one line; keys, values and headers are quoted, null is null.
func (i *RecordInfo) String() string {
	s := fmt.Sprintf("| offset %d timestamp %d key %s value %s", i.Offset, i.Timestamp, quoteBytes(i.Key), quoteBytes(i.Value))
	for _, h := range i.Headers {
		s += fmt.Sprintf(" header %s=%s", strconv.Quote(h.Key), quoteBytes(h.Value))
	}
	return s
}

func quoteBytes(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

// IndexEntryInfo is one entry of an .index file: the batch that ends with Offset starts at LogPosition.
type IndexEntryInfo struct {
	// Pos is the position of the entry in the index file.
	Pos int64 `json:"position"`
	// Offset is absolute; LogPosition is in the .log file.
	Offset      int64 `json:"offset"`
	LogPosition int64 `json:"logPosition"`
}

// Position implements InspectItem.
func (i *IndexEntryInfo) Position() int64 { return i.Pos }

// String is one line.
func (i *IndexEntryInfo) String() string {
	return fmt.Sprintf("offset %d position %d", i.Offset, i.LogPosition)
}

// TimeIndexEntryInfo is one entry of a .timeindex file: the largest timestamp up to Offset.
type TimeIndexEntryInfo struct {
	// Pos is the position of the entry in the index file.
	Pos int64 `json:"position"`
	// Timestamp is in ms; Offset is absolute, the last of the batch that has the timestamp.
	Timestamp int64 `json:"timestamp"`
	Offset    int64 `json:"offset"`
}

// Position implements InspectItem.
func (i *TimeIndexEntryInfo) Position() int64 { return i.Pos }

// String is one line.
func (i *TimeIndexEntryInfo) String() string {
	return fmt.Sprintf("timestamp %d offset %d", i.Timestamp, i.Offset)
}

// AbortedTxnInfo is one entry of a .txnindex file.
type AbortedTxnInfo struct {
	// Pos is the position of the entry.
	Pos int64 `json:"position"`
	AbortedTxn
}

// Position implements InspectItem.
func (i *AbortedTxnInfo) Position() int64 { return i.Pos }

// String is one line.
func (i *AbortedTxnInfo) String() string {
	return fmt.Sprintf("aborted producer %d offsets %d-%d last stable %d", i.ProducerID, i.FirstOffset, i.LastOffset, i.LastStableOffset)
}

// ProducerInfo is one entry of a .snapshot file.
type ProducerInfo struct {
	// Pos is the position of the entry.
	Pos int64 `json:"position"`
	snapshotEntry
}

// Position implements InspectItem.
func (i *ProducerInfo) Position() int64 { return i.Pos }

// String is one line.
func (i *ProducerInfo) String() string {
	return fmt.Sprintf("producer %d epoch %d last sequence %d last offset %d delta %d timestamp %d coordinator epoch %d "+
		"open transaction from %d", i.ProducerID, i.Epoch, i.LastSequence, i.LastOffset, i.OffsetDelta, i.TimestampMs,
		i.CoordinatorEpoch, i.TxnFirstOffset)
}

// EpochInfo is one line of a leader-epoch-checkpoint.
type EpochInfo struct {
	// Epoch began at StartOffset.
	Epoch       int32 `json:"epoch"`
	StartOffset int64 `json:"startOffset"`
}

// Position implements InspectItem; 0 for text files.
func (i *EpochInfo) Position() int64 { return 0 }

// String is one line.
func (i *EpochInfo) String() string {
	return fmt.Sprintf("leader epoch %d from offset %d", i.Epoch, i.StartOffset)
}

// OffsetInfo is one line of an offset checkpoint.
type OffsetInfo struct {
	// Topic and Partition name the log that Offset belongs to.
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Position implements InspectItem; 0 for text files.
func (i *OffsetInfo) Position() int64 { return 0 }

// String is one line.
func (i *OffsetInfo) String() string {
	return fmt.Sprintf("%s-%d offset %d", i.Topic, i.Partition, i.Offset)
}

// PropertyInfo is one property of a small metadata file.
type PropertyInfo struct {
	// Key and Value are as in the file.
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Position implements InspectItem; 0 for text files.
func (i *PropertyInfo) Position() int64 { return 0 }

// String is one line.
func (i *PropertyInfo) String() string { return fmt.Sprintf("%s = %q", i.Key, i.Value) }
