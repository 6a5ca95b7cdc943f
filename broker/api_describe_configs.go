package broker

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/protocol"
)

// handleDescribeConfigs serves DescribeConfigs (key 32, versions 1-4): every key of a topic or of this broker with the value
// in force, where it comes from, its synonyms (KIP-226), its type and documentation (KIP-569). No key names, null or an empty list, ask for all.
// A resource that is in the request more than once is INVALID_REQUEST: the answer is a hundred times the question.
func (b *Broker) handleDescribeConfigs(r *request, req *kmsg.DescribeConfigsRequest) {
	asked := make([]cluster.Resource, len(req.Resources))
	for i := range req.Resources {
		asked[i] = cluster.Resource{Type: cluster.ResourceType(req.Resources[i].ResourceType), Name: req.Resources[i].ResourceName}
	}
	twice := repeated(asked)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for i := range req.Resources {
		if twice[asked[i]] {
			out := kmsg.NewDescribeConfigsResponseResource()
			out.ResourceType, out.ResourceName = req.Resources[i].ResourceType, req.Resources[i].ResourceName
			out.ErrorCode, out.ErrorMessage = invalidRequest("the resource is named more than once in the request")
			resp.Resources = append(resp.Resources, out)
			continue
		}
		resp.Resources = append(resp.Resources, b.describeResource(req, &req.Resources[i], asked[i]))
	}
	r.Reply(resp)
}

func (b *Broker) describeResource(req *kmsg.DescribeConfigsRequest, asked *kmsg.DescribeConfigsRequestResource,
	res cluster.Resource) kmsg.DescribeConfigsResponseResource {
	out := kmsg.NewDescribeConfigsResponseResource()
	out.ResourceType, out.ResourceName = asked.ResourceType, asked.ResourceName
	settings, code, message := b.settingsOf(res)
	if code != protocol.ErrNone {
		out.ErrorCode, out.ErrorMessage = int16(code), &message
		return out
	}
	for i := range settings {
		if setting := &settings[i]; len(asked.ConfigNames) == 0 || slices.Contains(asked.ConfigNames, setting.Key.Name) {
			out.Configs = append(out.Configs, describeSetting(req, setting, asked.ResourceType == kmsg.ConfigResourceTypeTopic))
		}
	}
	return out
}

// settingsOf lists a resource's settings, or says why there are none.
func (b *Broker) settingsOf(res cluster.Resource) (settings []Setting, code protocol.ErrorCode, message string) {
	switch res.Type {
	case cluster.ResourceTopic:
		topic := b.node.Image().Topic(res.Name)
		if topic == nil {
			return nil, protocol.ErrUnknownTopicOrPartition, fmt.Sprintf("topic %q does not exist", res.Name)
		}
		for i := range b.config.topic {
			settings = append(settings, b.config.TopicSetting(topic.Configs.Values, b.config.topic[i].Name))
		}
		return settings, protocol.ErrNone, ""
	case cluster.ResourceBroker:
		if res.Name == "" {
			for i := range b.config.broker {
				key := &b.config.broker[i]
				if v, ok := b.node.Image().BrokerConfigs("").Values[key.Name]; ok {
					settings = append(settings, Setting{Key: key, Value: v, Source: sourceDefaultBroker, Synonyms: []Synonym{{key.Name, v, sourceDefaultBroker}}})
				}
			}
			return settings, protocol.ErrNone, ""
		}
		if id, err := strconv.ParseInt(res.Name, 10, 32); err != nil || id != b.config.Int("node.id") {
			return nil, protocol.ErrInvalidRequest, fmt.Sprintf("broker %q: this is broker %d, and it describes itself only", res.Name, b.config.Int("node.id"))
		}
		for i := range b.config.broker {
			settings = append(settings, b.config.BrokerSetting(b.config.broker[i].Name))
		}
		return settings, protocol.ErrNone, ""
	}
	return nil, protocol.ErrInvalidRequest, fmt.Sprintf("resource type %d has no configuration here; topics are 2, brokers are 4", res.Type)
}

// sourceDefaultBroker is the source of a dynamic value that holds for all brokers.
const sourceDefaultBroker Source = 3

func describeSetting(req *kmsg.DescribeConfigsRequest, setting *Setting, topic bool) kmsg.DescribeConfigsResponseResourceConfig {
	out := kmsg.NewDescribeConfigsResponseResourceConfig()
	out.Name = setting.Key.Name
	out.Value = kmsg.StringPtr(setting.Value)
	out.ReadOnly = !topic && !setting.Key.Dynamic
	out.Source = kmsg.ConfigSource(setting.Source)
	out.IsDefault = setting.Source == SourceDefault
	out.ConfigType = kmsg.ConfigType(setting.Key.Type)
	if req.IncludeSynonyms {
		for _, synonym := range setting.Synonyms {
			row := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			row.Name, row.Value, row.Source = synonym.Name, kmsg.StringPtr(synonym.Value), kmsg.ConfigSource(synonym.Source)
			out.ConfigSynonyms = append(out.ConfigSynonyms, row)
		}
	}
	if req.IncludeDocumentation {
		out.Documentation = kmsg.StringPtr(setting.Key.Doc)
	}
	return out
}
