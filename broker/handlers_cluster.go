package broker

import (
	"fmt"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
)

// clusterHandlers are the table rows of the APIs that read or change the cluster's metadata.
func (b *Broker) clusterHandlers() []handler {
	return nil
}

// startTopics makes the store's logs follow the metadata: those of the image in force now, later ones as they appear.
func (b *Broker) startTopics() error {
	for topic := range b.node.Image().Topics() {
		if err := b.createLogs(topic); err != nil {
			return err
		}
	}
	b.node.OnChange(func(change cluster.Change) {
		for _, topics := range [][]*cluster.Topic{change.Created, change.Changed} {
			for _, topic := range topics {
				if err := b.createLogs(topic); err != nil {
					b.logger.Error("creating logs failed", "topic", topic.Name, "error", err)
				}
			}
		}
	})
	return nil
}

func (b *Broker) createLogs(topic *cluster.Topic) error {
	config := b.config.LogConfig(topic.Configs.Values)
	for i := range topic.Partitions {
		tp := engine.TopicPartition{Topic: topic.Name, Partition: int32(i)}
		if _, err := b.store.CreateLog(tp, topic.ID, config); err != nil {
			return fmt.Errorf("creating the log of %s: %w", tp, err)
		}
	}
	return nil
}
