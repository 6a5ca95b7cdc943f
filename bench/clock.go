package bench

import "time"

// runClock is the run's clock: Unix time in ns that advances monotonically, so that stamps of one host compare exactly and
// those of several hosts up to a measured offset.
type runClock struct {
	base time.Time
	wall int64
}

func newRunClock() runClock {
	now := time.Now()
	return runClock{base: now, wall: now.UnixNano()}
}

func (c runClock) now() int64 { return c.wall + int64(time.Since(c.base)) }
