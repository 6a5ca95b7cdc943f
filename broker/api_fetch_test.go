package broker

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

func TestFetchEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a", "b"))
	c.mustProduce("t", batchOf("c"))
	for version := int16(4); version <= 18; version++ {
		req := fetchRequest("t", 0, 0)
		if version >= 13 {
			req.Topics[0].Topic, req.Topics[0].TopicID = "", id
		}
		resp := c.request(req, version).(*kmsg.FetchResponse)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.HighWatermark != 3 || p.LastStableOffset != 3 || valuesOf(t, p.RecordBatches) != "a b c" {
			t.Errorf("version %d: got %+v", version, p)
		}
		if version >= 13 && resp.Topics[0].TopicID != id {
			t.Errorf("version %d: topic id %v, want %v", version, resp.Topics[0].TopicID, id)
		}
	}
}

func TestFetchMiddleOfBatchReturnsItWhole(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a", "b", "c"))
	c.mustProduce("t", batchOf("d"))
	if got := valuesOf(t, c.fetch("t", 2).RecordBatches); got != "a b c d" {
		t.Errorf("got %q, want the whole batch", got)
	}
	if got := valuesOf(t, c.fetch("t", 3).RecordBatches); got != "d" {
		t.Errorf("got %q, want d", got)
	}
	if p := c.fetch("t", 4); p.ErrorCode != 0 || len(p.RecordBatches) != 0 || p.HighWatermark != 4 {
		t.Errorf("at the end: got %+v", p)
	}
	wantCode(t, "beyond the end", c.fetch("t", 5).ErrorCode, protocol.ErrOffsetOutOfRange)
	wantCode(t, "negative offset", c.fetch("t", -1).ErrorCode, protocol.ErrOffsetOutOfRange)
}

func TestFetchByteLimits(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 3, nil)
	c := tb.dial()
	big := strings.Repeat("x", 30_000) // larger than copySpanBytes: by sendfile
	for p := range int32(3) {
		for range 3 {
			req := produceRequest("t", acksAll, batchOf(big))
			req.Topics[0].Partitions[0].Partition = p
			if resp := c.request(req, produceVersion).(*kmsg.ProduceResponse); resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("produce: %+v", resp)
			}
		}
	}
	fetch := func(maxBytes, partitionMaxBytes int32) (sizes []int) {
		req := fetchRequest("t", 0, 0)
		req.MaxBytes = maxBytes
		req.Topics[0].Partitions = nil
		for p := range int32(3) {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.PartitionMaxBytes = p, partitionMaxBytes
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
		}
		resp := c.request(req, fetchVersion).(*kmsg.FetchResponse)
		for _, p := range resp.Topics[0].Partitions {
			if p.ErrorCode != 0 || p.HighWatermark != 3 {
				t.Fatalf("fetch: %+v", p)
			}
			sizes = append(sizes, len(valuesOf(t, p.RecordBatches))/30_000)
		}
		return sizes
	}
	for _, test := range []struct {
		maxBytes, partitionMaxBytes int32
		want                        string
	}{
		{1 << 20, 1 << 20, "[3 3 3]"},
		{1, 1 << 20, "[1 0 0]"},             // the first batch whole, and nothing more
		{1 << 20, 1, "[1 0 0]"},             // the first batch of the response only
		{1 << 20, 40_000, "[1 1 1]"},        // one batch fits each partition
		{100_000, 1 << 20, "[3 0 0]"},       // the budget ends after the first partition
		{130_000, 1 << 20, "[3 1 0]"},       //
		{0, 0, "[1 0 0]"},                   // progress all the same
		{-1, -1, "[1 0 0]"},                 //
		{2147483647, 2147483647, "[3 3 3]"}, // clamped to fetch.max.bytes
	} {
		if got := fmt.Sprint(fetch(test.maxBytes, test.partitionMaxBytes)); got != test.want {
			t.Errorf("max_bytes %d, partition_max_bytes %d: got %s batches, want %s", test.maxBytes, test.partitionMaxBytes, got, test.want)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a"))
	code := func(what string, req *kmsg.FetchRequest, version int16, want protocol.ErrorCode) {
		t.Helper()
		req.MaxWaitMillis = 60_000 // errors answer at once
		wantCode(t, what, c.request(req, version).(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode, want)
	}
	code("unknown topic", fetchRequest("nope", 0, 0), 12, protocol.ErrUnknownTopicOrPartition)
	code("unknown partition", fetchRequest("t", 1, 0), 12, protocol.ErrUnknownTopicOrPartition)
	code("negative partition", fetchRequest("t", -1, 0), 12, protocol.ErrUnknownTopicOrPartition)
	byID := fetchRequest("", 0, 0)
	byID.Topics[0].TopicID = [16]byte{1}
	code("unknown id", byID, 13, protocol.ErrUnknownTopicID)
	follower := fetchRequest("t", 0, 0)
	follower.ReplicaID = 5
	code("follower", follower, 12, protocol.ErrNotLeaderOrFollower)
	epoch := fetchRequest("t", 0, 0)
	epoch.Topics[0].Partitions[0].CurrentLeaderEpoch = 7
	code("newer epoch", epoch, 12, protocol.ErrUnknownLeaderEpoch)
	byID.Topics[0].TopicID = id
	byID.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
	if p := c.request(byID, 13).(*kmsg.FetchResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("epoch in force: %+v", p)
	}
	none := fetchRequest("t", 0, 0)
	none.Topics, none.MaxWaitMillis = nil, 60_000
	if resp := c.request(none, 12).(*kmsg.FetchResponse); resp.ErrorCode != 0 || len(resp.Topics) != 0 {
		t.Errorf("no partitions: got %+v", resp)
	}
}

func TestFetchWaitsForBytes(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("t", 2, nil)
	reader, writer := tb.dial(), tb.dial()
	req := fetchRequest("", 0, 0)
	req.Topics[0].TopicID = id
	other := kmsg.NewFetchRequestTopicPartition()
	other.Partition, other.PartitionMaxBytes = 1, 1<<20
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, other)
	batch := batchOf("a")
	req.MinBytes, req.MaxWaitMillis = int32(2*len(batch)), 600_000
	waiting := reader.send(req, 13)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	writer.mustProduce("t", batchOf("a")) // half of what it wants
	second := produceRequest("t", acksAll, batchOf("b"))
	second.Topics[0].Partitions[0].Partition = 1
	writer.request(second, produceVersion)
	resp := reader.receive(req, waiting).(*kmsg.FetchResponse)
	got := valuesOf(t, resp.Topics[0].Partitions[0].RecordBatches) + "," + valuesOf(t, resp.Topics[0].Partitions[1].RecordBatches)
	if got != "a,b" {
		t.Errorf("got %q, want both partitions", got)
	}
	if n := tb.parked(); n != 0 {
		t.Errorf("%d requests still parked", n)
	}
}

func TestFetchTimesOut(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a"))
	req := fetchRequest("t", 0, 0)
	req.MinBytes, req.MaxWaitMillis = 1<<20, 20
	start := time.Now()
	p := c.request(req, fetchVersion).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if got := valuesOf(t, p.RecordBatches); got != "a" {
		t.Errorf("got %q, want what there is", got)
	}
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Errorf("answered after %v, before max_wait_ms", took)
	}
}

func TestFetchWakesWhenTopicIsGone(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis = 600_000
	waiting := c.send(req, fetchVersion)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	if _, err := tb.node.DeleteTopics(t.Context(), []string{"t"}, nil); err != nil {
		t.Fatal(err)
	}
	p := c.receive(req, waiting).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if code := protocol.ErrorCode(p.ErrorCode); code != protocol.ErrUnknownTopicOrPartition && code != protocol.ErrNotLeaderOrFollower {
		t.Errorf("got %v, want an error that makes the client look for the topic", code)
	}
}

func TestClosedConnectionLetsItsFetchGo(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis = 600_000
	c.send(req, fetchVersion)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	if err := c.conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset: a mere end of input may still want its answer
		t.Fatal(err)
	}
	c.conn.Close()
	testkit.Eventually(t, "the fetch to go", func() bool { return tb.parked() == 0 && tb.wheel.Len() == 0 })
	tb.dial().mustProduce("t", batchOf("a"))
	tb.ok()
}

func TestStopAnswersWaitingFetch(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	req := fetchRequest("t", 0, 0)
	req.MaxWaitMillis = 600_000
	waiting := c.send(req, fetchVersion)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	tb.stop()
	if p := c.receive(req, waiting).(*kmsg.FetchResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) != 0 {
		t.Errorf("got %+v, want an empty answer", p)
	}
	c.expectClosed()
}

// TestPipelining sends requests that finish in another order than they were sent.
func TestPipelining(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c, writer := tb.dial(), tb.dial()
	slow := fetchRequest("t", 0, 0)
	slow.MaxWaitMillis = 600_000
	first := c.send(slow, fetchVersion)
	list := listRequest("t", 0, timestampLatest)
	second := c.send(list, 7)
	versions := kmsg.NewPtrApiVersionsRequest()
	third := c.send(versions, 0)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	writer.mustProduce("t", batchOf("a"))
	if got := valuesOf(t, c.receive(slow, first).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches); got != "a" {
		t.Errorf("fetch: got %q", got)
	}
	if p := c.receive(list, second).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("ListOffsets: got %+v", p)
	}
	c.receive(versions, third)
	// Many at once: what follows a request on a worker waits for it, and the answers keep their order.
	type sent struct {
		req kmsg.Request
		id  int32
	}
	var all []sent
	for i := range 200 {
		var req kmsg.Request = produceRequest("t", acksAll, batchOf(fmt.Sprint(i)))
		all = append(all, sent{req, c.send(req, produceVersion)})
		if i%20 == 0 {
			req = listRequest("t", 0, timestampLatest)
			all = append(all, sent{req, c.send(req, 7)})
		}
	}
	end := int64(1)
	for _, s := range all {
		switch resp := c.receive(s.req, s.id).(type) {
		case *kmsg.ProduceResponse:
			if got := resp.Topics[0].Partitions[0].BaseOffset; got != end {
				t.Fatalf("base offset: got %d, want %d", got, end)
			}
			end++
		case *kmsg.ListOffsetsResponse:
			if got := resp.Topics[0].Partitions[0].Offset; got != end {
				t.Fatalf("ListOffsets between produces: got %d, want %d", got, end)
			}
		}
	}
}

// states is every open connection's state.
func (tb *testBroker) states() []*connState {
	d := tb.dispatcher
	d.mu.Lock()
	defer d.mu.Unlock()
	var states []*connState
	for s := range d.mu.conns {
		states = append(states, s)
	}
	return states
}

// parked counts the requests that wait.
func (tb *testBroker) parked() (n int) {
	for _, s := range tb.states() {
		n += len(s.parked.operations(false))
	}
	return n
}

func TestFetchCodecs(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	var want []string
	for codec := compression.None; codec <= compression.Zstd; codec++ {
		b := record.NewBuilder(codec)
		for i := range 100 {
			v := fmt.Sprintf("codec%d-%d", codec, i)
			b.Append(int64(i), []byte("k"), []byte(v))
			want = append(want, v)
		}
		c.mustProduce("t", b.Finish(nil))
	}
	if got := valuesOf(t, c.fetch("t", 0).RecordBatches); got != strings.Join(want, " ") {
		t.Errorf("the records of five codecs came back changed: %d bytes, want %d", len(got), len(strings.Join(want, " ")))
	}
}
