package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/vfs"
)

// dumpFlags are the choices of `weir dump`.
type dumpFlags struct {
	batches bool
	records bool
	offset  int64
	asJSON  bool
}

func newDumpCmd() *cobra.Command {
	f := &dumpFlags{}
	cmd := &cobra.Command{
		Use:   "dump PATH",
		Short: "Verify and print segments, indexes, snapshots and checkpoints",
		Long: "Verify a file, a partition's directory or a whole data directory: headers and CRC of every batch, order of every index, snapshots and checkpoints.\n" +
			"Exit status 1 when a file is at fault; the position of its first fault is printed. It only reads, and may run beside a broker;\n" +
			"the tail of an active segment may then be seen half written.",
		Example: "  weir dump /var/lib/weir\n" +
			"  weir dump /var/lib/weir/orders-0/00000000000000000000.log --batches\n" +
			"  weir dump /var/lib/weir/orders-0 --records --offset 1500 --json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().BoolVar(&f.batches, "batches", false, "print every batch header and index entry")
	cmd.Flags().BoolVar(&f.records, "records", false, "open every batch, verify and print its records")
	cmd.Flags().Int64Var(&f.offset, "offset", 0, "print from this offset on; what is before is verified all the same")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (f *dumpFlags) run(cmd *cobra.Command, path string) error {
	out := cmd.OutOrStdout()
	lines := json.NewEncoder(out)
	opts := engine.InspectOptions{Records: f.records, StartOffset: f.offset}
	if f.batches || f.records {
		last := ""
		opts.Visit = func(path string, item engine.InspectItem) error {
			if f.asJSON {
				return lines.Encode(struct {
					Path string `json:"path"`
					Type string `json:"type"`
					Item any    `json:"item"`
				}{path, itemType(item), item})
			}
			if path != last {
				fmt.Fprintf(out, "%s\n", path)
				last = path
			}
			_, err := fmt.Fprintf(out, "  %s\n", item)
			return err
		}
	}
	reports, err := engine.Inspect(vfs.OS(), path, opts)
	if err != nil {
		return err
	}
	faults, err := f.print(cmd, reports)
	if err != nil {
		return err
	}
	if faults > 0 {
		return &exitError{status: 1, err: errors.New("files at fault: " + fmt.Sprint(faults)), quiet: f.asJSON}
	}
	return nil
}

func (f *dumpFlags) print(cmd *cobra.Command, reports []engine.FileReport) (faults int, err error) {
	if f.asJSON {
		lines := json.NewEncoder(cmd.OutOrStdout())
		for i := range reports {
			if reports[i].Fault != nil {
				faults++
			}
			if err := lines.Encode(struct {
				Type string `json:"type"`
				*engine.FileReport
			}{"file", &reports[i]}); err != nil {
				return faults, err
			}
		}
		return faults, nil
	}
	table := newTable(cmd.OutOrStdout(), "FILE", "KIND", "BYTES", "ITEMS", "RECORDS", "STATE")
	for _, r := range reports {
		state := "ok"
		if r.Fault != nil {
			faults++
			state = r.Fault.Error()
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\n", r.Path, r.Kind, r.Bytes, r.Items, r.Records, state)
		for _, warning := range r.Warnings {
			fmt.Fprintf(table, "\t\t\t\t\tnote: %s\n", warning)
		}
	}
	return faults, table.Flush()
}

// itemType names an item for programs.
func itemType(item engine.InspectItem) string {
	switch item.(type) {
	case *engine.BatchInfo:
		return "batch"
	case *engine.RecordInfo:
		return "record"
	case *engine.IndexEntryInfo:
		return "index-entry"
	case *engine.TimeIndexEntryInfo:
		return "timeindex-entry"
	case *engine.AbortedTxnInfo:
		return "aborted-transaction"
	case *engine.ProducerInfo:
		return "producer"
	case *engine.EpochInfo:
		return "leader-epoch"
	case *engine.OffsetInfo:
		return "offset"
	}
	return "property"
}
