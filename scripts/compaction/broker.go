package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	topic = "compacted"
	// cleanerBackoffMs is how often both look for something to clean.
	cleanerBackoffMs = "100"
	// dedupeBytes is the offset map of both; Kafka's default too.
	dedupeBytes = "134217728"
)

// kind says how a broker is started.
type kind struct {
	name string
	// command is the command line of a broker that keeps its files under dir; data is where its partitions are.
	command func(dir string, port int) (args []string, data string)
	// dynamic are broker configurations that are set when it runs.
	dynamic map[string]string
}

func weirKind(binary string) kind {
	return kind{name: "weir", command: func(dir string, port int) ([]string, string) {
		data := filepath.Join(dir, "data")
		return []string{binary, "serve", "--data-dir", data, "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--set", "fsync.policy=never",
			"--set", "log.cleaner.backoff.ms=" + cleanerBackoffMs, "--set", "log.cleaner.dedupe.buffer.size=" + dedupeBytes}, data
	}}
}

// kafkaKind installs Kafka when it is missing.
func kafkaKind(ctx context.Context) (kind, error) {
	cache := os.Getenv("WEIR_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return kind{}, err
		}
		cache = filepath.Join(home, ".cache", "weir")
	}
	home := filepath.Join(cache, "kafka")
	script, err := filepath.Abs("scripts/peers/kafka/kafka.sh")
	if err != nil {
		return kind{}, err
	}
	if jars, _ := filepath.Glob(filepath.Join(home, "libs", "kafka_*.jar")); len(jars) == 0 {
		fmt.Fprintln(os.Stderr, "installing Apache Kafka into", home)
		install := exec.CommandContext(ctx, "bash", script, "install", home)
		install.Stdout, install.Stderr = os.Stderr, os.Stderr
		if err := install.Run(); err != nil {
			return kind{}, fmt.Errorf("installing Apache Kafka: %w", err)
		}
	}
	return kind{name: "kafka", dynamic: map[string]string{"log.cleaner.backoff.ms": cleanerBackoffMs, "log.cleaner.threads": "1",
		"log.cleaner.dedupe.buffer.size": dedupeBytes},
		command: func(dir string, port int) ([]string, string) {
			_ = os.Symlink(filepath.Join(home, "libs"), filepath.Join(dir, "libs")) // the broker says so when it is missing
			return []string{"bash", script, "serve", dir, strconv.Itoa(port)}, filepath.Join(dir, "data")
		}}, nil
}

// broker is a running one.
type broker struct {
	kind
	cmd     *exec.Cmd
	address string
	data    string
	log     bytes.Buffer // read after ended only
	ended   chan struct{}
}

// start starts a broker and waits until it takes connections.
func (k kind) start(ctx context.Context, dir string) (*broker, error) {
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	args, data := k.command(dir, port)
	b := &broker{kind: k, address: fmt.Sprintf("127.0.0.1:%d", port), data: data, ended: make(chan struct{})}
	b.cmd = exec.Command(args[0], args[1:]...)
	b.cmd.Stdout, b.cmd.Stderr = &b.log, &b.log
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = b.cmd.Wait() // how it ended is of no interest
		close(b.ended)
	}()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		conn, err := net.Dial("tcp", b.address)
		if err == nil {
			return b, conn.Close()
		}
		select {
		case <-b.ended:
			return nil, fmt.Errorf("it ended at once:\n%s", b.log.String())
		case <-ctx.Done():
			b.stop()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			b.stop()
			return nil, fmt.Errorf("it did not start:\n%s", b.log.String())
		}
	}
}

// stop kills it: its files go anyway.
func (b *broker) stop() {
	_ = b.cmd.Process.Kill() // it may have ended
	<-b.ended
}

func (b *broker) partitionDir() string { return filepath.Join(b.data, topic+"-0") }

// awaitClean waits until the checkpoint says that the partition is clean up to border.
func (b *broker) awaitClean(ctx context.Context, border int64) error {
	name := filepath.Join(b.data, "cleaner-offset-checkpoint")
	for deadline := time.Now().Add(15 * time.Minute); ; {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 3 && f[0] == topic && f[1] == "0" {
				if at, err := strconv.ParseInt(f[2], 10, 64); err == nil && at >= border {
					return nil
				}
			}
		}
		select {
		case <-b.ended:
			return fmt.Errorf("it ended:\n%s", b.log.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not clean up to offset %d after 15 minutes; its checkpoint:\n%s", border, text)
		}
	}
}

// cpuSeconds is what the process has used, in user and in kernel mode.
func (b *broker) cpuSeconds() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("stat of the process has %d fields behind its name", len(f))
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	kernel, err := strconv.ParseFloat(f[12], 64)
	return (user + kernel) / 100, err // USER_HZ
}

// memoryBytes is the most that the process had resident, 0 if nobody knows.
func (b *broker) memoryBytes() int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return n << 10
}

// freePorts finds two successive free ports, below those that the kernel gives to connections.
func freePorts() (int, error) {
	for range 100 {
		port := 12000 + rand.IntN(20000)
		a, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		a.Close()
		if err == nil {
			return port, b.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return 0, err
		}
	}
	return 0, errors.New("no two successive free ports")
}
