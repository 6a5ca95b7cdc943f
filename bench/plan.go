package bench

import (
	"time"
)

// Assumptions of a plan, from a host of 2 cores; they are on the slow side.
const (
	planSettle      = settleQuiet + 2*time.Second // until the disks have come to rest
	planRunOverhead = 550 * time.Millisecond      // topic, connections, memory probe, sync, last answers, deletion
	planPartition   = 600 * time.Microsecond      // further time per partition: creation and deletion
	planConnection  = 150 * time.Microsecond      // further time per connection
	planFillRate    = 3e8                         // bytes per second
	planSyncRate    = 1e9                         // bytes per second of what is written back before the next run
	planReadRate    = 2e8                         // bytes per second of each catch-up reader, when the page cache was dropped
	planStart       = 6 * time.Second             // per target: until it answers; the disk's fdatasync is measured then too
	planLimits      = 9 * time.Second             // the host's floors
	planWarmRate    = 0.5e9                       // bytes per second of memory touched first
)

// warmLimit bounds the warming of memory before the first run.
const warmLimit = 60 * time.Second

// rewarmShare of the runs' time may be spent on warming memory again.
const rewarmShare = 0.05

// rewarmBytesMin is the least that is warmed again.
const rewarmBytesMin = 256 << 20

// plan is what a series is expected to take.
type plan struct {
	prepare time.Duration // memory, floors, starts, prewarming, closed-loop maxima
	runs    time.Duration
	rewarm  time.Duration // bound of what warming memory again may add
}

func (p *plan) total() time.Duration { return p.prepare + p.runs }

// most is the bound that the plan sets itself: with all the warming that it allows.
func (p *plan) most() time.Duration { return p.total() + p.rewarm }

// estimate is what a run takes.
func estimate(s *Spec) time.Duration {
	d := s.Warmup + s.Duration + planRunOverhead
	if s.Conns > 0 && s.Warmup >= time.Second {
		d += warmWindow(s) / 2 // not every run is steady at once
	}
	if s.Consumers > 0 {
		d += s.FetchWait / 2 // the last fetch waits for records that do not come
	}
	d += time.Duration(s.Partitions)*planPartition + time.Duration(s.Conns+s.IdleConns)*planConnection
	d += seconds(float64(s.FillBytes)/planFillRate + float64(s.FillBytes)/planSyncRate)
	if s.Rate.Kind == RateMax && s.Conns > 0 {
		d += 2 * time.Second // dirty pages are written back before the next run
	}
	if s.DropCaches { // the readers go on after the end until they have everything
		d += max(0, seconds(float64(s.CatchUp)*float64(s.FillBytes)/planReadRate/4)-s.Duration)
	}
	if s.Rate.Kind == RateSearch {
		d *= searchSteps
	}
	return d
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// runTime is what a run of the profile takes, with what comes before it.
func (p *Profile) runTime(s *Spec) time.Duration {
	d := estimate(s)
	if p.Settle > 0 {
		d += min(p.Settle, planSettle)
	}
	return d
}

// plan adds up a series of the points on a number of targets.
func (p *Profile) plan(points []Point, targets int, warm int64, limits bool) plan {
	var out plan
	maxima := map[string]bool{}
	for i := range points {
		pt := &points[i]
		out.runs += time.Duration(p.Repeats*targets) * p.runTime(&pt.Spec)
		if pt.Spec.Rate.Kind == RatePercent && !maxima[pt.maximumKey()] {
			maxima[pt.maximumKey()] = true
			spec := pt.maximumSpec()
			out.prepare += estimate(&spec)
		}
	}
	out.prepare += time.Duration(targets) * (planStart + p.Prewarm)
	if limits {
		out.prepare += planLimits
	}
	if warm > 0 {
		out.prepare += min(warmLimit, seconds(float64(warm)/planWarmRate))
		out.rewarm = time.Duration(rewarmShare * float64(out.runs))
	}
	return out
}

// Estimate is about how long the profile takes on a number of targets with warm bytes of memory touched first, and the most that it takes
// when memory turns cold again and again; 0 when it cannot run. With results kept, the host's floors are measured too, which is not in it.
func (p *Profile) Estimate(targets int, warm int64) (about, most time.Duration) {
	points, err := p.Points()
	if err != nil {
		return 0, 0
	}
	plan := p.plan(points, targets, warm, false)
	return plan.total(), plan.most()
}

// fills is about how much memory a run of the spec takes from the host, bytes: what it stores, and as much again for sockets and heaps.
func (s *Spec) fills() int64 {
	stored := float64(s.FillBytes)
	if s.Rate.Kind == RateAbsolute {
		stored += s.Rate.Value * float64(s.ValueBytes) * (2*s.Warmup + s.Duration).Seconds()
	} else {
		stored += 1e9 * (2*s.Warmup + s.Duration).Seconds() // a GB a second is more than most brokers take
	}
	return 2 * int64(stored)
}
