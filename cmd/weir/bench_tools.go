package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirmq/weir/bench"
	benchprofiles "github.com/weirmq/weir/profiles/bench"
)

func newBenchListCmd() *cobra.Command {
	var show string
	var names bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the workload profiles",
		Example: "  weir bench list\n  weir bench list --show fan-out > mine.profile",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if show != "" {
				data, err := benchprofiles.Files.ReadFile(show + ".profile")
				if err != nil {
					return usageError("--show %q: the profiles are %s", show, strings.Join(profileNames(), ", "))
				}
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			for _, name := range profileNames() {
				if names {
					fmt.Fprintln(cmd.OutOrStdout(), name)
					continue
				}
				p, err := findProfile(name)
				if err != nil {
					return err
				}
				points, err := p.Points()
				if err != nil {
					return err
				}
				one, _ := p.Estimate(1, 0)
				two, _ := p.Estimate(2, 0)
				fmt.Fprintf(cmd.OutOrStdout(), "%-14s %4d points x %d, about %7s, %7s beside a peer  %s\n",
					name, len(points), p.Repeats, benchTimeText(one), benchTimeText(two), p.About)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&names, "names", false, "print names only")
	cmd.Flags().StringVar(&show, "show", "", "print this profile's file, to copy from")
	return cmd
}

func newBenchFieldsCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "fields",
		Short:   "List the fields of a profile with their defaults",
		Example: "  weir bench fields",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := bench.Spec{Conns: 2, Acks: -1}
			s.EnsureDefaults()
			for _, f := range bench.Fields() {
				fmt.Fprintf(cmd.OutOrStdout(), "%-17s %-10s %s\n", f.Name, f.Get(&s), f.Doc)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%-17s %-10s %s\n", "topic.KEY", "", "topic configuration")
			return nil
		},
	}
}

func newBenchCompareCmd() *cobra.Command {
	var threshold float64
	cmd := &cobra.Command{
		Use:   "compare BASE.json NEW.json",
		Short: "Compare two results: regressions and wins",
		Long: "Compare two results.json point by point. A difference is called one when the 95 % interval of the ratio of medians\n" +
			"excludes 1 and it exceeds --threshold. Exit status 1 when anything got worse.",
		Example: "  weir bench compare results/before/results.json results/after/results.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := bench.ReadResults(args[0])
			if err != nil {
				return &exitError{status: 2, err: err}
			}
			b, err := bench.ReadResults(args[1])
			if err != nil {
				return &exitError{status: 2, err: err}
			}
			diffs := bench.CompareResults(a, b, threshold/100)
			bench.WriteDifferences(cmd.OutOrStdout(), diffs)
			worse := 0
			for _, d := range diffs {
				if d.Word == "worse" {
					worse++
				}
			}
			if worse > 0 {
				return &exitError{status: 1, err: fmt.Errorf("bench: %d of %d comparisons got worse", worse, len(diffs))}
			}
			return nil
		},
	}
	cmd.Flags().Float64Var(&threshold, "threshold", 5, "least difference in per cent")
	return cmd
}

func newBenchReportCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "report DIR",
		Short:   "Write report.html anew from the results.json in a directory",
		Example: "  weir bench report results/acks-fsync",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := bench.ReadResults(filepath.Join(args[0], "results.json"))
			if err != nil {
				return err
			}
			if err := bench.WriteReport(args[0], res); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(args[0], "report.html"))
			return nil
		},
	}
}

func newBenchLimitsCmd() *cobra.Command {
	var asJSON bool
	var dir string
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Measure this host's floors: loopback, page cache, fdatasync, CRC, sendfile",
		Long: "Measure what the host can do at best, each with one thread per side. A broker's numbers are bounded by these; a claim\n" +
			"above a bound means that one of the two was measured wrongly.",
		Example: "  weir bench limits --dir /var/lib/weir",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := bench.MeasureLimits(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", " ")
				return enc.Encode(l)
			}
			bench.WriteLimits(cmd.OutOrStdout(), l)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&dir, "dir", "", "directory on the disk to measure (default: the temporary directory)")
	return cmd
}

func newBenchWorkerCmd() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Generate load for a `weir bench --worker` on another host",
		Long: "Serve as one of several load generators. The controller splits one schedule over its workers, measures the offset of\n" +
			"each worker's clock and merges the histograms. There is no authentication: listen only where you trust the network.",
		Example: "  weir bench worker --listen 10.0.0.7:9500\n" +
			"  weir bench run saturation --target 10.0.0.5:9092 --worker 10.0.0.7:9500 --worker 10.0.0.8:9500",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.ServeWorker(cmd.Context(), listen, true, func(addr string) {
				fmt.Fprintf(cmd.OutOrStdout(), "ready address=%s\n", addr)
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9500", "HOST:PORT to listen on")
	return cmd
}
