package broker

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// request is one request on its way to a response: who sent it, at which version, and the ticket that holds
// its place among the responses of its connection.
//
// Exactly one of Reply, send, NoReply and Fail is called for each request, from any goroutine, at any
// time. A request is not used after that.
type request struct {
	b      *Broker
	conn   netpoll.Conn
	state  *connState
	ticket netpoll.Ticket
	later  *netpoll.Batch // of whoever answers now, nil = alone; see operation.run

	key           int16
	version       int16
	correlationID int32
	clientID      string // a copy; valid as long as the request
	onWorker      bool   // served on a worker: may take its time

	// Owned by the workers.
	bodyBytes int  // of the request's job
	alone     bool // no earlier request of the connection waits in parkChange
	held      bool // waits in parkChange
	postponed bool // to be served again when it is alone
}

// context is the context for what a handler on a worker waits for. It ends when the broker stops and has no more time for
// the requests that are left.
func (r *request) context() context.Context { return r.b.ctx }

// Reply encodes resp (whose version is set here) behind its response header and sends it. resp and what it
// points to may be reused when Reply returns.
func (r *request) Reply(resp kmsg.Response) {
	resp.SetVersion(r.version)
	f := r.b.frames.get()
	f.buf = protocol.AppendResponse(f.buf, r.correlationID, resp)
	r.send(f)
}

// send sends f: its parts, or when there are none, buf, a whole frame whose length is filled in. f belongs to
// netpoll from here on.
func (r *request) send(f *outFrame) {
	if len(f.parts) == 0 {
		f.parts = append(f.parts, netpoll.Part{Bytes: f.buf})
	}
	r.ticket.SendIn(netpoll.Response{Parts: f.parts, Release: f.release}, r.later)
}

// NoReply gives up the request's place without a response: acks=0.
func (r *request) NoReply() { r.ticket.Skip() }

// Fail closes the connection because of err: the request could not be understood, or its failure cannot be
// told in a response. The answers to earlier requests of the connection are still sent; later requests are not served.
func (r *request) Fail(err error) {
	r.b.logger.Warn("closing connection",
		slog.String("remote", r.conn.RemoteAddr().String()),
		slog.String("client_id", printable(r.clientID)),
		slog.String("api", kmsg.NameForKey(r.key)),
		slog.Int("key", int(r.key)),
		slog.Int("version", int(r.version)),
		slog.Any("error", err))
	if r.onWorker {
		r.b.workers.drop(r.state)
	}
	r.ticket.Close(err)
}

// printable makes a string from the network fit for one log field: quoted when it holds control
// characters, cut at 128 bytes.
func printable(s string) string {
	const printableMax = 128
	if len(s) > printableMax {
		s = s[:printableMax]
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
