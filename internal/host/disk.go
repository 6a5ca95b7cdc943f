package host

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// SyncTimes are the durations of fdatasync calls, ascending.
type SyncTimes []time.Duration

// MeasureSync appends blocks of the given bytes to a temporary file in dir, each followed by fdatasync, and times the
// fdatasync alone. count is how many times, at least 1. The file is removed.
func MeasureSync(dir string, count, bytes int) (SyncTimes, error) {
	file, err := os.CreateTemp(dir, "weir-fdatasync-*")
	if err != nil {
		return nil, fmt.Errorf("measuring fdatasync in %s: %w", dir, err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, bytes)
	times := make(SyncTimes, 0, count)
	for i := range count {
		block[0] = byte(i)
		if _, err := file.Write(block); err != nil {
			return nil, fmt.Errorf("measuring fdatasync in %s: %w", dir, err)
		}
		begin := time.Now()
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Fdatasync(int(file.Fd()))
		}
		if err != nil {
			return nil, fmt.Errorf("fdatasync in %s: %w", dir, err)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return times, nil
}

// Quantile is the duration that the share q (0 to 1) of the calls did not exceed; 0 without calls.
func (t SyncTimes) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[min(int(q*float64(len(t))), len(t)-1)]
}
