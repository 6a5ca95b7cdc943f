package ioqueue

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

// rolled makes a stream under never with a sealed file to sync.
func (r *rig) rolled(name string) *Stream {
	st := r.s.NewStream(StreamOptions{Policy: PolicyNever})
	st.Written(create(r.t, r.fs, name), 0, 10, 1)
	st.SetFile(create(r.t, r.fs, name+".next"))
	return st
}

// waiting fails the test unless that many streams wait for a worker.
func (r *rig) waiting(want int) {
	r.t.Helper()
	if got := r.s.Stats().Queued; got != want {
		r.t.Fatalf("%d streams wait for a worker, want %d", got, want)
	}
}

// TestQueueBoundsTheBackground: however many streams of the background are due, the queue gives no more than its bound away at once, and passes by them
// to the urgent ones.
func TestQueueBoundsTheBackground(t *testing.T) {
	var q readyQueue
	q.init(2)
	for range 4 {
		q.add(&Stream{}, true)
	}
	take := func(want bool) run {
		t.Helper()
		r, ok := q.takeLocked()
		if ok != want {
			queued, running := q.counts()
			t.Fatalf("takeLocked has a stream: %v, want %v, with %d queued and %d running", ok, want, queued, running)
		}
		return r
	}
	first := take(true)
	take(true)
	take(false)
	urgent := &Stream{}
	q.add(urgent, false)
	if r := take(true); r.stream != urgent || r.background {
		t.Fatalf("took %+v, want the urgent stream", r)
	} else {
		take(false)
		q.done(r) // not one of the background's
		take(false)
	}
	q.done(first)
	if r := take(true); !r.background {
		t.Fatalf("took %+v, want one of the background", r)
	}
	take(false)
	if queued, running := q.counts(); queued != 1 || running != 2 {
		t.Errorf("%d queued and %d running, want 1 and 2", queued, running)
	}
}

// TestQueueComesToTheBackground: urgent streams without an end leave a worker to the background, and no more than one.
func TestQueueComesToTheBackground(t *testing.T) {
	var q readyQueue
	q.init(2)
	for range 4 {
		q.add(&Stream{}, true)
	}
	for left := 3; left >= 2; left-- { // the second once the first is done, not beside it
		var first run
		for range 4 * passedByMax {
			q.add(&Stream{}, false)
			q.add(&Stream{}, false)
			switch r, ok := q.takeLocked(); {
			case !ok:
				t.Fatal("no stream to take, want one")
			case !r.background:
				q.done(r)
			case first.background:
				t.Fatal("took a second of the background beside the first while urgent ones wait, want one")
			default:
				first = r
			}
		}
		if n := len(q.mu.background); n != left {
			t.Fatalf("%d of the background left after %d turns, want %d", n, 4*passedByMax, left)
		}
		q.done(first)
	}
}

// TestNeverLeavesWorkersToOthers: partitions that roll under never have no more than Background of the workers, and whoever waits for an fsync has
// another; each of them has its turn in the end.
func TestNeverLeavesWorkersToOthers(t *testing.T) {
	r := newRig(t, Options{Parallel: 4, Background: 2})
	entered, release := r.gate()
	var streams []*Stream
	for i := range 6 {
		streams = append(streams, r.rolled(fmt.Sprint("never", i)))
	}
	for range 2 {
		testkit.Receive(t, "an fsync of the background", entered)
	}
	testkit.Eventually(t, "the others in the queue", func() bool { return r.s.Stats().Running == 2 })
	r.waiting(4)

	commit := r.s.NewStream(StreamOptions{})
	commit.Written(create(t, r.fs, "commit"), 0, 10, 1)
	if name := testkit.Receive(t, "the fsync of the commit", entered); name != "commit" {
		t.Fatalf("fsync of %s beside two of the background, want that of commit", name)
	}
	interval := r.s.NewStream(StreamOptions{Policy: PolicyInterval, IntervalBytes: 1})
	interval.Written(create(t, r.fs, "interval"), 0, 10, 1)
	if name := testkit.Receive(t, "the fsync of the interval", entered); name != "interval" {
		t.Fatalf("fsync of %s beside two of the background, want that of interval", name)
	}
	close(release)
	for i, st := range append(streams, commit, interval) {
		testkit.Eventually(t, "everything durable", func() bool { return st.Durable() == 1 })
		if err := st.SyncNow(); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
}

// TestBackgroundHurriesForAWaiter: a stream in the queue for a place in the background gets a worker of its own when somebody begins to wait for it.
func TestBackgroundHurriesForAWaiter(t *testing.T) {
	for _, c := range []struct {
		name string
		wait func(st *Stream)
	}{
		{"SyncNow", func(st *Stream) { go func() { _ = st.SyncNow() }() }},
		{"SetOptions", func(st *Stream) { st.SetOptions(StreamOptions{Policy: PolicyCommit}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Options{Parallel: 2, Background: 1})
			entered, release := r.gate()
			r.rolled("first")
			if name := testkit.Receive(t, "an fsync of the background", entered); name != "first" {
				t.Fatalf("fsync of %s, want that of first", name)
			}
			r.rolled("second")
			third := r.rolled("third")
			r.waiting(2)
			c.wait(third)
			if name := testkit.Receive(t, "the fsync of the one that hurries", entered); name != "third" {
				t.Errorf("fsync of %s, want that of third", name)
			}
			r.waiting(1)
			close(release)
			r.settle()
		})
	}
}
