package bench

import (
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// selfSample is the generator's own state.
type selfSample struct {
	cpuSeconds float64
	gcCount    int64
	gcPause    time.Duration   // total stop-the-world time
	pauses     []time.Duration // of the last collections, the newest first
}

// sampleSelf does not stop the world, as reading the runtime's MemStats would.
func sampleSelf() selfSample {
	var ru unix.Rusage
	var s selfSample
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		s.cpuSeconds = float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
	}
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	s.gcCount, s.gcPause, s.pauses = gc.NumGC, gc.PauseTotal, gc.Pause
	return s
}

// longestPause is the longest of the collections that ended between before and s.
func (s *selfSample) longestPause(before *selfSample) (longest time.Duration) {
	n := min(s.gcCount-before.gcCount, int64(len(s.pauses)))
	for _, p := range s.pauses[:max(0, n)] {
		longest = max(longest, p)
	}
	return longest
}

// processCPU is the CPU time of a process, seconds, to the nanosecond: /proc gives hundredths of a second, too coarse for a
// measurement of one. ok is false when the process is gone or not visible.
func processCPU(pid int) (seconds float64, ok bool) {
	var ts unix.Timespec
	const sched = 2                 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	clock := int32(^pid<<3 | sched) //nolint:gosec // pids are below 2^22
	if unix.ClockGettime(clock, &ts) != nil {
		return 0, false
	}
	return float64(ts.Nano()) / 1e9, true
}

// syncDisks asks the kernel to write everything back.
func syncDisks() { unix.Sync() }
