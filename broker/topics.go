package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
)

// topicFollower makes the store's logs follow the metadata: a log for each partition of the image, none for a deleted topic,
// each with the configuration in force.
//
// A created partition gets its log on the metadata's loop, before whoever created it hears of it: nothing touches the disk until
// the first append. What may wait for the disk, the deletion of logs, is done by one goroutine in the order of the metadata.
// A topic that was deleted and created again gets its new logs after its old ones are gone; until then its partitions
// answer KAFKA_STORAGE_ERROR, on which clients retry.
//
// A log is deleted only when the metadata says that the topic of its id was deleted: cluster.Image.Removed. A log that the metadata
// does not know is left alone, whatever its name.
type topicFollower struct {
	b      *Broker
	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	wake   chan struct{} // has a token when there is work
	ended  chan struct{}

	mu struct {
		sync.Mutex
		removed     []*cluster.Topic // in the order of their deletion
		reconfigure bool             // the broker's own configuration changed
	}
}

// startTopics makes the store fit the image in force, and has it follow the later ones.
func (b *Broker) startTopics() error {
	ctx, cancel := context.WithCancel(context.Background())
	f := &topicFollower{b: b, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	f.createAll()
	f.settleStrays()
	b.node.OnChange(f.changed)
	go f.run()
	b.onStop(func(context.Context) error {
		cancel()
		<-f.ended
		return nil
	})
	return nil
}

// changed is called on the metadata's loop.
func (f *topicFollower) changed(c cluster.Change) {
	if len(c.Brokers) > 0 {
		f.b.config.SetDynamic(dynamicBrokerValues(c.New, f.b.nodeID))
	}
	var own *engine.LogConfig
	for _, topics := range [][]*cluster.Topic{c.Created, c.Changed} {
		for _, t := range topics {
			// The topic may have been changed again, or deleted, by the same group of entries.
			if now := c.New.TopicByID(t.ID); now != nil {
				f.createLogs(now, &own)
			}
		}
	}
	if len(c.Removed) == 0 && len(c.Brokers) == 0 {
		return
	}
	f.mu.Lock()
	f.mu.removed = append(f.mu.removed, c.Removed...)
	f.mu.reconfigure = f.mu.reconfigure || len(c.Brokers) > 0
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// createLogs creates the logs of a topic that are not there and puts its configuration in force. own caches the configuration of
// topics without values of their own.
func (f *topicFollower) createLogs(t *cluster.Topic, own **engine.LogConfig) {
	var config engine.LogConfig
	switch {
	case len(t.Configs.Values) > 0:
		config = f.b.config.LogConfig(t.Configs.Values)
	case *own == nil:
		config = f.b.config.LogConfig(nil)
		*own = &config
	default:
		config = **own
	}
	for i := range t.Partitions {
		tp := engine.TopicPartition{Topic: t.Name, Partition: int32(i)}
		_, err := f.b.store.CreateLog(tp, t.ID, config)
		if errors.Is(err, engine.ErrExists) {
			if log := f.b.store.Log(tp); log != nil && f.wasRemoved(log.TopicID()) {
				continue // its deletion is on its way; the logs are created after it
			}
		}
		if err != nil {
			f.b.logger.Error("a partition has no log and is not served", slog.String("partition", tp.String()),
				slog.String("topic_id", t.ID.String()), slog.Any("error", err))
		}
	}
}

func (f *topicFollower) wasRemoved(id cluster.TopicID) bool {
	_, removed := f.b.node.Image().RemovedTopic(id)
	return removed
}

// createAll creates the logs of all topics.
func (f *topicFollower) createAll() {
	var own *engine.LogConfig
	for t := range f.b.node.Image().Topics() {
		f.createLogs(t, &own)
	}
}

// settleStrays looks at start for what a crash left: logs of topics that were deleted go now, as their deletion had begun; logs of
// topics that the metadata never heard of stay, and are told of.
func (f *topicFollower) settleStrays() {
	image := f.b.node.Image()
	for _, log := range f.b.store.Logs() {
		tp := log.TopicPartition()
		if tp.Topic == cluster.LogTopic || f.wasRemoved(log.TopicID()) {
			continue
		}
		t := image.Topic(tp.Topic)
		if t == nil || int(tp.Partition) >= len(t.Partitions) || t.ID != log.TopicID() {
			f.b.logger.Warn("a partition on disk belongs to no topic; it is left alone and not served", slog.String("partition", tp.String()),
				slog.String("topic_id", log.TopicID().String()), slog.String("dir", log.Dir()))
		}
	}
	for gone := range image.Removed() {
		f.mu.removed = append(f.mu.removed, &cluster.Topic{Name: gone.Name, ID: gone.ID, Partitions: make([]cluster.Partition, gone.PartitionCount)})
	}
	if len(f.mu.removed) > 0 {
		f.wake <- struct{}{}
	}
}

// run deletes what has to go, until stop.
func (f *topicFollower) run() {
	defer close(f.ended)
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		removed, reconfigure := f.mu.removed, f.mu.reconfigure
		f.mu.removed, f.mu.reconfigure = nil, false
		f.mu.Unlock()
		if reconfigure {
			f.createAll()
		}
		f.deleteTopics(removed)
	}
}

// deleteLot is how many partitions are deleted together, for one fsync of their log directory, unless a single topic has more: what else wants
// to change their logs waits as long.
const deleteLot = 256

// deleteTopics deletes the logs of deleted topics and then has the metadata forget them. A topic whose logs cannot be deleted, as its
// directory is offline, stays among the removed ones: the next start tries again.
func (f *topicFollower) deleteTopics(topics []*cluster.Topic) {
	var gone []cluster.TopicID
	for len(topics) > 0 && f.ctx.Err() == nil {
		end, partitions := 0, 0
		for end < len(topics) && (end == 0 || partitions+len(topics[end].Partitions) <= deleteLot) {
			partitions += len(topics[end].Partitions)
			end++
		}
		gone = append(gone, f.deleteSome(topics[:end])...)
		topics = topics[end:]
	}
	if len(gone) == 0 || f.ctx.Err() != nil {
		return
	}
	if err := f.b.node.ForgetTopics(f.ctx, gone); err != nil && f.ctx.Err() == nil {
		f.b.logger.Warn("deleted topics stay in the metadata until the next start", slog.Int("topics", len(gone)), slog.Any("error", err))
	}
}

// deleteSome deletes the logs of some topics together and returns the topics that have none any more.
func (f *topicFollower) deleteSome(topics []*cluster.Topic) (gone []cluster.TopicID) {
	var tps []engine.TopicPartition
	var owners []int // of tps, in topics
	for i, t := range topics {
		for p := range t.Partitions {
			tp := engine.TopicPartition{Topic: t.Name, Partition: int32(p)}
			if log := f.b.store.Log(tp); log != nil && log.TopicID() == t.ID {
				tps, owners = append(tps, tp), append(owners, i)
			}
		}
	}
	failed := make([]error, len(topics))
	for i, err := range f.b.store.DeleteLogs(tps) {
		if err != nil && !errors.Is(err, engine.ErrUnknownLog) && failed[owners[i]] == nil {
			failed[owners[i]] = err
		}
	}
	for i, t := range topics {
		if err := failed[i]; err != nil {
			f.b.logger.Error("the files of a deleted topic stay until the next start", slog.String("topic", t.Name),
				slog.String("topic_id", t.ID.String()), slog.Any("error", err))
		} else {
			gone = append(gone, t.ID)
		}
		if again := f.b.node.Image().Topic(t.Name); again != nil {
			var own *engine.LogConfig
			f.createLogs(again, &own)
		}
	}
	return gone
}

// autoCreate creates topics that a client named and nobody has, with the default partition count, if the broker may. Whoever calls it
// looks at the image afterwards; errs holds why a name has no topic.
func (b *Broker) autoCreate(ctx context.Context, names []string) (errs map[string]error) {
	topics := make([]cluster.NewTopic, 0, len(names))
	for _, name := range names {
		topics = append(topics, cluster.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1})
	}
	errs = map[string]error{}
	results, err := b.node.CreateTopics(ctx, topics, false)
	for i, name := range names {
		switch {
		case err != nil:
			errs[name] = err
		case results[i].Err != nil && !errors.Is(results[i].Err, cluster.ErrTopicExists):
			errs[name] = results[i].Err
		}
	}
	return errs
}
