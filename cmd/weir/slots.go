package main

import (
	"os"
	"runtime"
)

// blockedSlots is how many scheduler slots the broker has beyond the cores. A thread in an fsync keeps its slot until the Go runtime takes that
// away, which it looks for every 10 ms when it has seen nothing to do: with a slot per core, two fsyncs at a segment's roll stall the event loops.
const blockedSlots = 4

// addBlockedSlots gives the fsyncs slots of their own, unless GOMAXPROCS is set by the user. To be called when the broker runs: the number of event
// loops follows from the cores.
func addBlockedSlots() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + blockedSlots)
	}
}
