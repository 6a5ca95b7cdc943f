package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirmq/weir/broker"
)

// completionTimeout is how long a shell waits for the topics of a broker.
const completionTimeout = time.Second

// flagChoices are the values of flags that take one of a few, by the flag's name.
func flagChoices() map[string][]string {
	return map[string][]string{
		"netpoll":     {"epoll", "go"},
		"log-level":   {"debug", "info", "warn", "error"},
		"compression": {"none", "gzip", "snappy", "lz4", "zstd"},
		"format":      {"value", "key-value", "headers", "json"},
		"acks":        {"all", "1", "0"},
	}
}

// addCompletions teaches the shell what is not in the commands themselves: the values of flags, configuration keys, and the topics
// of the broker that --brokers names.
func addCompletions(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		for name, choices := range flagChoices() {
			complete(cmd, name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
		}
		switch cmd.Name() {
		case "serve":
			complete(cmd, "set", configKeys((*broker.Config).BrokerKeys))
		case "topic":
			for _, sub := range cmd.Commands() {
				complete(sub, "set", configKeys((*broker.Config).TopicKeys))
				if slices.Contains([]string{"describe", "alter", "delete"}, sub.Name()) {
					sub.ValidArgsFunction = topicNames
				}
			}
		case "produce", "consume", "explain":
			cmd.ValidArgsFunction = topicNames
		}
	}
}

// complete registers the completion of a flag, if cmd has it.
func complete(cmd *cobra.Command, flag string, with cobra.CompletionFunc) {
	if cmd.Flags().Lookup(flag) != nil {
		if err := cmd.RegisterFlagCompletionFunc(flag, with); err != nil {
			panic("BUG: completion of --" + flag + ": " + err.Error())
		}
	}
}

// configKeys completes KEY= of a table of keys.
func configKeys(table func(*broker.Config) []broker.Key) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		config, _, err := broker.NewConfig(nil)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var keys []string
		for _, key := range table(config) {
			keys = append(keys, cobra.CompletionWithDesc(key.Name+"=", key.Doc))
		}
		return keys, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
}

// topicNames completes the first argument with the topics of the broker, if it answers soon.
func topicNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	brokers, err := cmd.Flags().GetString("brokers")
	if err != nil || len(args) > 0 && cmd.Name() != "delete" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	flags := &clientFlags{brokers: brokers, timeout: completionTimeout}
	cmd.SetContext(context.Background()) // the shell's call has none
	_ = withAdmin(cmd, flags, func(ctx context.Context, admin *kadm.Client) error {
		topics, err := admin.ListTopics(ctx)
		names = topics.Names()
		return err
	}) // no broker, no names
	return names, cobra.ShellCompDirectiveNoFileComp
}
