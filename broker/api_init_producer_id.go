package broker

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// InitProducerId (key 22), versions 0-5.
//
// Hands out a producer id at epoch 0 to an idempotent producer, whatever id and epoch it had before (KIP-360):
// as Kafka does without a transactional id. Ids come from blocks that the cluster's metadata log
// allocates, so that none is ever handed out twice, not even after a crash.
//
// A transactional id asks for a transaction coordinator, which this broker does not have: it answers
// UNSUPPORTED_VERSION, the code with which Kafka's clients report a feature that the broker lacks, and which they
// do not retry.

// producerIDTimeout bounds the wait for the metadata log when a new block of ids is needed.
const producerIDTimeout = 10 * time.Second

// producerIDBlock is how many ids are reserved at once, as in Kafka. What is left of a block at a stop is never used.
const producerIDBlock = 1000

func (b *Broker) handleInitProducerID(r *request, req *kmsg.InitProducerIDRequest) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = int16(protocol.ErrInvalidRequest)
	case req.TransactionalID != nil:
		resp.ErrorCode = int16(protocol.ErrUnsupportedVersion)
	case (req.ProducerID < 0) != (req.ProducerEpoch < 0):
		resp.ErrorCode = int16(protocol.ErrInvalidRequest)
	default:
		id, err := b.producerIDs.next(r.context())
		if err != nil {
			resp.ErrorCode = int16(b.errorCode(err))
			break
		}
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	r.Reply(resp)
}

// producerIDs hands out producer ids from a block, and gets the next block when it is used up.
type producerIDs struct {
	// allocate reserves a block of ids for good: [first, first+count).
	allocate func(ctx context.Context, count int32) (first int64, err error)

	mu struct {
		sync.Mutex
		next, end int64
	}
}

// next returns an id that was never handed out before. It may wait for the cluster.
func (p *producerIDs) next(ctx context.Context) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.next == p.mu.end {
		ctx, cancel := context.WithTimeout(ctx, producerIDTimeout)
		defer cancel()
		first, err := p.allocate(ctx, producerIDBlock)
		if err != nil {
			return 0, err
		}
		p.mu.next, p.mu.end = first, first+producerIDBlock
	}
	id := p.mu.next
	p.mu.next++
	return id, nil
}
