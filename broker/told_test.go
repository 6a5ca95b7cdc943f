package broker

import (
	"fmt"
	"testing"
	"time"
)

func TestTheSameErrorIsToldOnceInAWhile(t *testing.T) {
	var told toldErrors
	now := time.Unix(0, 0)
	f := func(text string, wantOmitted int, want bool) {
		t.Helper()
		if omitted, ok := told.tell(text, now); ok != want || omitted != wantOmitted {
			t.Errorf("%s at %s: got %d, %t; want %d, %t", text, now, omitted, ok, wantOmitted, want)
		}
	}
	f("disk", 0, true)
	f("disk", 0, false)
	f("another", 0, true)
	now = now.Add(toldAgainAfter - 1)
	f("disk", 0, false)
	now = now.Add(1)
	f("disk", 2, true)
	f("disk", 0, false)
	for i := range 2 * toldErrorsMax {
		f(fmt.Sprint(i), 0, true)
	}
	if n := len(told.mu.last); n > toldErrorsMax {
		t.Errorf("%d texts are remembered, want at most %d", n, toldErrorsMax)
	}
}
