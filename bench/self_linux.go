package bench

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// selfSample is the generator's own state.
type selfSample struct {
	cpuSeconds float64
	gcCount    uint32
	gcPause    time.Duration // total stop-the-world time
	gcMaxPause time.Duration // longest of the last pauses kept by the runtime
	minorFault int64
}

func sampleSelf() selfSample {
	var ru unix.Rusage
	var s selfSample
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		s.cpuSeconds = float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
		s.minorFault = ru.Minflt
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	s.gcCount, s.gcPause = ms.NumGC, time.Duration(ms.PauseTotalNs)
	for i := uint32(0); i < min(ms.NumGC, 256); i++ {
		s.gcMaxPause = max(s.gcMaxPause, time.Duration(ms.PauseNs[(ms.NumGC-1-i)%256]))
	}
	return s
}

// syncDisks asks the kernel to write everything back.
func syncDisks() { unix.Sync() }
