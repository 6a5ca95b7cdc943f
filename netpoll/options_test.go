package netpoll

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/testkit"
)

func TestOptionsAreChecked(t *testing.T) {
	h := newRecorder(t, echo)
	for want, o := range map[string]Options{
		"Handler":           {Listen: ":0"},
		"Listen":            {Listen: "nowhere", Handler: h},
		"Impl":              {Listen: ":0", Handler: h, Impl: "uring"},
		"Loops is -1":       {Listen: ":0", Handler: h, Loops: -1},
		"FrameBytesMax":     {Listen: ":0", Handler: h, FrameBytesMax: -5},
		"InflightMax":       {Listen: ":0", Handler: h, InflightMax: -5},
		"OutputBytesMax":    {Listen: ":0", Handler: h, OutputBytesMax: -5},
		"BufferBudget":      {Listen: ":0", Handler: h, BufferBudget: -5},
		"MaxConnections":    {Listen: ":0", Handler: h, MaxConnections: -5},
		"Congestion":        {Listen: "127.0.0.1:0", Handler: h, Congestion: "nonsense"},
		"listen on 192.0.2": {Listen: "192.0.2.1:0", Handler: h},
	} {
		s, err := Start(o)
		if err == nil {
			_ = s.Stop(context.Background())
			t.Errorf("%s: no error", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// Both implementations set the congestion control that they report.
func TestCongestion(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		available := func(name string) bool {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) == nil
		}
		for _, name := range []string{CongestionAuto, "reno"} {
			want := name
			if name == CongestionAuto {
				want = "cubic"
			}
			if !available(want) {
				continue // reported by Congestion, and no fault of ours
			}
			r := newRecorder(t, echo)
			s := startServer(t, Options{Impl: impl, Handler: r, Congestion: name})
			if s.Congestion() != want {
				t.Errorf("Congestion is %q, want %q", s.Congestion(), want)
			}
			c := dial(t, s)
			c.send("x")
			c.expect("x")
			opened := testkit.Receive(t, "OnOpen", r.opened)
			got := make(chan string, 1)
			read := func(fd uintptr) {
				name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
				got <- fmt.Sprint(name, err)
			}
			switch sock := opened.(*conn).sock.(type) {
			case *epollSock:
				read(uintptr(sock.fd))
			case *goSock:
				if err := sock.raw.Control(read); err != nil {
					t.Fatal(err)
				}
			}
			if g := <-got; g != want+"<nil>" {
				t.Errorf("the socket's congestion control is %q, want %q", g, want)
			}
		}
	})
}

// Connections go to the loop that has the fewest.
func TestPlacement(t *testing.T) {
	onBoth(t, func(t *testing.T, impl Impl) {
		r := newRecorder(t, echo)
		s := startServer(t, Options{Impl: impl, Loops: 4, Handler: r})
		for range 40 {
			c := dial(t, s)
			c.send("x")
			c.expect("x")
		}
		counts := make([]int, 4)
		for range 40 {
			counts[testkit.Receive(t, "OnOpen", r.opened).Loop()]++
		}
		if fmt.Sprint(counts) != "[10 10 10 10]" {
			t.Errorf("connections by loop: %v, want 10 each", counts)
		}
	})
}
