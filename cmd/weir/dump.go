package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirmq/weir/cluster"
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
		Short: "Verify and print segments, indexes, snapshots, checkpoints and metadata",
		Long: "Verify a file, a partition's directory or a whole data directory: headers and CRC of every batch, order of every index, snapshots and checkpoints,\n" +
			"and the cluster's metadata: quorum-state, snapshots of the metadata (.image), every entry of the metadata log.\n" +
			"Exit status 1 when a file is at fault; the position of its first fault is printed. It only reads, and may run beside a broker;\n" +
			"the tail of an active segment may then be seen half written.",
		Example: "  weir dump /var/lib/weir\n" +
			"  weir dump /var/lib/weir/orders-0/00000000000000000000.log --batches\n" +
			"  weir dump /var/lib/weir/orders-0 --records --offset 1500 --json\n" +
			"  weir dump /var/lib/weir/__cluster_metadata --records\n" +
			"  weir dump /var/lib/weir/__cluster_metadata-0 --records\n" +
			"  weir dump /var/lib/weir/__cluster_metadata --records --json | jq -r 'select(.type == \"topic\") | .item.topic'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().BoolVar(&f.batches, "batches", false, "print every batch header, index entry and item of the metadata")
	cmd.Flags().BoolVar(&f.records, "records", false, "open every batch, verify and print its records; print every item of the metadata")
	cmd.Flags().Int64Var(&f.offset, "offset", 0, "print from this offset on; what is before is verified all the same")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (f *dumpFlags) run(cmd *cobra.Command, path string) error {
	opts := engine.InspectOptions{Records: f.records, StartOffset: f.offset}
	text := itemText{out: cmd.OutOrStdout(), batches: f.batches}
	if f.batches || f.records {
		opts.Visit = text.show
		if f.asJSON {
			opts.Visit = itemLines(cmd.OutOrStdout())
		}
	}
	reports, err := cluster.Inspect(vfs.OS(), path, opts)
	if err = errors.Join(err, text.flush()); err != nil {
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

// itemLines prints items as JSON, one a line.
func itemLines(out io.Writer) func(path string, item engine.InspectItem) error {
	lines := json.NewEncoder(out)
	return func(path string, item engine.InspectItem) error {
		return lines.Encode(struct {
			Path string `json:"path"`
			Type string `json:"type"`
			Item any    `json:"item"`
		}{path, itemType(item), item})
	}
}

// itemText prints items as text: those of the metadata as a table for each file, others one a line.
type itemText struct {
	out     io.Writer
	batches bool // also of the metadata log, whose entries say as much
	path    string
	table   *tabwriter.Writer // of path; nil before the first row
	rows    int
}

// tableRowsMax is how many rows a table holds back to align them.
const tableRowsMax = 1000

func (t *itemText) show(path string, item engine.InspectItem) error {
	row, isRow := item.(interface{ Row() []string })
	if _, batch := item.(*engine.BatchInfo); batch && !t.batches && cluster.IsMetadataLog(path) {
		return nil
	}
	if path != t.path || !isRow || t.rows == tableRowsMax {
		if err := t.flush(); err != nil {
			return err
		}
	}
	if path != t.path {
		fmt.Fprintf(t.out, "%s\n", path)
		t.path = path
	}
	if !isRow {
		_, err := fmt.Fprintf(t.out, "  %s\n", item)
		return err
	}
	if t.table == nil {
		t.table = newTable(t.out, "  POSITION", "ITEM", "NAME", "WHAT")
	}
	t.rows++
	_, err := fmt.Fprintf(t.table, "  %d\t%s\n", item.Position(), strings.Join(row.Row(), "\t"))
	return err
}

func (t *itemText) flush() error {
	table := t.table
	t.table, t.rows = nil, 0
	if table == nil {
		return nil
	}
	return table.Flush()
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
	case *cluster.QuorumStateInfo:
		return "quorum-state"
	case *cluster.ImageInfo:
		return "metadata-image"
	case *cluster.BrokerInfo:
		return "broker"
	case *cluster.TopicInfo:
		return "topic"
	case *cluster.RemovedTopicInfo:
		return "removed-topic"
	case *cluster.EntryInfo:
		return "metadata-entry"
	}
	return "property"
}
