package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/broker"
	"github.com/weirmq/weir/engine"
)

// States of a partition: offline is one that is damaged, whose log directory has failed, or whose broker refuses to tell of it.
const (
	partitionOnline  = "online"
	partitionOffline = "offline"
)

// partitionRow is one partition in `weir topic describe`.
type partitionRow struct {
	Partition  int32          `json:"partition"`
	State      string         `json:"state"`
	Error      string         `json:"error,omitempty"` // why it is offline
	Leader     int32          `json:"leader"`
	Epoch      int32          `json:"leader_epoch"`
	Replicas   []int32        `json:"replicas"`
	InSync     []int32        `json:"in_sync_replicas"`
	LogStart   int64          `json:"log_start_offset"`
	End        int64          `json:"high_watermark"`
	Durability *durabilityRow `json:"durability,omitempty"` // of weir's partitions only
}

// durabilityRow says how much of a partition is on the disk. Counters are since the broker opened the partition.
type durabilityRow struct {
	Durable        int64   `json:"durable_offset"`
	LogEnd         int64   `json:"log_end_offset"`
	UnsyncedBytes  int64   `json:"unsynced_bytes"`
	Syncs          int64   `json:"fsyncs"`
	AppendsPerSync float64 `json:"appends_per_fsync"`
	Dir            string  `json:"log_dir"`
	// Of all fsyncs in the log directory since the broker's start; absent when there were none.
	SyncP50us *int64 `json:"fsync_p50_us,omitempty"`
	SyncP99us *int64 `json:"fsync_p99_us,omitempty"`
}

// topicDetail is the answer of `weir topic describe`.
type topicDetail struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Partitions []partitionRow    `json:"partitions"`
	Configs    map[string]string `json:"configs"`
	sources    map[string]string
}

func newTopicDescribeCmd(flags *clientFlags) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show a topic's partitions, offsets, durability and configuration",
		Long: "Show a topic's partitions, offsets and configuration; where the broker is weir, also how durable each partition is: what a\n" +
			"power cut cannot take (DURABLE), what was appended (LOG END), the bytes between them, fsyncs and appends per fsync since the\n" +
			"partition was opened, and the median and 99th percentile of the fsyncs of its log directory since the broker's start.\n" +
			"Another broker's columns show -. A partition is OFFLINE when damage was met in it, its log directory has failed or its broker\n" +
			"answers an error: why is told below the table.",
		Example: "  weir topic describe orders\n  weir topic describe orders --all --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, flags, func(ctx context.Context, client *kgo.Client) error {
				detail, err := describeTopic(ctx, flags, client, args[0], all)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), detail)
				}
				return printTopic(cmd.OutOrStdout(), detail)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&all, "all", false, "show every configuration key, defaults included")
	return cmd
}

func describeTopic(ctx context.Context, flags *clientFlags, client *kgo.Client, name string, all bool) (*topicDetail, error) {
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx, name)
	if err != nil {
		return nil, flags.unreachable(err)
	}
	topic, ok := topics[name]
	if !ok || errors.Is(topic.Err, kerr.UnknownTopicOrPartition) {
		return nil, flags.missing(name)
	}
	if topic.Err != nil {
		return nil, topicError("describing", name, topic.Err, "")
	}
	detail := &topicDetail{Name: name, ID: engine.TopicID(topic.ID).String(), Configs: map[string]string{}, sources: map[string]string{}}
	if err := detail.addPartitions(ctx, admin, topic.Partitions.Sorted()); err != nil {
		return nil, err
	}
	detail.addDurability(ctx, client)
	configs, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, resource := range configs {
		for _, config := range resource.Configs {
			if all || config.Source.String() == "DYNAMIC_TOPIC_CONFIG" || strings.HasPrefix(config.Key, "fsync.") {
				detail.Configs[config.Key] = config.MaybeValue()
				detail.sources[config.Key] = config.Source.String()
			}
		}
	}
	return detail, nil
}

// addPartitions fills in what every broker tells.
func (d *topicDetail) addPartitions(ctx context.Context, admin *kadm.Client, partitions []kadm.PartitionDetail) error {
	starts, err := admin.ListStartOffsets(ctx, d.Name)
	if err != nil {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx, d.Name)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		row := partitionRow{Partition: p.Partition, State: partitionOnline, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas,
			InSync: p.ISR, LogStart: -1, End: -1}
		start, _ := starts.Lookup(d.Name, p.Partition)
		end, _ := ends.Lookup(d.Name, p.Partition)
		if start.Err == nil {
			row.LogStart = start.Offset
		}
		if end.Err == nil {
			row.End = end.Offset
		}
		if err := cmp.Or(p.Err, start.Err, end.Err); err != nil {
			row.offline(errorText(err))
		}
		d.Partitions = append(d.Partitions, row)
	}
	return nil
}

// addDurability fills in what only weir tells, and which log directories have failed. A broker that does not, or may not, leaves the rows as they are.
func (d *topicDetail) addDurability(ctx context.Context, client *kgo.Client) {
	asked := kmsg.NewDescribeLogDirsRequestTopic()
	asked.Topic = d.Name
	for i := range d.Partitions {
		asked.Partitions = append(asked.Partitions, d.Partitions[i].Partition)
	}
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Topics = append(req.Topics, asked)
	for _, shard := range client.RequestSharded(ctx, req) {
		if resp, ok := shard.Resp.(*kmsg.DescribeLogDirsResponse); ok && shard.Err == nil {
			d.addLogDirs(shard.Meta.NodeID, resp.Dirs)
		}
	}
}

// addLogDirs takes a broker's answer for the partitions that it leads.
func (d *topicDetail) addLogDirs(broker int32, dirs []kmsg.DescribeLogDirsResponseDir) {
	rows := map[int32]*partitionRow{}
	for i := range d.Partitions {
		if row := &d.Partitions[i]; row.Leader == broker {
			rows[row.Partition] = row
		}
	}
	var failed []string
	for i := range dirs {
		if err := kerr.ErrorForCode(dirs[i].ErrorCode); err != nil {
			failed = append(failed, dirs[i].Dir+": "+errorText(err))
		}
		for _, topic := range dirs[i].Topics {
			for j := range topic.Partitions {
				if row := rows[topic.Partitions[j].Partition]; row != nil && topic.Topic == d.Name {
					row.addDurability(&dirs[i], &topic.Partitions[j])
					delete(rows, row.Partition)
				}
			}
		}
	}
	if len(failed) == 0 {
		return
	}
	for _, row := range rows { // a failed directory does not list its partitions
		row.offline("its log directory has failed: " + strings.Join(failed, ", or "))
	}
}

// shownState is the state in the table, where the one that is not as it should be stands out.
func (row *partitionRow) shownState() string {
	if row.State == partitionOffline {
		return "OFFLINE"
	}
	return row.State
}

func (row *partitionRow) offline(why string) { row.State, row.Error = partitionOffline, why }

func (row *partitionRow) addDurability(dir *kmsg.DescribeLogDirsResponseDir, p *kmsg.DescribeLogDirsResponseDirTopicPartition) {
	if why, ok := broker.ReadLogOffline(&p.UnknownTags); ok {
		row.offline(why)
	}
	told, ok := broker.ReadLogDurability(&p.UnknownTags)
	if !ok {
		return
	}
	row.LogStart, row.End = told.LogStart, told.HighWatermark // of the same moment as the others
	row.Durability = &durabilityRow{
		Durable: told.Durable, LogEnd: told.LogEnd, UnsyncedBytes: told.UnsyncedBytes, Syncs: told.Syncs, Dir: dir.Dir,
	}
	if told.Syncs > 0 {
		row.Durability.AppendsPerSync = float64(told.SyncedAppends) / float64(told.Syncs)
	}
	if p50, p99, ok := broker.ReadSyncLatency(&dir.UnknownTags); ok {
		row.Durability.SyncP50us, row.Durability.SyncP99us = &p50, &p99
	}
}

func printTopic(w io.Writer, detail *topicDetail) error {
	fmt.Fprintf(w, "topic %s, id %s, %s\n\n", detail.Name, detail.ID, countOf(len(detail.Partitions), "partition"))
	table := newTable(w, "PARTITION", "STATE", "LEADER", "EPOCH", "REPLICAS", "IN-SYNC", "LOG START", "HIGH WATERMARK",
		"DURABLE", "LOG END", "UNSYNCED", "FSYNCS", "APPENDS/FSYNC", "FSYNC P50", "FSYNC P99")
	for _, p := range detail.Partitions {
		fmt.Fprintf(table, "%d\t%s\t%d\t%d\t%v\t%v\t%d\t%d\t%s\n", p.Partition, p.shownState(), p.Leader, p.Epoch, p.Replicas, p.InSync, p.LogStart, p.End,
			strings.Join(p.Durability.columns(), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	printOffline(w, detail.Partitions)
	if len(detail.Configs) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table = newTable(w, "CONFIG", "VALUE", "SOURCE")
	for _, key := range slices.Sorted(maps.Keys(detail.Configs)) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", key, cmp.Or(detail.Configs[key], "(unset)"), detail.sources[key])
	}
	return table.Flush()
}

// printOffline says why partitions are offline, and what that means.
func printOffline(w io.Writer, partitions []partitionRow) {
	some := false
	for _, p := range partitions {
		if p.State == partitionOffline {
			fmt.Fprintf(w, "\npartition %d is OFFLINE: %s", p.Partition, p.Error)
			some = true
		}
	}
	if some {
		fmt.Fprint(w, "\nwhat to do: an offline partition takes no records, and what lies below a fault can still be read; `weir dump FILE` shows a damaged file,\n"+
			"and the broker's log says when and why it happened. A failed disk is looked at again when the broker starts.\n")
	}
}

// columns are the cells of the table, "-" where nothing is known.
func (d *durabilityRow) columns() []string {
	cells := []string{"-", "-", "-", "-", "-", "-", "-"}
	if d == nil {
		return cells
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	cells[0], cells[1], cells[2], cells[3] = number(d.Durable), number(d.LogEnd), byteSize(d.UnsyncedBytes), number(d.Syncs)
	if d.Syncs > 0 {
		cells[4] = fmt.Sprintf("%.1f", d.AppendsPerSync)
	}
	if d.SyncP50us != nil && d.SyncP99us != nil {
		cells[5], cells[6] = microseconds(*d.SyncP50us).String(), microseconds(*d.SyncP99us).String()
	}
	return cells
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
