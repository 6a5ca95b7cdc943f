package vfs

import "github.com/weirmq/weir/internal/clock"

// MemOptions configure a Mem.
type MemOptions struct {
	// Clock stamps ModTime. Default: clock.Real().
	Clock clock.Clock
	// CapacityBytes is the size of the disk: writes beyond it get ENOSPC.
	// Default: 0, no limit.
	CapacityBytes int64
}
