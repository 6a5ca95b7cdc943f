package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	gib          float64
	keys         int
	valueBytes   int
	segmentBytes int
	codec        string
	repeats      int
	brokers      string
	dir          string
}

// errWrong says that a broker serves something else than was written.
var errWrong = errors.New("wrong records")

func main() {
	o := options{}
	flag.Float64Var(&o.gib, "gib", 2, "GiB of values written")
	flag.IntVar(&o.keys, "keys", 200_000, "distinct keys")
	flag.IntVar(&o.valueBytes, "value-bytes", 1024, "bytes of a value, half of which lz4 and zstd can save")
	flag.IntVar(&o.segmentBytes, "segment-bytes", 256<<20, "segment.bytes of the topic")
	flag.StringVar(&o.codec, "codec", "none", "none, lz4, zstd or snappy")
	flag.IntVar(&o.repeats, "repeats", 3, "runs of each broker")
	flag.StringVar(&o.brokers, "brokers", "both", "both, weir or kafka")
	flag.StringVar(&o.dir, "dir", "", "directory for the data; default a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := compare(ctx, o)
	switch {
	case errors.Is(err, errWrong):
		fmt.Fprintln(os.Stderr, "compaction:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "compaction:", err)
		os.Exit(1)
	}
}

// compare runs the brokers in turn and prints what they did.
func compare(ctx context.Context, o options) error {
	work, err := os.MkdirTemp(o.dir, "compaction-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	kinds, err := prepare(ctx, o.brokers, work)
	if err != nil {
		return err
	}
	var all []outcome
	for i := range o.repeats {
		order := slices.Clone(kinds)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, k := range order {
			r, err := runOne(ctx, o, k, filepath.Join(work, fmt.Sprintf("%s-%d", k.name, i)))
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			all = append(all, r)
		}
	}
	printTable(o, all)
	return nil
}

// outcome is one measured run.
type outcome struct {
	broker string
	// inputBytes were in sealed segments before, outputBytes below the same border after.
	inputBytes, outputBytes int64
	took                    time.Duration
	cpuSeconds              float64
	memoryBytes             int64 // the most that was resident
	records, recordsLeft    int64
}

// runOne measures one broker in dir, which is removed.
func runOne(ctx context.Context, o options, k kind, dir string) (r outcome, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	b, err := k.start(ctx, dir)
	if err != nil {
		return r, err
	}
	defer b.stop()
	l, err := newLoad(o, b)
	if err != nil {
		return r, err
	}
	defer l.close()
	fmt.Fprintf(os.Stderr, "%s: writing %.1f GiB\n", k.name, o.gib)
	if err := l.write(ctx); err != nil {
		return r, err
	}
	syscall.Sync()
	border, input, err := sealed(b.partitionDir())
	if err != nil {
		return r, err
	}
	cpu, err := b.cpuSeconds()
	if err != nil {
		return r, err
	}
	if err := l.release(ctx); err != nil {
		return r, err
	}
	begin := time.Now()
	if err := b.awaitClean(ctx, border); err != nil {
		return r, err
	}
	took := time.Since(begin)
	cpuAfter, err := b.cpuSeconds()
	if err != nil {
		return r, err
	}
	output, err := sizeBelow(b.partitionDir(), border)
	if err != nil {
		return r, err
	}
	left, err := l.check(ctx)
	if err != nil {
		return r, err
	}
	fmt.Fprintf(os.Stderr, "%s: cleaned in %.2f s\n", k.name, took.Seconds())
	return outcome{broker: k.name, inputBytes: input, outputBytes: output, took: took, cpuSeconds: cpuAfter - cpu,
		memoryBytes: b.memoryBytes(), records: l.written, recordsLeft: left}, nil
}

// printTable writes one row for each run, and for each broker the median.
func printTable(o options, all []outcome) {
	fmt.Printf("compaction of %.1f GiB, %d keys, values of %d bytes, codec %s, segments of %d MiB, one cleaner thread\n\n",
		o.gib, o.keys, o.valueBytes, o.codec, o.segmentBytes>>20)
	fmt.Println("| broker | MB in | MB left | s | MB/s in | CPU s | CPU s/GB | records in | records left | memory MiB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	rates := map[string][]outcome{}
	for _, r := range all {
		row(r, r.broker)
		rates[r.broker] = append(rates[r.broker], r)
	}
	for _, name := range []string{"weir", "kafka"} {
		if rs := rates[name]; len(rs) > 1 {
			slices.SortFunc(rs, func(a, b outcome) int { return cmp.Compare(a.took, b.took) })
			row(rs[len(rs)/2], name+", median")
		}
	}
	fmt.Println("\nEach key had its last value in every run.")
}

func row(r outcome, name string) {
	in := float64(r.inputBytes) / 1e6
	fmt.Printf("| %s | %.0f | %.0f | %.2f | %.0f | %.2f | %.2f | %d | %d | %d |\n", name, in, float64(r.outputBytes)/1e6, r.took.Seconds(),
		in/r.took.Seconds(), r.cpuSeconds, r.cpuSeconds/(in/1e3), r.records, r.recordsLeft, r.memoryBytes>>20)
}

// prepare builds weir and installs Kafka.
func prepare(ctx context.Context, which, work string) (kinds []kind, err error) {
	if which != "both" && which != "weir" && which != "kafka" {
		return nil, fmt.Errorf("--brokers %q: want both, weir or kafka", which)
	}
	if which != "kafka" {
		binary := filepath.Join(work, "weir")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/weir")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("building weir, in the root of its repository: %w", err)
		}
		kinds = append(kinds, weirKind(binary))
	}
	if which != "weir" {
		k, err := kafkaKind(ctx)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}
