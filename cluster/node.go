package cluster

import (
	"context"
	"sync/atomic"
)

// Node is this broker's part of the metadata quorum.
type Node struct {
	image atomic.Pointer[Image]
}

// Start recovers the image from the directory, or formats an empty one, and returns when this node leads and the image is
// complete. A directory that is corrupt, incomplete or another cluster's is refused with ErrCorrupt, ErrMissing or ErrForeign.
func Start(opts Options) (*Node, error) {
	opts.EnsureDefaults()
	return &Node{}, opts.Validate()
}

// Image returns the image in force. It costs one atomic load.
func (n *Node) Image() *Image { return n.image.Load() }

// OnChange registers fn to be called after each new image, in order, on the node's loop: it must be short and must not propose.
// A proposer gets its result after fn has returned.
func (n *Node) OnChange(fn func(Change)) {}

// Propose puts the records into one entry of the log and returns one result for each when it is durable and applied. Each record
// is accepted or refused by itself. Any number of callers may propose at once; they share fsyncs.
func (n *Node) Propose(ctx context.Context, records []Record) ([]Result, error) { return nil, nil }

// Submit is Propose without waiting: done is called once, on the node's loop, and must be short.
func (n *Node) Submit(records []Record, done func([]Result, error)) {}

// IsLeader reports whether this node leads the metadata quorum.
func (n *Node) IsLeader() bool { return false }

// Err returns why the node can change nothing any more, wrapping ErrFailed, or nil.
func (n *Node) Err() error { return nil }

// Stop ends the node: proposals that wait fail with ErrStopped. The log stays open; it belongs to the store.
func (n *Node) Stop() {}
