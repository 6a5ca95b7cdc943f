package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "A Kafka-compatible message broker for Linux, with a load generator that tells the truth",
		Long: "weir is a message broker that any Kafka client can use, unchanged, and the tools to run, measure and inspect it.\n\n" +
			"Exit status: 0 success, 1 failure, 2 wrong usage or configuration, 3 records lost, duplicated or out of order (bench),\n" +
			"4 no valid run (bench).",
		Example: "  weir serve --data-dir /var/lib/weir\n" +
			"  weir topic create orders --partitions 6\n" +
			"  echo hello | weir produce orders\n" +
			"  weir consume orders --from-beginning --count 1\n" +
			"  weir bench",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%v; see '%s --help'", flagError(err), cmd.CommandPath())
	})
	root.AddCommand(newServeCmd(), newTopicCmd(), newProduceCmd(), newConsumeCmd(), newDumpCmd(), newConfigCmd(),
		newExplainCmd(), newDoctorCmd(), newBenchCmd(), newVersionCmd())
	root.InitDefaultCompletionCmd()
	addCompletions(root)
	asUsageErrors(root)
	return root
}

// flagError says of a value that a flag does not take what it takes, in place of which function could not parse it.
func flagError(err error) error {
	invalid := (*pflag.InvalidValueError)(nil)
	if !errors.As(err, &invalid) {
		return err
	}
	flag := invalid.GetFlag()
	want := ""
	switch kind := flag.Value.Type(); {
	case kind == "bool":
		want = "true or false"
	case kind == "duration":
		want = "a duration such as 10s or 1m30s"
	case strings.HasPrefix(kind, "float"):
		want = "a number"
	case strings.HasPrefix(kind, "int"):
		want = "a whole number"
	default:
		return err
	}
	if errors.Is(err, strconv.ErrRange) {
		want += " that is not so far from 0"
	}
	return fmt.Errorf("--%s=%q: must be %s", flag.Name, invalid.GetValue(), want)
}

// asUsageErrors makes wrong arguments and unknown subcommands exit with status 2, as wrong flags do.
func asUsageErrors(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() { // by itself cobra prints the help and reports success, whatever the subcommand
		cmd.Args, cmd.RunE = cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError("%s; see '%s --help'", strings.ReplaceAll(err.Error(), "arg(s)", "argument(s)"), cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		asUsageErrors(sub)
	}
}
