package netpoll

import (
	"net/netip"
	"time"
)

// Handler is called by the server. OnOpen, OnFrame, OnTurn and OnClose of one loop never run at the same time,
// so state that is indexed by loop number needs no lock. None of them may block.
type Handler interface {
	// OnOpen reports a new connection before its first frame.
	OnOpen(c Conn)
	// OnFrame hands over one frame, without its 4 length bytes. The frame is valid until OnTurn of the same turn has returned,
	// and may be modified until then. Exactly one method of the ticket must be called, once, now or later.
	OnFrame(c Conn, t Ticket, frame []byte)
	// OnTurn ends a turn in which loop delivered at least one frame. Work that was gathered in OnFrame is done here.
	OnTurn(loop int)
	// OnClose reports the end of a connection, after its last OnFrame. err says why: io.EOF when the peer closed between
	// frames. Tickets may still be open; their responses are dropped and released.
	OnClose(c Conn, err error)
}

// Conn is one client connection. All methods may be called from any goroutine unless they say otherwise.
type Conn interface {
	// ID is unique within the server, and never reused.
	ID() uint64
	// RemoteAddr is the peer's address; an IPv4 peer of a dual-stack listener is given as IPv4.
	RemoteAddr() netip.AddrPort
	// LocalAddr is the address that the peer connected to.
	LocalAddr() netip.AddrPort
	// Loop is the number of the connection's loop, in [0, Server.Loops()). It never changes.
	Loop() int
	// Value returns what SetValue stored. Both are for the handler's use from its callbacks only.
	Value() any
	// SetValue stores a value for the handler.
	SetValue(v any)
	// Mute stops reading (and the delivery of frames that have already been read) for d from now; responses still leave.
	// A later call replaces an earlier one only if it ends later.
	Mute(d time.Duration)
	// Close closes the connection soon, from the loop; OnClose gets err. Responses that have not been written are dropped.
	Close(err error)
}

// Ticket is the place of one frame in its connection's response order. Exactly one method must be called, exactly once,
// from any goroutine at any time, also after the connection has closed. The ticket must not be used after that.
type Ticket interface {
	// Send queues the response. It leaves when all earlier tickets of the connection are completed.
	Send(r Response)
	// SendIn is Send that may leave the loop asleep until b.Flush. A nil b is Send.
	SendIn(r Response, b *Batch)
	// Skip completes the ticket without a response.
	Skip()
	// Close ends the connection at this place: what answers earlier frames is still written, what answers later ones is dropped, and
	// no frame is delivered any more. OnClose gets err. It is the answer to a frame that makes no sense on a pipelined connection.
	Close(err error)
}

// Response is one whole frame to be written, including its length prefix.
type Response struct {
	// Parts are written in order. The slice and the bytes belong to the server until Release is called.
	Parts []Part
	// Release, if not nil, is called exactly once, after the last byte was given to the kernel or the response was dropped.
	// It runs on the connection's loop or, if the connection has closed already, on the goroutine that calls Send. It must not
	// block.
	Release func()
}

// Part is a piece of a response: Bytes first, then File if its Len is positive.
type Part struct {
	Bytes []byte    // may be empty
	File  FileRange // the zero value for none
}

// FileRange is a range of an open file that is sent by sendfile. The file must stay open until the response is released.
type FileRange struct {
	// Fd is the file's descriptor.
	Fd int
	// Pos and Len are in bytes. A file that is shorter than Pos+Len closes the connection with ErrFileTruncated.
	Pos, Len int64
}
