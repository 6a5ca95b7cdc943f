package bench

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for every architecture that Go runs on.
const ticksPerSecond = 100

// ProcSample is the state of a set of processes at one moment, totals since their start.
type ProcSample struct {
	CPUSeconds  float64 // user and system
	RSSBytes    int64
	CtxVol      int64 // voluntary context switches, all threads
	CtxInvol    int64
	WriteBytes  int64 // sent to the storage layer (/proc/PID/io write_bytes)
	Written     int64 // through write calls
	WriteCalls  int64
	MinorFaults int64
	Threads     int
}

// sampleProcs reads /proc for the given processes; ones that are gone count nothing.
func sampleProcs(pids []int, deep bool) ProcSample {
	var s ProcSample
	for _, pid := range pids {
		base := "/proc/" + strconv.Itoa(pid)
		stat, err := os.ReadFile(base + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 22 {
			continue
		}
		n := func(i int) int64 { v, _ := strconv.ParseInt(f[i-3], 10, 64); return v } // i: number in proc(5)
		if cpu, ok := processCPU(pid); ok {
			s.CPUSeconds += cpu
		} else {
			s.CPUSeconds += float64(n(14)+n(15)) / ticksPerSecond
		}
		s.MinorFaults += n(10)
		s.Threads += int(n(20))
		s.RSSBytes += n(24) * int64(os.Getpagesize())
		if deep {
			s.addDeep(base)
		}
	}
	return s
}

func (s *ProcSample) addDeep(base string) {
	io := procFields(base + "/io")
	s.WriteBytes += io["write_bytes"]
	s.Written += io["wchar"]
	s.WriteCalls += io["syscw"]
	tasks, _ := filepath.Glob(base + "/task/*/status")
	for _, t := range tasks {
		f := procFields(t)
		s.CtxVol += f["voluntary_ctxt_switches"]
		s.CtxInvol += f["nonvoluntary_ctxt_switches"]
	}
}

// procFields reads "name: number ..." lines.
func procFields(path string) map[string]int64 {
	out := map[string]int64{}
	data, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		if f := strings.Fields(rest); ok && len(f) > 0 {
			if v, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				out[name] = v
			}
		}
	}
	return out
}

// hostSample is the state of the whole host, in CPU seconds since boot.
type hostSample struct {
	busy, steal, total float64
	irq                float64       // interrupts, softirqs included
	kernel             map[int]int64 // clock ticks of each thread of the kernel, such as writeback
	others             float64       // all processes but this one, the target's and the kernel's, with their reaped children
	flushes            int64         // flush requests completed by all whole disks
	memFree            int64         // bytes that nothing uses, not even the page cache
}

// bootID tells one running kernel from another, "" when unknown.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// sampleHost takes a few ms on a host with hundreds of processes; mine are the target's.
func sampleHost(mine []int) hostSample {
	var s hostSample
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return s
	}
	v := make([]float64, 9)
	for i := 1; i < 9; i++ { // user nice system idle iowait irq softirq steal
		n, _ := strconv.ParseInt(f[i], 10, 64)
		v[i] = float64(n) / ticksPerSecond
		s.total += v[i]
	}
	s.steal = v[8]
	s.busy = s.total - v[4] - v[5] - v[8]
	s.irq = v[6] + v[7]
	s.flushes, s.memFree = sampleDisks().flushes, memoryLine("MemFree:")
	s.sumProcesses(append([]int{os.Getpid()}, mine...))
	return s
}

// sumProcesses notes the CPU time of the kernel's threads (kthreadd, pid 2, and its children) and adds up that of all processes but mine. A
// process that ends moves its time to the one that reaps it, so that short-lived ones count too, and none counts twice.
func (s *hostSample) sumProcesses(mine []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	s.kernel = map[int]int64{}
	var others int64
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		var ticks int64
		for _, text := range f[11:15] { // user and system, its own and of its reaped children
			n, _ := strconv.ParseInt(text, 10, 64)
			ticks += n
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		switch {
		case pid == 2 || f[1] == "2":
			s.kernel[pid] = ticks
		case !slices.Contains(mine, pid):
			others += ticks
		}
	}
	s.others = float64(others) / ticksPerSecond
}

// kernelSince is the CPU time of the kernel's threads since before, seconds. Those that ended meanwhile took theirs along: nobody reaps them.
func (s *hostSample) kernelSince(before *hostSample) float64 {
	var ticks int64
	for pid, n := range s.kernel {
		ticks += max(0, n-before.kernel[pid])
	}
	return float64(ticks) / ticksPerSecond
}

// listenerPIDs finds the processes that listen on the port of addr, when addr is an address of this host.
func listenerPIDs(addr string) []int {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil || !localHost(host) {
		return nil
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil
	}
	inodes := map[string]bool{}
	for _, f := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for _, inode := range listenInodes(f, port) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	var pids []int
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && inodes[link] {
			pid, err := strconv.Atoi(strings.Split(fd, "/")[2])
			if err == nil && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// listenInodes returns the inodes of sockets in state LISTEN (0A) on a port, from a file like /proc/net/tcp.
func listenInodes(path string, port int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	want := ":" + strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		c := strings.Fields(lines.Text())
		if len(c) > 9 && c[3] == "0A" && strings.HasSuffix(c[1], want) {
			out = append(out, c[9])
		}
	}
	return out
}

func localHost(host string) bool {
	ips, err := net.LookupIP(host)
	if err != nil {
		return false
	}
	addrs, _ := net.InterfaceAddrs()
	for _, ip := range ips {
		if ip.IsLoopback() || ip.IsUnspecified() {
			return true
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
				return true
			}
		}
	}
	return false
}

// sizeText formats a number of bytes with a binary unit.
func sizeText(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 {
			return strconv.FormatFloat(v, 'f', precision(v), 64) + " " + unit
		}
		v /= 1024
	}
	return fmt.Sprintf("%.2f TiB", v)
}

func precision(v float64) int {
	switch {
	case v == 0 || v >= 100:
		return 0
	case v >= 10:
		return 1
	}
	return 2
}
