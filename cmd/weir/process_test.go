package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

// TestMain runs the program itself when a test starts this binary again as weir.
func TestMain(m *testing.M) {
	if os.Getenv("BE_WEIR") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// weir prepares a run of this binary as weir.
func weir(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "BE_WEIR=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// runLimit is how long one command may take: several times what the longest of the tests needs.
const runLimit = 3 * time.Minute

// run runs weir to its end, which has to come within runLimit, and returns its output and exit status.
func run(t testing.TB, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := weir(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = 10 * time.Second // a child that it left has the pipes too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(runLimit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !limit.Stop() {
		t.Fatalf("weir %s: not done within %s\n%s%s", strings.Join(args, " "), runLimit, &out, &errs)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run that has to succeed.
func must(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, status := run(t, stdin, args...)
	if status != 0 {
		t.Fatalf("weir %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// server is a broker in a process of its own.
type server struct {
	t       testing.TB
	cmd     *exec.Cmd
	address string
	log     *testkit.LogBuffer
	ended   chan struct{} // closed when the process has ended; cmd.ProcessState is set then
}

// serve starts a broker on dir and waits until it is ready.
func serve(t testing.TB, dir string, args ...string) *server {
	t.Helper()
	return serveWith(t, nil, dir, args...)
}

// serveWith is serve with a command line that wrap, unless it is nil, has changed.
func serveWith(t testing.TB, wrap func(args []string) []string, dir string, args ...string) *server {
	t.Helper()
	s := &server{t: t, log: &testkit.LogBuffer{}, ended: make(chan struct{})}
	s.cmd = weir(t, append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, args...)...)
	if wrap != nil {
		s.cmd = wrapped(s.cmd, wrap)
	}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.wait()
		t.Fatalf("the broker did not say ready: %v\n%s", err, s.log)
	}
	go s.wait()
	_, rest, ok := strings.Cut(line, "ready address=")
	if !ok {
		t.Fatalf("got %q, want the ready line", line)
	}
	s.address, _, _ = strings.Cut(rest, " ")
	return s
}

// wrapped is cmd with a command line that wrap has changed.
func wrapped(cmd *exec.Cmd, wrap func(args []string) []string) *exec.Cmd {
	line := wrap(append([]string{cmd.Path}, cmd.Args[1:]...))
	other := exec.Command(line[0], line[1:]...)
	other.Env, other.Dir = cmd.Env, cmd.Dir
	return other
}

func (s *server) wait() {
	_ = s.cmd.Wait() // its status is in ProcessState
	close(s.ended)
}

// kill is kill -9.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	s.awaitEnd()
}

// stop is SIGTERM; the exit status has to be 0.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.awaitEnd()
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		s.t.Fatalf("exit status %d after SIGTERM\n%s", status, s.log)
	}
}

func (s *server) awaitEnd() {
	select {
	case <-s.ended:
	case <-time.After(2 * time.Minute):
		s.t.Fatalf("the broker did not end\n%s", s.log)
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
