//go:build race

package engine

// raceEnabled makes long tests shorter under the race detector, which slows them down by ten.
const raceEnabled = true
