package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
)

// fsyncKeyCase is a key of durability whose change, while the broker runs, makes durable what was not.
type fsyncKeyCase struct {
	key, brokerKey string
	before         map[string]string // of the topic: nothing is synced within the test's time
	value          string
}

func fsyncKeyCases() []fsyncKeyCase {
	lazy := map[string]string{"fsync.policy": "interval", "fsync.interval.ms": "3600000"}
	return []fsyncKeyCase{
		{"fsync.policy", "fsync.policy", map[string]string{"fsync.policy": "never"}, "commit"},
		{"fsync.interval.ms", "fsync.interval.ms", lazy, "1"},
		{"fsync.interval.bytes", "fsync.interval.bytes", lazy, "1"},
		{"flush.messages", "log.flush.interval.messages", map[string]string{"flush.ms": "3600000"}, "1"},
		{"flush.ms", "log.flush.interval.ms", map[string]string{"flush.ms": "3600000"}, "1"},
	}
}

// TestFsyncKeysLiveForATopic: each key, changed through the admin API, has its effect on records that are already written.
func TestFsyncKeysLiveForATopic(t *testing.T) {
	tb := startBroker(t, map[string]string{"fsync.policy": ""})
	c := tb.dial()
	for _, f := range fsyncKeyCases() {
		name := "t-" + f.key
		tb.createTopic(name, 1, f.before)
		wantUnsynced(t, tb, c, name)
		tb.alter(cluster.ResourceTopic, name, f.key, f.value)
		wantSynced(t, tb, name, f.key)
	}
}

// TestFsyncKeysLiveForTheBroker is the same with the broker's default of the key.
func TestFsyncKeysLiveForTheBroker(t *testing.T) {
	for _, f := range fsyncKeyCases() {
		own := map[string]string{"fsync.policy": ""}
		for key, value := range f.before {
			for _, k := range topicKeys() {
				if k.Name == key {
					own[k.Broker] = value
				}
			}
		}
		tb := startBroker(t, own)
		tb.createTopic("t", 1, nil)
		tb.createTopic("own", 1, map[string]string{"fsync.policy": "never"})
		c := tb.dial()
		wantUnsynced(t, tb, c, "t")
		wantUnsynced(t, tb, c, "own")
		tb.alterBroker(f.brokerKey, f.value)
		wantSynced(t, tb, "t", f.brokerKey)
		if log := mustPartition(t, tb, "own"); log.Config().Fsync != ioqueue.PolicyNever || log.Offsets().Durable != 0 {
			t.Errorf("%s: it changed a topic that has fsync.policy of its own", f.brokerKey)
		}
		tb.stop()
	}
}

func wantUnsynced(t *testing.T, tb *testBroker, c *rawConn, topic string) {
	t.Helper()
	if p := c.produce(topic, acksLeader, batchOf("v")); p.ErrorCode != 0 {
		t.Fatalf("%s: error %d", topic, p.ErrorCode)
	}
	if o := mustPartition(t, tb, topic).Offsets(); o.LogEnd != 1 || o.Durable != 0 {
		t.Fatalf("%s before the change: %+v, want one record that is not durable", topic, o)
	}
}

func wantSynced(t *testing.T, tb *testBroker, topic, key string) {
	t.Helper()
	testkit.Eventually(t, "the effect of "+key, func() bool { return mustPartition(t, tb, topic).Offsets().Durable == 1 })
}

// TestFsyncMaxDelayLive: under commit an acknowledgement takes at least fsync.max.delay.ms, as long as that is in force.
func TestFsyncMaxDelayLive(t *testing.T) {
	const delay = 300 * time.Millisecond
	for _, level := range []string{"topic", "broker"} {
		tb := startBroker(t, map[string]string{"fsync.policy": "commit"})
		tb.createTopic("t", 1, nil)
		c := tb.dial()
		set := func(value string) {
			if level == "topic" {
				tb.alter(cluster.ResourceTopic, "t", "fsync.max.delay.ms", value)
			} else {
				tb.alterBroker("fsync.max.delay.ms", value)
			}
			want := time.Duration(parseInt(value)) * time.Millisecond
			testkit.Eventually(t, "the change", func() bool { return mustPartition(t, tb, "t").Config().FsyncMaxDelay == want })
		}
		took := func() time.Duration {
			began := time.Now()
			c.mustProduce("t", batchOf("v"))
			return time.Since(began)
		}
		set("300")
		for range 3 {
			if d := took(); d < delay-20*time.Millisecond {
				t.Errorf("%s: acknowledged after %v, want at least %v", level, d, delay)
			}
		}
		set("0")
		testkit.Eventually(t, "an acknowledgement without delay", func() bool { return took() < delay })
		tb.stop()
	}
}

// TestFsyncPrecedence: what a topic says goes before what the broker says, and fsync.policy before Kafka's keys.
func TestFsyncPrecedence(t *testing.T) {
	type values = map[string]string
	f := func(broker, topic values, want ioqueue.Policy, interval time.Duration, from string) {
		t.Helper()
		c, _, err := NewConfig(broker)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckTopic(topic); err != nil {
			t.Fatal(err)
		}
		got := c.LogConfig(topic)
		if got.Fsync != want || want == ioqueue.PolicyInterval && got.FsyncInterval != interval || c.FsyncFrom(topic) != from {
			t.Errorf("%v, %v: got %v every %v from %q; want %v, %v, %q", broker, topic, got.Fsync, got.FsyncInterval, c.FsyncFrom(topic), want, interval, from)
		}
	}
	f(nil, nil, ioqueue.PolicyCommit, 0, "the default for one replica")
	f(values{"fsync.policy": "never"}, nil, ioqueue.PolicyNever, 0, "fsync.policy of the broker")
	f(values{"fsync.policy": "never"}, values{"flush.messages": "1"}, ioqueue.PolicyCommit, 0, "flush.messages=1 of the topic")
	f(values{"fsync.policy": "never"}, values{"flush.messages": "1000"}, ioqueue.PolicyCommit, 0, "flush.messages=1000 of the topic")
	f(values{"fsync.policy": "commit"}, values{"flush.ms": "70"}, ioqueue.PolicyInterval, 70*time.Millisecond, "flush.ms=70 of the topic")
	f(nil, values{"flush.ms": "70", "fsync.policy": "interval"}, ioqueue.PolicyInterval, time.Second, "fsync.policy of the topic")
	f(nil, values{"flush.ms": "70", "flush.messages": "5"}, ioqueue.PolicyCommit, 0, "flush.messages=5 of the topic")
	f(values{"log.flush.interval.ms": "9"}, nil, ioqueue.PolicyInterval, 9*time.Millisecond, "log.flush.interval.ms=9 of the broker")
	f(values{"log.flush.interval.messages": "1"}, values{"fsync.policy": "never"}, ioqueue.PolicyNever, 0, "fsync.policy of the topic")
	f(values{"fsync.policy": "never", "log.flush.interval.ms": "9"}, values{"fsync.policy": ""}, ioqueue.PolicyInterval, 9*time.Millisecond,
		"log.flush.interval.ms=9 of the broker")
	f(values{"flush.nothing": "1"}, values{"flush.ms": "9223372036854775807"}, ioqueue.PolicyCommit, 0, "the default for one replica")

	c, _, err := NewConfig(values{"log.flush.interval.messages": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckBroker(values{"fsync.policy": "interval"}); !errors.Is(err, ErrConfig) {
		t.Errorf("a live fsync.policy=interval beside log.flush.interval.messages=1: %v", err)
	}
}
