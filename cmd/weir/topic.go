package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newTopicCmd() *cobra.Command {
	flags := &clientFlags{}
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe and delete topics on any Kafka-compatible broker",
		Example: "  weir topic create orders --partitions 6 --set fsync.policy=interval\n" +
			"  weir topic list --json\n" +
			"  weir topic describe orders\n" +
			"  weir topic delete orders",
	}
	flags.add(cmd)
	cmd.AddCommand(newTopicCreateCmd(flags), newTopicListCmd(flags), newTopicDescribeCmd(flags), newTopicAlterCmd(flags), newTopicDeleteCmd(flags))
	return cmd
}

// withAdmin runs f with an admin client that is closed afterwards, and within the flags' timeout.
func withAdmin(cmd *cobra.Command, flags *clientFlags, f func(ctx context.Context, admin *kadm.Client) error) error {
	client, err := flags.connect()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
	defer cancel()
	return f(ctx, kadm.NewClient(client))
}

func newTopicCreateCmd(flags *clientFlags) *cobra.Command {
	var partitions int32
	var replicas int16
	var settings []string
	cmd := &cobra.Command{
		Use:     "create TOPIC...",
		Short:   "Create topics",
		Example: "  weir topic create orders --partitions 6 --set retention.ms=3600000",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			configs := map[string]*string{}
			for _, setting := range settings {
				key, value, ok := strings.Cut(setting, "=")
				if !ok || key == "" {
					return usageError("--set %q: must be KEY=VALUE", setting)
				}
				configs[key] = &value
			}
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.CreateTopics(ctx, partitions, replicas, configs, topics...)
				if err != nil {
					return flags.unreachable(err)
				}
				for _, result := range results.Sorted() {
					if result.Err != nil {
						return topicError("creating", result.Topic, result.Err, result.ErrMessage)
					}
					fmt.Fprintf(cmd.OutOrStdout(), "created %s\n", result.Topic)
				}
				return nil
			})
		},
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1 is the broker's default")
	cmd.Flags().Int16Var(&replicas, "replication-factor", -1, "replicas of each partition; -1 is the broker's default")
	cmd.Flags().StringArrayVar(&settings, "set", nil, "topic configuration, KEY=VALUE; may be given again")
	return cmd
}

func topicError(doing, topic string, err error, message string) error {
	if message != "" {
		return fmt.Errorf("%s topic %s: %w: %s", doing, topic, err, message)
	}
	return fmt.Errorf("%s topic %s: %w", doing, topic, err)
}

func newTopicDeleteCmd(flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "delete TOPIC...",
		Short:   "Delete topics and their records",
		Example: "  weir topic delete orders",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, topics []string) error {
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				results, err := admin.DeleteTopics(ctx, topics...)
				if err != nil {
					return flags.unreachable(err)
				}
				for _, result := range results.Sorted() {
					if result.Err != nil {
						return topicError("deleting", result.Topic, result.Err, result.ErrMessage)
					}
					fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", result.Topic)
				}
				return nil
			})
		},
	}
}

// topicRow is one line of `weir topic list`.
type topicRow struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replication_factor"`
}

func newTopicListCmd(flags *clientFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List topics",
		Example: "  weir topic list\n  weir topic list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				topics, err := admin.ListTopics(ctx)
				if err != nil {
					return flags.unreachable(err)
				}
				rows := []topicRow{}
				for _, topic := range topics.Sorted() {
					rows = append(rows, topicRow{topic.Topic, topic.ID.String(), len(topic.Partitions), topic.Partitions.NumReplicas()})
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				table := newTable(cmd.OutOrStdout(), "TOPIC", "ID", "PARTITIONS", "REPLICAS")
				for _, row := range rows {
					fmt.Fprintf(table, "%s\t%s\t%d\t%d\n", row.Name, row.ID, row.Partitions, row.Replicas)
				}
				return table.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// partitionRow is one partition in `weir topic describe`.
type partitionRow struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"leader_epoch"`
	Replicas  []int32 `json:"replicas"`
	InSync    []int32 `json:"in_sync_replicas"`
	LogStart  int64   `json:"log_start_offset"`
	End       int64   `json:"high_watermark"`
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
		Use:     "describe TOPIC",
		Short:   "Show a topic's partitions, offsets and configuration",
		Example: "  weir topic describe orders\n  weir topic describe orders --all --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				detail, err := describeTopic(ctx, admin, args[0], all)
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

func describeTopic(ctx context.Context, admin *kadm.Client, name string, all bool) (*topicDetail, error) {
	topics, err := admin.ListTopics(ctx, name)
	if err != nil {
		return nil, err
	}
	topic, ok := topics[name]
	if !ok {
		return nil, fmt.Errorf("topic %s does not exist; `weir topic list` shows those that do", name)
	}
	if topic.Err != nil {
		return nil, topicError("describing", name, topic.Err, "")
	}
	starts, err := admin.ListStartOffsets(ctx, name)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(ctx, name)
	if err != nil {
		return nil, err
	}
	detail := &topicDetail{Name: name, ID: topic.ID.String(), Configs: map[string]string{}, sources: map[string]string{}}
	for _, p := range topic.Partitions.Sorted() {
		row := partitionRow{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, -1, -1}
		if at, ok := starts.Lookup(name, p.Partition); ok && at.Err == nil {
			row.LogStart = at.Offset
		}
		if at, ok := ends.Lookup(name, p.Partition); ok && at.Err == nil {
			row.End = at.Offset
		}
		detail.Partitions = append(detail.Partitions, row)
	}
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

func printTopic(w io.Writer, detail *topicDetail) error {
	fmt.Fprintf(w, "topic %s, id %s, %s\n\n", detail.Name, detail.ID, countOf(len(detail.Partitions), "partition"))
	table := newTable(w, "PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN-SYNC", "LOG START", "HIGH WATERMARK")
	for _, p := range detail.Partitions {
		fmt.Fprintf(table, "%d\t%d\t%d\t%v\t%v\t%d\t%d\n", p.Partition, p.Leader, p.Epoch, p.Replicas, p.InSync, p.LogStart, p.End)
	}
	if err := table.Flush(); err != nil || len(detail.Configs) == 0 {
		return err
	}
	fmt.Fprintln(w)
	table = newTable(w, "CONFIG", "VALUE", "SOURCE")
	for _, key := range slices.Sorted(maps.Keys(detail.Configs)) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", key, detail.Configs[key], detail.sources[key])
	}
	return table.Flush()
}

// countOf is "1 partition" or "2 partitions".
func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func newTable(w io.Writer, columns ...string) *tabwriter.Writer {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(columns, "\t"))
	return table
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
