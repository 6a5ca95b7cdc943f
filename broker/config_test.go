package broker

import (
	"errors"
	"strings"
	"testing"
)

func TestEveryDefaultPassesItsOwnCheck(t *testing.T) {
	for _, key := range append(brokerKeys(), topicKeys()...) {
		if key.Default == "" {
			continue
		}
		if err := key.Check(key.Default); err != nil {
			t.Error(err)
		}
		if key.Doc == "" {
			t.Errorf("%s has no documentation", key.Name)
		}
	}
}

func TestConfigErrorsNameKeyValueAndRange(t *testing.T) {
	f := func(key, value string, want ...string) {
		t.Helper()
		_, _, err := NewConfig(map[string]string{key: value})
		if !errors.Is(err, ErrConfig) {
			t.Fatalf("%s=%s: got %v, want an ErrConfig", key, value, err)
		}
		for _, part := range append(want, key, value) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	f("num.partitions", "0", "from 1 to 1000000")
	f("num.partitions", "many", "whole number")
	f("auto.create.topics.enable", "yes", "true or false")
	f("fsync.policy", "sometimes", "one of commit, interval, never, or empty")
	f("log.cleaner.min.cleanable.ratio", "1.5", "from 0 to 1")
	f("message.max.bytes", "3000000000", "2147483647")
	f("log.cleanup.policy", "delete,rot", "delete, compact")
}

func TestUnknownKeysWarnWithAHint(t *testing.T) {
	_, warnings, err := NewConfig(map[string]string{"log.retention.byte": "5", "zzz": "1"})
	if err != nil || len(warnings) != 2 {
		t.Fatalf("got %q, %v; want two warnings", warnings, err)
	}
	if !strings.Contains(warnings[0], `did you mean "log.retention.bytes"`) {
		t.Errorf("no hint in %q", warnings[0])
	}
	if !strings.Contains(warnings[0], "is ignored") || !strings.Contains(warnings[1], "is ignored") {
		t.Errorf("%q do not say what becomes of the keys", warnings)
	}
}

// A refused key is not one that is ignored.
func TestARefusedUnknownKeyIsNotIgnored(t *testing.T) {
	c, _, err := NewConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"fsync.polcy": "never"}
	for name, err := range map[string]error{"topic": c.CheckTopic(values), "broker": c.CheckBroker(values), "static": CheckStatic(values)} {
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), `unknown key "fsync.polcy"; did you mean "fsync.policy"?`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.CheckTopic(map[string]string{"zzzz": "1"}); err == nil || !strings.Contains(err.Error(), "`weir config keys --topic` lists") {
		t.Errorf("a key that resembles none: %v", err)
	}
	if err := CheckStatic(map[string]string{"fsync.policy": "never"}); err != nil {
		t.Error(err)
	}
}

func TestSettingsFallThroughTopicDynamicStaticDefault(t *testing.T) {
	c, _, err := NewConfig(map[string]string{"log.retention.hours": "2", "log.segment.bytes": "2097152"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(own map[string]string, key, want string, source Source) {
		t.Helper()
		if got := c.TopicSetting(own, key); got.Value != want || got.Source != source {
			t.Errorf("%s: got %s from %d, want %s from %d", key, got.Value, got.Source, want, source)
		}
	}
	check(nil, "retention.ms", "7200000", SourceStaticBroker)
	check(nil, "segment.bytes", "2097152", SourceStaticBroker)
	check(nil, "segment.ms", "604800000", SourceDefault)
	c.SetDynamic(map[string]string{"log.segment.bytes": "4194304"})
	check(nil, "segment.bytes", "4194304", SourceDynamicBroker)
	check(map[string]string{"segment.bytes": "1048576"}, "segment.bytes", "1048576", SourceTopic)
}

// topicValue is a second way to TopicSetting's value.
func TestTopicValueIsThatOfTopicSetting(t *testing.T) {
	f := func(static, dynamic, own map[string]string) {
		t.Helper()
		c, _, err := NewConfig(static)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDynamic(dynamic)
		for _, key := range c.TopicKeys() {
			if got, want := c.topicValue(own, key.Name), c.TopicSetting(own, key.Name).Value; got != want {
				t.Errorf("%s with static %v, dynamic %v and own %v: got %q, want %q", key.Name, static, dynamic, own, got, want)
			}
		}
	}
	hours := map[string]string{"log.retention.hours": "2", "log.roll.hours": "3"}
	f(nil, nil, nil)
	f(hours, nil, nil)
	f(map[string]string{"log.retention.hours": "2", "log.retention.minutes": "30"}, nil, nil)
	f(map[string]string{"log.retention.hours": "2", "log.retention.ms": "5000"}, nil, nil)
	f(hours, map[string]string{"log.retention.ms": "7000"}, nil)
	f(hours, map[string]string{"log.retention.ms": "7000"}, map[string]string{"retention.ms": "9000", "segment.bytes": "2097152"})
	f(map[string]string{"log.preallocate": "true", "compression.type": "producer"}, nil, map[string]string{"cleanup.policy": "compact"})
}

func TestCheckTopicHoldsKeysAgainstEachOther(t *testing.T) {
	c, _, _ := NewConfig(nil)
	if err := c.CheckTopic(map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}); !errors.Is(err, ErrConfig) {
		t.Errorf("lags: got %v", err)
	}
	if err := c.CheckTopic(map[string]string{"fsync.policy": "never", "flush.messages": "1"}); !errors.Is(err, ErrConfig) {
		t.Errorf("policy: got %v", err)
	}
	if err := c.CheckTopic(map[string]string{"cleanup.policy": "compact,delete"}); err != nil {
		t.Error(err)
	}
	if err := c.CheckBroker(map[string]string{"node.id": "3"}); !errors.Is(err, ErrConfig) {
		t.Errorf("a static key was taken: %v", err)
	}
}

func TestReadProperties(t *testing.T) {
	got, err := ReadProperties(strings.NewReader("# c\n! d\n\n a = b c \nk:v\nlong=one,\\\n  two\nw x\nesc\\=q=1\\\\2\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "b c", "k": "v", "long": "one,two", "w": "x", "esc=q": `1\2`}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
	if got, err := ReadProperties(strings.NewReader("a=1\nb=2\\"), "f"); err != nil || got["b"] != "2" {
		t.Errorf("a backslash at the file's end: got %q, %v; want b=2", got, err)
	}
	if _, err := ReadProperties(strings.NewReader("a=1\n"+strings.Repeat("x", 2<<20)), "f"); err == nil || !strings.Contains(err.Error(), "f:2: the line is longer") {
		t.Errorf("got %v, want a word of the line's length at f:2", err)
	}
	if _, err := ReadProperties(strings.NewReader("a=1\n=2\n"), "f"); err == nil || !strings.Contains(err.Error(), "f:2") {
		t.Errorf("got %v, want an error at f:2", err)
	}
}
