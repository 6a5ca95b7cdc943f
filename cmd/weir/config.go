package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirmq/weir/broker"
)

func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Look up configuration keys",
		Example: "  weir config keys\n  weir config keys --topic --json",
	}
	cmd.AddCommand(newConfigKeysCmd())
	return cmd
}

// keyRow is one key of `weir config keys --json`.
type keyRow struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Default string `json:"default"`
	Values  string `json:"values"`
	Dynamic bool   `json:"dynamic"`
	Doc     string `json:"doc"`
}

func newConfigKeysCmd() *cobra.Command {
	var topic, asJSON bool
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "List the configuration keys with defaults, allowed values and meaning",
		Example: "  weir config keys\n  weir config keys --topic",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, _, err := broker.NewConfig(nil)
			if err != nil {
				return err
			}
			keys := config.BrokerKeys()
			if topic {
				keys = config.TopicKeys()
			}
			rows := make([]keyRow, 0, len(keys))
			for _, key := range keys {
				rows = append(rows, keyRow{key.Name, key.Type.String(), key.Default, key.Range(), key.Dynamic || topic, key.Doc})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			table := newTable(cmd.OutOrStdout(), "KEY", "DEFAULT", "VALUES", "LIVE", "MEANING")
			for _, row := range rows {
				live := "no"
				if row.Dynamic {
					live = "yes"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", row.Name, row.Default, row.Values, live, row.Doc)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&topic, "topic", false, "topic keys instead of broker keys")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
