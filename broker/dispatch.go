package broker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

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

// loopPartitionsMax is how many partitions a request that is served on a loop may name, some 10 ms of work; one that names more goes
// to a worker, so that the other connections of the loop do not wait for it.
const loopPartitionsMax = 2048

// handler is one row of the dispatch table.
type handler struct {
	key   int16
	place place
	// handle decodes body and serves the request; an error means that body is malformed, nothing has been
	// answered and the connection is to be closed. body is valid only until handle returns.
	handle func(r *request, body []byte) error
	// together: the request may be served while earlier ones of its key and connection wait in parkChange.
	together bool
}

// together marks a row whose handler leaves its request waiting by parkChange.
func together(h handler) handler {
	h.together = true
	return h
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
		{key: protocol.KeyProduce, place: onLoop, handle: b.handleProduce},
		{key: protocol.KeyFetch, place: onLoop, handle: b.handleFetch},
		{key: protocol.KeyApiVersions, place: onLoop, handle: b.handleApiVersions},
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

// Reasons for closing a connection that are not a handler's.
var (
	errUnknownAPI         = errors.New("broker: unknown API key")
	errUnsupportedVersion = errors.New("broker: unsupported API version")
	errStopping           = errors.New("broker: stopping")
)

// loopState is what one event loop keeps; touched from that loop only.
type loopState struct {
	inTurn bool // the broker counts this loop in wakes.turns
	_      [63]byte
}

// dispatcher is the netpoll handler: it finds each frame's row in the dispatch table and runs it.
type dispatcher struct {
	b     *Broker
	table map[int16]handler
	loops []loopState

	mu struct {
		sync.Mutex
		conns map[*connState]struct{} // open connections
	}
}

func newDispatcher(b *Broker, loops int) *dispatcher {
	d := &dispatcher{b: b, table: make(map[int16]handler), loops: make([]loopState, loops)}
	d.mu.conns = make(map[*connState]struct{})
	for _, h := range b.handlers() {
		if _, twice := d.table[h.key]; twice {
			panic(fmt.Sprintf("BUG: API key %d has two handlers", h.key))
		}
		d.table[h.key] = h
	}
	return d
}

// OnOpen implements netpoll.Handler.
func (d *dispatcher) OnOpen(c netpoll.Conn) {
	state := &connState{}
	c.SetValue(state)
	d.mu.Lock()
	d.mu.conns[state] = struct{}{}
	d.mu.Unlock()
}

// OnClose implements netpoll.Handler: requests of the connection that wait are given up.
func (d *dispatcher) OnClose(c netpoll.Conn, err error) {
	state := c.Value().(*connState)
	d.mu.Lock()
	delete(d.mu.conns, state)
	d.mu.Unlock()
	d.b.workers.drop(state)
	state.parked.abandon()
	d.b.logger.Debug("connection closed", slog.String("remote", c.RemoteAddr().String()), slog.Any("reason", err))
}

// OnFrame implements netpoll.Handler: one request.
func (d *dispatcher) OnFrame(c netpoll.Conn, t netpoll.Ticket, frame []byte) {
	if loop := &d.loops[c.Loop()]; !loop.inTurn {
		loop.inTurn = true
		d.b.wakes.beginTurn()
	}
	state := c.Value().(*connState)
	header, err := protocol.ParseRequestHeader(frame)
	r := &request{
		b: d.b, conn: c, state: state, ticket: t,
		key: header.Key, version: header.Version, correlationID: header.CorrelationID,
		clientID: state.internClientID(header.ClientID),
	}
	if err != nil {
		r.Fail(err)
		return
	}
	h, ok := d.table[header.Key]
	if !ok {
		r.Fail(fmt.Errorf("%w %d", errUnknownAPI, header.Key))
		return
	}
	supported, _ := protocol.SupportedRange(header.Key)
	if (header.Version < supported.Min || header.Version > supported.Max) && header.Key != protocol.KeyApiVersions {
		r.Fail(fmt.Errorf("%w %d of API key %d: want %d to %d", errUnsupportedVersion, header.Version, header.Key, supported.Min, supported.Max))
		return
	}
	if h.place == onWorker || state.busy.Load() {
		if err := d.b.workers.submit(state, job{h: h, r: r, body: bytes.Clone(header.Body)}); err != nil {
			r.Fail(err)
		}
		return
	}
	if err := h.handle(r, header.Body); err != nil {
		r.Fail(err)
	}
}

// OnTurn implements netpoll.Handler: requests that this turn's appends woke are answered.
func (d *dispatcher) OnTurn(loop int) {
	if d.loops[loop].inTurn {
		d.loops[loop].inTurn = false
		d.b.wakes.endTurn()
	}
}

// finishParked answers every request that waits, with what there is: the broker stops.
func (d *dispatcher) finishParked() {
	d.mu.Lock()
	states := make([]*connState, 0, len(d.mu.conns))
	for s := range d.mu.conns {
		states = append(states, s)
	}
	d.mu.Unlock()
	for _, s := range states {
		s.parked.expire()
	}
}

// internClientID returns the client id as a string that outlives the frame: the one of the connection's last
// request where it is the same, as it nearly always is.
func (s *connState) internClientID(id string) string {
	if s.clientID != id {
		s.clientID = strings.Clone(id)
	}
	return s.clientID
}
