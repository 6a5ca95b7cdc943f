package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirmq/weir/broker"
)

// serveFlags are the choices of `weir serve`.
type serveFlags struct {
	dataDirs  []string
	listen    string
	advertise string
	file      string
	settings  []string
	netpoll   string
	metrics   string
	logLevel  string
	logJSON   bool
}

func newServeCmd() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: "Run a broker. An empty data directory formats itself. When the listener answers, one line on standard output says ready.\n" +
			"SIGTERM and SIGINT stop it cleanly: requests in flight are answered and logs are flushed. A second signal stops it at once.\n\n" +
			"Settings come from the properties file, then WEIR_* variables (WEIR_LOG_RETENTION_MS is log.retention.ms), then --set, then the other flags.",
		Example: "  weir serve --data-dir /var/lib/weir\n" +
			"  weir serve --data-dir /disk1/weir --data-dir /disk2/weir --listen 0.0.0.0:9092 --advertise broker.example.org:9092\n" +
			"  weir serve --config server.properties --set log.retention.hours=24 --set fsync.policy=interval",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringArrayVarP(&f.dataDirs, "data-dir", "d", nil, "directory for the logs (log.dirs); may be given again (default weir-data)")
	cmd.Flags().StringVarP(&f.listen, "listen", "l", "", "HOST:PORT to listen on (listeners) (default 127.0.0.1:9092)")
	cmd.Flags().StringVar(&f.advertise, "advertise", "", "HOST:PORT that clients are told (advertised.listeners)")
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "Kafka properties file")
	cmd.Flags().StringArrayVar(&f.settings, "set", nil, "broker configuration, KEY=VALUE; may be given again")
	cmd.Flags().StringVar(&f.netpoll, "netpoll", "", "network layer: epoll or go (default epoll)")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "HOST:PORT for /metrics, /healthz and /readyz; off by default")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().BoolVar(&f.logJSON, "log-json", false, "log in JSON")
	return cmd
}

// values collects the settings from file, environment and flags, later ones first in force.
func (f *serveFlags) values(environ []string) (map[string]string, error) {
	values := map[string]string{}
	if f.file != "" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, usageError("--config: %v", err)
		}
		defer file.Close()
		if values, err = broker.ReadProperties(file, f.file); err != nil {
			return nil, &exitError{status: 2, err: err}
		}
	}
	maps.Copy(values, environmentSettings(environ))
	for _, setting := range f.settings {
		key, value, ok := strings.Cut(setting, "=")
		if !ok || key == "" {
			return nil, usageError("--set %q: must be KEY=VALUE", setting)
		}
		values[key] = value
	}
	for _, dir := range f.dataDirs {
		if strings.Contains(dir, ",") {
			return nil, usageError("--data-dir %q: must not have a comma, which separates directories in log.dirs", dir)
		}
	}
	if len(f.dataDirs) > 0 {
		values["log.dirs"] = strings.Join(f.dataDirs, ",")
	}
	if f.listen != "" {
		values["listeners"] = "PLAINTEXT://" + f.listen
	}
	if f.advertise != "" {
		values["advertised.listeners"] = "PLAINTEXT://" + f.advertise
	}
	if f.netpoll != "" {
		values["netpoll"] = f.netpoll
	}
	return values, nil
}

// environmentSettings turns WEIR_LOG_DIRS=x into log.dirs=x. WEIR_CACHE belongs to the bench.
func environmentSettings(environ []string) map[string]string {
	values := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if rest, ok := strings.CutPrefix(name, "WEIR_"); ok && rest != "CACHE" {
			values[strings.ReplaceAll(strings.ToLower(rest), "_", ".")] = value
		}
	}
	return values
}

func (f *serveFlags) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, usageError("--log-level=%q: must be debug, info, warn or error", f.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	if f.logJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	logger, err := f.logger()
	if err != nil {
		return err
	}
	if f.metrics != "" {
		_, port, err := net.SplitHostPort(f.metrics)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return usageError("--metrics=%q: must be HOST:PORT", f.metrics)
		}
	}
	defer endAtSecondSignal(cmd.Context(), logger)()
	values, err := f.values(os.Environ())
	if err != nil {
		return err
	}
	config, warnings, err := broker.NewConfig(values)
	for _, warning := range warnings {
		logger.Warn(warning)
	}
	if err != nil {
		return &exitError{status: 2, err: err}
	}
	if err := checkDataDirs(config); err != nil {
		return err
	}
	if cmd.Context().Err() != nil {
		return nil // told to stop before there was anything to stop
	}
	b, err := broker.Start(broker.Options{Config: config, Logger: logger, Version: version, MetricsAddr: f.metrics})
	if err != nil {
		if errors.Is(err, broker.ErrConfig) {
			return &exitError{status: 2, err: err}
		}
		return listenRefused(err)
	}
	addBlockedSlots()
	if addr := b.MetricsAddr(); addr != "" {
		logger.Info("metrics are served", "address", addr)
	}
	if cmd.Context().Err() != nil {
		return stop(b, logger)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "ready address=%s data=%s fsync=%s\n", b.Addr(), config.String("log.dirs"), b.FsyncPolicy())
	<-cmd.Context().Done()
	return stop(b, logger)
}

// secondSignalAfter is how long after the first signal others count as the same one: timeout(1) and process managers signal the
// process and its group, so that one wish to stop arrives twice.
const secondSignalAfter = 50 * time.Millisecond

// endAtSecondSignal has the process end at once when another signal follows the one that ended ctx, also while the broker starts.
// After forget the end of ctx, which is then main's and no signal's, means nothing.
func endAtSecondSignal(ctx context.Context, logger *slog.Logger) (forget func() bool) {
	again := make(chan os.Signal, 1) // gets the first one, too
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	return context.AfterFunc(ctx, func() {
		first := time.Now()
		logger.Info("stopping")
		for range again {
			if time.Since(first) >= secondSignalAfter {
				break
			}
		}
		logger.Warn("second signal: stopping at once")
		os.Exit(1)
	})
}

// stop stops the broker: it waits as long as a request in flight may need.
func stop(b *broker.Broker, logger *slog.Logger) error {
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := b.Stop(stopping); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	logger.Info("stopped cleanly")
	return nil
}
