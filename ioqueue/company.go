package ioqueue

import (
	"runtime"
	"time"
)

// company is what a stream knows about the producers that wait for it.
type company struct {
	// After the last group: the appends it has answered plus those that have
	// arrived meanwhile. If everybody comes back, this is the next group.
	appends, bytes int64
	duration       time.Duration // of the last group's fsync
	since          time.Time     // when it was answered

	found int64 // appends when the wait began
	patience
}

// patience leaves out waits after one in vain, twice as many after each
// failure in a row.
type patience struct{ misses, skip int }

// give reports whether to wait this time.
func (p *patience) give() bool {
	if p.skip > 0 {
		p.skip--
		return false
	}
	return true
}

func (p *patience) gained() { p.misses = 0 }

// lost leaves out the next 1, 2, 4, ... 64 waits.
func (p *patience) lost() {
	p.skip = 1 << p.misses
	p.misses = min(p.misses+1, 6)
}

const (
	// companyShare is the part of the last fsync's duration that a worker
	// waits for company at most.
	companyShare = 2
	// companyMax bounds that wait on slow disks.
	companyMax = 2 * time.Millisecond
	// companyTurns is how often it lets other goroutines run between looks at the clock.
	companyTurns = 20
	// companyLooks bounds the looks: a Fake clock may stand still.
	companyLooks = 10000
)

// companyLimit is how long to wait after an fsync that took d.
func companyLimit(d time.Duration) time.Duration { return min(d/companyShare, companyMax) }

// completeFor says that the producers have come back. Bytes without the
// number of appends will do: the log may have merged appends.
func (c *company) completeFor(active *fileState) bool {
	return active.appends >= c.appends || active.bytes >= c.bytes
}

// awaitCompany waits for the producers that the last group answered. It
// yields the processor instead of sleeping. A sleep cannot be short enough:
// an idle process rounds runtime timers up to a millisecond, which is several
// fsyncs, and a goroutine in nanosleep keeps its processor from the producers
// for tens of microseconds, until the runtime notices. Measured with 8
// producers: 7.9 appends per group with yields, 4.9 with nanosleep, 4.0
// without a wait. The price is a processor that looks busy meanwhile.
//
// What it gives, in appends of 1 KiB per second on a quiet host, without and
// with the wait, beside what the disk does with as many appends per fdatasync:
// 8 producers 16,800, 30,100 (88 %), 34,100; 32 producers 59,200, 86,400
// (about 90 %), 85,000 to 110,000. Waiting up to a quarter of the fsync instead of half of
// it gave 22,800 and 70,100.
func (st *Stream) awaitCompany() {
	if st.s.opts.NoCompany {
		return
	}
	for look := 0; look < companyLooks && st.companyMissing(look == 0); look++ {
		yield()
	}
}

// companyMissing says that it is worth waiting (on).
func (st *Stream) companyMissing(first bool) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := &st.mu.company
	active := st.activeLocked()
	if active == nil || st.mu.closed || st.mu.opts.Policy != PolicyCommit || st.mu.opts.MaxDelay > 0 ||
		len(st.mu.files) > 1 || st.mu.force || c.appends <= 1 {
		return false
	}
	if first {
		c.found = active.appends
		if !c.give() {
			return false
		}
	}
	if c.completeFor(active) {
		c.gained()
		return false
	}
	if st.s.opts.Clock.Since(c.since) < companyLimit(c.duration) {
		return true
	}
	switch {
	case first: // too late for a wait
	case active.appends-c.found >= (c.appends-c.found)/2:
		c.gained()
	default:
		c.lost()
	}
	return false
}

func yield() {
	for range companyTurns {
		runtime.Gosched()
	}
}
