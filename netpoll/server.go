package netpoll

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Server accepts connections and runs their loops.
type Server struct {
	opts   Options
	epoch  time.Time // nanos counts from here
	pool   bufferPool
	budget budget
	cold   *coldReader
	accept *acceptor
	loops  []*loop
	runner runner

	nextID  atomic.Uint64
	warned  atomic.Int64 // nanos of the last warning that the budget is spent
	stopped atomic.Bool
	drained chan struct{} // closed when stopping and the last connection has closed
	open    atomic.Int64  // connections from accept to close, plus one until Stop
	once    sync.Once     // closes drained
}

// runner is what differs between the implementations: how loops get to run.
type runner interface {
	// adopt gives an accepted socket to its loop.
	adopt(c *conn, s acceptedSocket) error
	// each runs f in the context of every loop, soon and without waiting for it.
	each(f func(*loop))
	// stop ends all goroutines and waits for them. All connections are closed.
	stop()
}

// Start listens and begins to accept. The options' zero fields get their defaults.
func Start(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: o, epoch: o.Clock.Now(), drained: make(chan struct{})}
	s.epoch = s.epoch.Add(-1) // so that nanos is never 0, which means "none"
	s.cold = newColdReader(&s.pool)
	s.budget.limit = o.BufferBudget
	s.open.Store(1)
	for n := range o.Loops {
		s.loops = append(s.loops, newLoop(s, n))
	}
	var err error
	if s.accept, err = listen(s); err != nil {
		return nil, err
	}
	if o.Impl == ImplGo {
		s.runner = newGoRunner(s)
	} else if s.runner, err = newEpollRunner(s); err != nil {
		s.accept.closeListener()
		return nil, err
	}
	s.accept.start()
	return s, nil
}

// warnOfBudget says, once a minute, that connections wait for memory.
func (s *Server) warnOfBudget(now int64) {
	last := s.warned.Load()
	if last != 0 && now-last < int64(time.Minute) || !s.warned.CompareAndSwap(last, now) {
		return
	}
	s.opts.Logger.Warn("the memory for requests and responses in flight is spent, reading some connections waits for it", "bytes", s.budget.bytes(),
		"limit", s.budget.limit, "connections", s.open.Load()-1)
}

// nanos is the time since the server's epoch.
func (s *Server) nanos() int64 { return int64(s.opts.Clock.Since(s.epoch)) }

// until is how long it takes from now to the time at, in nanos.
func (s *Server) until(at int64) time.Duration { return time.Duration(at - s.nanos()) }

// Addr is the address that the server listens on.
func (s *Server) Addr() netip.AddrPort { return s.accept.addr }

// Loops is the number of loops, the bound of Conn.Loop and of OnTurn's argument.
func (s *Server) Loops() int { return len(s.loops) }

// Congestion is the TCP congestion control of connections from the same host: to be recorded beside every measurement.
func (s *Server) Congestion() string { return s.accept.congestion }

// closedConn counts down open.
func (s *Server) closedConn() {
	if s.open.Add(-1) == 0 {
		s.once.Do(func() { close(s.drained) })
	}
}

// Stop drains the server: it accepts and reads no more, waits until every open ticket is completed and its response written,
// closes the connections (OnClose gets ErrServerStopped) and ends all goroutines. When ctx ends first, the connections that
// are left are closed at once and an error that wraps ctx's is returned. A second call returns nil at once.
func (s *Server) Stop(ctx context.Context) error {
	if s.stopped.Swap(true) {
		return nil
	}
	s.accept.close()
	s.closedConn() // the one that stood for the server itself
	s.runner.each((*loop).drain)
	var err error
	select {
	case <-s.drained:
	case <-ctx.Done():
		err = fmt.Errorf("netpoll: stop before %d connections were drained: %w", s.open.Load(), ctx.Err())
		s.runner.each(func(l *loop) { l.closeAll(ErrServerStopped) })
		<-s.drained
	}
	s.runner.stop()
	return err
}
