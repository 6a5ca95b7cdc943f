package broker

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// Fetch (key 1), versions 4-18.
//
// Returns whole batches from each partition's offset on, bounded by the high watermark or at isolation read_committed by the
// last stable offset; an offset inside a batch returns the whole batch. max_bytes and partition_max_bytes are soft: the
// first batch of the response is returned whatever its size. A request that finds less than min_bytes waits, at most
// max_wait_ms (delayed_fetch.go). Record bytes go from the page cache to the socket by sendfile and are never seen here, but
// for small pieces. v7 sessions (KIP-227, fetch_session.go); v9 leader epochs (KIP-320); v12 diverging epochs (KIP-595);
// v13 topic ids (KIP-516); v18 the follower's high watermark.
//
// Deviations: a fetch waits for at most fetchWaitMax, whatever max_wait_ms says. There are no followers, so a request that comes
// from one (replica id 0 or more) is answered NOT_LEADER_OR_FOLLOWER for every partition.

const (
	// fetchByIDFirstVersion is the first version that names topics by id.
	fetchByIDFirstVersion = 13

	// fetchWaitMax bounds max_wait_ms: a client that has gone without closing its connection holds its fetch no longer.
	fetchWaitMax = 5 * time.Minute

	// fetchRequestBytesMax bounds the memory that one request can ask for: some 130,000 partitions, each of which costs
	// thirty times its size on the wire.
	fetchRequestBytesMax = 4 << 20

	// copySpanBytes is the size below which record bytes are copied into the response's one writev instead of being sent by
	// sendfile, a system call of its own. See BenchmarkFetchSpan.
	copySpanBytes = 16 << 10
)

func (b *Broker) handleFetch(r *request, body []byte) error {
	if len(body) > fetchRequestBytesMax {
		return fmt.Errorf("%w: fetch request of %d bytes, want at most %d", protocol.ErrMalformed, len(body), fetchRequestBytesMax)
	}
	req, ok := b.fetchRequests.Get().(*protocol.FetchRequest)
	if !ok {
		req = &protocol.FetchRequest{}
	}
	defer func() {
		if partitionCount(req) <= loopPartitionsMax { // what a long request took is not kept
			b.fetchRequests.Put(req)
		}
	}()
	if err := req.Decode(body, r.version); err != nil {
		return err
	}
	if !r.onWorker && partitionCount(req) > loopPartitionsMax {
		return b.workers.submit(r.state, job{h: handler{handle: b.handleFetch}, r: r, body: bytes.Clone(body), long: true})
	}
	op := &fetchOp{
		b: b, r: r, full: true, follower: req.ReplicaID >= 0,
		minBytes: int64(req.MinBytes),
		maxBytes: min(int64(max(req.MaxBytes, 0)), b.limits.fetchBytesMax),
		wait:     min(time.Duration(req.MaxWaitMs)*time.Millisecond, fetchWaitMax),
	}
	if req.IsolationLevel == isolationReadCommitted {
		op.isolated = engine.ReadCommitted
	}
	if code := b.openFetch(op, req); code != protocol.ErrNone {
		b.refuseFetch(r, code)
		return nil
	}
	if !r.onWorker && op.session != nil && op.session.readyCount() > loopPartitionsMax {
		start := func(*request, []byte) error { op.start(); return nil }
		return b.workers.submit(r.state, job{h: handler{handle: start}, r: r, long: true})
	}
	op.start()
	return nil
}

// openFetch finds or makes the session that the request speaks of, and its partitions.
func (b *Broker) openFetch(op *fetchOp, req *protocol.FetchRequest) protocol.ErrorCode {
	byID := op.r.version >= fetchByIDFirstVersion
	switch {
	case req.SessionEpoch == sessionEpochFinal || req.SessionEpoch == sessionEpochInitial:
		if req.SessionID != 0 {
			b.sessions.remove(req.SessionID)
		}
		if req.SessionEpoch == sessionEpochInitial && len(req.Topics) > 0 {
			op.session = b.sessions.create(byID, partitionCount(req))
		}
	default:
		if op.session = b.sessions.use(req.SessionID); op.session == nil {
			return protocol.ErrFetchSessionIDNotFound
		}
		op.full = false
		op.session.supersede()
		code, empty := op.session.update(req, byID, op.isolated)
		if code == protocol.ErrNone && empty {
			b.sessions.remove(op.session.id)
			op.session, op.full = nil, true
		}
		return code
	}
	if op.session != nil {
		op.session.mu.Lock()
		op.session.isolated = op.isolated
		op.session.setLocked(req)
		op.session.mu.Unlock()
		return protocol.ErrNone
	}
	op.setOwn(req)
	return protocol.ErrNone
}

// setOwn makes the partitions of a fetch without a session. One that a long request names again has the place of its first mention and
// the wishes of its last, as in a session: the answer is no larger than what there is.
func (op *fetchOp) setOwn(req *protocol.FetchRequest) {
	count := partitionCount(req)
	op.own = make([]fetchPartition, count)
	var places map[fetchKey]int
	if count > loopPartitionsMax {
		places = make(map[fetchKey]int, count)
	}
	image := op.b.node.Image()
	n := 0
	for i := range req.Topics {
		t := &req.Topics[i]
		name := t.Name
		if known := image.Topic(name); known != nil {
			name = known.Name // the frame's bytes do not last
		} else {
			name = strings.Clone(name)
		}
		for j := range t.Partitions {
			key := fetchKey{topic: name, id: cluster.TopicID(t.ID), partition: t.Partitions[j].Partition}
			if place, again := places[key]; again {
				op.own[place].set(&t.Partitions[j])
				continue
			}
			if places != nil {
				places[key] = n
			}
			p := &op.own[n]
			n++
			p.op = op
			p.waiter.Wake = p.wake
			p.key = key
			p.set(&t.Partitions[j])
		}
	}
	op.own = op.own[:n]
}

// refuseFetch answers the request as a whole with an error: its session is not what it says.
func (b *Broker) refuseFetch(r *request, code protocol.ErrorCode) {
	f := b.frames.get()
	resp := protocol.FetchResponse{Error: code}
	f.buf, f.cuts = resp.AppendFrame(f.buf, f.cuts, r.version, r.correlationID)
	r.send(f)
}

// set takes over what the client asks of the partition.
func (p *fetchPartition) set(want *protocol.FetchPartition) {
	if p.currentEpoch != want.CurrentLeaderEpoch {
		p.image = nil // to be checked again
	}
	p.offset, p.maxBytes = want.FetchOffset, want.MaxBytes
	p.currentEpoch, p.lastFetchedEpoch = want.CurrentLeaderEpoch, want.LastFetchedEpoch
}

// resolve finds what the key stands for in the image in force. An error is looked at again each time.
func (p *fetchPartition) resolve(b *Broker, image *cluster.Image) {
	if p.image == image && p.code == protocol.ErrNone {
		return
	}
	p.unwatch()
	p.image = image
	var topic *cluster.Topic
	if p.key.id == (cluster.TopicID{}) {
		topic, p.code = image.Topic(p.key.topic), protocol.ErrUnknownTopicOrPartition
	} else {
		topic, p.code = image.TopicByID(p.key.id), protocol.ErrUnknownTopicID
	}
	if p.ref = (partitionRef{}); topic != nil {
		p.ref, p.code = b.partitionOf(topic, p.key.partition, p.currentEpoch)
	}
}
