package netpoll

import (
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// How a loop sleeps decides what the Go runtime's monitor costs. That thread looks every 10 ms for goroutines that block a processor (P) of GOMAXPROCS,
// and every 20 microseconds, for some milliseconds, after it took one from a thread that was 10 ms in a system call, or whose goroutine had not been
// through the scheduler for as long; also after all Ps were idle. An event loop that just sleeps in epoll_wait is such a thread all the time. At 375
// requests a second the monitor used more CPU than the broker's own work (BENCHMARKS.md, event loops). So a loop rests in three ways, one after the other:
//
//  1. For restShort after an event it sleeps in system calls that end before the monitor takes its P, and goes through the scheduler now and then.
//     Another P can take over at once what the loop has made ready.
//  2. Up to restKept it sleeps without telling the scheduler: a P that runs is not taken, and the monitor stays at 10 ms. It sends that thread a signal
//     as often, since the goroutine seems to run for too long, and stopping the world takes such a signal too; each ends the call, see epollWait.
//     This is no way to sleep as long as more can come at once: another P that takes over a goroutine from one that runs waits some 60 microseconds first.
//  3. After that it gives its P up, and an idle process has nothing to do at all.
const (
	restShort = int64(4 * time.Millisecond)
	restKept  = int64(100 * time.Millisecond)
	// restScheduled is after how long a loop goes through the scheduler before it sleeps: with restShort it is less than the monitor's 10 ms.
	restScheduled = int64(5 * time.Millisecond)
)

// keptSpare is how many Ps are left to others while loops keep theirs: one for each core, so that no core stands idle for want of one, and at least as
// many as a broker gives its fsyncs. All where the runtime sends no signals, by which a kept P lets the world be stopped.
var keptSpare = sparePs(runtime.GOMAXPROCS(0), os.Getenv("GODEBUG"))

func sparePs(cores int, debug string) int32 {
	if strings.Contains(debug, "asyncpreemptoff=1") {
		return math.MaxInt32 / 2
	}
	return int32(max(4, cores))
}

// keptPs is how many loops of this process sleep in the second way.
var keptPs atomic.Int32

// keepP takes a place among the loops that keep their P, if there is one: dropP gives it back.
func keepP() bool {
	if keptPs.Add(1)+keptSpare <= int32(runtime.GOMAXPROCS(0)) {
		return true
	}
	keptPs.Add(-1)
	return false
}

func dropP() { keptPs.Add(-1) }

// rest is when a loop was busy last.
type rest struct {
	event     int64 // nanos of the last wait after which there was something to do
	scheduled int64 // nanos when it last went through the scheduler
}

// yield lets other goroutines have the P.
func (r *rest) yield(now int64) {
	r.scheduled = now
	runtime.Gosched()
}

// begin says how long to sleep at most, in ms, -1 being for ever, and whether without telling the scheduler; end must follow.
func (r *rest) begin(now int64) (timeoutMs int, kept bool) {
	idle := now - r.event
	if idle < restShort {
		if now-r.scheduled > restScheduled {
			r.yield(now)
		}
		return int(restShort / int64(time.Millisecond)), false
	}
	if idle < restKept && keepP() {
		return int((restKept-idle)/int64(time.Millisecond)) + 1, true
	}
	return -1, false
}

// end notes that a sleep is over, and whether the loop has something to do.
func (r *rest) end(now int64, kept, busy bool) {
	if kept {
		dropP()
	}
	if busy {
		r.event = now
	}
}
