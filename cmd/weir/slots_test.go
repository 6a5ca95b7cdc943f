package main

import (
	"runtime"
	"testing"
)

func TestBlockedSlots(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	t.Setenv("GOMAXPROCS", "")
	addBlockedSlots()
	if got := runtime.GOMAXPROCS(0); got != before+blockedSlots {
		t.Errorf("%d slots, want %d more than %d", got, blockedSlots, before)
	}
	t.Setenv("GOMAXPROCS", "3")
	addBlockedSlots()
	if got := runtime.GOMAXPROCS(0); got != before+blockedSlots {
		t.Errorf("%d slots, although the user has set their number", got)
	}
}
