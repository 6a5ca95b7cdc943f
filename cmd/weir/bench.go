package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/bench"
	"github.com/weirmq/weir/broker"
	benchprofiles "github.com/weirmq/weir/profiles/bench"
	"github.com/weirmq/weir/scripts/peers"
)

// Exit statuses of a bench beside 1 and 2: records were lost, duplicated, reordered or corrupt; or no run is valid, so that there is no
// result to rely on.
const (
	benchFaultStatus   = 3
	benchInvalidStatus = 4
)

// benchStatusText stands in the help of the commands that measure.
const benchStatusText = "Exit status: 0 when at least one run is valid; 1 when the bench could not be run; 2 for wrong arguments or profiles;\n" +
	"3 when records were lost, duplicated, reordered or corrupt; 4 when every run is INVALID."

// benchFlags are the choices that `weir bench` and `weir bench run` share.
type benchFlags struct {
	targets    []string
	peers      []string
	workers    []string
	topicConf  []string
	out        string
	json       bool
	quick      bool
	repeats    int
	prewarm    string
	warmMemory string
	dataDir    string
	set        []string
	fields     map[string]*string // by field name
}

func newBenchCmd() *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a broker: what do acknowledgements and fsync cost here?",
		Long: "Measure a broker with an open-loop load: requests are due at times fixed beforehand, and latency counts from those\n" +
			"times, so that a stall shows in every request that it delayed.\n\n" +
			"Without arguments it starts an embedded broker in a temporary directory, runs every combination of acks and fsync for a few\n" +
			"seconds and prints the table: under a minute. Every record is checked. A run is marked INVALID when its numbers should not be\n" +
			"believed, with the reason.\n\n" + benchStatusText,
		Example: "  weir bench\n" +
			"  weir bench --rate 50k --codec lz4 --json\n" +
			"  weir bench run latency-curve --out results/curve\n" +
			"  weir bench run acks-fsync --peer kafka\n" +
			"  weir bench run saturation --target a=embedded --target b=embedded   (A against A: the noise of this host)\n" +
			"  weir bench run saturation --target old=127.0.0.1:9092 --target new=127.0.0.1:9192",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := bench.DefaultProfile()
			if err != nil {
				return err
			}
			if f.warmMemory == "" {
				f.warmMemory = "512MiB" // more than the run fills, and soon done
			}
			return f.run(cmd, p)
		},
	}
	f.register(cmd)
	cmd.AddCommand(newBenchRunCmd(), newBenchListCmd(), newBenchFieldsCmd(), newBenchCompareCmd(), newBenchReportCmd(), newBenchLimitsCmd(),
		newBenchWorkerCmd())
	return cmd
}

func newBenchRunCmd() *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "run PROFILE",
		Short: "Run a workload profile, by name or from a file",
		Long: "Run a workload profile. PROFILE is a name that `weir bench list` shows, or the path of a file. Every field can be\n" +
			"overridden by the flag of its name; several values, separated by commas, run every combination.\n\n" + benchStatusText,
		Example: "  weir bench run acks-fsync --peer kafka --out results/acks-fsync\n" +
			"  weir bench run latency-curve --quick --acks all --fsync commit\n" +
			"  weir bench run ./mine.profile --target 10.0.0.5:9092",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := findProfile(args[0])
			if err != nil {
				return &exitError{status: 2, err: err}
			}
			return f.run(cmd, p)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return profileNames(), cobra.ShellCompDirectiveDefault
		},
	}
	f.register(cmd)
	return cmd
}

func (f *benchFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.targets, "target", nil, "broker to measure, [NAME=]HOST:PORT[,pid=N] or [NAME=]embedded; may be given again (default: embedded)")
	fl.StringArrayVar(&f.peers, "peer", nil,
		"install, start and measure a peer beside the targets: kafka (Apache Kafka 4.3.1, needs Java and Maven)")
	fl.StringArrayVar(&f.workers, "worker", nil, "HOST:PORT of a 'weir bench worker' that shares the load; may be given again")
	fl.StringArrayVar(&f.topicConf, "topic-config", nil, "topic configuration, KEY=VALUE; may be given again")
	fl.StringArrayVar(&f.set, "set", nil, "configuration of the embedded broker, KEY=VALUE; may be given again")
	fl.StringVar(&f.out, "out", "", "directory for results.json, report.html and raw histograms")
	fl.BoolVar(&f.json, "json", false, "print results.json instead of the table")
	fl.BoolVar(&f.quick, "quick", false, "shortened run: 1 s of warm-up, 3 s measured, one repeat")
	fl.IntVar(&f.repeats, "repeats", 0, "measured runs per point and target (default: the profile's)")
	fl.StringVar(&f.prewarm, "prewarm", "", "how long each target is driven at full speed before the first run (default: the profile's)")
	fl.StringVar(&f.warmMemory, "warm-memory", "", "touch this much memory first, such as 8GiB, and keep the hypervisor from taking it back")
	fl.StringVar(&f.dataDir, "data-parent", "",
		"directory in which embedded brokers and peers make their data directories (default: the temporary directory)")
	f.fields = map[string]*string{}
	for _, field := range bench.Fields() {
		f.fields[field.Name] = fl.String(strings.ReplaceAll(field.Name, "_", "-"), "", field.Doc)
	}
}

// apply puts the flags into the profile.
func (f *benchFlags) apply(p *bench.Profile) error {
	if f.quick {
		p.Quick()
	}
	if f.repeats > 0 {
		p.Repeats = f.repeats
	}
	if f.prewarm != "" {
		d, err := time.ParseDuration(f.prewarm)
		if err != nil || d < 0 {
			return fmt.Errorf("--prewarm %q: must be a duration of 0s or more, such as 10s", f.prewarm)
		}
		p.Prewarm = d
	}
	for _, field := range bench.Fields() {
		if v := *f.fields[field.Name]; v != "" {
			if err := p.Override(field.Name, v); err != nil {
				return err
			}
		}
	}
	for _, kv := range f.topicConf {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return fmt.Errorf("--topic-config %q: must be KEY=VALUE", kv)
		}
		if err := p.Override("topic."+k, v); err != nil {
			return err
		}
	}
	_, err := p.Points()
	return err
}

// resolve makes the targets: the embedded broker when none is named.
func (f *benchFlags) resolve(ctx context.Context, log io.Writer) ([]bench.Target, error) {
	var targets []bench.Target
	for _, s := range f.targets {
		if name, ok := strings.CutSuffix("="+s, "=embedded"); ok {
			targets = append(targets, f.embedded(strings.TrimPrefix(name, "=")))
			continue
		}
		t, err := bench.ParseTarget(s)
		if err != nil {
			return nil, &exitError{status: 2, err: err}
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		targets = append(targets, f.embedded(""))
	}
	for _, name := range f.peers {
		t, err := bench.NewPeer(ctx, name, f.dataDir, peers.Files, log)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// embedded is this binary's own broker as a child process, so that its CPU and memory are measured apart from the load's.
func (f *benchFlags) embedded(name string) bench.Target {
	if name == "" {
		name = "weir"
	}
	return &bench.ProcessTarget{Label: name, Parent: f.dataDir,
		Software: strings.TrimSpace("weir " + version + " " + vcsCommit()), Command: func(dir string) []string {
			exe, err := os.Executable()
			if err != nil {
				exe = "/proc/self/exe"
			}
			// As the peers: with the default the files of a run's topic would stay for a minute, in memory, and be written back during the next runs.
			argv := []string{exe, "serve", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--log-level", "warn",
				"--set", "log.segment.delete.delay.ms=1000"}
			for _, kv := range f.set {
				argv = append(argv, "--set", kv)
			}
			return argv
		}}
}

func (f *benchFlags) run(cmd *cobra.Command, p *bench.Profile) error {
	if err := f.apply(p); err != nil {
		return &exitError{status: 2, err: err}
	}
	warm, err := bench.ParseBytes(f.warmMemory)
	if err != nil {
		return usageError("--warm-memory: %v", err)
	}
	if err := f.checkSettings(); err != nil {
		return err
	}
	ctx := cmd.Context()
	targets, err := f.resolve(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	view := bench.NewLiveView(cmd.ErrOrStderr(), isTerminal(os.Stderr))
	keep := func(*bench.Results) {}
	if f.out != "" {
		keep = func(r *bench.Results) { _ = r.Write(f.out) } // written again, and checked, at the end
	}
	limits := ""
	if f.out != "" && !f.quick {
		if limits = f.dataDir; limits == "" {
			limits = os.TempDir()
		}
	}
	res, err := bench.RunSeries(ctx, bench.SeriesOptions{Profile: p, Targets: targets, WarmMemory: warm, Version: version, Commit: vcsCommit(),
		Live: view.Show, Done: keep, Workers: f.workers, LimitsDir: limits, Alone: true})
	view.Clear()
	if res == nil {
		return err
	}
	return errors.Join(err, f.publish(cmd, res))
}

// checkSettings holds --set against the embedded broker's keys. The broker would start beside an unknown one, with a warning that nobody sees,
// and something else would be measured than was asked for. Peers do not get these settings, so that Apache Kafka's other keys are mistakes too.
func (f *benchFlags) checkSettings() error {
	values := map[string]string{}
	for _, setting := range f.set {
		key, value, ok := strings.Cut(setting, "=")
		if !ok || key == "" {
			return usageError("--set %q: must be KEY=VALUE", setting)
		}
		values[key] = value
	}
	if err := broker.CheckStatic(values); err != nil {
		return usageError("--set: %w", err)
	}
	embedded := func(target string) bool { return strings.HasSuffix("="+target, "=embedded") }
	if len(values) > 0 && len(f.targets) > 0 && !slices.ContainsFunc(f.targets, embedded) {
		return usageError("--set: configures the embedded broker, and no target is that; add --target embedded, or configure the broker that runs")
	}
	return nil
}

// publish prints and writes the results. Faults and results without a valid run give the errors that end the program with a status of
// their own.
func (f *benchFlags) publish(cmd *cobra.Command, res *bench.Results) error {
	if f.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", " ")
		if err := enc.Encode(res); err != nil {
			return err
		}
	} else if len(res.Points) > 0 {
		bench.WriteTable(cmd.OutOrStdout(), res)
	}
	if f.out != "" {
		if err := errors.Join(res.Write(f.out), bench.WriteReport(f.out, res)); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "results and report.html are in %s\n", f.out)
	}
	if res.Faults > 0 {
		return &exitError{status: benchFaultStatus,
			err: fmt.Errorf("bench: %d faults: records lost, duplicated, reordered or corrupt", res.Faults)}
	}
	if runs, valid, reason := res.CountValid(); runs > 0 && valid == 0 {
		return &exitError{status: benchInvalidStatus,
			err: fmt.Errorf("bench: no result: all %d runs are INVALID, most often because of this: %s", runs, reason)}
	}
	return nil
}

// findProfile loads a profile by name, or by path when there is a slash, a dot or such a file.
func findProfile(name string) (*bench.Profile, error) {
	if f, err := benchprofiles.Files.Open(name + ".profile"); err == nil {
		defer f.Close()
		return bench.ParseProfile(name+".profile", f)
	}
	p, err := bench.LoadProfile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no profile or file %q; the profiles are: %s", name, strings.Join(profileNames(), ", "))
	}
	return p, err
}

func profileNames() []string {
	entries, _ := benchprofiles.Files.ReadDir(".")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".profile"))
	}
	return names
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// vcsCommit is the commit that the binary was built from, when the build recorded it.
func vcsCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value + commit
		case s.Key == "vcs.modified" && s.Value == "true":
			commit += "+changes"
		}
	}
	return commit
}

// benchTimeText formats an estimate of how long a profile takes.
func benchTimeText(d time.Duration) string { return d.Round(time.Second).String() }
