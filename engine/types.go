package engine

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
)

// TopicPartition names a partition.
type TopicPartition struct {
	// Topic is the topic's name, legal by Kafka's rules: it is part of a directory name.
	Topic string
	// Partition counts from 0.
	Partition int32
}

// String is `<topic>-<partition>`, the name of the partition's directory.
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.FormatInt(int64(tp.Partition), 10)
}

// TopicID is the topic's UUID; all zeros means none.
type TopicID [16]byte

// String is Kafka's form of a UUID: URL-safe base64 without padding, 22 characters.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// hex is the form used in the name of a directory that is being deleted.
func (id TopicID) hex() string { return hex.EncodeToString(id[:]) }

// ParseTopicID is the inverse of String.
func ParseTopicID(s string) (TopicID, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(TopicID{}) || TopicID(b).String() != s { // the decoder skips line ends
		return TopicID{}, fmt.Errorf("topic id: got %q, want 22 characters of URL-safe base64", s)
	}
	return TopicID(b), nil
}

// Origin says who wrote the batches of an append, and with that which rules they have to obey.
type Origin uint8

// The origins of an append.
const (
	// OriginClient: a producer's batches: validated in full, base offset 0, no control batches.
	OriginClient Origin = iota
	// OriginInternal: the broker's own batches (markers, coordinators, metadata): control batches allowed.
	OriginInternal
	// OriginReplica: batches of the leader, appended by a follower as they are: offsets and epochs are kept, gaps allowed.
	OriginReplica
)

// AppendOptions says how to append.
type AppendOptions struct {
	// LeaderEpoch is stamped into the batches and must not be below the log's newest; -1 stamps nothing newer than the
	// log's newest. Ignored for OriginReplica.
	LeaderEpoch int32
	// Origin is who wrote the batches. Default: OriginClient.
	Origin Origin
	// Acks is the producer's acks; it only serves statistics. Default: 0.
	Acks int16
	// Validated says that header and CRC were checked by the caller, by record.Batch.Validate. Default: false.
	Validated bool
	// ZstdForbidden refuses zstd, as Produce requests below version 7 demand. Default: false.
	ZstdForbidden bool
}

// AppendResult tells where the batches went.
type AppendResult struct {
	// BaseOffset is the offset of the first record, LastOffset that of the last (inclusive).
	BaseOffset, LastOffset int64
	// LogAppendTimeMs is the time stamped into the batches under LogAppendTime, else -1.
	LogAppendTimeMs int64
	// LogStartOffset is the log's first offset at the time of the append.
	LogStartOffset int64
	// Duplicate: the batch had been appended before; the offsets are those of the first time.
	Duplicate bool
	// EndOffset is what HighWatermark (acks=all) has to reach before the append may be acknowledged. Under PolicyCommit
	// that means: before any acknowledgement. With the other policies a single replica reaches it at once.
	EndOffset int64
}

// Isolation bounds a read.
type Isolation uint8

// The isolations.
const (
	// ReadUncommitted reads to the high watermark.
	ReadUncommitted Isolation = iota
	// ReadCommitted reads to the last stable offset and reports aborted transactions.
	ReadCommitted
	// ReadLogEnd reads to the end of what a follower may copy: the durable offset under PolicyCommit, else the log end.
	ReadLogEnd
	// ReadAll reads to the log end whatever is durable, for the log's own writer.
	ReadAll
)

// ReadOptions bounds a read.
type ReadOptions struct {
	// MaxBytes is the largest number of bytes returned.
	MaxBytes int64
	// MinOneBatch returns the first batch whole even when it is larger than MaxBytes.
	MinOneBatch bool
	// Isolation bounds the offsets. Default: ReadUncommitted.
	Isolation Isolation
}

// Span is a run of whole batches in a file. The reader owns one reference of File and must Release it.
type Span struct {
	// File is the segment.
	File *FileRef
	// Pos is the position of the first byte, Len the number of bytes.
	Pos, Len int64
}

// ReadResult is what a read found. Spans is empty when the offset is at the bound.
type ReadResult struct {
	// Spans hold the batches in offset order, whole; the first may begin below the asked offset.
	Spans []Span
	// Bytes is the sum of the spans' lengths.
	Bytes int64
	// NextOffset is the offset after the last batch returned, the asked offset when there is none. The asked offset with batches says that
	// Aborted could not be told: the result must not be used, and Verified says so.
	NextOffset int64
	// HighWatermark, LastStable and LogStart are the log's offsets at the time of the read.
	HighWatermark, LastStable, LogStart int64
	// Aborted are the aborted transactions that overlap the result, by first offset; only for ReadCommitted.
	Aborted []AbortedTxn

	tail *tails // where to note the end, if the read reached its bound
}

// Release gives back the references of all spans.
func (r *ReadResult) Release() {
	for i := range r.Spans {
		r.Spans[i].File.Release()
	}
	r.Spans = nil
}
