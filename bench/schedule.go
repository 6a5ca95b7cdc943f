package bench

import (
	"math"
	"math/rand/v2"
	"time"
)

// ScheduleKind names the shape of the arrivals.
type ScheduleKind string

// The shapes: evenly spaced, exponential gaps (what many independent senders look like), or groups sent at once.
const (
	ScheduleUniform ScheduleKind = "uniform"
	SchedulePoisson ScheduleKind = "poisson"
	ScheduleBurst   ScheduleKind = "burst"
)

// Schedule yields the intended send times of one connection. It is a pure function of its arguments: nothing that the target
// does moves a later time. Not safe for concurrent use.
type Schedule struct {
	kind     ScheduleKind
	start    int64   // ns, time of arrival 0 (uniform, burst)
	interval float64 // ns between arrivals on average
	burst    int64
	rng      *rand.Rand
	i        int64
	at       float64 // ns since start, for poisson
}

// NewSchedule returns a schedule of perSecond arrivals per second. Connection worker of workers is shifted by its share of
// the interval so that uniform connections interleave instead of firing together. perSecond must be positive.
func NewSchedule(kind ScheduleKind, perSecond float64, burst int, start int64, worker, workers int, seed uint64) *Schedule {
	if burst < 1 || kind != ScheduleBurst {
		burst = 1
	}
	interval := float64(time.Second) / perSecond
	s := &Schedule{kind: kind, interval: interval, burst: int64(burst), start: start,
		rng: rand.New(rand.NewPCG(seed, uint64(worker)+1))}
	if kind != SchedulePoisson && workers > 0 {
		s.start += int64(interval * float64(burst) * float64(worker) / float64(workers))
	}
	return s
}

// Next returns the next intended send time in ns on the run's clock. Times never decrease.
func (s *Schedule) Next() int64 {
	if s.kind == SchedulePoisson {
		s.at += -math.Log(1-s.rng.Float64()) * s.interval
		return s.start + int64(s.at)
	}
	group := s.i - s.i%s.burst
	s.i++
	return s.start + int64(float64(group)*s.interval)
}
