package ioqueue

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/vfs"
)

// Policy says when the bytes of a stream are fsynced.
type Policy uint8

const (
	// PolicyCommit fsyncs as soon as there is something to sync; all appends
	// that arrive during an fsync share the next one.
	PolicyCommit Policy = iota
	// PolicyInterval fsyncs after StreamOptions.Interval or IntervalBytes,
	// whichever comes first.
	PolicyInterval
	// PolicyNever leaves the active file to the kernel. A file that was
	// rolled away is still synced, in the background.
	PolicyNever
)

// String returns the name used in configuration: commit, interval or never.
func (p Policy) String() string {
	switch p {
	case PolicyCommit:
		return "commit"
	case PolicyInterval:
		return "interval"
	case PolicyNever:
		return "never"
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// ParsePolicy is the inverse of String.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{PolicyCommit, PolicyInterval, PolicyNever} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("fsync policy %q: want commit, interval or never", s)
}

// StreamOptions are the settings and callbacks of one stream. Settings may be
// changed with Stream.SetOptions while the stream runs.
type StreamOptions struct {
	// Policy says when to fsync. Default: PolicyCommit.
	Policy Policy
	// Interval is how long written bytes may stay unsynced under
	// PolicyInterval. Default: 1 second.
	Interval time.Duration
	// IntervalBytes is how many bytes may stay unsynced under PolicyInterval; 0 means no limit.
	// Default: 0.
	IntervalBytes int64
	// MaxDelay is how long a commit may wait for company. Default: 0, no
	// wait beyond the short adaptive one described at Scheduler.
	MaxDelay time.Duration
	// InitialEnd is the end offset the stream starts with; all before it
	// counts as durable. Read by NewStream only. Default: 0.
	InitialEnd int64
	// OnDurable is called, without locks, each time the durable offset has
	// advanced, in order, never twice at once for a stream; a TruncateTo may have lowered it again by then, as Durable
	// knows. It must be short: the stream's
	// next fsync starts after it. It must not call SyncNow, Drop, or Close of the stream. Read by NewStream only.
	OnDurable func(endOffset int64)
	// OnFileDone is called, without locks, when the stream has no further use
	// for a file that SetFile replaced: its bytes are durable and it may be
	// closed. It is not called for files given to Drop nor after Close. Read by NewStream only.
	OnFileDone func(f vfs.File)
}

// EnsureDefaults fills the zero fields.
func (o *StreamOptions) EnsureDefaults() {
	if o.Interval == 0 {
		o.Interval = time.Second
	}
}

// Validate reports the first impossible setting.
func (o *StreamOptions) Validate() error {
	switch {
	case o.Policy > PolicyNever:
		return fmt.Errorf("ioqueue: Policy %d: want %d to %d", o.Policy, PolicyCommit, PolicyNever)
	case o.Interval <= 0:
		return fmt.Errorf("ioqueue: Interval %v: must be above 0", o.Interval)
	case o.IntervalBytes < 0:
		return fmt.Errorf("ioqueue: IntervalBytes %d: must not be negative", o.IntervalBytes)
	case o.MaxDelay < 0:
		return fmt.Errorf("ioqueue: MaxDelay %v: must not be negative", o.MaxDelay)
	case o.InitialEnd < 0:
		return fmt.Errorf("ioqueue: InitialEnd %d: must not be negative", o.InitialEnd)
	}
	return nil
}
