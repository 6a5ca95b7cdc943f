package broker

import (
	"errors"
	"maps"
	"strconv"
	"strings"

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

// checkConfigs is cluster.Options.CheckConfigs: whether a resource may have exactly these dynamic values. The cluster's own error
// for that says in front what ErrConfig would say again.
func (c *Config) checkConfigs(r cluster.Resource, values map[string]string) error {
	check := c.CheckBroker
	if r.Type == cluster.ResourceTopic {
		check = c.CheckTopic
	}
	if err := check(values); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), ErrConfig.Error()+": "))
	}
	return nil
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
