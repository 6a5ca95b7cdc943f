package broker

import (
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/protocol"
)

// describe asks for a resource's configuration, at a version, and returns its rows by key.
func (c *rawConn) describe(version int16, kind kmsg.ConfigResourceType, name string, keys []string) (map[string]kmsg.DescribeConfigsResponseResourceConfig, int16) {
	c.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	asked := kmsg.NewDescribeConfigsRequestResource()
	asked.ResourceType, asked.ResourceName, asked.ConfigNames = kind, name, keys
	req.Resources = append(req.Resources, asked)
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	resp := c.request(req, version).(*kmsg.DescribeConfigsResponse)
	if len(resp.Resources) != 1 || resp.Resources[0].ResourceType != kind || resp.Resources[0].ResourceName != name {
		c.t.Fatalf("version %d: resources %+v", version, resp.Resources)
	}
	rows := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	for _, row := range resp.Resources[0].Configs {
		rows[row.Name] = row
	}
	return rows, resp.Resources[0].ErrorCode
}

// alter changes keys of a resource, at a version of IncrementalAlterConfigs, and returns the error code and text.
func (c *rawConn) alter(version int16, validateOnly bool, kind kmsg.ConfigResourceType, name string,
	configs ...kmsg.IncrementalAlterConfigsRequestResourceConfig) (int16, string) {
	c.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validateOnly
	asked := kmsg.NewIncrementalAlterConfigsRequestResource()
	asked.ResourceType, asked.ResourceName, asked.Configs = kind, name, configs
	req.Resources = append(req.Resources, asked)
	resp := c.request(req, version).(*kmsg.IncrementalAlterConfigsResponse)
	return resp.Resources[0].ErrorCode, deref(resp.Resources[0].ErrorMessage)
}

func alteration(op kmsg.IncrementalAlterConfigOp, key string, value *string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Op, config.Name, config.Value = op, key, value
	return config
}

const (
	topicResource  = kmsg.ConfigResourceTypeTopic
	brokerResource = kmsg.ConfigResourceTypeBroker
)

func TestDescribeConfigsEveryVersion(t *testing.T) {
	tb := startBroker(t, map[string]string{"log.retention.ms": "70000"})
	tb.createTopic("t", 1, map[string]string{"retention.ms": "5000"})
	c := tb.dial()
	for version := int16(1); version <= 4; version++ {
		for _, keys := range [][]string{nil, {}} { // both ask for all
			rows, code := c.describe(version, topicResource, "t", keys)
			wantCode(t, "describe topic", code, protocol.ErrNone)
			if len(rows) != len(tb.config.TopicKeys()) {
				t.Errorf("version %d: %d keys, want %d", version, len(rows), len(tb.config.TopicKeys()))
			}
			row := rows["retention.ms"]
			if deref(row.Value) != "5000" || row.Source != kmsg.ConfigSourceDynamicTopicConfig || row.ReadOnly || row.IsSensitive {
				t.Errorf("version %d: retention.ms %+v", version, row)
			}
			var chain []string
			for _, s := range row.ConfigSynonyms {
				chain = append(chain, s.Name+"="+deref(s.Value)+"@"+strconv.Itoa(int(s.Source)))
			}
			if got, want := strings.Join(chain, " "), "retention.ms=5000@1 log.retention.ms=70000@4 log.retention.ms=604800000@5"; got != want {
				t.Errorf("version %d: synonyms %q, want %q", version, got, want)
			}
			if version >= 3 && (row.ConfigType != kmsg.ConfigTypeLong || deref(row.Documentation) == "") {
				t.Errorf("version %d: type %d, documentation %q", version, row.ConfigType, deref(row.Documentation))
			}
		}
		rows, _ := c.describe(version, topicResource, "t", []string{"segment.bytes", "no.such.key"})
		if row := rows["segment.bytes"]; len(rows) != 1 || row.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("version %d: asked for one key, got %+v", version, rows)
		}
		rows, _ = c.describe(version, brokerResource, "1", nil)
		if len(rows) != len(tb.config.BrokerKeys()) {
			t.Errorf("version %d: %d broker keys, want %d", version, len(rows), len(tb.config.BrokerKeys()))
		}
		if row := rows["log.retention.ms"]; row.Source != kmsg.ConfigSourceStaticBrokerConfig || row.ReadOnly {
			t.Errorf("version %d: log.retention.ms %+v", version, row)
		}
		if row := rows["node.id"]; !row.ReadOnly {
			t.Errorf("version %d: node.id can be changed", version)
		}
	}
}

func TestDescribeConfigsRefusals(t *testing.T) {
	c := startBroker(t, nil).dial()
	for _, test := range []struct {
		kind kmsg.ConfigResourceType
		name string
		want protocol.ErrorCode
	}{
		{topicResource, "nosuch", protocol.ErrUnknownTopicOrPartition},
		{brokerResource, "2", protocol.ErrInvalidRequest},
		{brokerResource, "one", protocol.ErrInvalidRequest},
		{99, "x", protocol.ErrInvalidRequest},
	} {
		rows, code := c.describe(4, test.kind, test.name, nil)
		wantCode(t, test.name, code, test.want)
		if len(rows) != 0 {
			t.Errorf("%s: %d rows with an error", test.name, len(rows))
		}
	}
}

// A key whose value leaves the choice to the broker is described with what the broker chose; where the choice comes from stays visible.
func TestDescribeConfigsTellsTheThreadsInForce(t *testing.T) {
	for _, test := range []struct {
		set, raw string
		source   kmsg.ConfigSource
	}{{"", "0", kmsg.ConfigSourceDefaultConfig}, {"0", "0", kmsg.ConfigSourceStaticBrokerConfig}, {"2", "2", kmsg.ConfigSourceStaticBrokerConfig}} {
		values := map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": t.TempDir(), "fsync.policy": "never"}
		if test.set != "" {
			values["num.network.threads"] = test.set
		}
		config, _, err := NewConfig(values)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Start(Options{Config: config})
		if err != nil {
			t.Fatal(err)
		}
		tb := &testBroker{Broker: b, t: t}
		rows, _ := tb.dial().describe(4, brokerResource, "1", []string{"num.network.threads"})
		row := rows["num.network.threads"]
		if want := strconv.Itoa(b.server.Loops()); deref(row.Value) != want || row.Source != test.source {
			t.Errorf("set to %q: %s from source %d, want %s from %d", test.set, deref(row.Value), row.Source, want, test.source)
		}
		if len(row.ConfigSynonyms) == 0 || deref(row.ConfigSynonyms[0].Value) != test.raw {
			t.Errorf("set to %q: synonyms %+v, want %s first", test.set, row.ConfigSynonyms, test.raw)
		}
		tb.stop()
	}
}

func TestAlterConfigsEveryVersion(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, map[string]string{"retention.ms": "5000"})
	c := tb.dial()
	for version := int16(0); version <= 2; version++ {
		value := strconv.Itoa(2_000_000 + int(version))
		req := kmsg.NewPtrAlterConfigsRequest()
		asked := kmsg.NewAlterConfigsRequestResource()
		asked.ResourceType, asked.ResourceName = topicResource, "t"
		config := kmsg.NewAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "segment.bytes", &value
		asked.Configs = append(asked.Configs, config)
		req.Resources = append(req.Resources, asked)
		req.ValidateOnly = true
		resp := c.request(req, version).(*kmsg.AlterConfigsResponse)
		wantCode(t, "validate only", resp.Resources[0].ErrorCode, protocol.ErrNone)
		if got := mustPartition(t, tb, "t").Config().SegmentBytes; strconv.FormatInt(got, 10) == value {
			t.Errorf("version %d: validate_only changed segment.bytes", version)
		}
		req.ValidateOnly = false
		resp = c.request(req, version).(*kmsg.AlterConfigsResponse)
		wantCode(t, "alter", resp.Resources[0].ErrorCode, protocol.ErrNone)
		rows, _ := c.describe(4, topicResource, "t", []string{"segment.bytes", "retention.ms"})
		if got := deref(rows["segment.bytes"].Value); got != value {
			t.Errorf("version %d: segment.bytes is %s, want %s", version, got, value)
		}
		if rows["retention.ms"].Source == kmsg.ConfigSourceDynamicTopicConfig {
			t.Errorf("version %d: a key that was not named kept its value: AlterConfigs replaces all", version)
		}
		req.Resources[0].Configs[0].Value = nil
		resp = c.request(req, version).(*kmsg.AlterConfigsResponse)
		wantCode(t, "null value", resp.Resources[0].ErrorCode, protocol.ErrInvalidRequest)
		req.Resources = append(req.Resources, req.Resources[0])
		resp = c.request(req, version).(*kmsg.AlterConfigsResponse)
		wantCode(t, "named twice", resp.Resources[0].ErrorCode, protocol.ErrInvalidRequest)
		wantCode(t, "named twice", resp.Resources[1].ErrorCode, protocol.ErrInvalidRequest)
	}
}

func TestIncrementalAlterConfigsEveryVersion(t *testing.T) {
	const set, unset = kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete
	const add, subtract = kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract
	text := kmsg.StringPtr
	for version := int16(0); version <= 1; version++ {
		tb := startBroker(t, nil)
		tb.createTopic("t", 1, nil)
		c := tb.dial()
		for _, test := range []struct {
			name         string
			validateOnly bool
			change       []kmsg.IncrementalAlterConfigsRequestResourceConfig
			code         protocol.ErrorCode
			key, want    string // afterwards
		}{
			{"set", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "retention.ms", text("1234"))}, protocol.ErrNone, "retention.ms", "1234"},
			{"validate only", true, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "retention.ms", text("9"))}, protocol.ErrNone, "retention.ms", "1234"},
			{"another key", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "segment.ms", text("77"))}, protocol.ErrNone, "retention.ms", "1234"},
			{"delete", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(unset, "retention.ms", nil)}, protocol.ErrNone, "retention.ms", "604800000"},
			{"append to the default", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(add, "cleanup.policy", text("compact"))}, protocol.ErrNone, "cleanup.policy", "delete,compact"},
			{"subtract", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(subtract, "cleanup.policy", text("delete"))}, protocol.ErrNone, "cleanup.policy", "compact"},
			{"append to no list", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(add, "segment.ms", text("5"))}, protocol.ErrInvalidConfig, "segment.ms", "77"},
			{"null", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "fsync.policy", nil)}, protocol.ErrInvalidRequest, "segment.ms", "77"},
			{"out of range", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "segment.ms", text("0"))}, protocol.ErrInvalidConfig, "segment.ms", "77"},
			{"one of two is wrong", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "segment.ms", text("88")),
				alteration(set, "no.such.key", text("1"))}, protocol.ErrInvalidConfig, "segment.ms", "77"},
			{"a key twice", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(set, "segment.ms", text("88")),
				alteration(unset, "segment.ms", nil)}, protocol.ErrInvalidRequest, "segment.ms", "77"},
			{"unknown operation", false, []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(9, "segment.ms", text("88"))}, protocol.ErrInvalidRequest, "segment.ms", "77"},
		} {
			code, message := c.alter(version, test.validateOnly, topicResource, "t", test.change...)
			wantCode(t, test.name, code, test.code)
			if (code != 0) != (message != "") || strings.Count(message, "invalid configuration") > 1 {
				t.Errorf("%s: code %d with the text %q", test.name, code, message)
			}
			rows, _ := c.describe(4, topicResource, "t", []string{test.key})
			if got := deref(rows[test.key].Value); got != test.want {
				t.Errorf("version %d, %s: %s is %q, want %q", version, test.name, test.key, got, test.want)
			}
		}
		code, _ := c.alter(version, false, topicResource, "nosuch", alteration(set, "retention.ms", text("1")))
		wantCode(t, "unknown topic", code, protocol.ErrUnknownTopicOrPartition)
		code, _ = c.alter(version, false, brokerResource, "7", alteration(set, "log.retention.ms", text("1")))
		wantCode(t, "another broker", code, protocol.ErrInvalidRequest)
		code, _ = c.alter(version, false, brokerResource, "1", alteration(set, "node.id", text("2")))
		wantCode(t, "a key that is fixed at start", code, protocol.ErrInvalidConfig)
		code, _ = c.alter(version, false, brokerResource, "", alteration(set, "log.retention.ms", text("4321")))
		wantCode(t, "all brokers", code, protocol.ErrNone)
		rows, _ := c.describe(4, brokerResource, "", nil)
		if row := rows["log.retention.ms"]; deref(row.Value) != "4321" || row.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig {
			t.Errorf("version %d: the default for all brokers is %+v", version, row)
		}
	}
}
