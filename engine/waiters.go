package engine

// WaitFor names the offset that a Waiter watches.
type WaitFor uint8

// What a Waiter can watch.
const (
	// WaitHighWatermark: the high watermark, as consumers see it.
	WaitHighWatermark WaitFor = iota
	// WaitLastStable: the last stable offset, for read_committed.
	WaitLastStable
	// WaitDurable: the durable offset.
	WaitDurable
	// WaitLogEnd: the end of the log, for followers under policies other than commit.
	WaitLogEnd
)

// Waiter waits for one offset of one log, once. Fill the exported fields, then Watch. It may be used again after it
// fired or was unwatched. A fetch parked on many partitions uses one Waiter for each.
type Waiter struct {
	// For is the offset to watch.
	For WaitFor
	// Offset is reached when the watched offset is at least this.
	Offset int64
	// Wake is called at most once for each Watch, without any lock of the log held, on the goroutine that moved the
	// offset (an appender, or the directory's fsync worker): it must be short and must not block. err is nil when the
	// offset was reached; ErrOffline, ErrClosed, or ErrOffsetOutOfRange (the log was truncated below Offset) otherwise.
	Wake func(err error)

	log        *Log // non-nil while watched; guarded by the log's waiters lock
	prev, next *Waiter
}
