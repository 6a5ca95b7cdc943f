package broker

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// place says where a handler runs.
type place uint8

const (
	// onLoop: on the connection's event loop. The handler must be short and must not block: no disk reads
	// beyond the page cache's tail, no fsync, no waiting for the cluster.
	onLoop place = iota
	// onWorker: on the bounded worker pool. The handler may block. Later requests of the same connection
	// wait until it has returned, as they do in Kafka.
	onWorker
)

// handler is one row of the dispatch table.
type handler struct {
	key   int16
	place place
	// handle decodes body and serves the request; an error means that body is malformed, nothing has been
	// answered and the connection is to be closed. body is valid only until handle returns.
	handle func(r *request, body []byte) error
}

// message is a pointer to a kmsg request struct.
type message[T any] interface {
	*T
	kmsg.Request
}

// on makes the table row of an API whose request is decoded by kmsg:
//
//	on(onWorker, b.handleCreateTopics) // func (b *Broker) handleCreateTopics(r *request, req *kmsg.CreateTopicsRequest)
//
// serve must answer r exactly once, then or later. Byte slices inside the decoded request (not strings) are
// valid only until serve returns.
func on[T any, M message[T]](p place, serve func(r *request, req M)) handler {
	key := M(new(T)).Key()
	return handler{key: key, place: p, handle: func(r *request, body []byte) error {
		req := M(new(T))
		req.SetVersion(r.version)
		if err := protocol.DecodeRequest(req, body); err != nil {
			return err
		}
		serve(r, req)
		return nil
	}}
}

// handlers is the dispatch table: every API that the broker serves, once. What is not here is not advertised.
func (b *Broker) handlers() []handler {
	own := []handler{
		{key: int16(kmsg.Produce), place: onLoop, handle: b.handleProduce},
		{key: int16(kmsg.Fetch), place: onLoop, handle: b.handleFetch},
		{key: int16(kmsg.ApiVersions), place: onLoop, handle: b.handleApiVersions},
		on(onWorker, b.handleListOffsets),
		on(onWorker, b.handleDeleteRecords),
		on(onWorker, b.handleInitProducerID),
		on(onWorker, b.handleOffsetForLeaderEpoch),
		on(onWorker, b.handleDescribeLogDirs),
		on(onLoop, b.handleGetTelemetrySubscriptions),
		on(onLoop, b.handlePushTelemetry),
	}
	own = append(own, b.clusterHandlers()...)
	return append(own, b.configHandlers()...)
}

var _ = errors.New
var _ = fmt.Sprint
var _ netpoll.Handler
