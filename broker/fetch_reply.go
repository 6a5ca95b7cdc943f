package broker

import (
	"log/slog"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// fetchReply builds Fetch responses; recycled.
type fetchReply struct {
	resp       protocol.FetchResponse
	partitions []protocol.FetchPartitionResponse
}

// reply encodes the results and sends them. The span references go over to the frame.
func (op *fetchOp) reply() {
	b, f := op.b, op.b.frames.get()
	op.copySmallSpans(f)
	reply, ok := b.fetchReplies.Get().(*fetchReply)
	if !ok {
		reply = &fetchReply{}
	}
	reply.build(op)
	f.buf, f.cuts = reply.resp.AppendFrame(f.buf, f.cuts, op.r.version, op.r.correlationID)
	op.assemble(f)
	clear(reply.partitions)
	clear(reply.resp.Topics)
	if len(reply.partitions) <= loopPartitionsMax {
		b.fetchReplies.Put(reply)
	}
	op.results = nil
	op.r.send(f)
}

// copySmallSpans copies the record bytes of small spans, and of those that have no descriptor, into the frame: one writev is
// cheaper than many sendfile calls. A partition whose bytes cannot be read gets an error instead of them.
func (op *fetchOp) copySmallSpans(f *outFrame) {
	total := 0
	for i := range op.results {
		for _, span := range op.results[i].read.Spans {
			if mustCopy(span) {
				total += int(span.Len)
			}
		}
	}
	if total == 0 {
		return
	}
	if cap(f.copied) < total {
		f.copied = make([]byte, 0, total)
	}
	for i := range op.results {
		res, first := &op.results[i], len(f.copied)
		for _, span := range res.read.Spans {
			if !mustCopy(span) {
				continue
			}
			at := len(f.copied)
			f.copied = f.copied[:at+int(span.Len)]
			if _, err := span.File.ReadAt(f.copied[at:], span.Pos); err != nil {
				op.b.logger.Error("reading records failed", slog.String("topic", res.p.key.topic),
					slog.Int("partition", int(res.p.key.partition)), slog.Int64("position", span.Pos),
					slog.Int64("bytes", span.Len), slog.Any("error", err))
				f.copied = f.copied[:first]
				res.read.Release()
				res.read.Bytes, res.code = 0, protocol.ErrKafkaStorageError
				break
			}
		}
	}
}

func mustCopy(span engine.Span) bool {
	if span.Len < copySpanBytes {
		return true
	}
	_, ok := span.File.Fd()
	return !ok
}

// build fills the response from the results, which are grouped by topic as they come.
func (reply *fetchReply) build(op *fetchOp) {
	resp := &reply.resp
	resp.Error, resp.SessionID, resp.Topics = protocol.ErrNone, 0, resp.Topics[:0]
	if op.session != nil {
		resp.SessionID = op.session.id
	}
	if cap(reply.partitions) < len(op.results) {
		reply.partitions = make([]protocol.FetchPartitionResponse, 0, len(op.results))
	}
	reply.partitions = reply.partitions[:0]
	for i := range op.results {
		res := &op.results[i]
		key := &res.p.key
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Name != key.topic || resp.Topics[n-1].ID != key.id {
			resp.Topics = append(resp.Topics, protocol.FetchTopicResponse{Name: key.topic, ID: key.id})
		}
		reply.partitions = append(reply.partitions, res.encode(op))
		t := &resp.Topics[len(resp.Topics)-1]
		end := len(reply.partitions)
		t.Partitions = reply.partitions[end-len(t.Partitions)-1 : end : end]
	}
}

// encode is the response for one partition.
func (res *fetchResult) encode(op *fetchOp) protocol.FetchPartitionResponse {
	out := protocol.FetchPartitionResponse{
		Partition: res.p.key.partition, Error: res.code, HighWatermark: -1, LastStable: -1, LogStart: -1,
	}
	if res.code != protocol.ErrNone {
		if res.code == protocol.ErrNotLeaderOrFollower || res.code == protocol.ErrFencedLeaderEpoch {
			out.HasCurrentLeader, out.LeaderID, out.LeaderEpoch = res.p.leader()
		}
		return out
	}
	out.HighWatermark, out.LastStable, out.LogStart = res.offsets.HighWatermark, res.offsets.LastStable, res.offsets.LogStart
	out.RecordsBytes = int(res.read.Bytes)
	if res.diverged {
		out.HasDivergingEpoch, out.DivergingEpoch, out.DivergingEndOffset = true, res.epoch, res.epochEnd
	}
	if op.isolated == engine.ReadCommitted {
		out.Aborted = make([]protocol.AbortedTransaction, 0, len(res.read.Aborted))
		for _, txn := range res.read.Aborted {
			out.Aborted = append(out.Aborted, protocol.AbortedTransaction{ProducerID: txn.ProducerID, FirstOffset: txn.FirstOffset})
		}
	}
	return out
}

// leader is the partition's leader in the image in force (KIP-951).
func (p *fetchPartition) leader() (known bool, id, epoch int32) {
	if p.ref.topic == nil || p.key.partition < 0 || int(p.key.partition) >= len(p.ref.topic.Partitions) {
		return false, 0, 0
	}
	part := &p.ref.topic.Partitions[p.key.partition]
	return true, part.Leader, part.LeaderEpoch
}

// assemble puts the encoded pieces and the record bytes in order: f.parts.
func (op *fetchOp) assemble(f *outFrame) {
	from, cut, copied := 0, 0, 0
	for i := range op.results {
		res := &op.results[i]
		if res.read.Bytes == 0 {
			res.read.Release()
			continue
		}
		f.parts = append(f.parts, netpoll.Part{Bytes: f.buf[from:f.cuts[cut]]})
		from = f.cuts[cut]
		cut++
		for _, span := range res.read.Spans {
			if mustCopy(span) {
				f.parts = append(f.parts, netpoll.Part{Bytes: f.copied[copied : copied+int(span.Len)]})
				copied += int(span.Len)
				span.File.Release()
				continue
			}
			fd, _ := span.File.Fd()
			last := &f.parts[len(f.parts)-1]
			if last.File.Len != 0 {
				f.parts = append(f.parts, netpoll.Part{})
				last = &f.parts[len(f.parts)-1]
			}
			last.File = netpoll.FileRange{Fd: fd, Pos: span.Pos, Len: span.Len}
			f.spans = append(f.spans, span)
		}
		res.read.Spans = nil
	}
	if from < len(f.buf) {
		f.parts = append(f.parts, netpoll.Part{Bytes: f.buf[from:]})
	}
}
