package bench

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Rates of first touch, bytes per second: a guest whose hypervisor took free pages back gets them at a tenth of the warm rate.
const (
	coldMemoryRate = 1.2e9
	warmMemoryRate = 4e9
)

// A probe touches probeBytes, or what it can in probeTime.
const (
	probeBytes = 192 << 20
	probeTime  = 150 * time.Millisecond
)

// touchMemory maps n bytes, writes to each page for at most probeTime, unmaps, and returns the rate in bytes per second of the thread's CPU
// time; 0 when it cannot map. CPU time, since it counts the hypervisor's work on a fault, but not the time that other processes had.
func touchMemory(n int) float64 {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Munmap(mem) }()
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE) // 4 KiB pages, as the page cache uses for appends
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	page := os.Getpagesize()
	start, cpu := time.Now(), threadCPU()
	done := 0
	for ; done < len(mem); done += page {
		mem[done] = 1
		if done%(1<<20) == 0 && time.Since(start) > probeTime {
			break
		}
	}
	return float64(done) / max(threadCPU()-cpu, 1e-9)
}

// threadCPU is the CPU time of this thread, seconds.
func threadCPU() float64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return float64(ts.Nano()) / 1e9
}

// ProbeMemory measures how fast memory can be touched for the first time, in bytes per second.
func ProbeMemory() float64 { return touchMemory(probeBytes) }

// memoryAvailable reads MemAvailable in bytes, 0 when unknown.
func memoryAvailable() int64 { return memoryLine("MemAvailable:") }

// memoryLine reads a line of /proc/meminfo in bytes, 0 when unknown.
func memoryLine(name string) int64 {
	data, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// pinnedEvery is how many pages lie from one page that stays allocated to the next: 1 MiB, half of the smallest free block that a guest reports.
const pinnedEvery = 256

// warmedMemory is memory that was touched, and then freed but for one page in each pinnedEvery. Those pages keep it warm: a guest with free
// page reporting (virtio balloon) gives every free block of 2 MiB back to its hypervisor within seconds, and smaller ones never. The zero
// value is ready.
type warmedMemory struct{ held [][]byte }

// warm touches and frees n bytes (at most three quarters of what is available), so that the measured runs do not pay for the
// hypervisor's page faults. It stops when limit has passed, and returns the number of bytes touched.
func (w *warmedMemory) warm(ctx context.Context, n int64, limit time.Duration) int64 {
	n = min(n, memoryAvailable()*3/4)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	const step = 64 << 20
	var fresh [][]byte
	var done int64
	page := os.Getpagesize()
	for done < n && ctx.Err() == nil {
		size := int(min(step, n-done))
		mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			break
		}
		_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE) // a huge page is freed as a whole or not at all
		fresh = append(fresh, mem)
		for i := 0; i < len(mem); i += page {
			mem[i] = 1
		}
		done += int64(size)
	}
	// Only now: what was freed at once would be found again by the next step.
	for _, mem := range fresh {
		for i := 0; i < len(mem); i += pinnedEvery * page {
			if end := min(i+pinnedEvery*page, len(mem)); i+page < end {
				_ = unix.Madvise(mem[i+page:end], unix.MADV_DONTNEED)
			}
		}
	}
	w.held = append(w.held, fresh...)
	return done
}

// free gives the rest back.
func (w *warmedMemory) free() {
	for _, mem := range w.held {
		_ = unix.Munmap(mem)
	}
	w.held = nil
}
