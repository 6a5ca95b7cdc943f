package broker

import (
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/testkit"
)

func TestStopLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for _, network := range []string{"epoll", "go"} {
		tb := startBroker(t, map[string]string{"netpoll": network})
		tb.createTopic("t", 1, nil)
		tb.dial().mustProduce("t", batchOf("a"))
		tb.stop()
		tb.stop() // a second stop does nothing
	}
	noNewGoroutines(t, before)
}

func TestStartFailureLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	before := goleak.IgnoreCurrent()
	start := func(values map[string]string) (*Broker, error) {
		values["log.dirs"] = dir
		config, _, err := NewConfig(values)
		if err != nil {
			t.Fatal(err)
		}
		return Start(Options{Config: config})
	}
	if _, err := start(map[string]string{"listeners": "PLAINTEXT://" + taken.Addr().String()}); err == nil {
		t.Error("a port that is taken was listened on")
	}
	for key, value := range map[string]string{
		"listeners":            "SSL://127.0.0.1:9092",
		"advertised.listeners": "PLAINTEXT://0.0.0.0:9092",
	} {
		if _, err := start(map[string]string{key: value}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s=%s: got %v, want ErrConfig", key, value, err)
		}
	}
	noNewGoroutines(t, before)
	tb := startBrokerIn(t, dir, nil, Options{}) // the directory is free again
	if _, err := start(map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0"}); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("a directory in use: got %v, want ErrLocked", err)
	}
	tb.ok()
}

// noNewGoroutines waits until only the goroutines are left that there were before.
func noNewGoroutines(t *testing.T, before goleak.Option) {
	t.Helper()
	deadline := time.Now().Add(testkit.Deadline)
	for {
		err := goleak.Find(before)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
