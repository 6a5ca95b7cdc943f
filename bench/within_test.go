package bench

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

const (
	// withinLimit is how long a run of a test may take: longer than the Drain of quickSpec, whose own words say more.
	withinLimit = testkit.Deadline + 30*time.Second
	// withinGrace is how long a run may need to end after its context has.
	withinGrace = testkit.Deadline / 4
)

// within calls f and fails the test when f does not return within withinLimit. f gets a context that ends then; code that is so broken that it
// does not heed even that is left behind, and the test fails with what every goroutine waits for.
func within(t testing.TB, what string, f func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), withinLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	limit := time.NewTimer(withinLimit + withinGrace)
	defer limit.Stop()
	select {
	case err := <-done:
		if ctx.Err() != nil {
			t.Fatalf("%s: not done within %s, and then: %v", what, withinLimit, err)
		}
		return err
	case <-limit.C:
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: not done %s after its time, %s, was up; goroutines:\n%s", what, withinGrace, withinLimit, stacks[:runtime.Stack(stacks, true)])
		panic("unreachable")
	}
}
