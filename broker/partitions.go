package broker

import (
	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// noLeaderEpoch in a request means that the client does not know the leader epoch: no fencing.
const noLeaderEpoch = -1

// partitionRef is a partition that this broker leads.
type partitionRef struct {
	topic       *cluster.Topic
	log         *engine.Log
	leaderEpoch int32
}

// partition finds a partition by its topic's name and holds the client's leader epoch against the one in force.
func (b *Broker) partition(topic string, partition, epoch int32) (partitionRef, protocol.ErrorCode) {
	t := b.node.Image().Topic(topic)
	if t == nil {
		return partitionRef{}, protocol.ErrUnknownTopicOrPartition
	}
	return b.partitionOf(t, partition, epoch)
}

// partitionByID is partition by the topic's id.
func (b *Broker) partitionByID(id cluster.TopicID, partition, epoch int32) (partitionRef, protocol.ErrorCode) {
	t := b.node.Image().TopicByID(id)
	if t == nil {
		return partitionRef{}, protocol.ErrUnknownTopicID
	}
	return b.partitionOf(t, partition, epoch)
}

// partitionOf finds a partition of a topic of the image in force. On an error the reference still holds the topic.
func (b *Broker) partitionOf(t *cluster.Topic, partition, epoch int32) (partitionRef, protocol.ErrorCode) {
	ref := partitionRef{topic: t}
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return ref, protocol.ErrUnknownTopicOrPartition
	}
	p := &t.Partitions[partition]
	ref.leaderEpoch = p.LeaderEpoch
	if p.Leader != b.nodeID {
		return ref, protocol.ErrNotLeaderOrFollower
	}
	if code := checkLeaderEpoch(epoch, p.LeaderEpoch); code != protocol.ErrNone {
		return ref, code
	}
	log := b.store.Log(engine.TopicPartition{Topic: t.Name, Partition: partition})
	if log == nil || log.TopicID() != engine.TopicID(t.ID) {
		// The image is ahead of the disk: its log could not be created, or is being replaced. A retry may find it.
		return ref, protocol.ErrKafkaStorageError
	}
	ref.log = log
	return ref, protocol.ErrNone
}

// checkLeaderEpoch is the fencing of KIP-320: a client that knows an older epoch must refresh its metadata,
// one that knows a newer epoch is ahead of this broker and must try again.
func checkLeaderEpoch(client, current int32) protocol.ErrorCode {
	switch {
	case client < 0 || client == current:
		return protocol.ErrNone
	case client < current:
		return protocol.ErrFencedLeaderEpoch
	default:
		return protocol.ErrUnknownLeaderEpoch
	}
}

// isInternalTopic reports whether only the broker itself writes the topic.
func isInternalTopic(name string) bool {
	switch name {
	case "__consumer_offsets", "__transaction_state", "__share_group_state", cluster.LogTopic:
		return true
	}
	return false
}

// minInsync is the broker's min.insync.replicas, as of an image: dynamic configuration changes with the image only.
type minInsync struct {
	image *cluster.Image
	value int
}

// minInsyncReplicas is the topic's min.insync.replicas. It is asked for at every produce request with acks=all.
func (b *Broker) minInsyncReplicas(topic *cluster.Topic) int {
	const key = "min.insync.replicas"
	if own, ok := topic.Configs.Values[key]; ok {
		return int(parseInt(own))
	}
	image := b.node.Image()
	if known := b.minInsync.Load(); known != nil && known.image == image {
		return known.value
	}
	value := int(parseInt(b.config.topicValue(nil, key)))
	b.minInsync.Store(&minInsync{image: image, value: value})
	return value
}
