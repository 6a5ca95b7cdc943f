package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// admin is a control connection: topics, offsets and configuration.
type admin struct {
	w    *wire
	addr string
}

func dialAdmin(ctx context.Context, addr string) (*admin, error) {
	w, err := dial(ctx, addr, dialOptions{})
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", addr, err)
	}
	return &admin{w: w, addr: addr}, nil
}

func (a *admin) close() { a.w.close() }

// fsyncConfigs lists, in order of preference, the topic configurations that give a durability class: weir's own key, then
// Kafka's. "default" sets nothing.
func fsyncConfigs(class string) []map[string]string {
	switch class {
	case "commit":
		return []map[string]string{{"fsync.policy": "commit"}, {"flush.messages": "1"}}
	case "interval":
		return []map[string]string{{"fsync.policy": "interval", "fsync.interval.ms": "1000"}, {"flush.ms": "1000"}}
	case "never":
		return []map[string]string{{"fsync.policy": "never"}, {}}
	}
	return []map[string]string{{}}
}

// createTopic creates the run's topic with the spec's durability class and waits until every partition has a leader.
func (a *admin) createTopic(ctx context.Context, name string, spec *Spec) ([]partitionInfo, error) {
	var err error
	for _, conf := range fsyncConfigs(spec.Fsync) {
		conf = maps.Clone(conf)
		maps.Copy(conf, spec.TopicConf)
		if err = a.createOnce(ctx, name, min(spec.Partitions, partitionsAtOnce), conf); err == nil {
			if err := a.growTopic(ctx, name, spec.Partitions); err != nil {
				return nil, err
			}
			parts, err := a.waitLeaders(ctx, name, spec.Partitions)
			if err == nil {
				err = waitServing(ctx, name, parts)
			}
			return parts, err
		}
		var code *CodeError
		if !errors.As(err, &code) || protocol.ErrorCode(code.Code) != protocol.ErrInvalidConfig {
			break
		}
	}
	return nil, err
}

func (a *admin) createOnce(ctx context.Context, name string, partitions int, conf map[string]string) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version = 4
	req.TimeoutMillis = 60_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(partitions), -1
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name = k
		v := conf[k]
		c.Value = &v
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, err := a.w.call(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
		what := "create topic " + name
		if t.ErrorMessage != nil {
			what += ": " + *t.ErrorMessage
		}
		if err := kafkaError(t.ErrorCode, what); err != nil {
			return err
		}
	}
	return nil
}

// partitionsAtOnce is how many partitions are asked for in one request: Apache Kafka's controller takes at most 10,000 records for one, and a partition is
// one of them.
const partitionsAtOnce = 5000

// growTopic takes a topic of partitionsAtOnce partitions to the wanted number, if that is more, a step at a time.
func (a *admin) growTopic(ctx context.Context, name string, partitions int) error {
	for count := partitionsAtOnce; count < partitions; {
		count = min(count+partitionsAtOnce, partitions)
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version = 1
		req.TimeoutMillis = 60_000
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = name, int32(count)
		req.Topics = append(req.Topics, t)
		resp, err := a.w.call(ctx, req)
		if err != nil {
			return err
		}
		for _, t := range resp.(*kmsg.CreatePartitionsResponse).Topics {
			what := fmt.Sprintf("grow topic %s to %d partitions", name, count)
			if t.ErrorMessage != nil {
				what += ": " + *t.ErrorMessage
			}
			if err := kafkaError(t.ErrorCode, what); err != nil {
				return err
			}
		}
	}
	return nil
}

// partitionInfo is where a partition lives.
type partitionInfo struct {
	leader   string // host:port
	replicas int
}

func (a *admin) metadata(ctx context.Context, topic string) (*kmsg.MetadataResponse, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	if topic != "" {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
	}
	req.AllowAutoTopicCreation = false
	resp, err := a.w.call(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.MetadataResponse), nil
}

// waitLeaders polls metadata until all partitions of the topic have a leader, up to a minute.
func (a *admin) waitLeaders(ctx context.Context, topic string, partitions int) ([]partitionInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		m, err := a.metadata(ctx, topic)
		if err != nil {
			return nil, err
		}
		parts := leadersOf(m, partitions)
		if parts != nil {
			return parts, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("topic %s: not every one of %d partitions has a leader after a minute", topic, partitions)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// waitServing waits until the leaders answer for their partitions: metadata may name a leader before the broker knows that it is one.
func waitServing(ctx context.Context, topic string, parts []partitionInfo) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	byLeader := map[string][]int32{}
	for i, p := range parts {
		byLeader[p.leader] = append(byLeader[p.leader], int32(i))
	}
	for addr, ids := range byLeader {
		a, err := dialAdmin(ctx, addr)
		if err != nil {
			return err
		}
		defer a.close()
		for {
			_, err := a.endOffsets(ctx, topic, ids)
			var code *CodeError
			if err == nil {
				break
			}
			if !errors.As(err, &code) || ctx.Err() != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func leadersOf(m *kmsg.MetadataResponse, partitions int) []partitionInfo {
	if len(m.Topics) != 1 || m.Topics[0].ErrorCode != 0 || len(m.Topics[0].Partitions) != partitions {
		return nil
	}
	brokers := map[int32]string{}
	for _, b := range m.Brokers {
		brokers[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	parts := make([]partitionInfo, partitions)
	for _, p := range m.Topics[0].Partitions {
		addr, ok := brokers[p.Leader]
		if p.ErrorCode != 0 || !ok || int(p.Partition) >= partitions || p.Partition < 0 {
			return nil
		}
		parts[p.Partition] = partitionInfo{leader: addr, replicas: len(p.Replicas)}
	}
	return parts
}

func (a *admin) deleteTopic(ctx context.Context, name string) error {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version = 3
	req.TimeoutMillis = 60_000
	req.TopicNames = []string{name}
	resp, err := a.w.call(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.DeleteTopicsResponse).Topics {
		if err := kafkaError(t.ErrorCode, "delete topic "+name); err != nil {
			return err
		}
	}
	return nil
}

// endOffsets asks a broker for the end offset of the given partitions of topic.
func (a *admin) endOffsets(ctx context.Context, topic string, partitions []int32) (map[int32]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 4
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, -1, -1
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	resp, err := a.w.call(ctx, req)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]int64, len(partitions))
	for _, t := range resp.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			if err := kafkaError(p.ErrorCode, fmt.Sprintf("end offset of %s-%d", topic, p.Partition)); err != nil {
				return nil, err
			}
			out[p.Partition] = p.Offset
		}
	}
	return out, nil
}

// inForceKeys are the configuration keys that decide what an acknowledgement means; they are read back and printed.
var inForceKeys = []string{"min.insync.replicas", "flush.messages", "flush.ms", "fsync.policy", "fsync.interval.ms",
	"fsync.interval.bytes", "compression.type", "segment.bytes", "max.message.bytes", "retention.ms", "retention.bytes",
	"message.timestamp.type", "log.flush.interval.messages", "log.flush.interval.ms",
	"log.flush.scheduler.interval.ms", "num.network.threads", "num.io.threads"}

// inForce reads the configuration of the topic and of the broker back from the target.
func (a *admin) inForce(ctx context.Context, topic string, parts []partitionInfo) (map[string]string, error) {
	out := map[string]string{}
	if len(parts) > 0 {
		out["replication.factor"] = strconv.Itoa(parts[0].replicas)
	}
	m, err := a.metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version = 1
	rt := kmsg.NewDescribeConfigsRequestResource()
	rt.ResourceType, rt.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	req.Resources = append(req.Resources, rt)
	if len(m.Brokers) > 0 {
		rb := kmsg.NewDescribeConfigsRequestResource()
		rb.ResourceType, rb.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(m.Brokers[0].NodeID))
		req.Resources = append(req.Resources, rb)
	}
	resp, err := a.w.call(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
		if err := kafkaError(r.ErrorCode, "describe configs of "+r.ResourceName); err != nil {
			return nil, err
		}
		for _, c := range r.Configs {
			_, seen := out[c.Name] // the topic's value comes first and wins
			if c.Value != nil && !seen && slices.Contains(inForceKeys, c.Name) {
				out[c.Name] = *c.Value
			}
		}
	}
	return out, nil
}
