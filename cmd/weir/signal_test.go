package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
)

// stoppedWhileStarting runs weir serve up to the reading of its properties file, which is a pipe, and sends SIGTERM. The start goes
// on when pipe is closed.
func stoppedWhileStarting(t *testing.T) (s *server, pipe *os.File, stdout *bytes.Buffer) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout = &bytes.Buffer{}
	s = &server{t: t, log: &testkit.LogBuffer{}, ended: make(chan struct{})}
	s.cmd = weir(t, "serve", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--config", config)
	s.cmd.Stdout, s.cmd.Stderr = stdout, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.wait()
	t.Cleanup(s.kill)
	testkit.Eventually(t, "the broker reads its properties", func() (ok bool) {
		var err error
		pipe, err = os.OpenFile(config, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails while nobody reads
		return err == nil
	})
	t.Cleanup(func() { _ = pipe.Close() }) // it may be closed already
	s.signal()
	testkit.Eventually(t, "the signal is taken", func() bool { return strings.Contains(s.log.String(), "msg=stopping") })
	return s, pipe, stdout
}

// signal sends SIGTERM, if the process is still there.
func (s *server) signal() { _ = s.cmd.Process.Signal(syscall.SIGTERM) }

// TestAStartThatFailsSaysNothingOfStopping tries again and again: main ends the context when the command has failed.
func TestAStartThatFailsSaysNothingOfStopping(t *testing.T) {
	for range 20 {
		if _, stderr, _ := run(t, "", "serve", "--config", "/no/such/file"); strings.Contains(stderr, "stopping") {
			t.Fatalf("got %q, want the error alone", stderr)
		}
	}
}

// TestASignalInterruptsClientCommands has them wait for a broker that takes connections and does not answer.
func TestASignalInterruptsClientCommands(t *testing.T) {
	for _, args := range [][]string{{"topic", "list"}, {"topic", "describe", "x"}, {"consume", "x"}, {"produce", "x", "y"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			s := &server{t: t, log: &testkit.LogBuffer{}, ended: make(chan struct{})}
			s.cmd = weir(t, append(args, "--timeout", "60s", "--brokers", listener.Addr().String())...)
			s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
			if err := s.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go s.wait()
			t.Cleanup(s.kill)
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			s.signal()
			s.awaitEnd()
			if status := s.cmd.ProcessState.ExitCode(); status != 1 || s.log.String() != "weir: interrupted\n" {
				t.Errorf("exit status %d, %q; want 1 and a word of the interruption", status, s.log)
			}
		})
	}
}

// TestASignalInterruptsProduceThatWaitsForInput: one is enough, whether a line comes or not.
func TestASignalInterruptsProduceThatWaitsForInput(t *testing.T) {
	b := serve(t, t.TempDir())
	must(t, "", "topic", "create", "x", "--partitions", "1", "--brokers", b.address)
	s := &server{t: t, log: &testkit.LogBuffer{}, ended: make(chan struct{})}
	s.cmd = weir(t, "produce", "x", "--verbose", "--brokers", b.address)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.wait()
	t.Cleanup(s.kill)
	if _, err := in.Write([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the record is acknowledged", func() bool { return s.log.String() == "x 0 0\n" })
	s.signal()
	s.awaitEnd()
	if status := s.cmd.ProcessState.ExitCode(); status != 1 || s.log.String() != "x 0 0\nweir: interrupted\n" {
		t.Errorf("exit status %d, %q; want 1 and a word of the interruption", status, s.log)
	}
}

func TestSignalDuringTheStartStopsTheBroker(t *testing.T) {
	s, pipe, stdout := stoppedWhileStarting(t)
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	s.awaitEnd()
	if status := s.cmd.ProcessState.ExitCode(); status != 0 || stdout.Len() > 0 {
		t.Errorf("exit status %d, output %q; want 0 and no word of being ready\n%s", status, stdout, s.log)
	}
}

func TestSecondSignalDuringTheStartEndsItAtOnce(t *testing.T) {
	s, _, _ := stoppedWhileStarting(t)
	testkit.Eventually(t, "the process ends", func() bool {
		s.signal()
		select {
		case <-s.ended:
			return true
		default:
			return false
		}
	})
	if status := s.cmd.ProcessState.ExitCode(); status != 1 || !strings.Contains(s.log.String(), "second signal") {
		t.Errorf("exit status %d, want 1\n%s", status, s.log)
	}
}

// timeout(1) signals the process and then its group: one wish to stop, not two.
func TestTheSameSignalTwiceIsACleanStop(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	must(t, "", "topic", "create", "t", "--brokers", s.address)
	first := time.Now()
	s.signal()
	s.signal()
	if apart := time.Since(first); apart > secondSignalAfter/4 {
		t.Skipf("this host is too busy to send two signals at once: %v", apart)
	}
	s.awaitEnd()
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d\n%s", status, s.log)
	}
	if _, err := os.Stat(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
		t.Errorf("the stop was not clean: %v", err)
	}
}
