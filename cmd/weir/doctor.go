package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirmq/weir/internal/host"
)

// finding is one line of `weir doctor`.
type finding struct {
	Check  string `json:"check"`
	Level  string `json:"level"` // ok, warn or fail
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
		Long: "Check the data directory's file system and its fdatasync, free space, limits on files and memory, clock source and congestion control,\n" +
			"and with --dial whether the broker at --brokers can be reached at the address that it tells its clients.\n" +
			"Exit status 1 when a check fails; a warning does not change it.",
		Example: "  weir doctor --data-dir /var/lib/weir\n  weir doctor --dial --brokers 127.0.0.1:9092 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{}
			d.host()
			d.disk(dir)
			if dial {
				d.broker(cmd, flags)
			}
			return d.report(cmd, asJSON)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&dir, "data-dir", "d", ".", "data directory, existing or to be")
	cmd.Flags().BoolVar(&dial, "dial", false, "dial the broker at --brokers and each address that it advertises")
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
	d.expect("open files", facts.OpenFilesMax >= 10000, fmt.Sprintf("%d (hard limit)", facts.OpenFilesMax), "warn",
		"raise it (LimitNOFILE= in a systemd unit): connections and open segments share it")
	d.expect("clock source", facts.ClockSource != "hpet" && facts.ClockSource != "acpi_pm", facts.ClockSource, "warn",
		"reading this clock is a slow call; tsc or kvm-clock is better")
	d.expect("congestion control", facts.CongestionControl != "bbr", facts.CongestionControl, "warn",
		"bbr is slow on loopback; the broker uses cubic there, but your clients do what the kernel says")
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
	options := strings.Split(mount.Options, ",")
	d.expect("mount options", !slices.Contains(options, "nobarrier") && !slices.Contains(options, "barrier=0"), mount.Options, "fail",
		"without barriers fsync does not reach the disk: remount without nobarrier")
	if slices.Contains(options, "ro") {
		d.add("writable", "fail", "mounted read-only", "remount it read-write")
		return
	}
	d.expect("free space", mount.FreeBytes*10 >= mount.TotalBytes,
		fmt.Sprintf("%s of %s", byteSize(mount.FreeBytes), byteSize(mount.TotalBytes)), "warn",
		"less than a tenth is free: set log.retention.bytes, or make room")
	d.fdatasync(existing)
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

func (d *doctor) broker(cmd *cobra.Command, flags *clientFlags) {
	err := withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
		brokers, err := admin.ListBrokers(ctx)
		if err != nil {
			return flags.unreachable(err)
		}
		d.add("broker", "ok", flags.brokers, "")
		for _, b := range brokers {
			address := fmt.Sprintf("%s:%d", b.Host, b.Port)
			one := &clientFlags{brokers: address, timeout: flags.timeout}
			err := withAdmin(cmd, one, func(ctx context.Context, admin *kadm.Client) error { _, err := admin.ListBrokers(ctx); return err })
			if err != nil {
				d.add("advertised address", "fail", fmt.Sprintf("%s: %v", address, err), "start the broker with --advertise HOST:PORT that its clients can reach")
				continue
			}
			d.add("advertised address", "ok", address, "")
		}
		return nil
	})
	if err != nil {
		d.add("broker", "fail", err.Error(), "is it running, and is --brokers its address?")
	}
}
