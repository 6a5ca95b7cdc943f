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
	answered       int64         // appends of the last group
	duration       time.Duration // of the last group's fsync
	since          time.Time     // when its fsync was done
	back           int64         // appends since then
	told           time.Time     // when all its callbacks had returned
	lag            time.Duration // how long as many as appends take to come back, a moving average; 0: not known

	found   int64    // appends when the wait began
	waiting *sleeper // where a worker waits for this stream, nil = nowhere
	patience
}

// arrived counts an append.
func (c *company) arrived(now func() time.Time) {
	c.back++
	if c.back == c.answered {
		c.observe(now().Sub(c.since))
	}
}

// answer notes that a group of appends, which began at start, is about to be answered, while others have arrived meanwhile.
func (c *company) answer(appends, bytes int64, there *fileState, start, now time.Time) {
	if c.back < c.answered {
		c.observe(time.Duration(float64(now.Sub(c.since)) * float64(c.answered) / float64(max(c.back, 1))))
	}
	c.appends, c.bytes, c.answered, c.back = appends+there.appends, bytes+there.bytes, appends, 0
	c.since, c.duration = now, now.Sub(start)
}

// observe takes in how long the producers that the last group answered took to come back.
func (c *company) observe(took time.Duration) {
	all := min(time.Duration(float64(took)*float64(c.appends)/float64(c.answered)), companyFar*c.duration)
	if c.lag == 0 {
		c.lag = all
	}
	c.lag += (all - c.lag) / companyMemory
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
	// waits for a part of the company at most.
	companyShare = 2
	// companyPartMax bounds that wait on slow disks, companyMax one for the whole company.
	companyPartMax, companyMax = 2 * time.Millisecond, 10 * time.Millisecond
	// companyMemory is over how many groups lag is averaged, and companyFar as how many fsyncs a longer one counts: a pause is forgotten soon.
	companyMemory, companyFar = 4, 8
	// companyTurns is how often it lets other goroutines run between looks at the clock.
	companyTurns = 20
	// companyLooks bounds the looks, and companySleeps those of a worker that sleeps in between: a Fake clock may stand still.
	companyLooks, companySleeps = 10000, 10
)

// left is how long it is still worth waiting, 0 or less for not at all. Either all N producers come back before the next fsync, and share it: N appends
// for an fsync and a lag. Or the wait ends before that, and they fall into two halves, of which one comes back while the other's
// fsync runs: N for two fsyncs. So while the lag is shorter than an fsync the wait is for all of them. Beyond that it is a short one, for as
// many as come: it saves fsyncs, where there is nothing else to gain.
func (c *company) left(now time.Time, asleep bool) time.Duration {
	if c.lag <= c.duration && asleep {
		return min(c.duration, companyMax) - now.Sub(c.since)
	}
	return min(c.duration/companyShare, companyPartMax) - now.Sub(c.told)
}

// completeFor says that the producers have come back. Bytes without the
// number of appends will do: the log may have merged appends.
func (c *company) completeFor(active *fileState) bool {
	return active.appends >= c.appends || active.bytes >= c.bytes
}

// awaitCompany waits for the producers that the last group answered.
//
// The first worker that waits sleeps in the kernel, and the append that makes the group complete wakes it. Such a sleep keeps a processor of GOMAXPROCS
// for as long as it takes, so others that wait at the same time yield theirs instead, again and again: those look busy meanwhile. A sleep in the Go
// scheduler cannot be short enough: an idle process rounds runtime timers up to a millisecond, which is several fsyncs. That every waiting worker, or an
// idle one, sleeps in the kernel was tried: with 8 busy partitions and two processors nobody was left to append.
//
// What the wait gives is in BENCHMARKS.md, group commit: with 8 producers of one partition 8.0 appends share an fsync, with yields alone 7.2 to 7.5,
// without a wait 4.0.
func (st *Stream) awaitCompany() {
	if st.s.opts.NoCompany {
		return
	}
	var bed *sleeper
	looks := companyLooks
	if st.s.inBed.CompareAndSwap(false, true) {
		defer st.s.inBed.Store(false)
		bed, looks = &st.s.bed, companySleeps
	}
	for look := range looks {
		left := st.companyMissing(look == 0, bed)
		switch {
		case left <= 0:
			return
		case bed != nil:
			bed.sleep(left)
		default:
			yield()
		}
	}
}

// companyMissing returns how long it is worth waiting (on), 0 for not at all. bed, if not nil, is woken when the group is complete.
func (st *Stream) companyMissing(first bool, bed *sleeper) time.Duration {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := &st.mu.company
	c.waiting = nil
	active := st.activeLocked()
	if active == nil || st.mu.closed || st.mu.opts.Policy != PolicyCommit || st.mu.opts.MaxDelay > 0 ||
		len(st.mu.files) > 1 || st.mu.force || c.appends <= 1 {
		return 0
	}
	if first {
		c.found = active.appends
		if !c.give() {
			return 0
		}
	}
	if c.completeFor(active) {
		c.gained()
		return 0
	}
	if left := c.left(st.s.opts.Clock.Now(), bed != nil); left > 0 {
		c.waiting = bed
		return left
	}
	switch {
	case first: // too late for a wait
	case active.appends-c.found >= (c.appends-c.found)/2:
		c.gained()
	default:
		c.lost()
	}
	return 0
}

// companyCameLocked returns whom to wake, without the lock, if the group is complete now.
func (st *Stream) companyCameLocked(active *fileState) *sleeper {
	c := &st.mu.company
	bed := c.waiting
	if bed == nil || !c.completeFor(active) {
		return nil
	}
	c.waiting = nil
	return bed
}

func yield() {
	for range companyTurns {
		runtime.Gosched()
	}
}
