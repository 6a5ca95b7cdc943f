package bench

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/host"
)

// Limits are the floors of a host: what it can do without any broker, each the best of several short probes, so that a moment in which
// something else ran does not make the host look slower than it is. Rates are bytes per second, costs are CPU seconds per 10^9 bytes, times
// are microseconds.
type Limits struct {
	MemoryTouch  float64 `json:"first_touch_bytes_per_s"`
	Copy         float64 `json:"copy_bytes_per_s"`
	CRC          float64 `json:"crc32c_bytes_per_s"`
	CRCCost      float64 `json:"crc32c_cpu_s_per_gb"`
	LoopbackRate float64 `json:"loopback_bytes_per_s"`
	LoopbackCost float64 `json:"loopback_cpu_s_per_gb"` // both sides together
	RoundTrip    float64 `json:"loopback_round_trip_us"`
	WriteRate    float64 `json:"page_cache_write_bytes_per_s"` // of fresh and of preallocated files
	WriteCost    float64 `json:"page_cache_write_cpu_s_per_gb"`
	SendfileRate float64 `json:"sendfile_bytes_per_s"`
	SendfileCost float64 `json:"sendfile_cpu_s_per_gb"` // sender and a receiver that drops the bytes in the kernel, together
	// Sync times appends, SyncRewrite is the median where no new block is needed.
	Sync        *SyncSummary `json:"fdatasync,omitempty"`
	SyncRewrite float64      `json:"fdatasync_rewrite_p50_us"`
	FileSystem  string       `json:"file_system"`
	Congestion  string       `json:"congestion"` // the host's default
	// LoopbackCongestion and SendfileCongestion are the congestion controls with which the floors were reached: it can make a factor of six.
	LoopbackCongestion string `json:"loopback_congestion"`
	SendfileCongestion string `json:"sendfile_congestion"`
}

// limitTime is how long each probe runs, limitRepeats how often, limitChunk what it moves at once, and limitFile the size of its file.
const (
	limitTime    = 150 * time.Millisecond
	limitRepeats = 2
	limitChunk   = 256 << 10
	limitFile    = 256 << 20
)

// limitProbe is one measurement of the floors.
type limitProbe struct {
	*Limits
	time time.Duration
	file int64
}

// MeasureLimits measures the floors; dir lies on the disk in question, "" is the temporary directory. It takes about 8 s and writes
// temporary files of 256 MiB, one after the other.
func MeasureLimits(ctx context.Context, dir string) (*Limits, error) {
	return measureLimits(ctx, dir, limitTime, limitFile)
}

func measureLimits(ctx context.Context, dir string, per time.Duration, fileBytes int64) (*Limits, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	tmp, err := os.MkdirTemp(dir, "weir-limits-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	l := &Limits{MemoryTouch: ProbeMemory(), FileSystem: describeMount(tmp), Congestion: host.Read().CongestionControl}
	probe := &limitProbe{l, per, fileBytes}
	steps := []func(context.Context, string) error{probe.memory, probe.write, probe.loopback, probe.roundTrip, probe.sendfile, probe.rewrite}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(ctx, tmp); err != nil {
			return nil, err
		}
	}
	var e Environment
	e.measureSync(tmp)
	l.Sync = e.Sync
	return l, nil
}

// floor is what a kind of probe reached: the highest rate and the lowest cost, not necessarily of the same probe.
type floor struct {
	rate, cost float64
	congestion string // of the lowest cost
}

// take keeps what is better than before.
func (f *floor) take(rate, cost float64, congestion string) {
	f.rate = max(f.rate, rate)
	if cost > 0 && (f.cost == 0 || cost < f.cost) {
		f.cost, f.congestion = cost, congestion
	}
}

// cpuCost runs f, which returns the bytes moved, and gives rate and CPU cost.
func cpuCost(f func() (int64, error)) (rate, cost float64, err error) {
	before, start := sampleSelf(), time.Now()
	n, err := f()
	if err != nil || n == 0 {
		return 0, 0, err
	}
	after := sampleSelf()
	return float64(n) / time.Since(start).Seconds(), (after.cpuSeconds - before.cpuSeconds) / (float64(n) / 1e9), nil
}

func (l *limitProbe) memory(context.Context, string) error {
	src, dst := make([]byte, 64<<20), make([]byte, 64<<20)
	best := func(f func() int) (rate, cost float64) {
		var best floor
		f() // touches the memory
		for range limitRepeats {
			r, c, _ := cpuCost(func() (int64, error) {
				var n int64
				for start := time.Now(); time.Since(start) < l.time; {
					n += int64(f())
				}
				return n, nil
			})
			best.take(r, c, "")
		}
		return best.rate, best.cost
	}
	l.Copy, _ = best(func() int { return copy(dst, src) })
	chunk := src[:limitChunk] // what was just received lies in a cache
	l.CRC, l.CRCCost = best(func() int {
		for range 64 {
			crc32.Checksum(chunk, castagnoli)
		}
		return 64 * len(chunk)
	})
	return nil
}

// write fills files of the probe's size, fresh and preallocated, with small and large calls. The last one stays for sendfile.
func (l *limitProbe) write(ctx context.Context, dir string) error {
	var best floor
	for i := range 2 * limitRepeats {
		rate, cost, err := l.writeOnce(ctx, filepath.Join(dir, "file"), limitChunk<<(2*(i/2)), i%2 == 1)
		if err != nil {
			return err
		}
		best.take(rate, cost, "")
	}
	l.WriteRate, l.WriteCost = best.rate, best.cost
	return nil
}

func (l *limitProbe) writeOnce(ctx context.Context, path string, chunkBytes int, preallocate bool) (rate, cost float64, err error) {
	_ = os.Remove(path) // its pages are free, and warm, for this one
	f, err := os.Create(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if preallocate {
		_ = unix.Fallocate(int(f.Fd()), 0, 0, l.file) // not every file system can
	}
	chunk := make([]byte, chunkBytes)
	return cpuCost(func() (int64, error) {
		var n int64
		for n < l.file && ctx.Err() == nil {
			m, err := f.Write(chunk)
			n += int64(m)
			if err != nil {
				return n, err
			}
		}
		return n, nil
	})
}

// rewrite times fdatasync where blocks are allocated and written already: the least that a durable acknowledgement can take.
func (l *limitProbe) rewrite(_ context.Context, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	const times, block = 100, 4096
	var us []float64
	buf := make([]byte, block)
	for i := range int64(times) {
		if _, err := f.WriteAt(buf, i*block%l.file); err != nil {
			return err
		}
		begin := time.Now()
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Fdatasync(int(f.Fd()))
		}
		if err != nil {
			return fmt.Errorf("fdatasync: %w", err)
		}
		us = append(us, float64(time.Since(begin).Nanoseconds())/1e3)
	}
	l.SyncRewrite = median(us)
	return nil
}

// WriteLimits prints the floors and the bounds that follow from them.
func WriteLimits(w io.Writer, l *Limits) {
	gb := func(v float64) string { return fmt.Sprintf("%.2f GB/s", v/1e9) }
	rows := [][]string{{"floor", "rate", "CPU s/GB"},
		{"memory, first touch", gb(l.MemoryTouch), ""}, {"memory copy", gb(l.Copy), fmt.Sprintf("%.3f", 1e9/l.Copy)},
		{"crc32c", gb(l.CRC), fmt.Sprintf("%.3f", l.crcCost())},
		{"write into the page cache", gb(l.WriteRate), fmt.Sprintf("%.3f", l.WriteCost)},
		{"loopback, both sides" + with(l.LoopbackCongestion), gb(l.LoopbackRate), fmt.Sprintf("%.3f", l.LoopbackCost)},
		{"sendfile, both sides" + with(l.SendfileCongestion), gb(l.SendfileRate), fmt.Sprintf("%.3f", l.SendfileCost)},
		{"loopback round trip", micros(l.RoundTrip), ""}}
	if l.SyncRewrite > 0 {
		rows = append(rows, []string{"fdatasync p50, no new block", micros(l.SyncRewrite), ""})
	}
	if s := l.Sync; s != nil {
		rows = append(rows, []string{"fdatasync p50 / p99", micros(s.P50) + " / " + micros(s.P99), ""})
	}
	printColumns(w, rows, 1)
	fmt.Fprintf(w, "\ncongestion control %s; disk: %s\n", l.Congestion, l.FileSystem)
	b := l.Bounds(hostCPUs())
	fmt.Fprintf(w, "bounds with %d cores: produce %s, fetch %s, durable acknowledgement %s at p50\n",
		hostCPUs(), gb(b.Produce), gb(b.Fetch), micros(b.Durable))
	if l.Sync != nil && l.Sync.Note != "" {
		fmt.Fprintln(w, "note:", l.Sync.Note)
	}
}
