package bench

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestParseDisks: whole disks count, partitions and short lines do not.
func TestParseDisks(t *testing.T) {
	const text = ` 254       0 vda 21 1 1000 7 300 2 4000 9 3 11 12 50 0 8000 13 17 19
 254       1 vda1 21 1 1000 7 300 2 4000 9 3 11 12 50 0 8000 13 17 19
   8       0 old 21 1 1000 7 300 2 4000 9 3 11 12
   7       0 loop0 1 0 1 0 1 0 2 0 1 0 0 1 0 4 0 5 0
`
	got := parseDisks(text, func(name string) bool { return name != "vda1" })
	if want := (diskSample{sectors: 13007, inFlight: 4, flushes: 22}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestSettle: it waits out a disk that writes, discards or has requests in flight, and gives up at the limit or with the context.
func TestSettle(t *testing.T) {
	const quiet = 20 * time.Millisecond
	calls := 0
	busy := func(until int, change func(s *diskSample)) func() diskSample {
		var s diskSample
		return func() diskSample {
			if calls++; calls <= until {
				change(&s)
			} else {
				s.inFlight = 0
			}
			return s
		}
	}
	sectors := func(s *diskSample) { s.sectors += settleSectors + 1 }
	inFlight := func(s *diskSample) { s.inFlight = 1 }
	little := func(s *diskSample) { s.sectors++ }
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name   string
		sample func() diskSample
		limit  time.Duration
		want   bool
		least  int // samples
	}{
		{"writes, then rest", busy(10, sectors), time.Minute, true, 11},
		{"requests in flight, then rest", busy(10, inFlight), time.Minute, true, 11},
		{"a little for ever", busy(1<<30, little), time.Minute, true, 3},
		{"writes for ever", busy(1<<30, sectors), 5 * quiet, false, 4},
	} {
		calls = 0
		if got := settle(ctx, c.limit, quiet, c.sample); got != c.want || calls < c.least {
			t.Errorf("%s: %v after %d samples, want %v after at least %d", c.name, got, calls, c.want, c.least)
		}
	}
	cancel()
	if settle(ctx, time.Hour, quiet, busy(1<<30, sectors)) {
		t.Error("a cancelled wait says that the disks are at rest")
	}
}

// TestProfileSettle: the key is read, and counted in the estimate.
func TestProfileSettle(t *testing.T) {
	parse := func(text string) *Profile {
		p, err := ParseProfile("x.profile", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	with, without := parse("repeats: 2\nsettle: 30s\nduration: 2s\n"), parse("repeats: 2\nduration: 2s\n")
	if with.Settle != 30*time.Second || without.Settle != 0 {
		t.Fatalf("settle %v and %v, want 30s and 0s", with.Settle, without.Settle)
	}
	a, _ := with.Estimate(2, 0)
	b, _ := without.Estimate(2, 0)
	if a-b != 4*planSettle {
		t.Errorf("four runs that wait for the disks take %v longer, want %v", a-b, 4*planSettle)
	}
}
