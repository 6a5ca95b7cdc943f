package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirmq/weir/broker"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/host"
	"github.com/weirmq/weir/ioqueue"
)

// explanation is the answer of `weir explain`.
type explanation struct {
	Topic     string      `json:"topic"`
	Replicas  int         `json:"replication_factor"`
	Policy    string      `json:"fsync_policy"`
	Interval  string      `json:"fsync_interval,omitempty"`
	Bytes     int64       `json:"fsync_interval_bytes,omitempty"`
	Acks      []ackLosses `json:"acks"`
	Disk      string      `json:"disk,omitempty"`
	SyncP50us int64       `json:"fdatasync_p50_us,omitempty"`
	SyncP99us int64       `json:"fdatasync_p99_us,omitempty"`
}

// ackLosses says for one value of acks what an acknowledgement means and which failures can undo it.
type ackLosses struct {
	Acks  string   `json:"acks"`
	Means string   `json:"means"`
	Loses []string `json:"can_lose"`
	Keeps []string `json:"keeps"`
}

func newExplainCmd() *cobra.Command {
	flags := &clientFlags{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain TOPIC",
		Short: "Say which failures can lose an acknowledged record of a topic",
		Long: "Say in plain words, from the settings in force, which failures can lose a record of the topic that was acknowledged, for acks=0, 1 and all.\n" +
			"Where the broker runs on this host, the disk's fdatasync is measured beside the topic's log.",
		Example: "  weir explain orders\n  weir explain orders --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				e, err := explain(ctx, admin, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), e)
				}
				return e.print(cmd.OutOrStdout())
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func explain(ctx context.Context, admin *kadm.Client, topic string) (*explanation, error) {
	detail, err := describeTopic(ctx, admin, topic, true)
	if err != nil {
		return nil, err
	}
	defaults, _, err := broker.NewConfig(nil)
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for _, key := range defaults.TopicKeys() {
		if value, ok := detail.Configs[key.Name]; ok {
			own[key.Name] = value
		}
	}
	if err := defaults.CheckTopic(own); err != nil {
		return nil, fmt.Errorf("the broker's settings for %s: %w", topic, err)
	}
	config := defaults.LogConfig(own)
	e := &explanation{Topic: topic, Replicas: 1, Policy: config.Fsync.String()}
	if len(detail.Partitions) > 0 {
		e.Replicas = len(detail.Partitions[0].Replicas)
	}
	if config.Fsync == ioqueue.PolicyInterval {
		e.Interval, e.Bytes = config.FsyncInterval.String(), config.FsyncIntervalBytes
	}
	e.Acks = lossesOf(config)
	e.measure(ctx, admin)
	return e, nil
}

// lossesOf is the contract of the durability classes on a single replica, in words.
func lossesOf(config engine.LogConfig) []ackLosses {
	const (
		kill  = "the broker process is killed or crashes"
		power = "the host loses power, or its kernel crashes"
		disk  = "the disk is lost, or returns other bytes than it was given"
		lies  = "power is lost and the disk had answered fdatasync without storing the bytes"
		net   = "the connection or the broker dies while the request is on its way"
		full  = "the broker refuses the record (full disk, too large, wrong): nobody is told"
	)
	written := ackLosses{Means: "the record is in the page cache of the host", Keeps: []string{kill}}
	switch config.Fsync {
	case ioqueue.PolicyCommit:
		written = ackLosses{Means: "the record is on the disk: its fdatasync has returned", Loses: []string{lies, disk}, Keeps: []string{kill, power}}
	case ioqueue.PolicyInterval:
		written.Loses = []string{fmt.Sprintf("%s within %s of the write, or before the fdatasync that starts after %s of writes has returned",
			power, config.FsyncInterval, byteSize(config.FsyncIntervalBytes)), disk}
	default:
		written.Loses = []string{power + " before the kernel wrote the record back, usually within 30 s", disk}
	}
	none := ackLosses{Acks: "0", Means: "nothing: the client goes on as soon as the request is sent", Loses: append([]string{net, full, kill}, written.Loses...)}
	one, all := written, written
	one.Acks, all.Acks = "1", "all"
	all.Means += " (the only replica, so the same as acks=1)"
	return []ackLosses{none, one, all}
}

func byteSize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.3g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// measure times fdatasync in the topic's log directory, if the broker says which that is and it is on this host.
func (e *explanation) measure(ctx context.Context, admin *kadm.Client) {
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) != 1 || !isLoopback(brokers[0].Host) {
		return
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return
	}
	dirs.Each(func(dir kadm.DescribedLogDir) {
		if _, holds := dir.Topics[e.Topic]; !holds || e.Disk != "" {
			return
		}
		if info, err := os.Stat(dir.Dir); err != nil || !info.IsDir() {
			return
		}
		if times, err := host.MeasureSync(dir.Dir, 100, 4096); err == nil {
			e.Disk, e.SyncP50us, e.SyncP99us = dir.Dir, times.Quantile(0.5).Microseconds(), times.Quantile(0.99).Microseconds()
		}
	})
}

func isLoopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func (e *explanation) print(w io.Writer) error {
	fmt.Fprintf(w, "topic %s: %s, fsync.policy=%s", e.Topic, countOf(e.Replicas, "replica"), e.Policy)
	if e.Interval != "" {
		fmt.Fprintf(w, ", every %s or %s", e.Interval, byteSize(e.Bytes))
	}
	fmt.Fprintln(w)
	for _, a := range e.Acks {
		fmt.Fprintf(w, "\nacks=%s\n  an acknowledgement means: %s\n", a.Acks, a.Means)
		if len(a.Keeps) > 0 {
			fmt.Fprintf(w, "  an acknowledged record survives when\n    - %s\n", strings.Join(a.Keeps, "\n    - "))
		}
		fmt.Fprintf(w, "  an acknowledged record is lost when\n    - %s\n", strings.Join(a.Loses, "\n    - "))
	}
	if e.Disk != "" {
		micro := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		_, err := fmt.Fprintf(w, "\nfdatasync of 4 KiB in %s, 100 times: p50 %s, p99 %s\n", e.Disk, micro(e.SyncP50us), micro(e.SyncP99us))
		return err
	}
	_, err := fmt.Fprintln(w, "\nThe broker is not on this host, or the topic has no log yet: its disk was not measured.")
	return err
}
