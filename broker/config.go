package broker

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrConfig marks every error of a configuration value: a bad value, or a key that cannot be set here.
var ErrConfig = errors.New("invalid configuration")

// Config is the broker's configuration: what the file, flags and environment say (static, fixed at start), what the
// admin API changed since (dynamic), and the defaults. Safe for use by several goroutines.
type Config struct {
	static  map[string]string
	dynamic atomic.Pointer[map[string]string]
	inForce atomic.Pointer[map[string]string] // what keys whose value leaves the choice to the broker came to
	broker  []Key
	topic   []Key
	byName  map[string]*Key // broker keys
	topics  map[string]*Key
}

// Source tells where a value comes from, with the codes of DescribeConfigs (KIP-226).
type Source int8

// The sources of a value, numbered as in the Kafka protocol.
const (
	SourceTopic         Source = 1
	SourceDynamicBroker Source = 2
	SourceStaticBroker  Source = 4
	SourceDefault       Source = 5
)

// Setting is one key with the value in force.
type Setting struct {
	// Key describes the key.
	Key *Key
	// Value is the value in force, as text. It differs from the first synonym's where that leaves the choice to the broker.
	Value string
	// Source tells who set it.
	Source Source
	// Synonyms are the values that would apply in turn, the one in force first.
	Synonyms []Synonym
}

// Synonym is one place a value may come from.
type Synonym struct {
	// Name is the key's name at that place: the broker's key for a topic key's default.
	Name string
	// Value is the value there, as text.
	Value string
	// Source is the place.
	Source Source
}

// NewConfig holds the given values, keyed by Kafka's broker key names, against the key table. Unknown keys come
// back as warnings, with a hint where the name is close to a known one; an impossible value is an error that wraps ErrConfig.
func NewConfig(static map[string]string) (*Config, []string, error) {
	c := &Config{static: map[string]string{}, broker: brokerKeys(), topic: topicKeys(), byName: map[string]*Key{}, topics: map[string]*Key{}}
	for i := range c.broker {
		c.byName[c.broker[i].Name] = &c.broker[i]
	}
	for i := range c.topic {
		c.topics[c.topic[i].Name] = &c.topic[i]
	}
	c.dynamic.Store(&map[string]string{})
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(static)) {
		key := c.byName[name]
		if key == nil {
			warnings = append(warnings, c.unknownKey(name, false, " is ignored"))
			continue
		}
		if err := key.Check(static[name]); err != nil {
			return nil, warnings, err
		}
		c.static[name] = static[name]
	}
	return c, warnings, c.checkTogether()
}

// CheckStatic is NewConfig's check for those who take an unknown key for a mistake: it is an error that wraps ErrConfig.
func CheckStatic(values map[string]string) error {
	c, warnings, err := NewConfig(values)
	if err != nil || len(warnings) == 0 {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if c.byName[name] == nil {
			return fmt.Errorf("%w: %s", ErrConfig, c.unknownKey(name, false, ""))
		}
	}
	return nil
}

// checkTogether holds values against each other.
func (c *Config) checkTogether() error {
	if err := fsyncAgrees(c.String("fsync.policy"), c.isSet("log.flush.interval.messages"), c.Int("log.flush.interval.messages")); err != nil {
		return err
	}
	if len(SplitList(c.String("log.dirs"))) == 0 {
		return fmt.Errorf("%w: log.dirs=%q: must name at least one directory", ErrConfig, c.String("log.dirs"))
	}
	seen := map[string]bool{}
	for _, dir := range SplitList(c.String("log.dirs")) {
		if seen[dir] {
			return fmt.Errorf("%w: log.dirs=%q: %q is named twice", ErrConfig, c.String("log.dirs"), dir)
		}
		seen[dir] = true
	}
	return nil
}

// fsyncAgrees refuses a policy that contradicts flush.messages=1.
func fsyncAgrees(policy string, messagesSet bool, messages int64) error {
	if messagesSet && messages == 1 && policy != "" && policy != "commit" {
		return fmt.Errorf("%w: fsync.policy=%q: flush.messages=1 asks for an fsync of every record, so it must be commit or unset", ErrConfig, policy)
	}
	return nil
}

// SetDynamic replaces the dynamic broker values. They must have passed CheckBroker.
func (c *Config) SetDynamic(values map[string]string) {
	copied := maps.Clone(values)
	if copied == nil {
		copied = map[string]string{}
	}
	c.dynamic.Store(&copied)
}

// CheckBroker holds dynamic broker values against the table: each key must exist, be dynamic and be in range.
func (c *Config) CheckBroker(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key := c.byName[name]
		if key == nil {
			return fmt.Errorf("%w: %s", ErrConfig, c.unknownKey(name, false, ""))
		}
		if !key.Dynamic {
			return fmt.Errorf("%w: %s=%q: can only be set in the properties file, and takes effect at a restart", ErrConfig, name, values[name])
		}
		if err := key.Check(values[name]); err != nil {
			return err
		}
	}
	inForce := func(name string) (string, bool) {
		for _, level := range []map[string]string{values, c.static} {
			if value, ok := level[name]; ok {
				return value, true
			}
		}
		return "", false
	}
	policy, _ := inForce("fsync.policy")
	messages, set := inForce("log.flush.interval.messages")
	return fsyncAgrees(policy, set, parseInt(messages))
}

// CheckTopic holds a topic's values against the table and against each other.
func (c *Config) CheckTopic(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key := c.topics[name]
		if key == nil {
			return fmt.Errorf("%w: %s", ErrConfig, c.unknownKey(name, true, ""))
		}
		if err := key.Check(values[name]); err != nil {
			return err
		}
	}
	at := func(name string) float64 {
		f, _ := strconv.ParseFloat(c.topicValue(values, name), 64)
		return f
	}
	if low, high := at("min.compaction.lag.ms"), at("max.compaction.lag.ms"); low > high {
		return fmt.Errorf("%w: min.compaction.lag.ms=%.0f: must not exceed max.compaction.lag.ms, which is %.0f", ErrConfig, low, high)
	}
	_, messagesSet := values["flush.messages"]
	return fsyncAgrees(values["fsync.policy"], messagesSet, int64(at("flush.messages")))
}

// BrokerKeys lists the broker keys in the table's order.
func (c *Config) BrokerKeys() []Key { return c.broker }

// TopicKeys lists the topic keys in the table's order.
func (c *Config) TopicKeys() []Key { return c.topic }

// BrokerSetting is the value in force of a broker key, which must be in the table.
func (c *Config) BrokerSetting(name string) Setting {
	key := c.byName[name]
	if key == nil {
		panic("BUG: unknown broker key " + name)
	}
	var chain []Synonym
	if v, ok := (*c.dynamic.Load())[name]; ok {
		chain = append(chain, Synonym{name, v, SourceDynamicBroker})
	}
	chain = append(chain, c.staticSynonyms(name)...)
	chain = append(chain, Synonym{name, key.Default, SourceDefault})
	setting := Setting{Key: key, Value: chain[0].Value, Source: chain[0].Source, Synonyms: chain}
	if inForce := c.inForce.Load(); inForce != nil {
		if value, ok := (*inForce)[name]; ok {
			setting.Value = value
		}
	}
	return setting
}

// staticSynonyms are the static values of a key, its coarser spellings in hours and minutes included.
func (c *Config) staticSynonyms(name string) []Synonym {
	var chain []Synonym
	if v, ok := c.static[name]; ok {
		chain = append(chain, Synonym{name, v, SourceStaticBroker})
	}
	for _, alias := range coarseSpellings(name) {
		if v, ok := c.static[alias.key]; ok && v != "" {
			n, _ := strconv.ParseInt(v, 10, 64)
			if n > 0 {
				n *= alias.unit.Milliseconds()
			}
			chain = append(chain, Synonym{name, strconv.FormatInt(n, 10), SourceStaticBroker})
		}
	}
	return chain
}

// coarseSpelling is a key that sets another one in a larger unit.
type coarseSpelling struct {
	key  string
	unit time.Duration
}

// coarseSpellings are those of a key, the finest first.
func coarseSpellings(name string) []coarseSpelling {
	switch name {
	case "log.retention.ms":
		return []coarseSpelling{{"log.retention.minutes", time.Minute}, {"log.retention.hours", time.Hour}}
	case "log.roll.ms":
		return []coarseSpelling{{"log.roll.hours", time.Hour}}
	default:
		return nil
	}
}

// TopicSetting is the value in force of a topic key, which must be in the table, for a topic with these own values.
func (c *Config) TopicSetting(own map[string]string, name string) Setting {
	key := c.topics[name]
	if key == nil {
		panic("BUG: unknown topic key " + name)
	}
	var chain []Synonym
	if v, ok := own[name]; ok {
		chain = append(chain, Synonym{name, v, SourceTopic})
	}
	if key.Broker == "" {
		chain = append(chain, Synonym{name, key.Default, SourceDefault})
	} else {
		chain = append(chain, c.BrokerSetting(key.Broker).Synonyms...)
	}
	return Setting{Key: key, Value: chain[0].Value, Source: chain[0].Source, Synonyms: chain}
}

// topicValue is the value of TopicSetting alone, without allocations: it is asked for some thirty keys of every topic that is created.
func (c *Config) topicValue(own map[string]string, name string) string {
	if v, ok := own[name]; ok {
		return v
	}
	key := c.topics[name]
	if key == nil {
		panic("BUG: unknown topic key " + name)
	}
	if key.Broker == "" {
		return key.Default
	}
	if v, ok := (*c.dynamic.Load())[key.Broker]; ok {
		return v
	}
	if v, ok := c.static[key.Broker]; ok {
		return v
	}
	if synonyms := c.staticSynonyms(key.Broker); len(synonyms) > 0 {
		return synonyms[0].Value
	}
	return c.byName[key.Broker].Default
}

func (c *Config) isSet(name string) bool { return c.BrokerSetting(name).Source != SourceDefault }

// String is a broker key's value as text.
func (c *Config) String(name string) string { return c.BrokerSetting(name).Value }

// Int is a broker key's value as a number; 0 where the value is empty.
func (c *Config) Int(name string) int64 { return parseInt(c.String(name)) }

// Bool is a broker key's value as a truth.
func (c *Config) Bool(name string) bool { return strings.EqualFold(c.String(name), "true") }

// Float is a broker key's value as a number with a fraction.
func (c *Config) Float(name string) float64 {
	f, _ := strconv.ParseFloat(strings.TrimSpace(c.String(name)), 64)
	return f
}

// Duration is a broker key's value in milliseconds, as a duration; a negative value is negative.
func (c *Config) Duration(name string) time.Duration { return millis(c.Int(name)) }

// timeout is Duration for an option that takes 0 for its default: 0 is as little as there is.
func (c *Config) timeout(name string) time.Duration {
	if d := c.Duration(name); d != 0 {
		return d
	}
	return time.Millisecond
}

func parseInt(text string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n
}

// millis turns milliseconds into a duration, capped at the longest a duration can be.
func millis(n int64) time.Duration {
	if n > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}
