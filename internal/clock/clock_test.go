package clock

import (
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

func TestFakeFiresInOrderAtTheDueTime(t *testing.T) {
	f := NewFake(start)
	var got []time.Duration
	note := func() { got = append(got, f.Since(start)) }
	f.AfterFunc(3*time.Second, note)
	f.AfterFunc(time.Second, func() {
		note()
		f.AfterFunc(time.Second, note) // armed by a callback, due in the same Advance
	})
	stopped := f.AfterFunc(2*time.Second, note)
	if !stopped.Stop() || stopped.Stop() {
		t.Fatal("Stop must report true once")
	}
	if f.Due(time.Second-1) != 0 || f.Due(2*time.Second) != 1 || f.Due(3*time.Second) != 2 {
		t.Fatal("Due must count the timers after one and three seconds")
	}
	f.Advance(2500 * time.Millisecond)
	f.Advance(time.Second)
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(got, want) {
		t.Fatalf("fired at %v, want %v", got, want)
	}
	if f.Since(start) != 3500*time.Millisecond || f.Pending() != 0 || f.Due(time.Hour) != 0 {
		t.Fatalf("clock at %v with %d pending", f.Since(start), f.Pending())
	}
}

func TestFakeTimerChannel(t *testing.T) {
	f := NewFake(start)
	tm := f.NewTimer(time.Second)
	f.Advance(999 * time.Millisecond)
	select {
	case <-tm.C():
		t.Fatal("fired early")
	default:
	}
	f.Advance(time.Millisecond)
	if got := <-tm.C(); !got.Equal(start.Add(time.Second)) {
		t.Fatalf("sent %v", got)
	}
	if tm.Reset(time.Second) {
		t.Fatal("Reset of a fired timer reports it as pending")
	}
	f.Advance(time.Second)
	if tm.Stop() { // fired, not received
		t.Fatal("Stop of a fired timer reports it as pending")
	}
	select {
	case <-tm.C():
		t.Fatal("stale value after Stop")
	default:
	}
	<-f.NewTimer(0).C()
	if f.AfterFunc(time.Hour, func() {}).C() != nil {
		t.Fatal("AfterFunc timer has a channel")
	}
}

func TestRealKeepsTheContract(t *testing.T) {
	c := Real()
	if c.Since(c.Now()) < 0 {
		t.Fatal("time runs backwards")
	}
	<-c.NewTimer(time.Microsecond).C()
	done := make(chan struct{})
	c.AfterFunc(0, func() { close(done) })
	<-done
	tm := c.NewTimer(time.Hour)
	if !tm.Reset(2*time.Hour) || !tm.Stop() || tm.Stop() {
		t.Fatal("Reset and Stop must report that the timer was pending")
	}
}
