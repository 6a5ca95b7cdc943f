package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/internal/timewheel"
)

// delayedChange is a CreateTopics or DeleteTopics request whose records are on their way through the metadata log. No goroutine waits: the log's loop, or the
// timeout, gives it its outcome, and a worker makes the answer of that, beside the loop's next group. A change whose wait timed out may still be made:
// REQUEST_TIMED_OUT says "unknown", not "no".
//
// The connection's next request of the same kind is served meanwhile, so that what a client has in flight shares fsyncs; all others wait, as they may
// ask for what the change makes. See workers.
type delayedChange struct {
	r      *request
	answer func([]cluster.TopicResult, error)
	timer  *timewheel.Timer
	done   atomic.Bool // it has its outcome
}

// errWaitEnded is the outcome of a change that was not decided in time.
var errWaitEnded = errors.New("the wait for the change ended, it may yet be made")

// parkChange submits a change for r and has answer called on a worker with the outcome. Errors are those of cluster.Node.Submit, and
// context.DeadlineExceeded after the timeout. It is called on r's worker, at most once, and r's handler must return then.
func (r *request) parkChange(timeout time.Duration, submit func(done func([]cluster.TopicResult, error)), answer func([]cluster.TopicResult, error)) {
	d := &delayedChange{r: r, answer: answer}
	r.b.workers.hold(r)
	d.timer = r.b.wheel.After(timeout, func() { d.finish(nil, fmt.Errorf("%w: %w", errWaitEnded, context.DeadlineExceeded)) })
	submit(func(results []cluster.TopicResult, err error) {
		d.timer.Stop()
		d.finish(results, err)
	})
}

// finish hands the outcome to a worker. Only the first counts.
func (d *delayedChange) finish(results []cluster.TopicResult, err error) {
	if !d.done.Swap(true) {
		d.r.b.workers.resume(d.r, func() { d.answer(results, err) })
	}
}

// changeTimeout is how long a change may be waited for: the client's timeout, within reason. What is not positive means the default.
func changeTimeout(timeoutMillis int32) time.Duration {
	if timeoutMillis <= 0 {
		return changeTimeoutDefault
	}
	return min(time.Duration(timeoutMillis)*time.Millisecond, changeTimeoutMax)
}
