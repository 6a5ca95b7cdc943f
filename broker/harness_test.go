package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

// testBroker is a broker on a real directory and a real listener.
type testBroker struct {
	*Broker
	t    testing.TB
	dir  string
	logs *testkit.LogBuffer // shown when a test fails

	mayFailToStop bool // the disk is dead
}

// startBroker starts a broker with the given configuration over a test's defaults: an empty directory, fsync.policy never.
func startBroker(t testing.TB, overrides map[string]string) *testBroker {
	t.Helper()
	return startBrokerIn(t, t.TempDir(), overrides, Options{})
}

func startBrokerIn(t testing.TB, dir string, overrides map[string]string, o Options) *testBroker {
	t.Helper()
	values := map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": dir, "fsync.policy": "never", "num.network.threads": "2"}
	maps.Copy(values, overrides)
	config, _, err := NewConfig(values)
	if err != nil {
		t.Fatal(err)
	}
	logs := &testkit.LogBuffer{}
	o.Config = config
	o.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, err := Start(o)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	tb := &testBroker{Broker: b, t: t, dir: dir, logs: logs}
	t.Cleanup(func() {
		tb.stop()
		if t.Failed() {
			t.Logf("broker's log:\n%s", logs)
		}
	})
	return tb
}

func (tb *testBroker) stop() {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Deadline)
	defer cancel()
	if err := tb.Stop(ctx); err != nil && !tb.mayFailToStop {
		tb.t.Errorf("Stop: %v", err)
	}
}

// createTopic creates a topic past the wire and waits for its logs.
func (tb *testBroker) createTopic(name string, partitions int32, configs map[string]string) cluster.TopicID {
	tb.t.Helper()
	topic := cluster.NewTopic{Name: name, Partitions: partitions, ReplicationFactor: 1, Configs: configs}
	results, err := tb.node.CreateTopics(tb.t.Context(), []cluster.NewTopic{topic}, false)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		tb.t.Fatalf("creating topic %s: %v", name, err)
	}
	testkit.Eventually(tb.t, "the logs of "+name, func() bool {
		for p := range partitions {
			if _, code := tb.partition(name, p, noLeaderEpoch); code != protocol.ErrNone {
				return false
			}
		}
		return true
	})
	return results[0].Topic.ID
}

// rawConn is a client connection on which a test sends what it likes.
type rawConn struct {
	t    testing.TB
	conn net.Conn
	next int32 // correlation id
}

func (tb *testBroker) dial() *rawConn {
	tb.t.Helper()
	conn, err := net.Dial("tcp", tb.Addr().String())
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.t.Cleanup(func() { conn.Close() })
	return &rawConn{t: tb.t, conn: conn}
}

// send writes a request and returns its correlation id.
func (c *rawConn) send(req kmsg.Request, version int16) int32 {
	c.t.Helper()
	c.next++
	req.SetVersion(version)
	c.write(protocol.AppendRequest(nil, c.next, "test", req))
	return c.next
}

func (c *rawConn) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("writing %d bytes: %v", len(b), err)
	}
}

// frame reads one response frame, without its length.
func (c *rawConn) frame() []byte {
	c.t.Helper()
	frame, err := c.tryFrame()
	if err != nil {
		c.t.Fatalf("reading a response: %v", err)
	}
	return frame
}

func (c *rawConn) tryFrame() ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(testkit.Deadline)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c.conn, frame)
	return frame, err
}

// receive reads the response to a request that was sent with the given correlation id.
func (c *rawConn) receive(req kmsg.Request, correlationID int32) kmsg.Response {
	c.t.Helper()
	resp := req.ResponseKind()
	got, body, err := protocol.ParseResponseHeader(c.frame(), req.Key(), req.GetVersion())
	if err != nil {
		c.t.Fatal(err)
	}
	if got != correlationID {
		c.t.Fatalf("correlation id: got %d, want %d", got, correlationID)
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("decoding the response to key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	return resp
}

// request sends a request and reads its response.
func (c *rawConn) request(req kmsg.Request, version int16) kmsg.Response {
	c.t.Helper()
	return c.receive(req, c.send(req, version))
}

// expectClosed reads until the broker closes the connection.
func (c *rawConn) expectClosed() {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(testkit.Deadline)); err != nil {
		c.t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, c.conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("the broker did not close the connection")
	}
	if n > 0 {
		c.t.Fatalf("got %d bytes before the connection closed, want none", n)
	}
}

// ok checks that a broker still serves: another connection gets its ApiVersions.
func (tb *testBroker) ok() {
	tb.t.Helper()
	resp := tb.dial().request(kmsg.NewPtrApiVersionsRequest(), 0).(*kmsg.ApiVersionsResponse)
	if resp.ErrorCode != 0 || len(resp.ApiKeys) == 0 {
		tb.t.Fatalf("ApiVersions after the test: error %d, %d keys", resp.ErrorCode, len(resp.ApiKeys))
	}
}

// batchOf builds one batch of records with these values.
func batchOf(values ...string) []byte {
	b := record.NewBuilder()
	for i, v := range values {
		b.Append(1000+int64(i), nil, []byte(v))
	}
	return b.Finish(nil)
}

// sequencedBatch builds a batch of an idempotent producer.
func sequencedBatch(id int64, epoch int16, sequence int32, values ...string) []byte {
	b := record.NewBuilder()
	b.SetProducer(id, epoch, sequence)
	for i, v := range values {
		b.Append(1000+int64(i), nil, []byte(v))
	}
	return b.Finish(nil)
}

// produceRequest asks to append batches to partitions 0, 1, ... of a topic.
func produceRequest(topic string, acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for i, b := range batches {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(i), b
		rt.Partitions = append(rt.Partitions, p)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

const produceVersion = 11 // the last that names topics

// produce appends a batch to partition 0 and returns the outcome.
func (c *rawConn) produce(topic string, acks int16, batch []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	resp := c.request(produceRequest(topic, acks, batch), produceVersion).(*kmsg.ProduceResponse)
	return resp.Topics[0].Partitions[0]
}

// mustProduce is produce that has to succeed; it returns the base offset.
func (c *rawConn) mustProduce(topic string, batch []byte) int64 {
	c.t.Helper()
	p := c.produce(topic, acksAll, batch)
	if p.ErrorCode != 0 {
		c.t.Fatalf("producing to %s: %v %s", topic, protocol.ErrorCode(p.ErrorCode), deref(p.ErrorMessage))
	}
	return p.BaseOffset
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// fetchRequest asks for one partition from an offset on, without a session and without waiting.
func fetchRequest(topic string, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.MaxWaitMillis = 1, 1<<20, 0
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

const fetchVersion = 12 // the last that names topics

// fetch reads partition 0 from an offset on.
func (c *rawConn) fetch(topic string, offset int64) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	resp := c.request(fetchRequest(topic, 0, offset), fetchVersion).(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 {
		c.t.Fatalf("fetch: %v", protocol.ErrorCode(resp.ErrorCode))
	}
	return resp.Topics[0].Partitions[0]
}

// valuesOf opens the batches and joins the records' values with spaces.
func valuesOf(t testing.TB, batches []byte) string {
	t.Helper()
	var values []string
	for len(batches) > 0 {
		batch, rest, err := record.Next(batches)
		if err != nil {
			t.Fatalf("batch in a fetch response: %v", err)
		}
		if err := batch.CheckCRC(); err != nil {
			t.Fatal(err)
		}
		it := batch.Records(nil, 64<<20)
		for it.Next() {
			values = append(values, string(it.Record().Value))
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		batches = rest
	}
	return strings.Join(values, " ")
}

func wantCode(t testing.TB, what string, got int16, want protocol.ErrorCode) {
	t.Helper()
	if protocol.ErrorCode(got) != want {
		t.Errorf("%s: got %v, want %v", what, protocol.ErrorCode(got), want)
	}
}

// mustPartition is the log of partition 0.
func mustPartition(t testing.TB, tb *testBroker, topic string) *engine.Log {
	t.Helper()
	ref, code := tb.partition(topic, 0, noLeaderEpoch)
	if code != protocol.ErrNone {
		t.Fatalf("partition %s-0: %v", topic, code)
	}
	return ref.log
}
