package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/broker"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/host"
	"github.com/weirmq/weir/ioqueue"
)

// explanation is the answer of `weir explain`.
type explanation struct {
	Topic    string      `json:"topic"`
	Replicas int         `json:"replication_factor"`
	Policy   string      `json:"fsync_policy"`
	From     string      `json:"fsync_policy_from"` // the setting that decides it
	Interval string      `json:"fsync_interval,omitempty"`
	Bytes    int64       `json:"fsync_interval_bytes,omitempty"`
	MaxDelay string      `json:"fsync_max_delay,omitempty"`
	Acks     []ackLosses `json:"acks"`
	// Removed says what takes acknowledged records away on purpose.
	Removed []string `json:"removed_on_purpose"`
	// The broker's own fsyncs in the topic's log directory since its start.
	BrokerP50us *int64 `json:"broker_fsync_p50_us,omitempty"`
	BrokerP99us *int64 `json:"broker_fsync_p99_us,omitempty"`
	// Measured by this command beside the topic's log.
	Disk      string `json:"disk,omitempty"`
	SyncP50us int64  `json:"fdatasync_p50_us,omitempty"`
	SyncP99us int64  `json:"fdatasync_p99_us,omitempty"`
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
		Long: "Say in plain words, from the settings in force, which failures can lose a record of the topic that was acknowledged,\n" +
			"for acks=0, 1 and all. The broker tells how long its own fsyncs took; where it runs on this host, the disk's\n" +
			"fdatasync is measured beside the topic's log as well.",
		Example: "  weir explain orders\n  weir explain orders --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, flags, func(ctx context.Context, client *kgo.Client) error {
				e, err := explain(ctx, flags, client, args[0])
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

func explain(ctx context.Context, flags *clientFlags, client *kgo.Client, topic string) (*explanation, error) {
	detail, err := describeTopic(ctx, flags, client, topic, true)
	if err != nil {
		return nil, err
	}
	config, own, err := settingsOf(detail)
	if err != nil {
		return nil, err
	}
	log := config.LogConfig(own)
	e := &explanation{Topic: topic, Replicas: 1, Policy: log.Fsync.String(), From: config.FsyncFrom(own)}
	if len(detail.Partitions) > 0 {
		e.Replicas = len(detail.Partitions[0].Replicas)
	}
	if log.Fsync == ioqueue.PolicyInterval {
		e.Interval, e.Bytes = log.FsyncInterval.String(), log.FsyncIntervalBytes
	}
	if log.Fsync == ioqueue.PolicyCommit && log.FsyncMaxDelay > 0 {
		e.MaxDelay = log.FsyncMaxDelay.String()
	}
	minInsync, _ := strconv.Atoi(config.TopicSetting(own, "min.insync.replicas").Value)
	e.Acks = lossesOf(log, e.Replicas, minInsync)
	admin := kadm.NewClient(client)
	e.Removed = removals(log, brokerSetting(ctx, admin, detail, "log.disk.used.max.ratio"))
	e.measure(ctx, admin, detail)
	return e, nil
}

// settingsOf are a topic's settings as the broker told them: its own, and a configuration with the broker's as the rest.
func settingsOf(detail *topicDetail) (config *broker.Config, own map[string]string, err error) {
	if _, ok := detail.Configs["fsync.policy"]; !ok {
		return nil, nil, fmt.Errorf("the broker has no fsync.policy for %s: it is not weir, whose rules alone are explained here", detail.Name)
	}
	table, _, err := broker.NewConfig(nil)
	if err != nil {
		return nil, nil, err
	}
	own = map[string]string{}
	ofBroker := map[string]string{}
	for _, key := range table.TopicKeys() {
		value, told := detail.Configs[key.Name]
		switch source := detail.sources[key.Name]; {
		case !told || source == "DEFAULT_CONFIG":
		case source == "DYNAMIC_TOPIC_CONFIG":
			own[key.Name] = value
		case key.Broker != "":
			ofBroker[key.Broker] = value
		}
	}
	if config, _, err = broker.NewConfig(ofBroker); err == nil {
		err = config.CheckTopic(own)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the broker's settings for %s: %w", detail.Name, err)
	}
	return config, own, nil
}

// brokerSetting is a setting of the topic's broker, "" when it does not tell.
func brokerSetting(ctx context.Context, admin *kadm.Client, detail *topicDetail, name string) string {
	if len(detail.Partitions) == 0 {
		return ""
	}
	resources, err := admin.DescribeBrokerConfigs(ctx, detail.Partitions[0].Leader)
	if err != nil {
		return ""
	}
	for _, resource := range resources {
		for _, config := range resource.Configs {
			if config.Key == name {
				return config.MaybeValue()
			}
		}
	}
	return ""
}

// lossesOf is the contract of the durability classes on a single replica, in words.
func lossesOf(config engine.LogConfig, replicas, minInsync int) []ackLosses {
	const (
		kill  = "the broker process is killed or crashes"
		power = "the host loses power, or its kernel crashes"
		disk  = "the disk is lost, or returns other bytes than it was given"
		lies  = "power is lost and the disk had answered fdatasync without storing the bytes"
		late  = "the disk fails to write the record back later: the log directory goes offline, but the record was acknowledged"
		full  = "the disk fills up: the broker refuses new records and keeps those it acknowledged"
		net   = "the connection or the broker dies while the request is on its way"
		no    = "the broker refuses the record (full disk, too large, wrong): the connection is closed, nobody is told why"
	)
	written := ackLosses{Means: "the record is in the page cache of the host", Keeps: []string{kill, full}}
	switch config.Fsync {
	case ioqueue.PolicyCommit:
		written = ackLosses{Means: "the record is on the disk: its fdatasync has returned", Loses: []string{lies, disk}, Keeps: []string{kill, power, full}}
	case ioqueue.PolicyInterval:
		written.Loses = []string{fmt.Sprintf("%s within %s of the write, or before the fdatasync that starts after %s of writes has returned",
			power, config.FsyncInterval, byteSize(config.FsyncIntervalBytes)), late, disk}
	default:
		written.Loses = []string{power + " before the kernel wrote the record back, usually within 30 s", late, disk}
	}
	none := ackLosses{Acks: "0", Means: "nothing: the client goes on when the request is sent", Loses: []string{net, no, kill}}
	if config.Fsync == ioqueue.PolicyCommit {
		none.Loses = append(none.Loses, power+" before the record is on the disk")
	}
	none.Loses = append(none.Loses, written.Loses...)
	one, all := written, written
	one.Acks, all.Acks = "1", "all"
	if minInsync > replicas {
		all = ackLosses{Acks: "all", Means: fmt.Sprintf("there is none: every record is refused, min.insync.replicas=%d of %s",
			minInsync, countOf(replicas, "replica"))}
	} else {
		all.Means += " (the only replica, so the same as acks=1)"
	}
	return []ackLosses{none, one, all}
}

// removals says what takes records away on purpose, by the settings in force.
func removals(config engine.LogConfig, usedMaxRatio string) (removed []string) {
	if config.Cleanup&engine.CleanupCompact != 0 {
		removed = append(removed, "compaction keeps the newest record of each key only (cleanup.policy="+config.Cleanup.String()+")")
	}
	limited := false
	if config.Cleanup&engine.CleanupDelete != 0 {
		if config.RetentionMs >= 0 {
			limited = true
			age := time.Duration(min(config.RetentionMs, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
			removed = append(removed, fmt.Sprintf("segments whose records are all older than %s go (retention.ms)", age))
		}
		if config.RetentionBytes >= 0 {
			limited = true
			removed = append(removed, fmt.Sprintf("the oldest segments go while a partition holds more than %s (retention.bytes)", byteSize(config.RetentionBytes)))
		}
	}
	if ratio, err := strconv.ParseFloat(usedMaxRatio, 64); err == nil && ratio < 1 && limited && config.Cleanup == engine.CleanupDelete {
		removed = append(removed, fmt.Sprintf("the oldest segments go before that while more than %.3g %% of the disk is used, "+
			"or producers would be throttled for space (log.disk.used.max.ratio)", 100*ratio))
	}
	return append(removed, "somebody deletes records or the topic")
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

// measure tells how long fsyncs take in the topic's log directory: what the broker saw and, if it is on this host, what the disk does now.
func (e *explanation) measure(ctx context.Context, admin *kadm.Client, detail *topicDetail) {
	for _, p := range detail.Partitions {
		if p.Durability == nil {
			continue
		}
		if e.BrokerP50us == nil {
			e.BrokerP50us, e.BrokerP99us = p.Durability.SyncP50us, p.Durability.SyncP99us
		}
		if dir := p.Durability.Dir; e.Disk == "" && e.isHere(ctx, admin, dir, p.Leader) {
			if times, err := host.MeasureSync(dir, 100, 4096); err == nil {
				e.Disk, e.SyncP50us, e.SyncP99us = dir, times.Quantile(0.5).Microseconds(), times.Quantile(0.99).Microseconds()
			}
		}
	}
}

// isHere says whether dir is the log directory of a broker on this host.
func (e *explanation) isHere(ctx context.Context, admin *kadm.Client, dir string, node int32) bool {
	brokers, err := admin.ListBrokers(ctx)
	if err != nil {
		return false
	}
	for _, b := range brokers {
		if b.NodeID == node && isLoopback(b.Host) {
			_, err := os.Stat(filepath.Join(dir, "meta.properties"))
			return err == nil
		}
	}
	return false
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
	fmt.Fprintf(w, " (%s)\n", e.From)
	for _, a := range e.Acks {
		fmt.Fprintf(w, "\nacks=%s\n  an acknowledgement means: %s\n", a.Acks, a.Means)
		if len(a.Keeps) > 0 {
			fmt.Fprintf(w, "  an acknowledged record survives when\n    - %s\n", strings.Join(a.Keeps, "\n    - "))
		}
		if len(a.Loses) > 0 {
			fmt.Fprintf(w, "  an acknowledged record is lost when\n    - %s\n", strings.Join(a.Loses, "\n    - "))
		}
	}
	fmt.Fprintf(w, "\nRecords leave on purpose when\n  - %s\n\n", strings.Join(e.Removed, "\n  - "))
	if e.BrokerP50us != nil && e.BrokerP99us != nil {
		fmt.Fprintf(w, "fsyncs of the broker in this log directory since its start: p50 %s, p99 %s\n",
			microseconds(*e.BrokerP50us), microseconds(*e.BrokerP99us))
	}
	if e.Disk == "" {
		_, err := fmt.Fprintln(w, "The broker is not on this host, or the topic has no log yet: its disk was not measured.")
		return err
	}
	_, err := fmt.Fprintf(w, "fdatasync of 4 KiB in %s, 100 times now: p50 %s, p99 %s\n", e.Disk, microseconds(e.SyncP50us), microseconds(e.SyncP99us))
	if err == nil && e.Policy == ioqueue.PolicyCommit.String() {
		wait := "An acknowledgement takes at least one of them"
		if e.MaxDelay != "" {
			wait += ", and may wait up to " + e.MaxDelay + " for company before it (fsync.max.delay.ms)"
		}
		_, err = fmt.Fprintln(w, wait+".")
	}
	return err
}
