package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// OffsetForLeaderEpoch (key 23), versions 2-4.
//
// Answers with the largest epoch of the log that is not above the requested one and the offset where it ends
// (KIP-101, KIP-279), the log's end for the epoch in force; -1 and -1 when the log knows no such epoch. A
// consumer uses it to find that a log was truncated under it (KIP-320).

func (b *Broker) handleOffsetForLeaderEpoch(r *request, req *kmsg.OffsetForLeaderEpochRequest) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Topics = make([]kmsg.OffsetForLeaderEpochResponseTopic, 0, len(req.Topics))
	for _, topic := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = topic.Topic
		rt.Partitions = make([]kmsg.OffsetForLeaderEpochResponseTopicPartition, 0, len(topic.Partitions))
		for _, p := range topic.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			ref, code := b.partition(topic.Topic, p.Partition, p.CurrentLeaderEpoch)
			rp.ErrorCode = int16(code)
			if code == protocol.ErrNone {
				rp.LeaderEpoch, rp.EndOffset = ref.log.EndOffsetForEpoch(p.LeaderEpoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Reply(resp)
}
