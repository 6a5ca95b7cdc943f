package broker

import (
	"fmt"
	"math"
	"time"

	"github.com/weirmq/weir/ioqueue"
)

// fsyncChoice is a class of durability and the setting that it comes from.
type fsyncChoice struct {
	policy   ioqueue.Policy
	interval time.Duration // 0: fsync.interval.ms
	from     string        // for people
}

// fsync decides the class of durability of a topic. What the topic says goes before what the broker says, and on either level
// fsync.policy before Kafka's keys: a finite flush.messages asks for an fsync every so many records, which commit more than
// keeps, and a finite flush.ms is an interval. When nobody says anything a topic of one replica is committed: there is nothing
// else that could keep its records through a power cut.
func (c *Config) fsync(own map[string]string) fsyncChoice {
	name, named := own["fsync.policy"]
	if name != "" {
		return namedFsync(name, "fsync.policy of the topic")
	}
	ownKey := func(key string) (string, bool) { value, ok := own[key]; return value, ok }
	if choice, ok := flushKeys(ownKey, "flush.messages", "flush.ms", "the topic"); ok {
		return choice
	}
	// A topic that sets fsync.policy to nothing wants the flush keys, its own or the broker's, to decide.
	if name := c.String("fsync.policy"); name != "" && !named {
		return namedFsync(name, "fsync.policy of the broker")
	}
	brokerKey := func(key string) (string, bool) { return c.String(key), c.isSet(key) }
	if choice, ok := flushKeys(brokerKey, "log.flush.interval.messages", "log.flush.interval.ms", "the broker"); ok {
		return choice
	}
	return fsyncChoice{policy: ioqueue.PolicyCommit, from: "the default for one replica"}
}

func namedFsync(name, from string) fsyncChoice {
	policy, err := ioqueue.ParsePolicy(name)
	if err != nil {
		panic("BUG: fsync.policy passed its check and does not parse: " + name)
	}
	return fsyncChoice{policy: policy, from: from}
}

// flushKeys is what Kafka's two keys ask for, if they are set to a finite number.
func flushKeys(value func(key string) (string, bool), messages, ms, of string) (fsyncChoice, bool) {
	if text, ok := value(messages); ok && parseInt(text) < math.MaxInt64 {
		return fsyncChoice{policy: ioqueue.PolicyCommit, from: fmt.Sprintf("%s=%s of %s", messages, text, of)}, true
	}
	if text, ok := value(ms); ok && parseInt(text) < math.MaxInt64 {
		interval := millis(min(max(parseInt(text), 1), time.Hour.Milliseconds()))
		return fsyncChoice{policy: ioqueue.PolicyInterval, interval: interval, from: fmt.Sprintf("%s=%s of %s", ms, text, of)}, true
	}
	return fsyncChoice{}, false
}

// FsyncFrom names, for people, the setting that decides the class of durability of a topic with these own values.
func (c *Config) FsyncFrom(own map[string]string) string { return c.fsync(own).from }
