package broker

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// Metadata (key 3), versions 0-13.
//
// Tells the brokers, this one as the controller, and the topics asked for by name, or from v12 on by id (KIP-516). A null list asks
// for all topics, and so does an empty one in v0; from v1 on an empty list asks for none. A topic that nobody has is
// created when the request allows it (always before v4), auto.create.topics.enable is true and it is none of the broker's own:
// unlike Kafka, which answers first and creates later, the answer holds the new topic. Otherwise it is UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION or
// UNKNOWN_TOPIC_ID. A name is answered once, however often it is asked for. Ids or null names in v10 and v11, whose fields exist but
// whose meaning came with v12, are INVALID_REQUEST, as in Kafka.
//
// The operations allowed (KIP-430) are given when asked for. The broker's address is the advertised one, or the one that the client
// used. Throttling is not needed; the error field of v13 is always 0.

func (b *Broker) handleMetadata(r *request, req *kmsg.MetadataRequest) {
	resp := kmsg.NewPtrMetadataResponse()
	image := b.node.Image()
	resp.Brokers = []kmsg.MetadataResponseBroker{b.metadataBroker(r)}
	resp.ControllerID = b.nodeID
	resp.ClusterID = kmsg.StringPtr(image.ClusterID())
	resp.AuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	topicOps := operations(req.IncludeTopicAuthorizedOperations, topicOperations)
	switch {
	case req.Topics == nil || r.version == 0 && len(req.Topics) == 0:
		resp.Topics = make([]kmsg.MetadataResponseTopic, 0, image.TopicCount())
		for t := range image.Topics() {
			resp.Topics = append(resp.Topics, metadataTopic(t))
		}
	case r.version < 12 && asksByID(req.Topics):
		for i := range req.Topics {
			resp.Topics = append(resp.Topics, metadataError(req.Topics[i].Topic, req.Topics[i].TopicID, protocol.ErrInvalidRequest))
		}
	default:
		resp.Topics = b.metadataTopics(r, req)
	}
	for i := range resp.Topics {
		resp.Topics[i].AuthorizedOperations = topicOps
	}
	r.Reply(resp)
}

func (b *Broker) metadataBroker(r *request) kmsg.MetadataResponseBroker {
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID = b.nodeID
	broker.Host, broker.Port = b.advertise(r.conn)
	return broker
}

// asksByID reports whether a topic is asked for by its id, or has no name.
func asksByID(topics []kmsg.MetadataRequestTopic) bool {
	for i := range topics {
		if topics[i].Topic == nil || topics[i].TopicID != [16]byte{} {
			return true
		}
	}
	return false
}

// metadataTopics answers for the topics that are asked for.
func (b *Broker) metadataTopics(r *request, req *kmsg.MetadataRequest) []kmsg.MetadataResponseTopic {
	image := b.node.Image()
	var missing []string
	for i := range req.Topics {
		t := &req.Topics[i]
		if t.TopicID != [16]byte{} || t.Topic == nil || isInternalTopic(*t.Topic) {
			continue
		}
		if image.Topic(*t.Topic) == nil && cluster.CheckTopicName(*t.Topic) == nil {
			missing = append(missing, *t.Topic)
		}
	}
	errs := map[string]error{}
	if len(missing) > 0 && (r.version < 4 || req.AllowAutoTopicCreation) && b.config.Bool("auto.create.topics.enable") {
		ctx, cancel := r.changeContext(0)
		defer cancel()
		errs = b.autoCreate(ctx, missing)
		image = b.node.Image()
	}
	topics := make([]kmsg.MetadataResponseTopic, 0, len(req.Topics))
	answered := make(map[any]bool, len(req.Topics))
	for i := range req.Topics {
		asked := &req.Topics[i]
		if key := metadataKey(asked); !answered[key] {
			answered[key] = true
			topics = append(topics, b.metadataAnswer(image, asked, errs))
		}
	}
	return topics
}

// metadataKey is what a topic is asked for by: its id, its name, or neither.
func metadataKey(t *kmsg.MetadataRequestTopic) any {
	if t.TopicID != [16]byte{} || t.Topic == nil {
		return t.TopicID
	}
	return *t.Topic
}

func (b *Broker) metadataAnswer(image *cluster.Image, asked *kmsg.MetadataRequestTopic, errs map[string]error) kmsg.MetadataResponseTopic {
	if asked.TopicID != [16]byte{} || asked.Topic == nil {
		if t := image.TopicByID(asked.TopicID); t != nil {
			return metadataTopic(t)
		}
		return metadataError(nil, asked.TopicID, protocol.ErrUnknownTopicID)
	}
	name := *asked.Topic
	if t := image.Topic(name); t != nil {
		return metadataTopic(t)
	}
	code := protocol.ErrUnknownTopicOrPartition
	if cluster.CheckTopicName(name) != nil {
		code = protocol.ErrInvalidTopicException
	} else if err := errs[name]; err != nil {
		code = b.errorCode(err)
	}
	return metadataError(asked.Topic, [16]byte{}, code)
}

func metadataError(name *string, id [16]byte, code protocol.ErrorCode) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	t.ErrorCode, t.Topic, t.TopicID = int16(code), name, id
	t.IsInternal = name != nil && isInternalTopic(*name)
	return t
}

func metadataTopic(t *cluster.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = &t.Name, t.ID
	out.IsInternal = isInternalTopic(t.Name)
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i := range t.Partitions {
		p := &out.Partitions[i]
		*p = kmsg.NewMetadataResponseTopicPartition()
		p.Partition = int32(i)
		p.Leader, p.LeaderEpoch = t.Partitions[i].Leader, t.Partitions[i].LeaderEpoch
		p.Replicas, p.ISR, p.OfflineReplicas = replicaLists(&t.Partitions[i])
		if p.Leader < 0 {
			p.ErrorCode = int16(protocol.ErrLeaderNotAvailable)
		}
	}
	return out
}
