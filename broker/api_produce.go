package broker

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

// Produce (key 0), versions 3-13; 0-2 are advertised and answered with UNSUPPORTED_VERSION (KAFKA-18659).
//
// Appends one batch to each partition named. acks=0 gets no response, and a closed connection on an error; acks=1
// and acks=-1 are answered when the append is as durable as the topic's fsync.policy says (delayed_produce.go); any
// other acks is INVALID_REQUIRED_ACKS. acks=-1 with fewer in-sync replicas than min.insync.replicas is
// NOT_ENOUGH_REPLICAS. As in Kafka each partition takes exactly one batch, of magic 2; several batches, an old magic or
// none at all are INVALID_RECORD. A batch that an idempotent producer sent before is acknowledged with the offset it
// got then, when that is durable. On a disk that is nearly full the request is answered at once with throttle_time_ms and its connection is
// not read for that long (throttle.go); on one that is full it is KAFKA_STORAGE_ERROR. v7 zstd; v8 record errors (KIP-467); v10 the current leader with
// NOT_LEADER_OR_FOLLOWER (KIP-951); v13 topic ids (KIP-516).
//
// There are no transactions: a transactional batch, or a control batch, is refused.

// The values of acks in a Produce request.
const (
	acksNone   = 0
	acksLeader = 1
	acksAll    = -1
)

// errProduceUnacknowledged closes a connection whose acks=0 request failed: it is the only way to tell the client.
var errProduceUnacknowledged = errors.New("broker: produce with acks=0 failed")

// produceZstdFirstVersion is the first version that may carry zstd (KIP-110).
const produceZstdFirstVersion = 7

// produceByIDFirstVersion is the first version that names topics by id (KIP-516).
const produceByIDFirstVersion = 13

// produceOp is a Produce request with its response in the making. Ops that are answered at once are recycled; one that
// waits becomes a delayedProduce.
type produceOp struct {
	request  protocol.ProduceRequest
	response protocol.ProduceResponse

	partitions []protocol.ProducePartitionResponse // backs response.Topics
	pending    []pendingAck
	throttle   time.Duration // the longest that a partition's disk asks for
	firstError error         // of any partition, for acks=0
}

// pendingAck is an append that may not be acknowledged yet.
type pendingAck struct {
	log    *engine.Log
	wait   engine.WaitFor
	offset int64 // acknowledged when the awaited offset reaches this
	index  int   // in produceOp.partitions
}

func (b *Broker) handleProduce(r *request, body []byte) error {
	if supported, _ := protocol.SupportedRange(r.key); !supported.Serves(r.version) {
		return b.refuseOldProduce(r, body)
	}
	op, ok := b.produceOps.Get().(*produceOp)
	if !ok {
		op = &produceOp{}
	}
	if err := op.request.Decode(body, r.version); err != nil {
		b.produceOps.Put(op)
		return err
	}
	long := op.partitionCount() > loopPartitionsMax
	if !r.onWorker && (long || b.opensBatches(&op.request, r.version >= produceByIDFirstVersion)) {
		if !long { // what a long request took is not kept
			b.produceOps.Put(op)
		}
		return b.workers.submit(r.state, job{h: handler{handle: b.handleProduce}, r: r, body: bytes.Clone(body), long: long})
	}
	b.appendAll(r, op)
	b.throttleProduce(r, op)
	switch {
	case op.request.Acks == acksNone && op.firstError != nil:
		r.Fail(fmt.Errorf("%w: %w", errProduceUnacknowledged, op.firstError))
	case op.request.Acks == acksNone:
		r.NoReply()
	case len(op.pending) > 0:
		b.parkProduce(r, op)
		return nil
	default:
		b.replyProduce(r, &op.response)
	}
	if !long {
		op.recycle()
		b.produceOps.Put(op)
	}
	return nil
}

// recycle drops what points into the frame or at logs.
func (op *produceOp) recycle() {
	clear(op.partitions)
	clear(op.pending)
	clear(op.response.Topics)
	op.partitions, op.pending, op.response.Topics = op.partitions[:0], op.pending[:0], op.response.Topics[:0]
	op.firstError, op.throttle, op.response.ThrottleMs = nil, 0, 0
}

// partitionCount counts the partitions that the request names.
func (op *produceOp) partitionCount() (n int) {
	for i := range op.request.Topics {
		n += len(op.request.Topics[i].Partitions)
	}
	return n
}

func (b *Broker) replyProduce(r *request, resp *protocol.ProduceResponse) {
	f := b.frames.get()
	f.buf = resp.AppendFrame(f.buf, r.version, r.correlationID)
	r.send(f)
}

// appendAll appends every partition of the request and builds the response. Topic names in it still share the frame.
func (b *Broker) appendAll(r *request, op *produceOp) {
	if count := op.partitionCount(); cap(op.partitions) < count {
		op.partitions = make([]protocol.ProducePartitionResponse, 0, count)
	}
	image := b.node.Image()
	for i := range op.request.Topics {
		rt := &op.request.Topics[i]
		var topic *cluster.Topic
		missing := protocol.ErrUnknownTopicOrPartition
		if r.version >= produceByIDFirstVersion {
			topic, missing = image.TopicByID(rt.ID), protocol.ErrUnknownTopicID
		} else {
			topic = image.Topic(rt.Name)
		}
		first := len(op.partitions)
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			op.partitions = append(op.partitions, protocol.ProducePartitionResponse{
				Partition: p.Partition, BaseOffset: -1, LogAppendTimeMs: -1, LogStartOffset: -1,
			})
			out := &op.partitions[len(op.partitions)-1]
			if topic == nil {
				op.fail(out, missing, missing)
				continue
			}
			b.appendPartition(r, op, topic, p, out)
		}
		name := rt.Name
		if topic != nil {
			name = topic.Name
		}
		op.response.Topics = append(op.response.Topics, protocol.ProduceTopicResponse{
			Name: name, ID: rt.ID, Partitions: op.partitions[first:len(op.partitions):len(op.partitions)],
		})
	}
}

// fail marks a partition as failed.
func (op *produceOp) fail(out *protocol.ProducePartitionResponse, code protocol.ErrorCode, err error) {
	out.Error, out.ErrorMessage = code, errorText(code, err)
	if op.firstError == nil {
		op.firstError = err
	}
}

// appendPartition appends one partition's batch, or says in out why not.
func (b *Broker) appendPartition(r *request, op *produceOp, topic *cluster.Topic, p *protocol.ProducePartition,
	out *protocol.ProducePartitionResponse) {
	if err := checkProduce(r, &op.request, topic.Name, p.Records); err != nil {
		op.fail(out, b.errorCode(err), err)
		return
	}
	ref, code := b.partitionOf(topic, p.Partition, noLeaderEpoch)
	if code != protocol.ErrNone {
		op.fail(out, code, code)
		if code == protocol.ErrNotLeaderOrFollower && int(p.Partition) < len(topic.Partitions) && p.Partition >= 0 {
			out.HasCurrentLeader, out.LeaderID, out.LeaderEpoch = true, topic.Partitions[p.Partition].Leader, ref.leaderEpoch
		}
		return
	}
	if op.request.Acks == acksAll && len(topic.Partitions[p.Partition].ISR) < b.minInsyncReplicas(topic) {
		op.fail(out, protocol.ErrNotEnoughReplicas, protocol.ErrNotEnoughReplicas)
		return
	}
	result, err := ref.log.Append(p.Records, engine.AppendOptions{
		LeaderEpoch:   ref.leaderEpoch,
		Origin:        engine.OriginClient,
		Acks:          op.request.Acks,
		ZstdForbidden: r.version < produceZstdFirstVersion,
	})
	op.throttle = max(op.throttle, ref.log.Throttle())
	if err != nil {
		code := b.errorCode(err)
		op.fail(out, code, err)
		var fault *record.RecordFault
		if errors.As(err, &fault) {
			out.RecordErrors = []protocol.RecordError{{Index: int32(fault.Index), Message: fault.Err.Error()}}
		}
		return
	}
	out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = result.BaseOffset, result.LogAppendTimeMs, result.LogStartOffset
	if wait, must := ackAfter(op.request.Acks, ref.log, result.EndOffset); must {
		op.pending = append(op.pending, pendingAck{log: ref.log, wait: wait, offset: result.EndOffset, index: len(op.partitions) - 1})
	}
}

// ackAfter says which offset must reach end before the append may be acknowledged, and whether it has not yet.
func ackAfter(acks int16, log *engine.Log, end int64) (engine.WaitFor, bool) {
	offsets := log.Offsets()
	switch {
	case acks == acksAll:
		return engine.WaitHighWatermark, offsets.HighWatermark < end
	case acks == acksLeader && log.Config().Fsync == ioqueue.PolicyCommit:
		return engine.WaitDurable, offsets.Durable < end
	}
	return 0, false
}

// checkProduce checks what Kafka's broker checks before the log sees a batch, and what needs the request's version.
func checkProduce(r *request, req *protocol.ProduceRequest, topic string, records []byte) error {
	switch {
	case req.Acks != acksNone && req.Acks != acksLeader && req.Acks != acksAll:
		return protocol.ErrInvalidRequiredAcks
	case isInternalTopic(topic):
		return protocol.ErrInvalidTopicException
	case len(records) == 0:
		return fmt.Errorf("%w: no record batch, want one", record.ErrInvalid)
	}
	batch, rest, err := record.Next(records)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fmt.Errorf("%w: %d bytes follow the first record batch, want exactly one batch for each partition", record.ErrInvalid, len(rest))
	case req.TransactionalID != "" || batch.IsTransactional():
		return protocol.ErrInvalidTxnState
	}
	return nil
}

// refuseOldProduce answers versions 0 to 2, which Kafka advertises for the sake of old librdkafka but does not serve. Their
// body is that of version 3 without the transactional id.
func (b *Broker) refuseOldProduce(r *request, body []byte) error {
	var req protocol.ProduceRequest
	if err := req.Decode(append([]byte{0xff, 0xff}, body...), 3); err != nil {
		return err
	}
	if req.Acks == acksNone {
		r.Fail(fmt.Errorf("%w: %w", errProduceUnacknowledged, protocol.ErrUnsupportedVersion))
		return nil
	}
	resp := kmsg.NewPtrProduceResponse()
	for i := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = req.Topics[i].Name
		for j := range req.Topics[i].Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode, p.BaseOffset = req.Topics[i].Partitions[j].Partition, int16(protocol.ErrUnsupportedVersion), -1
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	r.Reply(resp)
	return nil
}

// opensBatches reports whether an append of the request has to decompress: for a compacted topic, whose records need keys,
// or one that checks every record. That takes too long for a loop.
func (b *Broker) opensBatches(req *protocol.ProduceRequest, byID bool) bool {
	image := b.node.Image()
	for i := range req.Topics {
		t := &req.Topics[i]
		topic := image.Topic(t.Name)
		if byID {
			topic = image.TopicByID(t.ID)
		}
		if topic == nil {
			continue
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			batch, _, err := record.Next(p.Records)
			if err != nil || batch == nil || batch.Codec() == compression.None {
				continue
			}
			ref, code := b.partitionOf(topic, p.Partition, noLeaderEpoch)
			if code != protocol.ErrNone {
				continue
			}
			if config := ref.log.Config(); config.Strict || config.Cleanup&engine.CleanupCompact != 0 {
				return true
			}
		}
	}
	return false
}

// produceTimeout is how long an acknowledgement may wait. A client that names no time gets Kafka's default: unlike there, one
// replica's acknowledgement may have to wait for its disk.
func produceTimeout(req *protocol.ProduceRequest) time.Duration {
	const unset = 30 * time.Second
	if req.TimeoutMs <= 0 {
		return unset
	}
	return time.Duration(req.TimeoutMs) * time.Millisecond
}

// keep copies what of the response still shares the frame, so that the op may wait.
func (op *produceOp) keep(image *cluster.Image) {
	for i := range op.response.Topics {
		t := &op.response.Topics[i]
		if known := image.Topic(t.Name); known != nil {
			t.Name = known.Name
			continue
		}
		t.Name = strings.Clone(t.Name)
	}
}
