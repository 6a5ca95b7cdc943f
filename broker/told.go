package broker

import (
	"sync"
	"time"
)

const (
	toldAgainAfter = 10 * time.Second
	toldErrorsMax  = 256
)

// toldErrors keeps the log readable when a disk or a partition has failed: every request of every client then fails with the same
// words, thousands of times a second. Each text is told once in toldAgainAfter, with the number of those left out. The zero value is ready.
type toldErrors struct {
	mu struct {
		sync.Mutex
		last map[string]*toldError // by text; at most toldErrorsMax
	}
}

type toldError struct {
	at      time.Time
	omitted int
}

// tell says whether a text is to be told now, and how often it was not since it was told last.
func (e *toldErrors) tell(text string, now time.Time) (omitted int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	told := e.mu.last[text]
	if told != nil && now.Sub(told.at) < toldAgainAfter {
		told.omitted++
		return 0, false
	}
	if told == nil {
		if e.mu.last == nil || len(e.mu.last) >= toldErrorsMax {
			e.mu.last = map[string]*toldError{}
		}
		told = &toldError{}
		e.mu.last[text] = told
	}
	omitted, told.omitted, told.at = told.omitted, 0, now
	return omitted, true
}
