package netpoll

import (
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"github.com/weirmq/weir/internal/clock"
)

// Impl names an implementation of the network layer.
type Impl string

// The implementations.
const (
	ImplEpoll Impl = "epoll" // event loops of our own on epoll
	ImplGo    Impl = "go"    // package net, goroutines per connection
)

// ParseImpl returns the implementation called s.
func ParseImpl(s string) (Impl, error) {
	switch i := Impl(s); i {
	case ImplEpoll, ImplGo:
		return i, nil
	}
	return "", fmt.Errorf("netpoll implementation %q: want %q or %q", s, ImplEpoll, ImplGo)
}

// Values of Options.Congestion that are not names of algorithms.
const (
	CongestionAuto   = "auto"   // cubic for loopback peers where the kernel has it, the system's default for others
	CongestionSystem = "system" // whatever the system's default is
)

// Options configure a Server. EnsureDefaults fills what is zero.
type Options struct {
	// Listen is the address to listen on, HOST:PORT; port 0 lets the kernel pick. Required.
	Listen string
	// Handler gets the frames. Required.
	Handler Handler
	// Impl is the implementation. Default: ImplEpoll.
	Impl Impl
	// Loops is the number of event loops. Default: GOMAXPROCS, at most 64. One less would leave a core to the kernel: on two cores
	// that is up to a tenth less CPU per byte, and a quarter to a third less throughput (BENCHMARKS.md, event loops).
	// With ImplGo, where a loop is only a mutex that serializes the handler, eight times as many.
	Loops int
	// LockThreads ties every event loop to an operating system thread. Default: false, which measured better.
	LockThreads bool
	// FrameBytesMax is the largest accepted frame, without its length prefix. Default: 100 MiB.
	FrameBytesMax int
	// InflightMax is the number of unanswered frames per connection at which reading it pauses. Default: 1024.
	InflightMax int
	// OutputBytesMax is the number of queued response bytes (in memory and in files) per connection at which
	// reading it pauses. Default: 64 MiB.
	OutputBytesMax int64
	// BufferBudget is the limit in bytes for partial frames and queued responses (not file ranges; each counts 1 KiB beside its bytes)
	// of all connections together. When it is spent, reading pauses, except for one connection at a time. Frames of over 1 MiB have three quarters
	// of it, together with those of over 64 KiB seven eighths. Default: 1 GiB.
	BufferBudget int64
	// MaxConnections is the number of connections at which new ones are refused. Default: 0, no limit.
	MaxConnections int
	// MaxConnectionsPerIP is the same per peer address. Default: 0, no limit.
	MaxConnectionsPerIP int
	// IdleTimeout closes a connection on which no byte moved for so long and that waits for no response of ours. It also closes one
	// whose peer takes none of the output that waits for it. Default: 10 minutes. Negative: never.
	IdleTimeout time.Duration
	// FrameTimeout closes a connection that needs longer from the first byte of a frame to its end, not counting the time
	// in which we did not read, unless that was for want of BufferBudget, or there is little left of that. Default: 30 seconds. Negative: never.
	FrameTimeout time.Duration
	// Congestion is the TCP congestion control of accepted connections: CongestionAuto, CongestionSystem or the name of
	// an algorithm. Default: CongestionAuto.
	Congestion string
	// Logger gets warnings. Default: slog.Default().
	Logger *slog.Logger
	// Clock tells the time and drives the time-outs. Default: clock.Real().
	Clock clock.Clock

	kernel kernel // of tests
}

// EnsureDefaults fills the fields that are zero with their defaults.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Impl, ImplEpoll)
	loops := min(runtime.GOMAXPROCS(0), 64)
	if o.Impl == ImplGo {
		loops *= 8
	}
	setDefault(&o.Loops, loops)
	setDefault(&o.FrameBytesMax, 100<<20)
	setDefault(&o.InflightMax, 1024)
	setDefault(&o.OutputBytesMax, 64<<20)
	setDefault(&o.BufferBudget, 1<<30)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.FrameTimeout, 30*time.Second)
	setDefault(&o.Congestion, CongestionAuto)
	setDefault(&o.Logger, slog.Default())
	setDefault(&o.Clock, clock.Real())
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first option that is out of range.
func (o *Options) Validate() error {
	if o.Handler == nil {
		return fmt.Errorf("netpoll: option Handler is nil")
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return fmt.Errorf("netpoll: option Listen %q: want HOST:PORT: %w", o.Listen, err)
	}
	if _, err := ParseImpl(string(o.Impl)); err != nil {
		return fmt.Errorf("netpoll: option Impl: %w", err)
	}
	for _, r := range []struct {
		name     string
		got      int64
		min, max int64
	}{
		{"Loops", int64(o.Loops), 1, 1024},
		{"FrameBytesMax", int64(o.FrameBytesMax), 1, 1<<31 - 1},
		{"InflightMax", int64(o.InflightMax), 1, 1 << 30},
		{"OutputBytesMax", o.OutputBytesMax, 1, 1 << 50},
		{"BufferBudget", o.BufferBudget, 1, 1 << 50},
		{"MaxConnections", int64(o.MaxConnections), 0, 1 << 30},
		{"MaxConnectionsPerIP", int64(o.MaxConnectionsPerIP), 0, 1 << 30},
	} {
		if r.got < r.min || r.got > r.max {
			return fmt.Errorf("netpoll: option %s is %d: want %d to %d", r.name, r.got, r.min, r.max)
		}
	}
	return nil
}
