package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
)

// metadataRequest asks for topics by name; nil asks for all.
func metadataRequest(autoCreate bool, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = autoCreate
	if len(names) > 0 {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// topicLines is a metadata response's topics in one line each.
func topicLines(resp *kmsg.MetadataResponse) (lines []string) {
	for _, t := range resp.Topics {
		line := deref(t.Topic) + ":" + protocol.ErrorCode(t.ErrorCode).String()
		for _, p := range t.Partitions {
			line += fmt.Sprintf(" %d@%d%v%v%v", p.Partition, p.Leader, p.Replicas, p.ISR, p.OfflineReplicas)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestMetadataEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("b", 1, nil)
	tb.createTopic("a", 2, nil)
	c := tb.dial()
	for version := int16(0); version <= 13; version++ {
		req := metadataRequest(false)
		req.IncludeTopicAuthorizedOperations = version%2 == 0
		req.IncludeClusterAuthorizedOperations = true
		resp := c.request(req, version).(*kmsg.MetadataResponse)
		want := []string{"a:NONE 0@1[1][1][] 1@1[1][1][]", "b:NONE 0@1[1][1][]"}
		if got := topicLines(resp); !slices.Equal(got, want) {
			t.Errorf("version %d: all topics: got %q, want %q", version, got, want)
		}
		if len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 1 || resp.Brokers[0].Host != "127.0.0.1" || resp.Brokers[0].Port != int32(tb.Addr().Port()) {
			t.Errorf("version %d: brokers %+v", version, resp.Brokers)
		}
		if version >= 1 && resp.ControllerID != 1 {
			t.Errorf("version %d: controller %d", version, resp.ControllerID)
		}
		if version >= 2 && deref(resp.ClusterID) != tb.ClusterID() {
			t.Errorf("version %d: cluster %v", version, resp.ClusterID)
		}
		if version >= 10 && cluster.TopicID(resp.Topics[1].TopicID) != id {
			t.Errorf("version %d: topic id %v", version, resp.Topics[1].TopicID)
		}
		if want := operations(version%2 == 0, topicOperations); version >= 8 && resp.Topics[0].AuthorizedOperations != want {
			t.Errorf("version %d: topic operations %d, want %d", version, resp.Topics[0].AuthorizedOperations, want)
		}
		if version >= 8 && version <= 10 && resp.AuthorizedOperations != clusterOperations {
			t.Errorf("version %d: cluster operations %d", version, resp.AuthorizedOperations)
		}
	}
	for version := int16(0); version <= 13; version++ {
		req := metadataRequest(false)
		req.Topics = []kmsg.MetadataRequestTopic{}
		want := 0
		if version == 0 {
			want = 2
		}
		if got := len(c.request(req, version).(*kmsg.MetadataResponse).Topics); got != want {
			t.Errorf("version %d: an empty list: got %d topics, want %d", version, got, want)
		}
	}
}

func TestMetadataByNameAndID(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("a", 1, nil)
	c := tb.dial()
	req := metadataRequest(false, "nope", "a", "a", "../x", strings.Repeat("n", 250))
	want := []string{"nope:UNKNOWN_TOPIC_OR_PARTITION", "a:NONE 0@1[1][1][]", "../x:INVALID_TOPIC_EXCEPTION", strings.Repeat("n", 250) + ":INVALID_TOPIC_EXCEPTION"}
	if got := topicLines(c.request(req, 9).(*kmsg.MetadataResponse)); !slices.Equal(got, want) {
		t.Errorf("by name: got %q, want %q", got, want)
	}
	byID := func(id [16]byte) *kmsg.MetadataRequest {
		req := kmsg.NewPtrMetadataRequest()
		topic := kmsg.NewMetadataRequestTopic()
		topic.TopicID = id
		req.Topics = append(req.Topics, topic)
		return req
	}
	for version := int16(12); version <= 13; version++ {
		resp := c.request(byID(id), version).(*kmsg.MetadataResponse)
		if got := topicLines(resp); !slices.Equal(got, []string{"a:NONE 0@1[1][1][]"}) {
			t.Errorf("version %d: by id: got %q", version, got)
		}
		resp = c.request(byID([16]byte{9}), version).(*kmsg.MetadataResponse)
		if topic := resp.Topics[0]; topic.Topic != nil || topic.TopicID != [16]byte{9} || protocol.ErrorCode(topic.ErrorCode) != protocol.ErrUnknownTopicID {
			t.Errorf("version %d: unknown id: got %+v", version, topic)
		}
	}
	for version := int16(10); version <= 11; version++ {
		resp := c.request(byID(id), version).(*kmsg.MetadataResponse)
		wantCode(t, fmt.Sprintf("version %d: by id", version), resp.Topics[0].ErrorCode, protocol.ErrInvalidRequest)
	}
}

func TestMetadataCreatesTopicsWhenAskedAndAllowed(t *testing.T) {
	tb := startBroker(t, map[string]string{"num.partitions": "3"})
	c := tb.dial()
	for version := int16(0); version <= 13; version++ {
		name := fmt.Sprintf("auto-%d", version)
		if version >= 4 {
			resp := c.request(metadataRequest(false, name), version).(*kmsg.MetadataResponse)
			wantCode(t, "without leave", resp.Topics[0].ErrorCode, protocol.ErrUnknownTopicOrPartition)
		}
		resp := c.request(metadataRequest(true, name, "b/d"), version).(*kmsg.MetadataResponse)
		if topic := resp.Topics[0]; topic.ErrorCode != 0 || len(topic.Partitions) != 3 {
			t.Errorf("version %d: got %+v", version, topic)
		}
		wantCode(t, "a bad name", resp.Topics[1].ErrorCode, protocol.ErrInvalidTopicException)
		c.mustProduce(name, batchOf("x"))
	}
	// Names that collide are refused in the same answer, and do not keep others from being created.
	resp := c.request(metadataRequest(true, "x.y", "x_y"), 12).(*kmsg.MetadataResponse)
	wantCode(t, "the first", resp.Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "the second", resp.Topics[1].ErrorCode, protocol.ErrInvalidTopicException)

	resp = c.request(metadataRequest(true, "__consumer_offsets"), 12).(*kmsg.MetadataResponse)
	wantCode(t, "an internal topic", resp.Topics[0].ErrorCode, protocol.ErrUnknownTopicOrPartition)

	off := startBroker(t, map[string]string{"auto.create.topics.enable": "false"})
	resp = off.dial().request(metadataRequest(true, "a"), 1).(*kmsg.MetadataResponse)
	wantCode(t, "switched off", resp.Topics[0].ErrorCode, protocol.ErrUnknownTopicOrPartition)
}

// createTopicsRequest asks for topics of one partition.
func createTopicsRequest(names ...string) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestCreateTopicsEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for version := int16(2); version <= 7; version++ {
		name := fmt.Sprintf("v%d", version)
		req := createTopicsRequest(name)
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("12345")
		req.Topics[0].NumPartitions, req.Topics[0].Configs = 2, append(req.Topics[0].Configs, config)
		req.ValidateOnly = true
		resp := c.request(req, version).(*kmsg.CreateTopicsResponse)
		wantCode(t, "validate only", resp.Topics[0].ErrorCode, protocol.ErrNone)
		if resp.Topics[0].TopicID != [16]byte{} || tb.node.Image().Topic(name) != nil {
			t.Errorf("version %d: validate only created a topic", version)
		}
		req.ValidateOnly = false
		row := c.request(req, version).(*kmsg.CreateTopicsResponse).Topics[0]
		topic := tb.node.Image().Topic(name)
		if row.ErrorCode != 0 || row.ErrorMessage != nil || row.Topic != name || topic == nil || topic.Configs.Values["retention.ms"] != "12345" {
			t.Fatalf("version %d: got %+v and topic %+v", version, row, topic)
		}
		if version >= 5 {
			if row.NumPartitions != 2 || row.ReplicationFactor != 1 || len(row.Configs) != len(tb.config.TopicKeys()) {
				t.Errorf("version %d: partitions %d, replication %d, %d configs", version, row.NumPartitions, row.ReplicationFactor, len(row.Configs))
			}
			for _, config := range row.Configs {
				if config.Name == "retention.ms" && (deref(config.Value) != "12345" || config.Source != int8(SourceTopic)) {
					t.Errorf("version %d: retention.ms %q from %d", version, deref(config.Value), config.Source)
				}
			}
		}
		if version >= 7 && cluster.TopicID(row.TopicID) != topic.ID {
			t.Errorf("version %d: topic id %v", version, row.TopicID)
		}
		c.mustProduce(name, batchOf("x"))
		again := c.request(req, version).(*kmsg.CreateTopicsResponse).Topics[0]
		wantCode(t, "again", again.ErrorCode, protocol.ErrTopicAlreadyExists)
		if deref(again.ErrorMessage) == "" {
			t.Errorf("version %d: no message", version)
		}
	}
}

func TestCreateTopicsRefusals(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	f := func(what string, want protocol.ErrorCode, change func(topic *kmsg.CreateTopicsRequestTopic)) {
		t.Helper()
		req := createTopicsRequest("t")
		change(&req.Topics[0])
		row := c.request(req, 7).(*kmsg.CreateTopicsResponse).Topics[0]
		wantCode(t, what, row.ErrorCode, want)
		if row.ErrorCode == 0 || deref(row.ErrorMessage) == "" || row.NumPartitions != -1 || row.TopicID != [16]byte{} {
			t.Errorf("%s: got %+v", what, row)
		}
	}
	assign := func(p int32, replicas ...int32) kmsg.CreateTopicsRequestTopicReplicaAssignment {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = p, replicas
		return a
	}
	type topic = *kmsg.CreateTopicsRequestTopic
	for _, name := range []string{"", ".", "..", "a/b", strings.Repeat("n", 250), cluster.LogTopic} {
		f(name, protocol.ErrInvalidTopicException, func(t topic) { t.Topic = name })
	}
	f("no partitions", protocol.ErrInvalidPartitions, func(t topic) { t.NumPartitions = 0 })
	f("two replicas", protocol.ErrInvalidReplicationFactor, func(t topic) { t.ReplicationFactor = 2 })
	f("too many partitions", protocol.ErrPolicyViolation, func(t topic) { t.NumPartitions = 1 << 30 })
	f("unknown key", protocol.ErrInvalidConfig, func(t topic) {
		t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "no.such.key", Value: kmsg.StringPtr("1")}}
	})
	f("null value", protocol.ErrInvalidConfig, func(t topic) { t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}} })
	f("assignment and count", protocol.ErrInvalidRequest, func(t topic) {
		t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{assign(0, 1)}
	})
	f("partition assigned twice", protocol.ErrInvalidReplicaAssignment, func(t topic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{assign(0, 1), assign(0, 1)}
	})
	f("another broker", protocol.ErrInvalidReplicaAssignment, func(t topic) {
		t.NumPartitions, t.ReplicationFactor = -1, -1
		t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{assign(0, 2)}
	})
	rows := c.request(createTopicsRequest("twice", "once", "twice"), 7).(*kmsg.CreateTopicsResponse).Topics
	if len(rows) != 2 || rows[0].Topic != "twice" || rows[1].Topic != "once" {
		t.Fatalf("got %d rows", len(rows))
	}
	wantCode(t, "named twice", rows[0].ErrorCode, protocol.ErrInvalidRequest)
	wantCode(t, "named once", rows[1].ErrorCode, protocol.ErrNone)
}

func deleteTopicsRequest(version int16, names []string, ids ...[16]byte) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30_000
	if version < 6 {
		req.TopicNames = names
		return req
	}
	for _, name := range names {
		row := kmsg.NewDeleteTopicsRequestTopic()
		row.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, row)
	}
	for _, id := range ids {
		row := kmsg.NewDeleteTopicsRequestTopic()
		row.TopicID = id
		req.Topics = append(req.Topics, row)
	}
	return req
}

func TestDeleteTopicsEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for version := int16(1); version <= 6; version++ {
		id := tb.createTopic("t", 2, nil)
		c.mustProduce("t", batchOf("old"))
		resp := c.request(deleteTopicsRequest(version, []string{"t", "nope"}), version).(*kmsg.DeleteTopicsResponse)
		wantCode(t, "delete", resp.Topics[0].ErrorCode, protocol.ErrNone)
		wantCode(t, "delete of nothing", resp.Topics[1].ErrorCode, protocol.ErrUnknownTopicOrPartition)
		if version >= 6 && cluster.TopicID(resp.Topics[0].TopicID) != id {
			t.Errorf("version %d: topic id %v", version, resp.Topics[0].TopicID)
		}
		wantCode(t, "produce to a deleted topic", c.produce("t", 1, batchOf("x")).ErrorCode, protocol.ErrUnknownTopicOrPartition)
		// The name is free at once; the new topic is empty.
		if tb.createTopic("t", 1, nil) == id {
			t.Errorf("version %d: the id came back", version)
		}
		if offset := c.mustProduce("t", batchOf("new")); offset != 0 {
			t.Errorf("version %d: the new topic begins at %d", version, offset)
		}
		c.request(deleteTopicsRequest(version, []string{"t"}), version)
	}
	testkit.Eventually(t, "all files to be gone and forgotten", func() bool {
		for range tb.node.Image().Removed() {
			return false
		}
		return tb.store.Log(engine.TopicPartition{Topic: "t"}) == nil
	})
}

func TestDeleteTopicsByID(t *testing.T) {
	tb := startBroker(t, nil)
	a, b := tb.createTopic("a", 1, nil), tb.createTopic("b", 1, nil)
	c := tb.dial()
	req := deleteTopicsRequest(6, []string{"b"}, b, a, [16]byte{9}, [16]byte{})
	both := kmsg.NewDeleteTopicsRequestTopic()
	both.Topic, both.TopicID = kmsg.StringPtr("c"), [16]byte{8}
	req.Topics = append(req.Topics, both)
	rows := c.request(req, 6).(*kmsg.DeleteTopicsResponse).Topics
	for i, want := range []protocol.ErrorCode{
		protocol.ErrInvalidRequest, protocol.ErrInvalidRequest, // b by name and by id
		protocol.ErrNone, protocol.ErrUnknownTopicID, protocol.ErrInvalidRequest, protocol.ErrInvalidRequest,
	} {
		wantCode(t, fmt.Sprintf("row %d", i), rows[i].ErrorCode, want)
	}
	if deref(rows[2].Topic) != "a" || tb.node.Image().Topic("a") != nil || tb.node.Image().Topic("b") == nil {
		t.Errorf("got %+v", rows[2])
	}
	off := startBroker(t, map[string]string{"delete.topic.enable": "false"})
	off.createTopic("a", 1, nil)
	for version, want := range map[int16]protocol.ErrorCode{1: protocol.ErrInvalidRequest, 3: protocol.ErrTopicDeletionDisabled, 6: protocol.ErrTopicDeletionDisabled} {
		resp := off.dial().request(deleteTopicsRequest(version, []string{"a"}), version).(*kmsg.DeleteTopicsResponse)
		wantCode(t, "switched off", resp.Topics[0].ErrorCode, want)
	}
}

func TestCreatePartitionsEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	f := func(version int16, want protocol.ErrorCode, total int32, validateOnly bool, assignments ...[]int32) {
		t.Helper()
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis, req.ValidateOnly = 30_000, validateOnly
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = "t", total
		for _, replicas := range assignments {
			topic.Assignment = append(topic.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: replicas})
		}
		req.Topics = append(req.Topics, topic)
		rows := c.request(req, version).(*kmsg.CreatePartitionsResponse).Topics
		if len(rows) != 1 || rows[0].Topic != "t" {
			t.Fatalf("version %d: rows %+v", version, rows)
		}
		wantCode(t, fmt.Sprintf("version %d to %d", version, total), rows[0].ErrorCode, want)
	}
	have := func(want int) {
		t.Helper()
		if got := len(tb.node.Image().Topic("t").Partitions); got != want {
			t.Errorf("%d partitions, want %d", got, want)
		}
	}
	for version := int16(0); version <= 3; version++ {
		n := int32(version) + 2
		f(version, protocol.ErrNone, n, true)
		have(int(n) - 1)
		f(version, protocol.ErrNone, n, false)
		have(int(n))
		f(version, protocol.ErrInvalidPartitions, n, false)
		f(version, protocol.ErrInvalidPartitions, -1, false)
	}
	f(3, protocol.ErrInvalidReplicaAssignment, 7, false, []int32{1})
	f(3, protocol.ErrInvalidReplicaAssignment, 6, false, []int32{2})
	f(3, protocol.ErrPolicyViolation, 1<<30, false)
	f(3, protocol.ErrNone, 6, false, []int32{1})
	have(6)
	if _, code := tb.partition("t", 5, noLeaderEpoch); code != protocol.ErrNone {
		t.Errorf("the last partition: %v", code)
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 9}, {Topic: "nope", Count: 9}, {Topic: "t", Count: 9}}
	rows := c.request(req, 3).(*kmsg.CreatePartitionsResponse).Topics
	if len(rows) != 2 {
		t.Fatalf("rows %+v", rows)
	}
	wantCode(t, "named twice", rows[0].ErrorCode, protocol.ErrInvalidRequest)
	wantCode(t, "unknown", rows[1].ErrorCode, protocol.ErrUnknownTopicOrPartition)
}

func TestDescribeClusterEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.IncludeClusterAuthorizedOperations = version == 1
		resp := c.request(req, version).(*kmsg.DescribeClusterResponse)
		if resp.ErrorCode != 0 || resp.ClusterID != tb.ClusterID() || resp.ControllerID != 1 || len(resp.Brokers) != 1 ||
			resp.Brokers[0].Port != int32(tb.Addr().Port()) || resp.ClusterAuthorizedOperations != operations(version == 1, clusterOperations) {
			t.Errorf("version %d: got %+v", version, resp)
		}
	}
	for kind, want := range map[int8]protocol.ErrorCode{2: protocol.ErrMismatchedEndpointType, 0: protocol.ErrUnsupportedEndpointType, 9: protocol.ErrUnsupportedEndpointType} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType = kind
		wantCode(t, fmt.Sprintf("endpoint type %d", kind), c.request(req, 1).(*kmsg.DescribeClusterResponse).ErrorCode, want)
	}
}

func TestDescribeTopicPartitionsPages(t *testing.T) {
	tb := startBroker(t, nil)
	for name, partitions := range map[string]int32{"a": 3, "b": 1, "c": 4} {
		tb.createTopic(name, partitions, nil)
	}
	c := tb.dial()
	// walk reads page after page and returns them as text.
	walk := func(limit int32, names ...string) (pages []string) {
		t.Helper()
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = limit
		for _, name := range names {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
		}
		for range 20 {
			resp := c.request(req, 0).(*kmsg.DescribeTopicPartitionsResponse)
			page := ""
			for _, topic := range resp.Topics {
				page += deref(topic.Topic)
				if topic.ErrorCode != 0 {
					page += "!" + protocol.ErrorCode(topic.ErrorCode).String()
				} else if topic.AuthorizedOperations != topicOperations || topic.TopicID == [16]byte{} {
					t.Errorf("got %+v", topic)
				}
				for _, p := range topic.Partitions {
					page += fmt.Sprint(p.Partition)
				}
				page += " "
			}
			pages = append(pages, strings.TrimSpace(page))
			if resp.NextCursor == nil {
				return pages
			}
			req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
		}
		t.Fatal("the pages do not end")
		return nil
	}
	f := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(walk(0), "a012 b0 c0123")
	f(walk(3), "a012", "b0 c01", "c23")
	f(walk(4), "a012 b0", "c0123")
	f(walk(2), "a01", "a2 b0", "c01", "c23")
	f(walk(2, "c", "a", "nope", "a", "b/"), "a01", "a2 b/!INVALID_TOPIC_EXCEPTION c0", "c12", "c3 nope!UNKNOWN_TOPIC_OR_PARTITION")
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "a"}}
	req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "a", Partition: -1}
	wantCode(t, "negative cursor", c.request(req, 0).(*kmsg.DescribeTopicPartitionsResponse).Topics[0].ErrorCode, protocol.ErrInvalidRequest)
	req.Cursor.Partition = 99
	if rows := c.request(req, 0).(*kmsg.DescribeTopicPartitionsResponse).Topics; len(rows) != 1 || len(rows[0].Partitions) != 0 {
		t.Errorf("a cursor behind the end: got %+v", rows)
	}
}

func TestTopicsAreThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	tb := startBrokerIn(t, dir, nil, Options{})
	kept := tb.createTopic("kept", 2, map[string]string{"retention.ms": "777"})
	tb.createTopic("gone", 1, nil)
	c := tb.dial()
	c.mustProduce("kept", batchOf("x"))
	c.mustProduce("gone", batchOf("x"))
	c.request(deleteTopicsRequest(5, []string{"gone"}), 5)
	tb.stop()
	tb = startBrokerIn(t, dir, nil, Options{})
	topic := tb.node.Image().Topic("kept")
	if topic == nil || topic.ID != kept || tb.node.Image().TopicCount() != 1 {
		t.Fatalf("got %+v of %d topics", topic, tb.node.Image().TopicCount())
	}
	if got := mustPartition(t, tb, "kept").Config().RetentionMs; got != 777 {
		t.Errorf("retention.ms %d", got)
	}
	testkit.Eventually(t, "the deleted topic to be gone", func() bool { return tb.store.Log(engine.TopicPartition{Topic: "gone"}) == nil })
	if got := valuesOf(t, tb.dial().fetch("kept", 0).RecordBatches); got != "x" {
		t.Errorf("fetched %q", got)
	}
}

func TestTopicConfigurationReachesTheLogs(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("own", 1, map[string]string{"retention.ms": "5000"})
	tb.createTopic("plain", 1, nil)
	alter := func(r cluster.Resource, key, value string) {
		t.Helper()
		errs, err := tb.node.AlterConfigs(t.Context(), []cluster.ConfigChange{{Resource: r, Alterations: []cluster.Alteration{{Key: key, Value: value}}}}, false)
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
	}
	alter(cluster.Resource{Type: cluster.ResourceTopic, Name: "own"}, "max.message.bytes", "4321")
	if got := mustPartition(t, tb, "own").Config().MessageBytesMax; got != 4321 {
		t.Errorf("max.message.bytes %d", got)
	}
	alter(cluster.Resource{Type: cluster.ResourceBroker, Name: "1"}, "log.retention.ms", "99000")
	testkit.Eventually(t, "the broker's retention to reach a topic without its own", func() bool {
		return mustPartition(t, tb, "plain").Config().RetentionMs == 99000
	})
	if got := mustPartition(t, tb, "own").Config().RetentionMs; got != 5000 {
		t.Errorf("the topic's own retention is now %d", got)
	}
}

func TestLogsOfUnknownTopicsAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	tb := startBrokerIn(t, dir, nil, Options{})
	log, err := tb.store.CreateLog(engine.TopicPartition{Topic: "stray"}, cluster.TopicID{5}, engine.LogConfig{}.EnsureDefaults())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(batchOf("x"), engine.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	tb.stop()
	tb = startBrokerIn(t, dir, nil, Options{})
	if tb.store.Log(engine.TopicPartition{Topic: "stray"}) == nil {
		t.Error("the log is gone")
	}
	if !strings.Contains(tb.logs.String(), "belongs to no topic") {
		t.Error("the broker's log does not tell of it")
	}
	wantCode(t, "produce", tb.dial().produce("stray", 1, batchOf("x")).ErrorCode, protocol.ErrUnknownTopicOrPartition)
}
