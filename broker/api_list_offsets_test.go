package broker

import (
	"fmt"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

func listRequest(topic string, partition int32, timestamp int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, timestamp, -1
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

func (c *rawConn) list(req *kmsg.ListOffsetsRequest, version int16) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	return c.request(req, version).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
}

// timedBatch builds a batch of one record for each timestamp.
func timedBatch(timestamps ...int64) []byte {
	b := record.NewBuilder()
	for _, ts := range timestamps {
		b.Append(ts, nil, []byte(fmt.Sprint(ts)))
	}
	return b.Finish(nil)
}

func TestListOffsets(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	if p := c.list(listRequest("t", 0, timestampEarliest), 11); p.ErrorCode != 0 || p.Offset != 0 {
		t.Errorf("earliest of an empty log: %+v", p)
	}
	if p := c.list(listRequest("t", 0, 5), 11); p.ErrorCode != 0 || p.Offset != -1 || p.Timestamp != -1 {
		t.Errorf("by time in an empty log: %+v", p)
	}
	if p := c.list(listRequest("t", 0, timestampMax), 11); p.ErrorCode != 0 || p.Offset != -1 {
		t.Errorf("max timestamp of an empty log: %+v", p)
	}
	c.mustProduce("t", timedBatch(100, 200, 300)) // 0 1 2
	c.mustProduce("t", timedBatch(900, 150))      // 3 4
	c.mustProduce("t", timedBatch(400))           // 5
	if _, err := mustPartition(t, tb, "t").DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		timestamp, offset, found int64
	}{
		{timestampLatest, 6, -1},
		{timestampEarliest, 1, -1},
		{timestampEarliestLocal, 1, -1},
		{timestampLatestTiered, -1, -1},
		{timestampEarliestPending, -1, -1},
		{timestampMax, 3, 900},
		{150, 1, 200},
		{201, 2, 300},
		{301, 3, 900},
		{900, 3, 900},
		{901, -1, -1},
	} {
		p := c.list(listRequest("t", 0, test.timestamp), 11)
		if p.ErrorCode != 0 || p.Offset != test.offset || p.Timestamp != test.found {
			t.Errorf("timestamp %d: got offset %d, timestamp %d, %v; want %d, %d", test.timestamp, p.Offset, p.Timestamp,
				protocol.ErrorCode(p.ErrorCode), test.offset, test.found)
		}
		if test.offset >= 0 && p.LeaderEpoch != 0 {
			t.Errorf("timestamp %d: leader epoch %d, want 0", test.timestamp, p.LeaderEpoch)
		}
	}
	for version := int16(1); version <= 11; version++ {
		req := listRequest("t", 0, timestampLatest)
		if p := c.list(req, version); p.ErrorCode != 0 || p.Offset != 6 {
			t.Errorf("version %d: got %+v, want offset 6", version, p)
		}
	}
	for timestamp, first := range map[int64]int16{timestampMax: 7, timestampEarliestLocal: 8, timestampLatestTiered: 9, timestampEarliestPending: 11} {
		p := c.list(listRequest("t", 0, timestamp), first-1)
		wantCode(t, fmt.Sprintf("timestamp %d before version %d", timestamp, first), p.ErrorCode, protocol.ErrUnsupportedVersion)
	}
	wantCode(t, "timestamp -7", c.list(listRequest("t", 0, -7), 11).ErrorCode, protocol.ErrUnsupportedVersion)
	wantCode(t, "unknown topic", c.list(listRequest("nope", 0, -1), 11).ErrorCode, protocol.ErrUnknownTopicOrPartition)
	wantCode(t, "unknown partition", c.list(listRequest("t", 9, -1), 11).ErrorCode, protocol.ErrUnknownTopicOrPartition)
	twice := listRequest("t", 0, timestampLatest)
	twice.Topics[0].Partitions = append(twice.Topics[0].Partitions, twice.Topics[0].Partitions[0])
	for _, p := range c.request(twice, 11).(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
		wantCode(t, "named twice", p.ErrorCode, protocol.ErrInvalidRequest)
	}
	newer := listRequest("t", 0, timestampLatest)
	newer.Topics[0].Partitions[0].CurrentLeaderEpoch = 3
	wantCode(t, "newer epoch", c.list(newer, 11).ErrorCode, protocol.ErrUnknownLeaderEpoch)
}

// From version 10 on a request says how long it may take, for remote storage (KIP-1075). There is none: every answer comes at once,
// whatever the time, and earlier versions have no such field.
func TestListOffsetsAnswersWhateverItsTimeout(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", timedBatch(100, 200, 300))
	for version := int16(9); version <= 11; version++ {
		for _, timeout := range []int32{0, 1, -1, math.MinInt32, math.MaxInt32} {
			for timestamp, want := range map[int64]int64{timestampLatest: 3, timestampEarliest: 0, timestampMax: 2, timestampLatestTiered: -1, 150: 1, 301: -1} {
				req := listRequest("t", 0, timestamp)
				req.TimeoutMillis = timeout
				if p := c.list(req, version); p.ErrorCode != 0 || p.Offset != want {
					t.Errorf("version %d, timeout %d, timestamp %d: got offset %d, %v; want %d", version, timeout, timestamp, p.Offset,
						protocol.ErrorCode(p.ErrorCode), want)
				}
			}
		}
	}
}

func TestDeleteRecords(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	tb.createTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	c := tb.dial()
	c.mustProduce("t", batchOf("a", "b", "c"))
	c.mustProduce("t", batchOf("d"))
	remove := func(topic string, partition int32, offset int64) (int64, int16) {
		req := kmsg.NewPtrDeleteRecordsRequest()
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = partition, offset
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		got := c.request(req, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
		return got.LowWatermark, got.ErrorCode
	}
	for _, test := range []struct {
		topic         string
		partition     int32
		offset, start int64
		want          protocol.ErrorCode
	}{
		{"t", 0, 2, 2, protocol.ErrNone},
		{"t", 0, 1, 2, protocol.ErrNone}, // never backwards
		{"t", 0, 5, -1, protocol.ErrOffsetOutOfRange},
		{"t", 0, -2, -1, protocol.ErrOffsetOutOfRange},
		{"t", 1, 0, -1, protocol.ErrUnknownTopicOrPartition},
		{"nope", 0, 0, -1, protocol.ErrUnknownTopicOrPartition},
		{"compacted", 0, 0, -1, protocol.ErrPolicyViolation},
		{"__consumer_offsets", 0, 0, -1, protocol.ErrInvalidTopicException},
		{"t", 0, -1, 4, protocol.ErrNone},
	} {
		start, code := remove(test.topic, test.partition, test.offset)
		wantCode(t, fmt.Sprintf("%s-%d before %d", test.topic, test.partition, test.offset), code, test.want)
		if start != test.start {
			t.Errorf("%s-%d before %d: low watermark %d, want %d", test.topic, test.partition, test.offset, start, test.start)
		}
	}
	wantCode(t, "fetch below the log start", c.fetch("t", 3).ErrorCode, protocol.ErrOffsetOutOfRange)
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a", "b", "c"))
	ask := func(topic string, current, epoch int32) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID = -1
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = current, epoch
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return c.request(req, 4).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	}
	if p := ask("t", -1, 0); p.ErrorCode != 0 || p.LeaderEpoch != 0 || p.EndOffset != 3 {
		t.Errorf("epoch 0: got %+v, want end 3", p)
	}
	wantCode(t, "unknown topic", ask("nope", -1, 0).ErrorCode, protocol.ErrUnknownTopicOrPartition)
	wantCode(t, "newer epoch", ask("t", 4, 0).ErrorCode, protocol.ErrUnknownLeaderEpoch)
}

func TestDescribeLogDirs(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 2, nil)
	c := tb.dial()
	batch := batchOf("a", "b", "c")
	c.mustProduce("t", batch)
	for version := int16(1); version <= 5; version++ {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		resp := c.request(req, version).(*kmsg.DescribeLogDirsResponse)
		if len(resp.Dirs) != 1 || resp.Dirs[0].Dir != tb.dir || len(resp.Dirs[0].Topics) != 1 {
			t.Fatalf("version %d: got %+v", version, resp)
		}
		ps := resp.Dirs[0].Topics[0].Partitions
		if len(ps) != 2 || ps[0].Size != int64(len(batch)) || ps[1].Size != 0 {
			t.Errorf("version %d: partitions %+v, want sizes %d and 0", version, ps, len(batch))
		}
		if version >= 4 && (resp.Dirs[0].TotalBytes <= 0 || resp.Dirs[0].UsableBytes <= 0) {
			t.Errorf("version %d: total %d, usable %d bytes", version, resp.Dirs[0].TotalBytes, resp.Dirs[0].UsableBytes)
		}
	}
	req := kmsg.NewPtrDescribeLogDirsRequest()
	rt := kmsg.NewDescribeLogDirsRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{1, 1, 7}
	req.Topics = append(req.Topics, rt)
	resp := c.request(req, 4).(*kmsg.DescribeLogDirsResponse)
	if ps := resp.Dirs[0].Topics[0].Partitions; len(ps) != 1 || ps[0].Partition != 1 {
		t.Errorf("asked for partition 1: got %+v", ps)
	}
}

func TestInitProducerID(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	seen := map[int64]bool{}
	for version := int16(0); version <= 5; version++ {
		resp := c.request(kmsg.NewPtrInitProducerIDRequest(), version).(*kmsg.InitProducerIDResponse)
		if resp.ErrorCode != 0 || resp.ProducerID < 0 || resp.ProducerEpoch != 0 || seen[resp.ProducerID] {
			t.Errorf("version %d: got %+v", version, resp)
		}
		seen[resp.ProducerID] = true
	}
	for id, want := range map[string]protocol.ErrorCode{"": protocol.ErrInvalidRequest, "txn": protocol.ErrUnsupportedVersion} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &id
		resp := c.request(req, 4).(*kmsg.InitProducerIDResponse)
		wantCode(t, fmt.Sprintf("transactional id %q", id), resp.ErrorCode, want)
		if resp.ProducerID != -1 || resp.ProducerEpoch != -1 {
			t.Errorf("transactional id %q: got id %d, epoch %d", id, resp.ProducerID, resp.ProducerEpoch)
		}
	}
	half := kmsg.NewPtrInitProducerIDRequest()
	half.ProducerID, half.ProducerEpoch = 5, -1
	wantCode(t, "id without epoch", c.request(half, 4).(*kmsg.InitProducerIDResponse).ErrorCode, protocol.ErrInvalidRequest)
}

func TestTelemetry(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	sub := c.request(kmsg.NewPtrGetTelemetrySubscriptionsRequest(), 0).(*kmsg.GetTelemetrySubscriptionsResponse)
	if sub.ErrorCode != 0 || sub.ClientInstanceID == ([16]byte{}) || len(sub.RequestedMetrics) != 0 || sub.PushIntervalMillis != 300_000 {
		t.Errorf("subscription: got %+v", sub)
	}
	again := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
	again.ClientInstanceID = sub.ClientInstanceID
	if got := c.request(again, 0).(*kmsg.GetTelemetrySubscriptionsResponse); got.ClientInstanceID != sub.ClientInstanceID {
		t.Errorf("client instance id changed: %v, want %v", got.ClientInstanceID, sub.ClientInstanceID)
	}
	push := func(change func(*kmsg.PushTelemetryRequest)) int16 {
		req := kmsg.NewPtrPushTelemetryRequest()
		req.ClientInstanceID, req.SubscriptionID = sub.ClientInstanceID, sub.SubscriptionID
		change(req)
		return c.request(req, 0).(*kmsg.PushTelemetryResponse).ErrorCode
	}
	wantCode(t, "push", push(func(*kmsg.PushTelemetryRequest) {}), protocol.ErrNone)
	wantCode(t, "no id", push(func(r *kmsg.PushTelemetryRequest) { r.ClientInstanceID = [16]byte{} }), protocol.ErrInvalidRequest)
	wantCode(t, "other subscription", push(func(r *kmsg.PushTelemetryRequest) { r.SubscriptionID = 1 }), protocol.ErrUnknownSubscriptionID)
	wantCode(t, "too large", push(func(r *kmsg.PushTelemetryRequest) { r.Metrics = make([]byte, 1<<20+1) }), protocol.ErrTelemetryTooLarge)
	wantCode(t, "unknown codec", push(func(r *kmsg.PushTelemetryRequest) { r.CompressionType = 9 }), protocol.ErrUnsupportedCompressionType)
}
