package broker

import (
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func TestProduceEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	id := tb.createTopic("t", 1, nil)
	c := tb.dial()
	for version := int16(3); version <= 13; version++ {
		req := produceRequest("t", acksAll, batchOf(fmt.Sprintf("v%d", version)))
		if version >= 13 {
			req.Topics[0].Topic, req.Topics[0].TopicID = "", id
		}
		resp := c.request(req, version).(*kmsg.ProduceResponse)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.BaseOffset != int64(version-3) || p.LogAppendTime != -1 {
			t.Errorf("version %d: got %+v, want base offset %d", version, p, version-3)
		}
	}
	if got, want := valuesOf(t, c.fetch("t", 0).RecordBatches), "v3 v4 v5 v6 v7 v8 v9 v10 v11 v12 v13"; got != want {
		t.Errorf("fetched %q, want %q", got, want)
	}
}

func TestProduceOldVersionsAreAdvertisedAndRefused(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	for version := int16(0); version <= 2; version++ {
		resp := tb.dial().request(produceRequest("t", 1, batchOf("x")), version).(*kmsg.ProduceResponse)
		wantCode(t, fmt.Sprintf("version %d", version), resp.Topics[0].Partitions[0].ErrorCode, protocol.ErrUnsupportedVersion)
	}
	if log, _ := tb.partition("t", 0, noLeaderEpoch); log.log.Offsets().LogEnd != 0 {
		t.Error("an old produce request appended")
	}
}

func TestProduceErrors(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, map[string]string{"max.message.bytes": "1000"})
	c := tb.dial()
	good := batchOf("a")
	change := func(f func(b record.Batch)) []byte {
		b := batchOf("a", "b")
		f(b)
		return b
	}
	for name, test := range map[string]struct {
		records []byte
		want    protocol.ErrorCode
	}{
		"null records":         {nil, protocol.ErrInvalidRecord},
		"two batches":          {append(batchOf("a"), batchOf("b")...), protocol.ErrInvalidRecord},
		"wrong CRC":            {change(func(b record.Batch) { b[len(b)-1] ^= 1 }), protocol.ErrCorruptMessage},
		"magic 1":              {change(func(b record.Batch) { b[16] = 1 }), protocol.ErrInvalidRecord},
		"magic 0":              {change(func(b record.Batch) { b[16] = 0 }), protocol.ErrInvalidRecord},
		"truncated":            {good[:len(good)-1], protocol.ErrCorruptMessage},
		"too short":            {good[:20], protocol.ErrCorruptMessage},
		"negative length":      {change(func(b record.Batch) { b[8] = 0x80 }), protocol.ErrCorruptMessage},
		"oversized":            {batchOf(string(make([]byte, 1000))), protocol.ErrMessageTooLarge},
		"codec 7":              {change(func(b record.Batch) { b[22] |= 7; fixCRC(b) }), protocol.ErrUnsupportedCompressionType},
		"record count lies":    {change(func(b record.Batch) { b[60] = 200; fixCRC(b) }), protocol.ErrInvalidRecord},
		"negative count":       {change(func(b record.Batch) { b[57] = 0xff; fixCRC(b) }), protocol.ErrInvalidRecord},
		"control batch":        {change(func(b record.Batch) { b[22] |= 1 << 5; fixCRC(b) }), protocol.ErrInvalidRecord},
		"transactional batch":  {change(func(b record.Batch) { b[22] |= 1 << 4; fixCRC(b) }), protocol.ErrInvalidTxnState},
		"producer, no session": {sequencedBatch(77, 0, 5, "a"), protocol.ErrNone}, // unknown producers may begin anywhere
	} {
		t.Run(name, func(t *testing.T) {
			p := c.produce("t", 1, test.records)
			wantCode(t, name, p.ErrorCode, test.want)
			if test.want != protocol.ErrNone && p.BaseOffset != -1 {
				t.Errorf("base offset: got %d, want -1", p.BaseOffset)
			}
			if test.want == protocol.ErrInvalidRecord && p.ErrorMessage == nil {
				t.Error("no error message")
			}
		})
	}
	for name, test := range map[string]struct {
		req  *kmsg.ProduceRequest
		want protocol.ErrorCode
	}{
		"unknown topic":     {produceRequest("nope", 1, good), protocol.ErrUnknownTopicOrPartition},
		"unknown partition": {produceRequest("t", 1, good, good), protocol.ErrUnknownTopicOrPartition},
		"acks 2":            {produceRequest("t", 2, good), protocol.ErrInvalidRequiredAcks},
		"acks -2":           {produceRequest("t", -2, good), protocol.ErrInvalidRequiredAcks},
		"internal topic":    {produceRequest("__consumer_offsets", 1, good), protocol.ErrUnknownTopicOrPartition},
	} {
		resp := c.request(test.req, produceVersion).(*kmsg.ProduceResponse)
		ps := resp.Topics[0].Partitions
		wantCode(t, name, ps[len(ps)-1].ErrorCode, test.want)
	}
	transactional := produceRequest("t", acksAll, good)
	transactional.TransactionID = kmsg.StringPtr("txn")
	resp := c.request(transactional, produceVersion).(*kmsg.ProduceResponse)
	wantCode(t, "transactional id", resp.Topics[0].Partitions[0].ErrorCode, protocol.ErrInvalidTxnState)
	byID := produceRequest("", 1, good)
	byID.Topics[0].TopicID = [16]byte{1}
	resp = c.request(byID, 13).(*kmsg.ProduceResponse)
	wantCode(t, "unknown id", resp.Topics[0].Partitions[0].ErrorCode, protocol.ErrUnknownTopicID)
}

// fixCRC recomputes a batch's CRC after a test has changed what it covers.
func fixCRC(b record.Batch) {
	crc := b.ComputeCRC()
	b[17], b[18], b[19], b[20] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
}

func TestProduceSeveralPartitions(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 3, nil)
	c := tb.dial()
	bad := batchOf("bad")
	bad[len(bad)-1] ^= 1
	resp := c.request(produceRequest("t", acksAll, batchOf("a"), bad, batchOf("c")), produceVersion).(*kmsg.ProduceResponse)
	for i, want := range []protocol.ErrorCode{protocol.ErrNone, protocol.ErrCorruptMessage, protocol.ErrNone} {
		wantCode(t, fmt.Sprintf("partition %d", i), resp.Topics[0].Partitions[i].ErrorCode, want)
	}
}

func TestProduceZstdNeedsVersion7(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	b := record.NewBuilder(compression.Zstd)
	b.Append(1, nil, []byte("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"))
	batch := b.Finish(nil)
	for version, want := range map[int16]protocol.ErrorCode{6: protocol.ErrUnsupportedCompressionType, 7: protocol.ErrNone} {
		resp := c.request(produceRequest("t", 1, append([]byte(nil), batch...)), version).(*kmsg.ProduceResponse)
		wantCode(t, fmt.Sprintf("version %d", version), resp.Topics[0].Partitions[0].ErrorCode, want)
	}
}

func TestProduceLogAppendTime(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	c := tb.dial()
	p := c.produce("t", acksAll, batchOf("a"))
	if p.ErrorCode != 0 || p.LogAppendTime < 1e12 {
		t.Fatalf("got %+v, want a log append time", p)
	}
	batch, _, err := record.Next(c.fetch("t", 0).RecordBatches)
	if err != nil {
		t.Fatal(err)
	}
	if batch.MaxTimestamp() != p.LogAppendTime || batch.TimestampType() != record.LogAppendTime || batch.CheckCRC() != nil {
		t.Errorf("stored batch: max timestamp %d, type %v; want %d and LogAppendTime",
			batch.MaxTimestamp(), batch.TimestampType(), p.LogAppendTime)
	}
}

func TestProduceAcksNone(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.send(produceRequest("t", acksNone, batchOf("a")), produceVersion)
	c.send(produceRequest("t", acksNone, batchOf("b")), produceVersion)
	// The next response is that of the next request which wants one.
	if got := c.mustProduce("t", batchOf("c")); got != 2 {
		t.Errorf("base offset: got %d, want 2", got)
	}
	c.send(produceRequest("nope", acksNone, batchOf("a")), produceVersion)
	c.expectClosed()
	tb.ok()
}

func TestProduceIdempotent(t *testing.T) {
	for _, policy := range []string{"never", "commit"} {
		t.Run(policy, func(t *testing.T) {
			tb := startBroker(t, nil)
			tb.createTopic("t", 1, map[string]string{"fsync.policy": policy})
			c := tb.dial()
			init := c.request(kmsg.NewPtrInitProducerIDRequest(), 4).(*kmsg.InitProducerIDResponse)
			if init.ErrorCode != 0 || init.ProducerEpoch != 0 {
				t.Fatalf("InitProducerId: %+v", init)
			}
			id := init.ProducerID
			for i := range 3 {
				if got := c.mustProduce("t", sequencedBatch(id, 0, int32(2*i), "a", "b")); got != int64(2*i) {
					t.Fatalf("base offset: got %d, want %d", got, 2*i)
				}
			}
			if p := c.produce("t", acksAll, sequencedBatch(id, 0, 2, "a", "b")); p.ErrorCode != 0 || p.BaseOffset != 2 {
				t.Errorf("duplicate: got %+v, want offset 2", p)
			}
			wantCode(t, "gap", c.produce("t", acksAll, sequencedBatch(id, 0, 8, "a")).ErrorCode, protocol.ErrOutOfOrderSequenceNumber)
			if got := c.mustProduce("t", sequencedBatch(id, 1, 0, "new epoch")); got != 6 {
				t.Errorf("base offset: got %d, want 6", got)
			}
			wantCode(t, "fenced", c.produce("t", acksAll, sequencedBatch(id, 0, 6, "a")).ErrorCode, protocol.ErrInvalidProducerEpoch)
		})
	}
}

func TestProduceWaitsForDurability(t *testing.T) {
	fs := vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, t.TempDir(), map[string]string{"fsync.policy": "commit"}, Options{FS: fs})
	tb.createTopic("t", 2, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("first")) // files exist from here on
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	fs.Add(vfs.Rule{Ops: vfs.OpSync, Path: "/t-", Hook: func(vfs.Op, string) { <-gate }})
	req := produceRequest("t", acksAll, batchOf("a"), batchOf("b"))
	ref, _ := tb.partition("t", 0, noLeaderEpoch)
	appended := func(end int64) { // connections have no order among them
		testkit.Eventually(t, "the append", func() bool { return ref.log.Offsets().LogEnd == end })
	}
	waiting := c.send(req, produceVersion)
	appended(2)
	one := tb.dial()
	reqOne := produceRequest("t", acksLeader, batchOf("c"))
	waitingOne := one.send(reqOne, produceVersion)
	appended(3)
	none := tb.dial()
	none.send(produceRequest("t", acksNone, batchOf("d")), produceVersion)
	appended(4)
	testkit.Eventually(t, "two requests to wait for the fsync", func() bool { return tb.parked() == 2 })
	if o := ref.log.Offsets(); o.HighWatermark != 1 || o.Durable != 1 {
		t.Errorf("offsets before the fsync: %+v, want high watermark 1", o)
	}
	if got := valuesOf(t, tb.dial().fetch("t", 0).RecordBatches); got != "first" {
		t.Errorf("fetched %q before the fsync, want only what is durable", got)
	}
	// A timeout answers, and the data stays.
	late := produceRequest("t", acksAll, batchOf("e"))
	late.TimeoutMillis = 1
	resp := tb.dial().request(late, produceVersion).(*kmsg.ProduceResponse)
	wantCode(t, "timeout", resp.Topics[0].Partitions[0].ErrorCode, protocol.ErrRequestTimedOut)
	open()
	got := c.receive(req, waiting).(*kmsg.ProduceResponse)
	for i, p := range got.Topics[0].Partitions {
		if p.ErrorCode != 0 || p.BaseOffset != int64(1-i) {
			t.Errorf("partition %d: got %+v, want offset %d", i, p, 1-i)
		}
	}
	if p := one.receive(reqOne, waitingOne).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("acks=1: got %+v", p)
	}
	testkit.Eventually(t, "everything durable", func() bool { return ref.log.Offsets().HighWatermark == 5 })
}

// What one fsync made durable is answered with one wake-up of the loop. Each round holds the fsync of its first append, so that those of the
// other connections share the next: at most two wake-ups, where answers by themselves would need one each.
func TestAnswersOfOneFsyncWakeTheLoopOnce(t *testing.T) {
	const conns, rounds = 32, 10
	fs := vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, t.TempDir(), map[string]string{"fsync.policy": "commit", "num.network.threads": "1"}, Options{FS: fs})
	tb.createTopic("t", 1, nil)
	clients := make([]*rawConn, conns)
	for i := range clients {
		clients[i] = tb.dial()
		clients[i].mustProduce("t", batchOf("first"))
	}
	req := produceRequest("t", acksLeader, batchOf("a"))
	for range rounds {
		gate := make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(open)
		fs.Add(vfs.Rule{Ops: vfs.OpSync, Path: "/t-", Count: 1, Hook: func(vfs.Op, string) { <-gate }})
		ids := make([]int32, conns)
		for i, c := range clients {
			ids[i] = c.send(req, produceVersion)
		}
		testkit.Eventually(t, "all requests to wait for an fsync", func() bool { return tb.parked() == conns })
		before := tb.server.Stats().Wakeups
		open()
		for i, c := range clients {
			c.receive(req, ids[i])
		}
		if got := tb.server.Stats().Wakeups - before; got > 2 {
			t.Fatalf("%d wake-ups for %d answers of two fsyncs, want at most 2", got, conns)
		}
	}
}

func TestProduceRecordErrors(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	c := tb.dial()
	for _, codec := range []compression.Codec{compression.None, compression.Lz4} {
		b := record.NewBuilder(codec)
		b.Append(1, []byte("k"), []byte("v"))
		b.Append(2, nil, []byte("no key"))
		p := c.produce("compacted", acksAll, b.Finish(nil))
		wantCode(t, "null key in a compacted topic", p.ErrorCode, protocol.ErrInvalidRecord)
		if len(p.ErrorRecords) != 1 || p.ErrorRecords[0].RelativeOffset != 1 || p.ErrorRecords[0].ErrorMessage == nil {
			t.Errorf("%v: record errors: got %+v, want one for record 1", codec, p.ErrorRecords)
		}
	}
}

func TestProduceMinInsyncReplicas(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("strict", 1, map[string]string{"min.insync.replicas": "2"})
	c := tb.dial()
	wantCode(t, "acks=all", c.produce("strict", acksAll, batchOf("a")).ErrorCode, protocol.ErrNotEnoughReplicas)
	wantCode(t, "acks=1", c.produce("strict", acksLeader, batchOf("a")).ErrorCode, protocol.ErrNone)

	all := startBroker(t, map[string]string{"min.insync.replicas": "2"})
	all.createTopic("t", 1, nil)
	all.createTopic("loose", 1, map[string]string{"min.insync.replicas": "1"})
	c = all.dial()
	wantCode(t, "the broker's default", c.produce("t", acksAll, batchOf("a")).ErrorCode, protocol.ErrNotEnoughReplicas)
	wantCode(t, "the topic's own", c.produce("loose", acksAll, batchOf("a")).ErrorCode, protocol.ErrNone)
}
