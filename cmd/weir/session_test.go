package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFirstSession(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	b := "--brokers=" + s.address
	must(t, "", "topic", "create", "orders", "--partitions", "3", "--set", "retention.ms=3600000", b)
	want := "weir: creating topic orders: TOPIC_ALREADY_EXISTS: topic already exists: \"orders\"\n"
	if _, stderr, status := run(t, "", "topic", "create", "orders", b); status != 1 || stderr != want {
		t.Errorf("the topic again: exit status %d, %q; want 1, %q", status, stderr, want)
	}
	must(t, "one\ntwo\nthree\n", "produce", "orders", "-p", "1", b)
	must(t, "", "produce", "orders", "four", "-p", "1", "-k", "the key", "-H", "h=v", "-z", "zstd", b)
	if got := must(t, "", "consume", "orders", "--from-beginning", "--until-end", b); got != "one\ntwo\nthree\nfour\n" {
		t.Errorf("consume: got %q", got)
	}
	if got := must(t, "", "consume", "orders", "-p", "1", "--offset", "-1", "-n", "1", "-f", "headers", b); got != "h=v\tthe key\tfour\n" {
		t.Errorf("consume the last: got %q", got)
	}
	if got := must(t, "", "consume", "orders", "-p", "1", "-o", "1", "-n", "2", b); got != "two\nthree\n" {
		t.Errorf("consume from 1: got %q", got)
	}
	if got := must(t, "", "consume", "orders", "--until-end", b); got != "" {
		t.Errorf("consume from the end until the end: got %q", got)
	}
	var line recordJSON
	if err := json.Unmarshal([]byte(must(t, "", "consume", "orders", "--timestamp", "1000", "-e", "-n", "1", "-f", "json", b)), &line); err != nil || *line.Value != "one" || line.Key != nil {
		t.Errorf("json: got %+v, %v", line, err)
	}
	described := must(t, "", "topic", "describe", "orders", b)
	for _, want := range []string{"3 partitions", "retention.ms", "3600000", "fsync.policy", "(unset)"} {
		if !strings.Contains(described, want) {
			t.Errorf("describe lacks %q:\n%s", want, described)
		}
	}
	if explained := must(t, "", "explain", "orders", b); !strings.Contains(explained, "fsync.policy=commit") || !strings.Contains(explained, "fdatasync of 4 KiB") {
		t.Errorf("explain: got\n%s", explained)
	}
	if _, _, status := run(t, "", "doctor", "--data-dir", dir, "--dial", b); status != 0 {
		t.Errorf("doctor: exit status %d", status)
	}
	s.stop()
	if got := must(t, "", "dump", filepath.Join(dir, "orders-1"), "--records"); !strings.Contains(got, "four") {
		t.Errorf("dump: got\n%s", got)
	}
	s = serve(t, dir)
	if got := must(t, "", "consume", "orders", "--from-beginning", "--until-end", "--brokers", s.address); got != "one\ntwo\nthree\nfour\n" {
		t.Errorf("consume after a restart: got %q", got)
	}
	must(t, "", "topic", "delete", "orders", "--brokers", s.address)
	if got := must(t, "", "topic", "list", "--json", "--brokers", s.address); strings.TrimSpace(got) != "[]" {
		t.Errorf("list after delete: got %q", got)
	}
	s.stop()
}

func TestDumpFindsAFlippedBit(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "produce", "rot", strings.Repeat("x", 1000), "--brokers", s.address)
	s.stop()
	name := filepath.Join(dir, "rot-0", "00000000000000000000.log")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[500] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, status := run(t, "", "dump", name)
	if status != 1 || !strings.Contains(out, "corrupt at byte 17: batch crc") {
		t.Errorf("exit status %d, output\n%s", status, out)
	}
}

func TestWrongUsageExitsWithTwo(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		_, stderr, status := run(t, "", args...)
		if status != 2 || !strings.Contains(stderr, want) {
			t.Errorf("weir %s: exit status %d, %q; want 2 and %q", strings.Join(args, " "), status, stderr, want)
		}
	}
	f("unknown command", "sevre")
	f("unknown command", "topic", "sevre")
	f("unknown command", "config", "sevre")
	f("unknown command", "completion", "tcsh")
	f("unknown flag", "serve", "--nope")
	f("must be HOST:PORT", "serve", "--metrics", "nope", "--data-dir", filepath.Join(t.TempDir(), "d"))
	f("must be HOST:PORT", "serve", "--metrics", "127.0.0.1:99999", "--data-dir", filepath.Join(t.TempDir(), "d"))
	f("must be a partition", "consume", "x", "--partition", "-7")
	f("must be a partition", "produce", "x", "y", "--partition", "-7")
	f("must not be negative", "consume", "x", "--count", "-1")
	f("num.partitions=\"0\"", "serve", "--set", "num.partitions=0")
	f("from 1 to", "serve", "--set", "num.partitions=0")
	f("KEY=VALUE", "serve", "--set", "num.partitions")
	f("must not have a comma", "serve", "--data-dir", filepath.Join(t.TempDir(), "a,b"))
	f("file:2", "serve", "--config", writeFile(t, "a=1\n=2\n"))
	f("no such file", "serve", "--config", "/no/such/file")
	f("exclude each other", "consume", "x", "--offset", "1", "--from-beginning")
	f("must be 0, 1 or all", "produce", "x", "y", "--acks", "2")
	f("argument", "topic", "describe")
	f(`--partitions="abc": must be a whole number; see 'weir topic create --help'`, "topic", "create", "x", "-p", "abc")
	f(`--replication-factor="99999": must be a whole number that is not so far from 0;`, "topic", "create", "x", "--replication-factor", "99999")
	f(`--timeout="10": must be a duration such as 10s or 1m30s;`, "consume", "x", "--timeout", "10")
	f(`--until-end="maybe": must be true or false;`, "consume", "x", "--until-end=maybe")
	f(`--threshold="x": must be a number;`, "bench", "compare", "--threshold", "x")
	f(`--brokers="foo": "foo" must be HOST:PORT, such as 127.0.0.1:9092`, "topic", "list", "-b", "foo")
	f(`--brokers="a:1,b:c": "b:c" must be HOST:PORT`, "produce", "x", "y", "-b", "a:1,b:c")
	f(`"a:9092:1" must be HOST:PORT`, "consume", "x", "-b", "a:9092:1")
	f("must be debug", "serve", "--log-level", "loud")
}

// TestPortsInUseExitWithOne asks for the port of a broker that runs: for clients, and for metrics.
func TestPortsInUseExitWithOne(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, args := range [][]string{{"--listen", s.address}, {"--listen", "127.0.0.1:0", "--metrics", s.address}} {
		_, stderr, status := run(t, "", append([]string{"serve", "--data-dir", filepath.Join(t.TempDir(), "d")}, args...)...)
		want := fmt.Sprintf("weir: listening on %s: address already in use; `ss -ltnp` shows who listens there, %s takes another address\n",
			s.address, args[len(args)-2])
		if status != 1 || stderr != want {
			t.Errorf("weir serve %s: exit status %d, %q; want 1 and %q", strings.Join(args, " "), status, stderr, want)
		}
	}
}

// TestAPartitionTooManyIsNamed: whoever writes to it or reads it is told how many there are.
func TestAPartitionTooManyIsNamed(t *testing.T) {
	s := serve(t, t.TempDir())
	must(t, "", "topic", "create", "three", "--partitions", "3", "--brokers", s.address)
	for _, args := range [][]string{{"produce", "three", "x"}, {"consume", "three"}} {
		_, stderr, status := run(t, "", append(args, "--partition", "7", "--brokers", s.address)...)
		if want := "weir: topic three has no partition 7; it has 3 partitions, numbered from 0\n"; status != 1 || stderr != want {
			t.Errorf("%v: exit status %d, %q; want 1 and %q", args, status, stderr, want)
		}
	}
}

// TestAFileIsNoDataDirectory: it is a slip in the command line, and no disk that fails.
func TestAFileIsNoDataDirectory(t *testing.T) {
	file := writeFile(t, "x")
	for _, dir := range []string{file, filepath.Join(file, "below", "it")} {
		stdout, stderr, status := run(t, "", "serve", "--listen", "127.0.0.1:0", "--data-dir", dir)
		want := fmt.Sprintf("weir: data directory %q (--data-dir, log.dirs): %s is a file, not a directory; name a directory, or a path where one can be made\n", dir, file)
		if status != 2 || stdout != "" || stderr != want {
			t.Errorf("%s: exit status %d, %q%q; want 2 and %q", dir, status, stdout, stderr, want)
		}
	}
}

func TestUnknownKeysWarnAndTheBrokerStarts(t *testing.T) {
	file := writeFile(t, "log.retention.byte=5\nnum.partitions=4\n")
	s := serve(t, t.TempDir(), "--config", file)
	if !strings.Contains(s.log.String(), "did you mean") {
		t.Errorf("no hint in the log:\n%s", s.log)
	}
	must(t, "", "topic", "create", "four", "--brokers", s.address)
	if got := must(t, "", "topic", "describe", "four", "--brokers", s.address); !strings.Contains(got, "4 partitions") {
		t.Errorf("the file's num.partitions was not used:\n%s", got)
	}
	s.stop()
}

func TestADataDirectoryServesOneBroker(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir)
	_, stderr, status := run(t, "", "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if status != 1 || !strings.Contains(stderr, "locked") || !strings.Contains(stderr, dir+": another broker is using it") {
		t.Errorf("exit status %d, %q; want 1 and a word of the lock", status, stderr)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	root := newRootCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		for _, sub := range append(cmd.Commands(), cmd) {
			if sub.Example == "" || sub.Short == "" {
				t.Errorf("%s has no example or no summary", sub.CommandPath())
			}
		}
	}
}

func TestShellCompletion(t *testing.T) {
	s := serve(t, t.TempDir())
	must(t, "", "topic", "create", "orders", "--brokers", s.address)
	for _, test := range []struct {
		want string
		args []string
	}{
		{"alter", []string{"topic", ""}},
		{"zstd", []string{"produce", "x", "--compression", ""}},
		{"key-value", []string{"consume", "x", "--format", ""}},
		{"epoll", []string{"serve", "--netpoll", ""}},
		{"log.retention.ms=", []string{"serve", "--set", ""}},
		{"retention.ms=", []string{"topic", "create", "x", "--set", ""}},
		{"saturation", []string{"bench", "run", ""}},
		{"orders", []string{"topic", "describe", "--brokers", s.address, ""}},
		{"orders", []string{"consume", "--brokers", s.address, ""}},
	} {
		out := must(t, "", append([]string{"__complete"}, test.args...)...)
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			word, _, _ := strings.Cut(line, "\t")
			return word == test.want
		}) {
			t.Errorf("weir %s: no %q in\n%s", strings.Join(test.args, " "), test.want, out)
		}
	}
	if out := must(t, "", "__complete", "consume", "--brokers", "127.0.0.1:1", ""); strings.Contains(out, "orders") {
		t.Errorf("topics of no broker:\n%s", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := must(t, "", "completion", shell); len(out) < 1000 {
			t.Errorf("%s: a script of %d bytes", shell, len(out))
		}
	}
	s.stop()
}
