package broker

import (
	"maps"
	"strconv"

	"github.com/weirmq/weir/cluster"
)

// configHandlers are the table rows of the APIs that read or change configuration.
func (b *Broker) configHandlers() []handler {
	return []handler{
		on(onWorker, b.handleDescribeConfigs),
		on(onWorker, b.handleAlterConfigs),
		on(onWorker, b.handleIncrementalAlterConfigs),
	}
}

// checkConfigs is cluster.Options.CheckConfigs: whether a resource may have exactly these dynamic values.
func (c *Config) checkConfigs(r cluster.Resource, values map[string]string) error {
	if r.Type == cluster.ResourceTopic {
		return c.CheckTopic(values)
	}
	return c.CheckBroker(values)
}

// listConfig is cluster.Options.ListConfig: whether a key holds a list, and what it holds when unset.
func (c *Config) listConfig(t cluster.ResourceType, name string) (isList bool, unset string) {
	if t == cluster.ResourceTopic {
		if key := c.topics[name]; key != nil {
			return key.Type == TypeList, c.TopicSetting(nil, name).Value
		}
		return false, ""
	}
	if key := c.byName[name]; key != nil {
		return key.Type == TypeList, c.BrokerSetting(name).Value
	}
	return false, ""
}

// dynamicBrokerValues are the dynamic values in force for a node: those of all brokers, then its own over them.
func dynamicBrokerValues(image *cluster.Image, nodeID int32) map[string]string {
	values := map[string]string{}
	maps.Copy(values, image.BrokerConfigs("").Values)
	maps.Copy(values, image.BrokerConfigs(strconv.FormatInt(int64(nodeID), 10)).Values)
	return values
}
