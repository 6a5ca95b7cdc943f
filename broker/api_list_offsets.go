package broker

import (
	"sort"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// ListOffsets (key 2), versions 1-11.
//
// Looks up an offset by timestamp, or one of the special offsets below, up to the high watermark, or up to the
// last stable offset at isolation read_committed. There are no followers yet that would see further.
// v2 isolation level; v4 leader epochs (KIP-320); v7 the record with the largest timestamp (KIP-734); v8 the
// earliest local offset (KIP-405); v9 the latest tiered one (KIP-1005); v10 a timeout for remote storage
// (KIP-1075), which is not needed here; v11 the earliest offset that waits for upload (KIP-1023).
// There is no tiered storage: what asks for tiered offsets is answered with offset -1, as Kafka does then.

// The special timestamps of ListOffsets.
const (
	timestampLatest          = -1
	timestampEarliest        = -2
	timestampMax             = -3
	timestampEarliestLocal   = -4
	timestampLatestTiered    = -5
	timestampEarliestPending = -6
)

const isolationReadCommitted = 1

func (b *Broker) handleListOffsets(r *request, req *kmsg.ListOffsetsRequest) {
	resp := kmsg.NewPtrListOffsetsResponse()
	seen := make(map[engine.TopicPartition]bool)
	duplicate := make(map[engine.TopicPartition]bool)
	for _, topic := range req.Topics {
		for _, p := range topic.Partitions {
			tp := engine.TopicPartition{Topic: topic.Topic, Partition: p.Partition}
			duplicate[tp] = seen[tp]
			seen[tp] = true
		}
	}
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, 0, len(req.Topics))
	for _, topic := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = topic.Topic
		rt.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(topic.Partitions))
		for i := range topic.Partitions {
			p := &topic.Partitions[i]
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.Offset, rp.LeaderEpoch = p.Partition, -1, -1, -1
			if duplicate[engine.TopicPartition{Topic: topic.Topic, Partition: p.Partition}] {
				rp.ErrorCode = int16(protocol.ErrInvalidRequest)
			} else {
				rp.ErrorCode = int16(b.listOffset(req, topic.Topic, p, &rp))
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Reply(resp)
}

// timestampFirstVersion is the first version at which each special timestamp may be asked for.
func timestampFirstVersion(timestamp int64) int16 {
	switch timestamp {
	case timestampMax:
		return 7
	case timestampEarliestLocal:
		return 8
	case timestampLatestTiered:
		return 9
	case timestampEarliestPending:
		return 11
	default:
		return 1
	}
}

// listOffset answers for one partition, into rp.
func (b *Broker) listOffset(req *kmsg.ListOffsetsRequest, topic string, p *kmsg.ListOffsetsRequestTopicPartition,
	rp *kmsg.ListOffsetsResponseTopicPartition) protocol.ErrorCode {
	if p.Timestamp < timestampEarliestPending || req.Version < timestampFirstVersion(p.Timestamp) {
		return protocol.ErrUnsupportedVersion
	}
	ref, code := b.partition(topic, p.Partition, p.CurrentLeaderEpoch)
	if code != protocol.ErrNone {
		return code
	}
	offsets := ref.log.Offsets()
	end, isolation := offsets.HighWatermark, engine.ReadUncommitted
	if req.IsolationLevel == isolationReadCommitted {
		end, isolation = offsets.LastStable, engine.ReadCommitted
	}
	switch p.Timestamp {
	case timestampLatest:
		rp.Offset, rp.LeaderEpoch = end, ref.leaderEpoch
	case timestampEarliest, timestampEarliestLocal:
		rp.Offset, rp.LeaderEpoch = offsets.LogStart, epochAt(ref.log, offsets.LogStart)
	case timestampLatestTiered, timestampEarliestPending:
	case timestampMax:
		found, err := ref.log.MaxTimestampOffset()
		return b.foundOffset(found, err, end, rp)
	default:
		found, err := ref.log.OffsetForTimestamp(p.Timestamp, isolation)
		return b.foundOffset(found, err, end, rp)
	}
	return protocol.ErrNone
}

// foundOffset puts a record found by time into rp. A record at or past end is not visible yet: none is told.
func (b *Broker) foundOffset(found engine.TimestampOffset, err error, end int64,
	rp *kmsg.ListOffsetsResponseTopicPartition) protocol.ErrorCode {
	if err != nil {
		return b.errorCode(err)
	}
	if found.Found && found.Offset < end {
		rp.Offset, rp.Timestamp, rp.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
	}
	return protocol.ErrNone
}

// epochAt is the leader epoch in which the record at offset was written, or -1: the smallest epoch that ends above it.
func epochAt(log *engine.Log, offset int64) int32 {
	newest := log.LeaderEpoch()
	epoch := sort.Search(int(newest)+1, func(e int) bool {
		_, end := log.EndOffsetForEpoch(int32(e))
		return end > offset
	})
	if int32(epoch) > newest {
		return -1
	}
	return int32(epoch)
}
