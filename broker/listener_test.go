package broker

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
)

func TestListeners(t *testing.T) {
	for _, test := range []struct {
		name             string
		values           map[string]string
		listen, error    string
		advertised       hostPort
		advertisedIsNone bool
	}{
		{name: "plain", values: map[string]string{"listeners": "PLAINTEXT://127.0.0.1:1"}, listen: "127.0.0.1:1", advertisedIsNone: true},
		{name: "every address", values: map[string]string{"listeners": "PLAINTEXT://:9"}, listen: ":9", advertisedIsNone: true},
		{name: "IPv6", values: map[string]string{"listeners": "PLAINTEXT://[::1]:9"}, listen: "[::1]:9", advertisedIsNone: true},
		{
			name: "Kafka's file of a combined node",
			values: map[string]string{
				"listeners": "PLAINTEXT://:9092,CONTROLLER://:9093", "controller.listener.names": "CONTROLLER",
				"advertised.listeners":           "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
				"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
			},
			listen: ":9092", advertised: hostPort{"localhost", 9092},
		},
		{
			name: "a name of its own",
			values: map[string]string{
				"listeners": "CLIENTS://h:1", "advertised.listeners": "CLIENTS://a.example:2", "listener.security.protocol.map": "CLIENTS:PLAINTEXT",
			},
			listen: "h:1", advertised: hostPort{"a.example", 2},
		},
		{name: "two for clients", values: map[string]string{"listeners": "PLAINTEXT://:1,PLAINTEXT://:2"}, error: "2 listeners"},
		{name: "the controller's alone", values: map[string]string{"listeners": "C://:1", "controller.listener.names": "C"}, error: "0 listeners"},
		{name: "mapped to TLS", values: map[string]string{"listeners": "PLAINTEXT://:1", "listener.security.protocol.map": "PLAINTEXT:SSL"},
			error: "not a PLAINTEXT listener"},
		{name: "unmapped name", values: map[string]string{"listeners": "CLIENTS://:1"}, error: "not a PLAINTEXT listener"},
		{name: "no protocol", values: map[string]string{"listeners": "PLAINTEXT"}, error: "not a PLAINTEXT listener"},
		{name: "port", values: map[string]string{"listeners": "PLAINTEXT://h:65536"}, error: `port "65536"`},
		{name: "told every address", values: map[string]string{"advertised.listeners": "PLAINTEXT://[::]:1"}, error: "cannot connect"},
		{name: "told port 0", values: map[string]string{"advertised.listeners": "PLAINTEXT://h:0"}, error: "cannot connect to port 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, warnings, err := NewConfig(test.values)
			if err != nil || len(warnings) != 0 {
				t.Fatalf("NewConfig: %q, %v", warnings, err)
			}
			listen, err := listenAddress(c)
			var advertised *hostPort
			if err == nil {
				advertised, err = advertisedAddress(c)
			}
			if test.error != "" {
				if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.error) || !strings.Contains(err.Error(), "listeners=") {
					t.Errorf("got %v, want an ErrConfig with %q", err, test.error)
				}
				return
			}
			if err != nil || listen != test.listen || (advertised == nil) != test.advertisedIsNone {
				t.Fatalf("listens on %q, advertises %v, %v; want %q", listen, advertised, err, test.listen)
			}
			if advertised != nil && *advertised != test.advertised {
				t.Errorf("advertises %v, want %v", *advertised, test.advertised)
			}
		})
	}
}

// A request that stops in its middle ends its connection when socket.request.timeout.ms has passed. One that sends nothing does not.
func TestHalfSentRequestTimesOut(t *testing.T) {
	for _, netpoll := range []string{"epoll", "go"} {
		t.Run(netpoll, func(t *testing.T) {
			tb := startBroker(t, map[string]string{"socket.request.timeout.ms": "200", "netpoll": netpoll})
			tb.createTopic("t", 1, nil)
			silent := tb.dial()
			silent.mustProduce("t", batchOf("a"))
			req := produceRequest("t", 1, batchOf("never"))
			req.SetVersion(produceVersion)
			frame := protocol.AppendRequest(nil, 1, "c", req)
			for _, n := range []int{1, 4, 11, len(frame) - 1} {
				half := tb.dial()
				half.write(frame[:n])
				half.expectClosed()
			}
			silent.mustProduce("t", batchOf("b"))
			if end := mustPartition(t, tb, "t").Offsets().LogEnd; end != 2 {
				t.Errorf("log end %d, want 2: half a request was served", end)
			}
			testkit.Eventually(t, "the reason in the log", func() bool {
				said := strings.Count(tb.logs.String(), "frame took too long to arrive")
				if after := strings.Count(tb.logs.String(), "after 200ms"); after != said {
					t.Fatalf("%d of %d time-outs are of this broker's setting", after, said)
				}
				return said == 4
			})
		})
	}
}

// connections.max.idle.ms=0 is no default: it closes as soon as nothing moves.
func TestIdleTimeOfNothing(t *testing.T) {
	c, _, err := NewConfig(map[string]string{"connections.max.idle.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.timeout("connections.max.idle.ms"); got <= 0 || got > c.Duration("log.flush.offset.checkpoint.interval.ms") {
		t.Errorf("got %v", got)
	}
	tb := startBroker(t, map[string]string{"connections.max.idle.ms": "0"})
	tb.dial().expectClosed()
}
