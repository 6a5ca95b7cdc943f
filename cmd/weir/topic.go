package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/engine"
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
	return withClient(cmd, flags, func(ctx context.Context, client *kgo.Client) error { return f(ctx, kadm.NewClient(client)) })
}

// withClient is withAdmin for requests that the admin client does not know.
func withClient(cmd *cobra.Command, flags *clientFlags, f func(ctx context.Context, client *kgo.Client) error) error {
	client, err := flags.connect()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
	defer cancel()
	return f(ctx, client)
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

// topicError words a broker's refusal: the code with the broker's own message, or with Kafka's general one when there is none.
func topicError(doing, topic string, err error, message string) error {
	if code := (*kerr.Error)(nil); message != "" && errors.As(err, &code) {
		return fmt.Errorf("%s topic %s: %s: %s", doing, topic, code.Message, message)
	}
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
					rows = append(rows, topicRow{topic.Topic, engine.TopicID(topic.ID).String(), len(topic.Partitions), topic.Partitions.NumReplicas()})
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
