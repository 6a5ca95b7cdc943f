package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts are what a machine says of itself; a text is empty and a number 0 where the kernel does not tell.
type Facts struct {
	Kernel            string `json:"kernel"`             // release
	CPU               string `json:"cpu"`                // model name
	CPUs              int    `json:"cpus"`               // that this process may run on
	MemoryBytes       int64  `json:"memory_bytes"`       // the machine's, or the cgroup's limit if lower
	OpenFilesMax      uint64 `json:"open_files_max"`     // RLIMIT_NOFILE, hard
	OpenFiles         uint64 `json:"open_files"`         // RLIMIT_NOFILE, soft
	ClockSource       string `json:"clock_source"`       // current one
	CongestionControl string `json:"congestion_control"` // default for TCP
	DirtyBytes        int64  `json:"dirty_bytes"`        // page cache not yet written back, now
}

// Read gathers the facts.
func Read() Facts {
	f := Facts{
		Kernel:            firstLine("/proc/sys/kernel/osrelease"),
		ClockSource:       firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		CongestionControl: firstLine("/proc/sys/net/ipv4/tcp_congestion_control"),
		CPU:               field("/proc/cpuinfo", "model name"),
		MemoryBytes:       kilobytes(field("/proc/meminfo", "MemTotal")),
		DirtyBytes:        kilobytes(field("/proc/meminfo", "Dirty")),
	}
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		f.CPUs = set.Count()
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		f.OpenFiles, f.OpenFilesMax = limit.Cur, limit.Max
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if n, err := strconv.ParseInt(firstLine(file), 10, 64); err == nil && n > 0 && n < f.MemoryBytes {
			f.MemoryBytes = n
		}
	}
	return f
}

func firstLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// field is the value of the first "name: value" line of a /proc file.
func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func kilobytes(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// Mount is the file system that a path lies on.
type Mount struct {
	Point      string `json:"point"`       // where it is mounted
	Type       string `json:"type"`        // ext4, xfs, tmpfs ...
	Source     string `json:"source"`      // device
	Options    string `json:"options"`     // of mount and super block, separated by commas
	TotalBytes int64  `json:"total_bytes"` // size
	FreeBytes  int64  `json:"free_bytes"`  // for an unprivileged process
	NoJournal  bool   `json:"no_journal"`  // an ext4 made without one
}

// MountOf finds the mount of an existing path. The error names the path.
func MountOf(path string) (Mount, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Mount{}, fmt.Errorf("finding the mount of %s: %w", path, err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return Mount{}, fmt.Errorf("finding the mount of %s: %w", path, err)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Mount{}, fmt.Errorf("finding the mount of %s: %w", path, err)
	}
	best := mountIn(string(table), real)
	var stat unix.Statfs_t
	if err := unix.Statfs(real, &stat); err != nil {
		return best, fmt.Errorf("statfs %s: %w", real, err)
	}
	best.NoJournal = best.Type == "ext4" && noJournal("/sys/fs/ext4", best.Source)
	best.TotalBytes, best.FreeBytes = int64(stat.Blocks)*stat.Bsize, int64(stat.Bavail)*stat.Bsize
	return best, nil
}

// noJournal asks the kernel for the process that commits an ext4's journal: without a journal there is none (Documentation/ABI/testing/
// sysfs-fs-ext4). What cannot be read counts as a journal.
func noJournal(sysfs, device string) bool {
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real // such as /dev/mapper/name, which is /dev/dm-0 to the kernel
	}
	task, err := os.ReadFile(filepath.Join(sysfs, filepath.Base(device), "journal_task"))
	return err == nil && strings.TrimSpace(string(task)) == "<none>"
}

// mountIn finds the longest mount point in a mountinfo table (proc(5)) that holds the path; of two on one point, the later.
func mountIn(table, path string) (best Mount) {
	for _, line := range strings.Split(table, "\n") {
		left, right, ok := strings.Cut(line, " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 6 || len(after) < 3 {
			continue
		}
		point := unescapeOctal(before[4])
		inside := path == point || point == "/" || strings.HasPrefix(path, point+"/")
		if inside && len(point) >= len(best.Point) {
			best = Mount{Point: point, Type: after[0], Source: unescapeOctal(after[1]), Options: before[5] + "," + after[2]}
		}
	}
	return best
}

// unescapeOctal undoes the kernel's \040 for a blank.
func unescapeOctal(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
