package broker

import (
	"context"
	"time"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// clusterHandlers are the table rows of the APIs that read or change the cluster's metadata. They run on workers: a change waits for
// an fsync, and the description of 100,000 partitions takes longer than a loop may be held.
func (b *Broker) clusterHandlers() []handler {
	return []handler{
		on(onWorker, b.handleMetadata),
		together(on(onWorker, b.handleCreateTopics)),
		together(on(onWorker, b.handleDeleteTopics)),
		on(onWorker, b.handleCreatePartitions),
		on(onWorker, b.handleDescribeCluster),
		on(onWorker, b.handleDescribeTopicPartitions),
	}
}

// Bit fields of the operations that a client may do (KIP-430), one bit for each of Kafka's operation codes. Without an authorizer
// these are all that the resource has.
const (
	// operationsUnasked is the value when the client did not ask.
	operationsUnasked = -1 << 31
	// topicOperations: read, write, create, delete, alter, describe, describe configs, alter configs.
	topicOperations = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	// clusterOperations: create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

func operations(asked bool, all int32) int32 {
	if asked {
		return all
	}
	return operationsUnasked
}

// Bounds of how long a change may be waited for: the client's timeout, within reason.
const (
	changeTimeoutDefault = 30 * time.Second
	changeTimeoutMax     = 5 * time.Minute
)

// changeContext is the context of a change that the client waits timeoutMillis for; what is not positive means the default.
func (r *request) changeContext(timeoutMillis int32) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.context(), changeTimeout(timeoutMillis))
}

// refusal is the code and the message for the client of an error; nil and 0 without one.
func (b *Broker) refusal(err error) (code int16, message *string) {
	if err == nil {
		return 0, nil
	}
	c := b.errorCode(err)
	text := errorText(c, err)
	if text == "" {
		text = c.String()
	}
	return int16(c), &text
}

// invalidRequest is a refusal of INVALID_REQUEST.
func invalidRequest(message string) (code int16, text *string) {
	return int16(protocol.ErrInvalidRequest), &message
}

// repeated returns the names that are in the list more than once.
func repeated[K comparable](names []K) map[K]bool {
	seen, twice := make(map[K]bool, len(names)), map[K]bool{}
	for _, name := range names {
		if seen[name] {
			twice[name] = true
		}
		seen[name] = true
	}
	return twice
}

// replicaLists returns what a response says of a partition's replicas; the slices belong to the image and must not be changed.
func replicaLists(p *cluster.Partition) (replicas, isr, offline []int32) {
	return p.Replicas, p.ISR, []int32{}
}
