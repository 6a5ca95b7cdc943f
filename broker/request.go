package broker

import (
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
)

// request is one request on its way to a response: who sent it, at which version, and the ticket that holds
// its place among the responses of its connection.
//
// Exactly one of Reply, ReplyFrame, NoReply and Fail is called for each request, from any goroutine, at any
// time. A request is not used after that.
type request struct {
	b      *Broker
	conn   netpoll.Conn
	ticket netpoll.Ticket

	key           int16
	version       int16
	correlationID int32
	clientID      string // a copy; valid as long as the request
}

// Reply encodes resp (whose version is set here) behind its response header into a pooled buffer and sends it.
func (r *request) Reply(resp kmsg.Response) {
	resp.SetVersion(r.version)
	buf := r.b.buffers.get()
	*buf = protocol.AppendResponseHeader((*buf)[:0], r.key, r.version, r.correlationID)
	*buf = resp.AppendTo(*buf)
	r.ReplyFrame(buf)
}

// ReplyFrame sends *buf, a whole frame begun with protocol.AppendResponseHeader, and returns it to the
// buffer pool afterwards. The caller no longer owns buf.
func (r *request) ReplyFrame(buf *[]byte) {
	protocol.FinishFrame(*buf, 0)
	r.ticket.Send(netpoll.Response{
		Parts:   []netpoll.Part{{Bytes: *buf}},
		Release: func() { r.b.buffers.put(buf) },
	})
}

// NoReply gives up the request's place without a response: acks=0.
func (r *request) NoReply() { r.ticket.Skip() }

// Fail closes the connection because of err: the request could not be understood, or its failure cannot be
// told in a response. What was answered before it on the connection may be lost.
func (r *request) Fail(err error) {
	r.b.logger.Warn("closing connection",
		slog.String("remote", r.conn.RemoteAddr().String()),
		slog.String("client_id", printable(r.clientID)),
		slog.String("api", kmsg.NameForKey(r.key)),
		slog.Int("version", int(r.version)),
		slog.Any("error", err))
	r.conn.Close(err)
	r.ticket.Skip()
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
