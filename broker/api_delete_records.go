package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// DeleteRecords (key 21), versions 0-2.
//
// Moves a partition's log start to the given offset (-1: the high watermark) and answers with the log start in
// force. An offset past the high watermark is OFFSET_OUT_OF_RANGE; one below the log start changes nothing.
// Each partition costs an fsync of the log directory's checkpoint; one that is in the request more than once is INVALID_REQUEST.
// A topic whose cleanup.policy lacks "delete" answers POLICY_VIOLATION, an internal one INVALID_TOPIC_EXCEPTION.

// deleteToHighWatermark as the offset of a DeleteRecords request asks for everything up to the high watermark.
const deleteToHighWatermark = -1

func (b *Broker) handleDeleteRecords(r *request, req *kmsg.DeleteRecordsRequest) {
	type partition struct {
		topic  string
		number int32
	}
	var asked []partition
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			asked = append(asked, partition{req.Topics[i].Topic, p.Partition})
		}
	}
	twice := repeated(asked)
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, 0, len(req.Topics))
	for _, topic := range req.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = topic.Topic
		rt.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, 0, len(topic.Partitions))
		for _, p := range topic.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, -1, int16(protocol.ErrInvalidRequest)
			if !twice[partition{topic.Topic, p.Partition}] {
				lowWatermark, code := b.deleteRecords(topic.Topic, p.Partition, p.Offset)
				rp.LowWatermark, rp.ErrorCode = lowWatermark, int16(code)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	r.Reply(resp)
}

// deleteRecords returns the partition's low watermark afterwards, -1 on error.
func (b *Broker) deleteRecords(topic string, partition int32, offset int64) (int64, protocol.ErrorCode) {
	if isInternalTopic(topic) {
		return -1, protocol.ErrInvalidTopicException
	}
	ref, code := b.partition(topic, partition, noLeaderEpoch)
	if code != protocol.ErrNone {
		return -1, code
	}
	if ref.log.Config().Cleanup&engine.CleanupDelete == 0 {
		return -1, protocol.ErrPolicyViolation
	}
	highWatermark := ref.log.Offsets().HighWatermark
	if offset == deleteToHighWatermark {
		offset = highWatermark
	}
	if offset < 0 || offset > highWatermark {
		return -1, protocol.ErrOffsetOutOfRange
	}
	logStart, err := ref.log.DeleteRecords(offset)
	if err != nil {
		return -1, b.errorCode(err)
	}
	return logStart, protocol.ErrNone
}
