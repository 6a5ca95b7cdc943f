package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/host"
)

// finding is one line of `weir doctor`.
type finding struct {
	Check  string `json:"check"`
	Level  string `json:"level"` // ok, skip, warn or fail
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// doctor gathers findings.
type doctor struct{ findings []finding }

func (d *doctor) add(check, level, found, advice string) {
	d.findings = append(d.findings, finding{check, level, found, advice})
}

// expect adds an ok when the condition holds, else the level with the advice.
func (d *doctor) expect(check string, holds bool, found, level, advice string) {
	if holds {
		level, advice = "ok", ""
	}
	d.add(check, level, found, advice)
}

func newDoctorCmd() *cobra.Command {
	flags := &clientFlags{}
	var dir string
	var asJSON, dial bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host, a data directory and a broker's advertised address",
		Long: "Check the data directory's file system, mount options and fdatasync, free space, limits on files and memory, clock source\n" +
			"and congestion control, and whether the broker at --brokers, if one answers there, can be reached at the address that it tells its clients.\n" +
			"Exit status 1 when a check fails; a warning does not change it. --dial makes it a failure that no broker answers.",
		Example: "  weir doctor --data-dir /var/lib/weir\n  weir doctor --dial --brokers 127.0.0.1:9092 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{}
			d.host()
			d.disk(dir)
			d.broker(cmd, flags, dial || cmd.Flags().Changed("brokers"))
			return d.report(cmd, asJSON)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&dir, "data-dir", "d", ".", "data directory, existing or to be")
	cmd.Flags().BoolVar(&dial, "dial", false, "fail when no broker answers at --brokers; implied where --brokers is given")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (d *doctor) report(cmd *cobra.Command, asJSON bool) error {
	failed := slices.ContainsFunc(d.findings, func(f finding) bool { return f.Level == "fail" })
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), d.findings); err != nil {
			return err
		}
	} else {
		table := newTable(cmd.OutOrStdout(), "", "CHECK", "FOUND", "ADVICE")
		for _, f := range d.findings {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.Level, f.Check, f.Found, f.Advice)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if failed {
		return &exitError{status: 1, err: errors.New("a check failed"), quiet: true}
	}
	return nil
}

func (d *doctor) host() {
	facts := host.Read()
	d.add("kernel", "ok", facts.Kernel, "")
	d.add("processor", "ok", fmt.Sprintf("%s, %s", countOf(facts.CPUs, "core"), facts.CPU), "")
	d.expect("memory", facts.MemoryBytes >= 512<<20, byteSize(facts.MemoryBytes), "warn",
		"less than 512 MiB leaves little page cache: consumers will read from the disk")
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		d.expect("memory limit", limit < facts.MemoryBytes, byteSize(limit)+" (GOMEMLIMIT)", "warn",
			"not below the memory there is: the process may be killed before it collects garbage; set it to three quarters")
	}
	d.expect("open files", facts.OpenFilesMax >= 10000, fmt.Sprintf("%d (hard limit; the broker raises its own to it)", facts.OpenFilesMax), "warn",
		"raise it (LimitNOFILE= in a systemd unit): connections and open segments share it")
	d.clock(facts.ClockSource)
	d.expect("congestion control", facts.CongestionControl != "bbr", facts.CongestionControl, "warn",
		"bbr is slow on loopback; the broker uses cubic there, but your clients do what the kernel says")
}

func (d *doctor) clock(source string) {
	switch source {
	case "hpet", "acpi_pm", "refined-jiffies", "jiffies":
		d.add("clock source", "warn", source,
			"reading this clock is slow: write tsc or kvm-clock to /sys/devices/system/clocksource/clocksource0/current_clocksource")
	case "":
		d.add("clock source", "skip", "the kernel does not tell", "")
	default:
		d.add("clock source", "ok", source, "")
	}
	var now unix.Timex
	state, err := unix.Adjtimex(&now)
	if err == nil && state != unix.TIME_ERROR {
		d.add("clock", "ok", "synchronised", "")
		return
	}
	d.add("clock", "warn", "the kernel says that nothing keeps it right",
		"run a time service: retention depends on this clock, and so do the bounds of message timestamps")
}

// disk checks the file system of dir, or of its nearest parent that exists.
func (d *doctor) disk(dir string) {
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil || existing == "/" || existing == "." {
			break
		}
		existing = filepath.Dir(existing)
	}
	mount, err := host.MountOf(existing)
	if err != nil {
		d.add("data directory", "fail", err.Error(), "name a directory that can be read")
		return
	}
	d.add("data directory", "ok", fmt.Sprintf("%s on %s (%s)", dir, mount.Point, mount.Source), "")
	d.expect("file system", slices.Contains([]string{"ext4", "xfs", "btrfs"}, mount.Type), mount.Type, "warn",
		"tested on ext4; tmpfs and overlay keep nothing through a power cut, network file systems may lie about fsync")
	if mount.Type == "ext4" {
		d.expect("journal", !mount.NoJournal, map[bool]string{true: "none", false: "there is one"}[mount.NoJournal], "warn",
			"after a power failure an ext4 without a journal must be repaired by e2fsck before it is mounted: give it one with tune2fs -O has_journal")
	}
	options := strings.Split(mount.Options, ",")
	if slices.Contains(options, "sync") {
		d.add("writes", "warn", "mounted sync", "every write waits for the disk: remount with async, fsync.policy=commit is as safe")
	}
	d.expect("mount options", !slices.Contains(options, "nobarrier") && !slices.Contains(options, "barrier=0"), mount.Options, "fail",
		"without barriers fsync does not reach the disk: remount without nobarrier")
	if slices.Contains(options, "ro") {
		d.add("writable", "fail", "mounted read-only", "remount it read-write")
		return
	}
	d.space(mount)
	d.fdatasync(existing)
}

// space holds what is free against the marks at which a broker with its defaults does something.
func (d *doctor) space(mount host.Mount) {
	throttle, reserve := min(mount.TotalBytes/20, 4<<30), min(mount.TotalBytes/100, 1<<30)
	found := fmt.Sprintf("%s of %s", byteSize(mount.FreeBytes), byteSize(mount.TotalBytes))
	switch {
	case mount.FreeBytes < reserve:
		d.add("free space", "fail", found,
			fmt.Sprintf("make room, or lower log.disk.reserve.bytes: below %s the broker refuses producers", byteSize(reserve)))
	case mount.FreeBytes < throttle:
		d.add("free space", "warn", found,
			fmt.Sprintf("make room, or lower log.disk.throttle.free.bytes: below %s the broker slows producers down", byteSize(throttle)))
	case mount.FreeBytes*10 < mount.TotalBytes:
		d.add("free space", "warn", found, "less than a tenth is free: set log.retention.bytes or log.disk.used.max.ratio, or make room")
	default:
		d.add("free space", "ok", found, "")
	}
}

func (d *doctor) fdatasync(dir string) {
	times, err := host.MeasureSync(dir, 200, 4096)
	if err != nil {
		d.add("fdatasync", "fail", err.Error(), "the broker must be able to write here; check owner and mode")
		return
	}
	p50, p99 := times.Quantile(0.5), times.Quantile(0.99)
	found := fmt.Sprintf("4 KiB: p50 %s, p99 %s", p50.Round(time.Microsecond), p99.Round(time.Microsecond))
	switch {
	case p50 < 20*time.Microsecond:
		d.add("fdatasync", "warn", found, "too fast for a flush: the disk, or the hypervisor under it, does not wait for the bytes to be stored")
	case p99 > 50*time.Millisecond:
		d.add("fdatasync", "warn", found, "slow: under fsync.policy=commit this is the least that an acknowledgement takes")
	default:
		d.add("fdatasync", "ok", found, "")
	}
}

// broker dials the broker at --brokers and each address that it tells its clients.
func (d *doctor) broker(cmd *cobra.Command, flags *clientFlags, must bool) {
	err := withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
		if !must && !answers(ctx, flags.brokers) {
			d.add("broker", "skip", "nothing answers at "+flags.brokers, "give --brokers to check what a running broker advertises")
			return nil
		}
		brokers, err := admin.ListBrokers(ctx)
		if err != nil {
			return flags.unreachable(err)
		}
		d.add("broker", "ok", flags.brokers, "")
		for _, b := range brokers {
			address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
			one := &clientFlags{brokers: address, timeout: flags.timeout}
			err := withAdmin(cmd, one, func(ctx context.Context, admin *kadm.Client) error { _, err := admin.ListBrokers(ctx); return err })
			if err != nil {
				d.add("advertised address", "fail", fmt.Sprintf("%s: %v", address, err), "start the broker with --advertise HOST:PORT that its clients can reach")
				continue
			}
			if isLoopback(b.Host) {
				d.add("advertised address", "ok", address+" (this host only)", "for clients on other hosts: --listen 0.0.0.0:PORT --advertise HOST:PORT")
				continue
			}
			d.add("advertised address", "ok", address, "")
		}
		return nil
	})
	if err != nil {
		level := map[bool]string{true: "fail", false: "warn"}[must]
		d.add("broker", level, err.Error(), "is it running, and is --brokers its address?")
	}
}

// answers says whether a connection to the first of some addresses can be made.
func answers(ctx context.Context, addresses string) bool {
	first, _, _ := strings.Cut(addresses, ",")
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", strings.TrimSpace(first))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
