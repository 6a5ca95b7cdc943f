package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newTopicAlterCmd(flags *clientFlags) *cobra.Command {
	var settings, unset []string
	var partitions int
	cmd := &cobra.Command{
		Use:     "alter TOPIC",
		Short:   "Change a topic's configuration, or add partitions",
		Example: "  weir topic alter orders --set fsync.policy=interval --unset retention.ms\n  weir topic alter orders --partitions 12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []kadm.AlterConfig
			for _, setting := range settings {
				key, value, ok := strings.Cut(setting, "=")
				if !ok || key == "" {
					return usageError("--set %q: must be KEY=VALUE", setting)
				}
				changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value})
			}
			for _, key := range unset {
				changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
			}
			if len(changes) == 0 && partitions == 0 {
				return usageError("nothing to change: give --set, --unset or --partitions")
			}
			return withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
				return alterTopic(ctx, cmd, flags, admin, args[0], changes, partitions)
			})
		},
	}
	cmd.Flags().StringArrayVar(&settings, "set", nil, "configuration to set, KEY=VALUE; may be given again")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "configuration to give back its default, KEY; may be given again")
	cmd.Flags().IntVarP(&partitions, "partitions", "p", 0, "how many partitions the topic is to have in all")
	return cmd
}

func alterTopic(ctx context.Context, cmd *cobra.Command, flags *clientFlags, admin *kadm.Client, topic string,
	changes []kadm.AlterConfig, partitions int) error {
	if len(changes) > 0 {
		results, err := admin.AlterTopicConfigs(ctx, changes, topic)
		if err != nil {
			return flags.unreachable(err)
		}
		for _, result := range results {
			if result.Err != nil {
				return topicError("altering", topic, result.Err, result.ErrMessage)
			}
		}
	}
	if partitions > 0 {
		results, err := admin.UpdatePartitions(ctx, partitions, topic)
		if err != nil {
			return flags.unreachable(err)
		}
		for _, result := range results {
			if result.Err != nil {
				return topicError("adding partitions to", topic, result.Err, result.ErrMessage)
			}
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "altered %s\n", topic)
	return err
}
