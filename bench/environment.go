package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/weirmq/weir/internal/host"
)

// Environment is the host that the generator ran on.
type Environment struct {
	host.Facts
	GoVersion   string  `json:"go_version"`
	THP         string  `json:"transparent_huge_pages"`
	DirtyRatio  string  `json:"dirty_ratio"` // background / foreground, per cent
	MemoryRate  float64 `json:"first_touch_bytes_per_s"`
	WarmedBytes int64   `json:"warmed_bytes"`
	// WarmMemoryRate is the first-touch rate right after memory was warmed, bytes per second of CPU time; 0 when it was not.
	WarmMemoryRate float64      `json:"warm_memory_bytes_per_s,omitempty"`
	Sync           *SyncSummary `json:"fdatasync,omitempty"`
	Virtual        string       `json:"virtualization,omitempty"`
}

// SyncSummary is the bare cost of an append of 4 KiB and fdatasync in the target's data directory. Times are microseconds.
type SyncSummary struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
	// Times are all of them, ascending, for the histogram.
	Times []float64 `json:"times_us"`
	Note  string    `json:"note,omitempty"`
}

func readEnvironment() Environment {
	e := Environment{Facts: host.Read(), GoVersion: runtime.Version(), MemoryRate: ProbeMemory()}
	read := func(path string) string {
		data, _ := os.ReadFile(path)
		return strings.TrimSpace(string(data))
	}
	e.THP = read("/sys/kernel/mm/transparent_hugepage/enabled")
	e.DirtyRatio = read("/proc/sys/vm/dirty_background_ratio") + " / " + read("/proc/sys/vm/dirty_ratio")
	for _, p := range []string{"/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"} {
		e.Virtual = strings.TrimSpace(e.Virtual + " " + read(p))
	}
	if cpu := read("/proc/cpuinfo"); strings.Contains(cpu, "hypervisor") {
		e.Virtual = strings.TrimSpace(e.Virtual + " virtual machine")
	}
	return e
}

// measureSync times fdatasync in dir.
func (e *Environment) measureSync(dir string) {
	times, err := host.MeasureSync(dir, 200, 4096)
	if err != nil || len(times) == 0 {
		return // shown as unknown
	}
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	e.Sync = &SyncSummary{Count: len(times), P50: us(times.Quantile(0.5)), P90: us(times.Quantile(0.9)), P99: us(times.Quantile(0.99)),
		Max: us(times[len(times)-1])}
	for _, t := range times {
		e.Sync.Times = append(e.Sync.Times, us(t))
	}
	if e.Sync.P50 < 50 {
		e.Sync.Note = "a flush this fast may be a no-op: the disk, or the hypervisor, may not make anything durable"
	}
}

func describeMount(dir string) string {
	m, err := host.MountOf(dir)
	if err != nil {
		return ""
	}
	journal := map[bool]string{true: " without a journal"}[m.NoJournal]
	return fmt.Sprintf("%s%s on %s (%s), %s free", m.Type, journal, m.Source, m.Options, sizeText(m.FreeBytes))
}
