package clock

import "time"

// Clock tells the time and makes timers. Implementations are safe for
// concurrent use.
type Clock interface {
	// Now returns the current time. Real times carry a monotonic reading.
	Now() time.Time
	// Since returns the time passed since t.
	Since(t time.Time) time.Duration
	// NewTimer returns a timer that sends once on C after d. A d of zero or
	// less fires as soon as possible.
	NewTimer(d time.Duration) Timer
	// AfterFunc calls f once after d, in a goroutine of the clock's choosing.
	// The returned timer's C is nil.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is one pending event of a Clock.
type Timer interface {
	// C is the channel the time is sent on; nil for AfterFunc timers.
	C() <-chan time.Time
	// Stop cancels the timer and reports whether it was pending. After Stop
	// returns, no stale value can be received from C.
	Stop() bool
	// Reset arms the timer again to fire after d and reports whether it was
	// pending. No stale value can be received from C afterwards.
	Reset(d time.Duration) bool
}

// Real returns the system's clock.
func Real() Clock { return realClock{} }

type realClock struct{}

func (realClock) Now() time.Time                  { return time.Now() }
func (realClock) Since(t time.Time) time.Duration { return time.Since(t) }
func (realClock) NewTimer(d time.Duration) Timer  { return realTimer{time.NewTimer(d)} }
func (realClock) AfterFunc(d time.Duration, f func()) Timer {
	return realTimer{time.AfterFunc(d, f)}
}

// realTimer relies on Go 1.23's timers: Stop and Reset leave no stale value
// in the channel.
type realTimer struct{ t *time.Timer }

func (r realTimer) C() <-chan time.Time        { return r.t.C }
func (r realTimer) Stop() bool                 { return r.t.Stop() }
func (r realTimer) Reset(d time.Duration) bool { return r.t.Reset(d) }
