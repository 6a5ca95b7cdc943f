package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// DescribeTopicPartitions (key 75), version 0 (KIP-966).
//
// Tells topics, in the order of their names, with their partitions, in pages: at most the asked number of partitions, and
// describePartitionsMax; then a cursor says where the next request begins. An empty list asks for all topics. Topics that nobody has
// are UNKNOWN_TOPIC_OR_PARTITION or INVALID_TOPIC_EXCEPTION and take no room of the page. A cursor with a negative partition
// is INVALID_REQUEST in each topic asked for. The operations allowed are always told, as in Kafka. With a single replica
// there are no eligible leader replicas.

// describePartitionsMax is the most partitions of one response: Kafka's max.request.partition.size.limit.
const describePartitionsMax = 2000

func (b *Broker) handleDescribeTopicPartitions(r *request, req *kmsg.DescribeTopicPartitionsRequest) {
	names := make([]string, 0, len(req.Topics))
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	p := describePage{
		resp: kmsg.NewPtrDescribeTopicPartitionsResponse(),
		left: describePartitionsMax,
	}
	if n := int(req.ResponsePartitionLimit); n > 0 {
		p.left = min(p.left, n)
	}
	if req.Cursor != nil {
		p.startTopic, p.startPartition = req.Cursor.Topic, int(req.Cursor.Partition)
	}
	image := b.node.Image()
	switch {
	case p.startPartition < 0:
		for i := range names {
			p.refuse(&names[i], protocol.ErrInvalidRequest)
		}
	case len(names) == 0:
		for t := range image.TopicsFrom(p.startTopic) {
			if !p.add(t) {
				break
			}
		}
	default:
		for i := range names {
			if names[i] >= p.startTopic && !p.answer(image, &names[i]) {
				break
			}
		}
	}
	r.Reply(p.resp)
}

// describePage is a response that fills up.
type describePage struct {
	resp           *kmsg.DescribeTopicPartitionsResponse
	left           int // partitions that still fit
	startTopic     string
	startPartition int // of startTopic
}

// answer adds what is known of a name, and reports whether the page has room for more.
func (p *describePage) answer(image *cluster.Image, name *string) bool {
	if t := image.Topic(*name); t != nil {
		return p.add(t)
	}
	code := protocol.ErrUnknownTopicOrPartition
	if cluster.CheckTopicName(*name) != nil {
		code = protocol.ErrInvalidTopicException
	}
	p.refuse(name, code)
	return true
}

func (p *describePage) refuse(name *string, code protocol.ErrorCode) {
	row := kmsg.NewDescribeTopicPartitionsResponseTopic()
	row.Topic, row.ErrorCode, row.IsInternal = name, int16(code), isInternalTopic(*name)
	p.resp.Topics = append(p.resp.Topics, row)
}

// add adds a topic, or the part of it that fits, and reports whether the page has room for more.
func (p *describePage) add(t *cluster.Topic) bool {
	first := 0
	if t.Name == p.startTopic {
		first = min(p.startPartition, len(t.Partitions))
	}
	if p.left == 0 {
		p.cut(t, first)
		return false
	}
	end := min(len(t.Partitions), first+p.left)
	row := kmsg.NewDescribeTopicPartitionsResponseTopic()
	row.Topic, row.TopicID, row.IsInternal = &t.Name, t.ID, isInternalTopic(t.Name)
	row.AuthorizedOperations = topicOperations
	for i := first; i < end; i++ {
		out := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		out.Partition = int32(i)
		out.LeaderID, out.LeaderEpoch = t.Partitions[i].Leader, t.Partitions[i].LeaderEpoch
		out.Replicas, out.ISR, out.OfflineReplicas = replicaLists(&t.Partitions[i])
		out.EligibleLeaderReplicas, out.LastKnownELR = []int32{}, []int32{}
		if out.LeaderID < 0 {
			out.ErrorCode = int16(protocol.ErrLeaderNotAvailable)
		}
		row.Partitions = append(row.Partitions, out)
	}
	p.resp.Topics = append(p.resp.Topics, row)
	p.left -= end - first
	if end < len(t.Partitions) {
		p.cut(t, end)
		return false
	}
	return true
}

// cut says where the next page begins.
func (p *describePage) cut(t *cluster.Topic, partition int) {
	cursor := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	cursor.Topic, cursor.Partition = t.Name, int32(partition)
	p.resp.NextCursor = &cursor
}
