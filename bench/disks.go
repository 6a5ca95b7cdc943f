package bench

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

// diskSample is what the host's disks have done since it started, summed over block devices that are not partitions.
type diskSample struct {
	sectors  int64 // of 512 bytes, read, written and discarded
	inFlight int64 // requests, now
	flushes  int64
}

// sampleDisks reads /proc/diskstats; zero when it cannot be read.
func sampleDisks() diskSample {
	data, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return diskSample{}
	}
	return parseDisks(string(data), func(name string) bool {
		_, err := os.Stat("/sys/block/" + name)
		return err == nil
	})
}

// parseDisks adds up the lines whose device whole accepts. The fields are those of the kernel's iostats.rst, after numbers and name.
func parseDisks(text string, whole func(name string) bool) diskSample {
	var s diskSample
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 19 || !whole(f[2]) { // before Linux 5.5 there are no flushes
			continue
		}
		field := func(i int) int64 {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			return n
		}
		s.sectors += field(5) + field(9) + field(16)
		s.inFlight += field(11)
		s.flushes += field(18)
	}
	return s
}

const (
	settleQuiet   = 1500 * time.Millisecond // longer than the second after which a broker of ours removes a deleted topic's files
	settleStep    = 100 * time.Millisecond
	settleSectors = 2 << 20 / 512 // what other processes may do in that time
)

// settle waits until the host's disks have had nearly nothing to do for quiet, at most limit: a deleted topic's files are cut down
// and discarded for seconds, which the next run would pay for. It reports whether they came to rest.
func settle(ctx context.Context, limit, quiet time.Duration, sample func() diskSample) bool {
	begin := time.Now()
	from, since := sample(), begin
	for time.Since(since) < quiet {
		if time.Since(begin) >= limit || ctx.Err() != nil {
			return false
		}
		select {
		case <-time.After(min(settleStep, quiet/4)):
		case <-ctx.Done():
		}
		if now := sample(); now.inFlight > 0 || now.sectors-from.sectors > settleSectors {
			from, since = now, time.Now()
		}
	}
	return true
}
