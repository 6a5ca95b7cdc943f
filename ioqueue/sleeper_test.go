package ioqueue

import (
	"sync/atomic"
	"testing"
	"time"
)

// forever is longer than a test may take: a wake that is lost is seen.
const forever = time.Hour

func TestSleeperIsWoken(t *testing.T) {
	var s sleeper
	s.wake()
	s.wake()
	s.sleep(forever)          // a wake that came first is not lost, and two are one
	s.sleep(time.Millisecond) // and the end of the time ends it
	done := make(chan struct{})
	go func() {
		s.sleep(forever)
		close(done)
	}()
	for {
		s.wake()
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// Two goroutines hand a number to and fro: every wake is seen, or one of them sleeps for good.
func TestSleepersWakeEachOther(t *testing.T) {
	const rounds = 20000
	var beds [2]sleeper
	var turn atomic.Int64
	play := func(me int64) {
		for turn.Load() < rounds {
			if turn.Load()%2 != me {
				beds[me].sleep(forever)
				continue
			}
			turn.Add(1)
			beds[1-me].wake()
		}
	}
	done := make(chan struct{})
	go func() { play(1); close(done) }()
	play(0)
	beds[1].wake()
	<-done
	if got := turn.Load(); got != rounds {
		t.Errorf("%d turns, want %d", got, rounds)
	}
}
