package bench

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapGrowthMax is how much the generator's heap may grow in a measurement, bytes, before the runtime collects in spite of it. The raw
// engine needs about a MiB a second; a client library that allocates per record reaches it, and its pauses then count against the run.
const heapGrowthMax = 1 << 30

// quietProcess is what a generator that has its process to itself changes in the runtime for a measurement: a collection takes
// milliseconds from a core that the schedule counts on, and a thread that wakes to send must not wait for a free scheduler slot.
// Not for a process that does anything else: the settings are the whole process's.
type quietProcess struct {
	percent int
	limit   int64
	procs   int
}

// quiet collects now, keeps the collector off until the heap has grown by heapGrowthMax, and gives each of senders threads a scheduler
// slot of its own beside those of the cores. restore undoes it.
func quiet(senders int) *quietProcess {
	const sendersMax = 16
	q := &quietProcess{procs: runtime.GOMAXPROCS(0)}
	runtime.GOMAXPROCS(runtime.NumCPU() + min(senders, sendersMax))
	runtime.GC()
	q.percent = debug.SetGCPercent(-1)
	room := int64(heapGrowthMax)
	if avail := memoryAvailable(); avail > 0 {
		room = min(room, avail/4)
	}
	q.limit = debug.SetMemoryLimit(goMemory() + room)
	return q
}

// restore does nothing on nil and when called again.
func (q *quietProcess) restore() {
	if q == nil || q.procs == 0 {
		return
	}
	debug.SetMemoryLimit(q.limit)
	debug.SetGCPercent(q.percent)
	runtime.GOMAXPROCS(q.procs)
	q.procs = 0
}

// goMemory is what the runtime's memory limit is compared with, bytes.
func goMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64()) - int64(s[1].Value.Uint64())
}
