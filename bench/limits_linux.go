package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/host"
)

// Limits are the floors of a host: what one thread on each side can do, without any broker. Rates are bytes per second,
// costs are CPU seconds per 10^9 bytes, times are microseconds.
type Limits struct {
	MemoryTouch  float64      `json:"first_touch_bytes_per_s"`
	Copy         float64      `json:"copy_bytes_per_s"`
	CRC          float64      `json:"crc32c_bytes_per_s"`
	LoopbackRate float64      `json:"loopback_bytes_per_s"`
	LoopbackCost float64      `json:"loopback_cpu_s_per_gb"` // both sides together
	RoundTrip    float64      `json:"loopback_round_trip_us"`
	WriteRate    float64      `json:"page_cache_write_bytes_per_s"`
	WriteCost    float64      `json:"page_cache_write_cpu_s_per_gb"`
	SendfileRate float64      `json:"sendfile_bytes_per_s"`
	SendfileCost float64      `json:"sendfile_cpu_s_per_gb"` // sender and a receiver that drops the bytes, together
	Sync         *SyncSummary `json:"fdatasync,omitempty"`
	FileSystem   string       `json:"file_system"`
	Congestion   string       `json:"congestion"`
}

// limitTime is how long each probe runs, limitChunk what it moves at once, and limitFile the size of its file.
const (
	limitTime  = time.Second
	limitChunk = 256 << 10
	limitFile  = 256 << 20
)

// limitProbe is one measurement of the floors.
type limitProbe struct {
	*Limits
	time time.Duration
	file int64
}

// MeasureLimits measures the floors; dir lies on the disk in question, "" is the temporary directory. It takes about 7 s and writes
// a temporary file of 256 MiB.
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
	probe.memory()
	steps := []func(context.Context, string) error{probe.write, probe.loopback, probe.roundTrip, probe.sendfile}
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

func (l *limitProbe) memory() {
	src, dst := make([]byte, 64<<20), make([]byte, 64<<20)
	rate := func(f func()) float64 {
		f()
		start, n := time.Now(), 0
		for time.Since(start) < l.time/2 {
			f()
			n++
		}
		return float64(n) * float64(len(src)) / time.Since(start).Seconds()
	}
	l.Copy = rate(func() { copy(dst, src) })
	l.CRC = rate(func() { crc32.Checksum(src[:1<<20], castagnoli) }) / 64
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

func (l *limitProbe) write(ctx context.Context, dir string) error {
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, limitChunk)
	l.WriteRate, l.WriteCost, err = cpuCost(func() (int64, error) {
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
	return err
}

// socketPair connects two TCP sockets over the loopback.
func socketPair() (a, b *net.TCPConn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	d, err := ln.Accept()
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c.(*net.TCPConn), d.(*net.TCPConn), nil
}

// drop receives and drops until the end of the stream.
func drop(c *net.TCPConn, done chan<- error) {
	buf := make([]byte, limitChunk)
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
	done <- err
}

func (l *limitProbe) loopback(ctx context.Context, _ string) error {
	a, b, err := socketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go drop(b, done)
	chunk := make([]byte, limitChunk)
	l.LoopbackRate, l.LoopbackCost, err = cpuCost(func() (int64, error) {
		var n int64
		for start := time.Now(); time.Since(start) < l.time && ctx.Err() == nil; {
			m, err := a.Write(chunk)
			n += int64(m)
			if err != nil {
				return n, err
			}
		}
		a.Close()
		return n, <-done
	})
	return err
}

func (l *limitProbe) roundTrip(ctx context.Context, _ string) error {
	a, b, err := socketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		defer b.Close()
		_, err := io.CopyBuffer(struct{ io.Writer }{b}, struct{ io.Reader }{b}, make([]byte, 64))
		done <- err
	}()
	n, start := 0, time.Now()
	for one := make([]byte, 1); time.Since(start) < l.time && ctx.Err() == nil; n++ {
		if _, err := a.Write(one); err != nil {
			return err
		}
		if _, err := io.ReadFull(a, one); err != nil {
			return err
		}
	}
	l.RoundTrip = ratio(float64(time.Since(start).Microseconds()), float64(n))
	_ = a.CloseWrite()
	return <-done
}

func (l *limitProbe) sendfile(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	a, b, err := socketPair()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	w, err := newWire(b)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- w.discard(1<<62, make([]byte, 1)) }() // ends with the stream
	l.SendfileRate, l.SendfileCost, err = cpuCost(func() (int64, error) {
		var n int64
		for start := time.Now(); time.Since(start) < l.time && ctx.Err() == nil; {
			m, err := sendfileOnce(a, f, n%l.file)
			n += m
			if err != nil {
				return n, err
			}
		}
		a.Close()
		if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
			return n, fmt.Errorf("sendfile probe: %w", err)
		}
		return n, nil
	})
	return err
}

// sendfileOnce sends up to 1 MiB of f from offset pos.
func sendfileOnce(c *net.TCPConn, f *os.File, pos int64) (int64, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		off := pos
		n, errno = unix.Sendfile(int(fd), int(f.Fd()), &off, 1<<20)
		return errno != unix.EAGAIN && errno != unix.EINTR
	})
	if err == nil && errno != nil {
		err = fmt.Errorf("sendfile: %w", errno)
	}
	return int64(n), err
}

// WriteLimits prints the floors and the bounds that follow from them.
func WriteLimits(w io.Writer, l *Limits) {
	gb := func(v float64) string { return fmt.Sprintf("%.2f GB/s", v/1e9) }
	rows := [][]string{{"floor", "rate", "CPU s/GB"},
		{"memory, first touch", gb(l.MemoryTouch), ""}, {"memory copy", gb(l.Copy), fmt.Sprintf("%.3f", 1e9/l.Copy)},
		{"crc32c", gb(l.CRC), fmt.Sprintf("%.3f", 1e9/l.CRC)},
		{"write into the page cache", gb(l.WriteRate), fmt.Sprintf("%.3f", l.WriteCost)},
		{"loopback, both sides", gb(l.LoopbackRate), fmt.Sprintf("%.3f", l.LoopbackCost)},
		{"sendfile, both sides", gb(l.SendfileRate), fmt.Sprintf("%.3f", l.SendfileCost)},
		{"loopback round trip", micros(l.RoundTrip), ""}}
	if s := l.Sync; s != nil {
		rows = append(rows, []string{"fdatasync p50 / p99", micros(s.P50) + " / " + micros(s.P99), ""})
	}
	printColumns(w, rows, 1)
	fmt.Fprintf(w, "\ncongestion control %s; disk: %s\n", l.Congestion, l.FileSystem)
	b := l.Bounds(hostCPUs())
	fmt.Fprintf(w, "bounds with %d cores: produce %s, fetch %s, durable acknowledgement %s at p50\n",
		hostCPUs(), gb(b.Produce), gb(b.Fetch), micros(b.DurableP50))
	if l.Sync != nil && l.Sync.Note != "" {
		fmt.Fprintln(w, "note:", l.Sync.Note)
	}
}

// Bounds are what no broker on this host can exceed.
type Bounds struct {
	Produce    float64 `json:"produce_bytes_per_s"` // generator and broker share the cores: receive, CRC, write
	Fetch      float64 `json:"fetch_bytes_per_s"`   // sendfile to a reader that drops the bytes
	DurableP50 float64 `json:"durable_p50_us"`      // one and a half fdatasync: half of one is waited for on average
}

// Bounds derives the bounds for a host with that many cores.
func (l *Limits) Bounds(cpus int) Bounds {
	b := Bounds{Produce: float64(cpus) * 1e9 / (l.LoopbackCost + 1e9/l.CRC + l.WriteCost), Fetch: float64(cpus) * 1e9 / l.SendfileCost}
	if l.Sync != nil {
		b.DurableP50 = 1.5*l.Sync.P50 + l.RoundTrip
	}
	return b
}
