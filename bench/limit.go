package bench

import "math"

// What bounded a run, in RunResult.Limit. "load" is the wish of an open-loop run: the target and the generator kept up with the schedule.
const (
	limitLoad      = "load"      // the target acknowledged what was offered
	limitGenerator = "generator" // the generator used its share of the cores, and more than the target did
	limitBroker    = "broker"    // the cores were used up, the target took more than the generator; or it fell behind a schedule
	limitHost      = "host"      // the cores were used up by others and the kernel more than by either
	limitLatency   = "latency"   // cores were idle: the requests in flight, or the disk, bounded a closed loop
	limitUnknown   = "unknown"   // the target's CPU time is not known
)

// usedUpShare of the host's cores are busy when there is none left to win.
const usedUpShare = 0.85

// limit says what bounded the run.
func (res *RunResult) limit(spec *Spec) string {
	if res.generatorBound() {
		return limitGenerator
	}
	if res.Offered > 0 {
		switch {
		case res.keptUp():
			return limitLoad
		case res.Broker == nil:
			return limitUnknown
		}
		return limitBroker
	}
	if res.Broker == nil {
		return limitUnknown
	}
	busy := res.Host.BusyCores >= usedUpShare*float64(res.Host.CPUs)
	broker, generator := res.Broker.Cores, res.Generator.Cores
	rest := res.Host.OtherCores + res.Host.KernelCores
	switch {
	case !busy && broker < usedUpShare*float64(res.Host.CPUs):
		return limitLatency
	case rest > broker && rest > generator:
		return limitHost
	case broker >= generator:
		return limitBroker
	}
	return limitGenerator
}

// commonLimit is the limit that most runs name; of two as frequent, the first in the alphabet.
func commonLimit(runs []*RunResult) (limit string) {
	n := map[string]int{}
	for _, r := range runs {
		n[r.Limit]++
	}
	for name, count := range n {
		if limit == "" || count > n[limit] || count == n[limit] && name < limit {
			limit = name
		}
	}
	return limit
}

// keptUp reports whether at least 99 % of the offered load was acknowledged; random arrivals may be fewer by chance.
func (res *RunResult) keptUp() bool {
	slack := math.Max(0.01, 3/math.Sqrt(float64(res.Requests)+1))
	return res.UnsentRequests == 0 && res.Records >= (1-slack)*res.Offered
}

// generatorBound reports whether the generator used up its share of the cores (half of them beside a target on the same host), and more than
// the target.
func (res *RunResult) generatorBound() bool {
	g := res.Generator.Cores
	return g > selfCoresShare*res.generatorShare() && (res.Broker == nil || res.Broker.Cores < g)
}

func (res *RunResult) generatorShare() float64 {
	cores := float64(res.Host.CPUs)
	if res.Generator.CPUs > 0 { // workers on hosts of their own
		return float64(res.Generator.CPUs)
	}
	if res.Broker != nil {
		return max(1, cores/2)
	}
	return cores
}
