package broker

import (
	"fmt"
	"slices"
	"sync/atomic"

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
// REQUEST_TIMED_OUT; its topics may exist later. Requests that a client has in flight on one connection are decided in their order, and share fsyncs.

func (b *Broker) handleCreateTopics(r *request, req *kmsg.CreateTopicsRequest) {
	if req.ValidateOnly && !r.alone {
		r.postpone() // it asks whether the topics of the requests before it exist
		return
	}
	resp, topics, places := b.newTopics(req)
	validateOnly := req.ValidateOnly
	answer := func(results []cluster.TopicResult, err error) {
		configs := b.createdConfigs.inForce(b.config)
		for i, at := range places {
			row := &resp.Topics[at]
			failure := err
			if err == nil {
				failure = results[i].Err
			}
			if row.ErrorCode, row.ErrorMessage = b.refusal(failure); failure == nil {
				describeCreated(row, results[i].Topic, configs, validateOnly)
			}
		}
		r.Reply(resp)
	}
	if validateOnly {
		answer(b.node.CreateTopics(r.context(), topics, true))
		return
	}
	r.parkChange(changeTimeout(req.TimeoutMillis), func(done func([]cluster.TopicResult, error)) { b.node.SubmitTopics(topics, done) }, answer)
}

// newTopics is what the client asks for, with the places in the response of what can be asked of the cluster. The rest has its refusal there.
func (b *Broker) newTopics(req *kmsg.CreateTopicsRequest) (resp *kmsg.CreateTopicsResponse, topics []cluster.NewTopic, places []int) {
	resp = kmsg.NewPtrCreateTopicsResponse()
	names := make([]string, len(req.Topics))
	for i := range req.Topics {
		names[i] = req.Topics[i].Topic
	}
	twice, told := repeated(names), map[string]bool{}
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, 0, len(req.Topics))
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
	return resp, topics, places
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

// describeCreated fills in what the topic is. configs are the rows of a topic without values of its own.
func describeCreated(row *kmsg.CreateTopicsResponseTopic, t *cluster.Topic, configs []kmsg.CreateTopicsResponseTopicConfig, validateOnly bool) {
	if !validateOnly {
		row.TopicID = t.ID
	}
	row.NumPartitions = int32(len(t.Partitions))
	row.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	row.Configs = configs
	if len(t.Configs.Values) == 0 {
		return
	}
	row.Configs = slices.Clone(configs)
	for i := range row.Configs {
		if value, ok := t.Configs.Values[row.Configs[i].Name]; ok {
			row.Configs[i].Value, row.Configs[i].Source = &value, int8(SourceTopic)
		}
	}
}

// createdConfigs keeps the rows of a topic without values of its own: a request for 10,000 topics answers with 300,000 of them.
type createdConfigs struct {
	last atomic.Pointer[createdRows]
}

// createdRows are the rows under one state of the dynamic configuration; the static one never changes.
type createdRows struct {
	dynamic *map[string]string
	rows    []kmsg.CreateTopicsResponseTopicConfig
}

// inForce returns the rows of now, which are shared and must not be changed.
func (c *createdConfigs) inForce(config *Config) []kmsg.CreateTopicsResponseTopicConfig {
	dynamic := config.dynamic.Load()
	if last := c.last.Load(); last != nil && last.dynamic == dynamic {
		return last.rows
	}
	rows := make([]kmsg.CreateTopicsResponseTopicConfig, len(config.topic))
	for i := range rows {
		setting := config.TopicSetting(nil, config.topic[i].Name)
		rows[i] = kmsg.NewCreateTopicsResponseTopicConfig()
		rows[i].Name, rows[i].Value, rows[i].Source = setting.Key.Name, kmsg.StringPtr(setting.Value), int8(setting.Source)
	}
	c.last.Store(&createdRows{dynamic: dynamic, rows: rows})
	return rows
}
