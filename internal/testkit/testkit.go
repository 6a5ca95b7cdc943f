package testkit

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Deadline is how long Eventually waits before it gives up. It is far above
// what any healthy run needs: tests run on slow, shared hosts.
const Deadline = 60 * time.Second

// Eventually polls cond until it is true and fails the test with what after
// Deadline. The pause between polls grows from 50 microseconds to 20
// milliseconds.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(Deadline)
	pause := 50 * time.Microsecond
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("waited %v in vain for: %s", Deadline, what)
		}
		time.Sleep(pause)
		pause = min(pause*2, 20*time.Millisecond)
	}
}

// Receive returns the next value of ch and fails the test with what when none
// comes within Deadline or ch is closed.
func Receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(Deadline)
	defer timer.Stop()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("channel closed while waiting for: %s", what)
		}
		return v
	case <-timer.C:
		t.Fatalf("waited %v in vain for: %s", Deadline, what)
		panic("unreachable")
	}
}

// Closed waits until ch is closed (or delivers) and fails the test with what
// after Deadline.
func Closed(t testing.TB, what string, ch <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(Deadline)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
		t.Fatalf("waited %v in vain for: %s", Deadline, what)
	}
}

// Seed returns the seed of a random test: the environment's WEIR_SEED when
// set, else fallback. It logs the seed, so that a failure names what repeats
// it.
func Seed(t testing.TB, fallback uint64) uint64 {
	t.Helper()
	seed := fallback
	if s := os.Getenv("WEIR_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("WEIR_SEED=%q: %v", s, err)
		}
		seed = v
	}
	t.Logf("seed %d (repeat with WEIR_SEED=%d)", seed, seed)
	return seed
}

// Rand returns a generator that yields the same numbers for the same seed.
func Rand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x77656972)) }

// Bytes returns n random bytes from r.
func Bytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
