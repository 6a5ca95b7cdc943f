package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// The limits beyond which a run is INVALID. They are printed with the reason.
const (
	lagShareMax    = 0.10 // generator lag p99 of response p99
	lagFloorUS     = 500  // lag below this never invalidates
	selfCoresShare = 0.85 // of the cores that the generator may use
	gcShareMax     = 0.10 // longest collector pause of response p99
	stealShareMax  = 0.02 // of all cores
	otherShareMax  = 0.15 // of all cores
	coldRateShare  = 0.7  // of the first-touch rate of warmed memory
	coldShareMax   = 0.10 // CPU time that cold memory may have added, of the broker's
)

func hostCPUs() int { return runtime.NumCPU() }

func (res *RunResult) invalid(format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	if !slices.Contains(res.Reasons, reason) {
		res.Reasons = append(res.Reasons, reason)
	}
	res.Valid = false
}

// reasonKind is a reason without its numbers: what does not differ from run to run.
func reasonKind(reason string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, reason)
}

// judge marks the run invalid for every reason that it finds in its own numbers. Memory and noise are judged by the series.
func (res *RunResult) judge(spec *Spec) {
	res.Valid = true
	if n := res.Truth.Faults(); n > 0 {
		res.invalid("truth: %d faults, the first: %s", n, res.Truth.First)
	}
	for text, n := range res.Errors {
		res.invalid("target error (%d times): %s", n, text)
	}
	res.judgeGenerator(spec)
	res.judgeHost()
	if res.Requests == 0 && spec.Conns > 0 {
		res.invalid("target: no request was acknowledged in the measurement")
	}
}

func (res *RunResult) judgeGenerator(spec *Spec) {
	if res.GeneratorLag != nil && res.Response != nil {
		if lag, p99 := res.GeneratorLag.P99, res.Response.P99; lag > lagFloorUS && lag > lagShareMax*p99 {
			res.invalid("generator-bound: its own lag behind the schedule is %.0f us at p99, over %.0f %% of the response time's %.0f us",
				lag, 100*lagShareMax, p99)
		}
	}
	if res.generatorBound() {
		res.invalid("generator-bound: it used %.2f cores, over %.0f %% of the %.0f that are its share, and more than the target",
			res.Generator.Cores, 100*selfCoresShare, res.generatorShare())
	} else if res.Limit == limitGenerator {
		res.invalid("generator-bound: the cores were used up, and it had %.2f of them, more than the target", res.Generator.Cores)
	}
	if p := res.Response; p != nil && res.Generator.GCMaxUS > lagFloorUS && res.Generator.GCMaxUS > gcShareMax*p.P99 {
		res.invalid("generator-bound: a collector pause of %.0f us, over %.0f %% of the response time's p99 of %.0f us",
			res.Generator.GCMaxUS, 100*gcShareMax, p.P99)
	}
}

func (res *RunResult) judgeHost() {
	res.Host.disturbed(func(format string, args ...any) { res.invalid("host disturbed: "+format, args...) })
}

// disturbed says what else used the host.
func (l *HostLoad) disturbed(say func(format string, args ...any)) {
	cpus := float64(l.CPUs)
	if s := l.StealCores; s > stealShareMax*cpus {
		say("%.2f of %.0f cores were stolen by the hypervisor, over %.0f %%", s, cpus, 100*stealShareMax)
	}
	if o := l.OtherCores; o > otherShareMax*cpus {
		say("%.2f of %.0f cores were busy with something else, over %.0f %%", o, cpus, 100*otherShareMax)
	}
}

// firstTouched is the memory that the measurement took from the free memory of the host: pages freed and used again meanwhile were touched
// before, and so was what lay free in the target. It cannot be more than what was stored and what the target faulted in.
func (res *RunResult) firstTouched(before, after *totals) int64 {
	drop := before.host.memFree - after.host.memFree
	most := res.StoredBytes + int64(res.Seconds*float64(residentSlack))
	if res.Broker != nil {
		most += res.Broker.MinorFaults * int64(os.Getpagesize())
	}
	return max(0, min(drop, most))
}

// residentSlack is what the generator itself may touch first, bytes per second: its histograms.
const residentSlack = 2 << 20

// cold reports whether memory whose first touch has that rate is cold: slower than coldRateShare of the rate seen right after memory was
// warmed, or than coldMemoryRate when it was not.
func cold(rate, warm float64) bool {
	if warm == 0 {
		return rate < coldMemoryRate
	}
	return rate < coldRateShare*warm
}

// judgeMemory marks the run when first-touch page faults of the hypervisor may have made up more than a tenth of what was
// measured: the memory that the run took from the host, at the probed rate instead of the warm one. warm is the rate seen right after
// memory was warmed, bytes per second, 0 when it was not.
func (res *RunResult) judgeMemory(warm float64) {
	if res.MemoryRate == 0 || !cold(res.MemoryRate, warm) {
		return
	}
	if warm == 0 {
		warm = warmMemoryRate
	}
	touched := float64(res.FirstTouched)
	extra := touched/res.MemoryRate - touched/warm
	base := res.Generator.CPUSeconds
	if res.Broker != nil {
		base = res.Broker.CPUSeconds
	}
	if extra > coldShareMax*base {
		res.invalid("cold memory: first touch of %s at %.1f GB/s may have cost %.2f s of %.2f s of CPU; warm it with --warm-memory",
			sizeText(res.FirstTouched), res.MemoryRate/1e9, extra, base)
	}
}
