package ioqueue

import (
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

const ms = time.Millisecond

// The lag is how long it takes until everybody is back: those that the group answered, and in proportion those that had arrived meanwhile.
func TestCompanyLearnsTheLag(t *testing.T) {
	for _, x := range []struct {
		name            string
		answered, there int64
		back            int64         // come back, the last of them
		after           time.Duration // after the answer
		want            time.Duration
	}{
		{"all of one group", 8, 0, 8, 2 * ms, 2 * ms},
		{"one of two halves", 4, 4, 4, 2 * ms, 4 * ms},
		{"more than were answered", 4, 4, 6, 3 * ms, 4 * ms}, // the fourth came after 2 ms
		{"half of them by the next answer", 8, 0, 4, 1 * ms, 20 * ms},
		{"an eighth by the next answer", 8, 0, 1, 1 * ms, companyFar * 5 * ms},
		{"nobody by the next answer", 8, 0, 0, 0, companyFar * 5 * ms},
	} {
		var c company
		now := time.Unix(1000, 0)
		c.answer(x.answered, 0, &fileState{appends: x.there}, now.Add(-5*ms), now)
		if c.duration != 5*ms || c.appends != x.answered+x.there {
			t.Errorf("%s: fsync of %v for %d appends, want 5 ms for %d", x.name, c.duration, c.appends, x.answered+x.there)
		}
		for i := range x.back {
			at := now.Add(x.after * time.Duration(i+1) / time.Duration(x.back))
			c.arrived(func() time.Time { return at })
		}
		next := now.Add(10 * ms)
		c.answer(1, 0, &fileState{}, now, next)
		if c.lag != x.want {
			t.Errorf("%s: lag %v, want %v", x.name, c.lag, x.want)
		}
		before := c.lag
		c.arrived(func() time.Time { return next.Add(8 * ms) })
		if want := before + (8*ms-before)/companyMemory; c.lag != want {
			t.Errorf("%s: lag %v after one of 8 ms, want %v", x.name, c.lag, want)
		}
	}
}

// While the producers come back sooner than an fsync takes, the wait is for all of them, up to an fsync's time; else up to half of one, after all have been
// told; and a worker that does not sleep is never patient.
func TestCompanyWait(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, x := range []struct {
		name          string
		duration, lag time.Duration
		asleep        bool
		want          time.Duration // told 1 ms ago, durable 1.5 ms ago
	}{
		{"lag not known", 4 * ms, 0, true, 2500 * time.Microsecond},
		{"sooner than an fsync", 4 * ms, 4 * ms, true, 2500 * time.Microsecond},
		{"on a very slow disk", 100 * ms, 4 * ms, true, companyMax - 1500*time.Microsecond},
		{"later than an fsync", 3 * ms, 4 * ms, true, 500 * time.Microsecond},
		{"later, on a very slow disk", 100 * ms, 101 * ms, true, companyPartMax - ms},
		{"awake", 3 * ms, 1 * ms, false, 500 * time.Microsecond},
		{"over", 1 * ms, 2 * ms, true, -500 * time.Microsecond},
	} {
		c := company{duration: x.duration, lag: x.lag, since: now.Add(-1500 * time.Microsecond), told: now.Add(-ms)}
		if got := c.left(now, x.asleep); got != x.want {
			t.Errorf("%s: %v left, want %v", x.name, got, x.want)
		}
	}
}

// The first of four producers that comes back does not get an fsync of its own, and the last one's append begins that of all four. A slow host
// may let the wait end before; not every time.
func TestGroupWaitsForItsCompany(t *testing.T) {
	r := newRig(t, Options{})
	entered, release := r.gate()
	l := newTestLog(t, r.s, r.fs, StreamOptions{})
	asleep := func() bool {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		return l.stream.mu.company.waiting != nil
	}
	for range 20 {
		r.settle()
		now := r.clock.Now()
		l.stream.mu.Lock()
		l.stream.mu.company = company{appends: 4, bytes: 4 * recordBytes, answered: 4, duration: time.Second, since: now, told: now}
		l.stream.mu.Unlock()
		syncs := r.s.Stats().Syncs
		l.append(1)
		testkit.Eventually(t, "a worker that waits, or an fsync", func() bool { return asleep() || len(entered) > 0 })
		var end int64
		for range 3 {
			end = l.append(1)
		}
		for l.stream.Durable() < end {
			select {
			case release <- struct{}{}:
			case <-time.After(ms):
			}
		}
		for len(entered) > 0 {
			<-entered
		}
		if r.s.Stats().Syncs == syncs+1 {
			return
		}
	}
	t.Error("four producers never shared an fsync")
}
