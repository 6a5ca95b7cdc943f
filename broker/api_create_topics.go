package broker

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
)

// CreateTopics (key 19), versions 2-7.
//
// Each topic is created, or refused with its own code and message; with validate only (v1) nothing is created and the answers are
// the same. -1 asks for the default partition count and replication factor (v4, KIP-464). A name that is in the request more
// than once is refused with INVALID_REQUEST, in one row. From v5 on the answer tells partitions, replication factor and the
// configuration in force (KIP-525), from v7 on the topic's id (KIP-516), which is zero after validate only: no topic has it.
//
// The topics are durable, and can be written, when the answer leaves. A request that cannot be decided within its timeout answers
// REQUEST_TIMED_OUT; its topics may exist later.

func (b *Broker) handleCreateTopics(r *request, req *kmsg.CreateTopicsRequest) {
	resp := kmsg.NewPtrCreateTopicsResponse()
	names := make([]string, len(req.Topics))
	for i := range req.Topics {
		names[i] = req.Topics[i].Topic
	}
	twice, told := repeated(names), map[string]bool{}
	var topics []cluster.NewTopic
	var places []int // of the topics in resp
	for i := range req.Topics {
		asked := &req.Topics[i]
		if told[asked.Topic] {
			continue
		}
		row := newCreateTopicsRow(asked.Topic)
		topic, err := newTopic(asked)
		switch {
		case twice[asked.Topic]:
			told[asked.Topic] = true
			row.ErrorCode, row.ErrorMessage = invalidRequest("the topic is named more than once in the request")
		case err != nil:
			row.ErrorCode, row.ErrorMessage = b.refusal(err)
		default:
			topics, places = append(topics, topic), append(places, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, row)
	}
	ctx, cancel := r.changeContext(req.TimeoutMillis)
	defer cancel()
	results, err := b.node.CreateTopics(ctx, topics, req.ValidateOnly)
	for i, at := range places {
		row := &resp.Topics[at]
		failure := err
		if err == nil {
			failure = results[i].Err
		}
		if row.ErrorCode, row.ErrorMessage = b.refusal(failure); failure == nil {
			b.describeCreated(row, results[i].Topic, req.ValidateOnly)
		}
	}
	r.Reply(resp)
}

func newCreateTopicsRow(name string) kmsg.CreateTopicsResponseTopic {
	row := kmsg.NewCreateTopicsResponseTopic()
	row.Topic = name
	row.NumPartitions, row.ReplicationFactor = -1, -1
	row.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	return row
}

// newTopic is what the client asks for.
func newTopic(asked *kmsg.CreateTopicsRequestTopic) (cluster.NewTopic, error) {
	t := cluster.NewTopic{Name: asked.Topic, Partitions: asked.NumPartitions, ReplicationFactor: asked.ReplicationFactor}
	if len(asked.ReplicaAssignment) > 0 {
		t.Assignments = make(map[int32][]int32, len(asked.ReplicaAssignment))
		for _, a := range asked.ReplicaAssignment {
			if _, twice := t.Assignments[a.Partition]; twice {
				return t, fmt.Errorf("%w: partition %d is assigned twice", cluster.ErrInvalidAssignment, a.Partition)
			}
			t.Assignments[a.Partition] = a.Replicas
		}
	}
	if len(asked.Configs) > 0 {
		t.Configs = make(map[string]string, len(asked.Configs))
		for _, c := range asked.Configs {
			if c.Value == nil {
				return t, fmt.Errorf("%w: key %q has a null value", cluster.ErrInvalidConfig, c.Name)
			}
			t.Configs[c.Name] = *c.Value
		}
	}
	return t, nil
}

// describeCreated fills in what the topic is.
func (b *Broker) describeCreated(row *kmsg.CreateTopicsResponseTopic, t *cluster.Topic, validateOnly bool) {
	if !validateOnly {
		row.TopicID = t.ID
	}
	row.NumPartitions = int32(len(t.Partitions))
	row.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	for i := range b.config.topic {
		setting := b.config.TopicSetting(t.Configs.Values, b.config.topic[i].Name)
		config := kmsg.NewCreateTopicsResponseTopicConfig()
		config.Name, config.Value, config.Source = setting.Key.Name, kmsg.StringPtr(setting.Value), int8(setting.Source)
		row.Configs = append(row.Configs, config)
	}
}
