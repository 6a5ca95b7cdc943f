package broker

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
)

// DescribeLogDirs (key 35), versions 1-5.
//
// Tells every log directory with the size of the partitions in it that were asked for (null: all), and from v4 on
// (KIP-827) the size of its file system and what is free of it. An offline directory answers KAFKA_STORAGE_ERROR.
// From v2 on, tagged fields of weir's own (log_dir_tags.go) tell how durable each partition is.
// There are no future replicas, no cordoned directories (v5, KIP-1066), and the offset lag is 0: the only replica leads.

func (b *Broker) handleDescribeLogDirs(r *request, req *kmsg.DescribeLogDirsRequest) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	byDir := b.logsByDir(req.Topics)
	for _, stats := range b.store.DirStats() {
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir = stats.Dir
		dir.TotalBytes, dir.UsableBytes = -1, -1
		if stats.Err != nil {
			dir.ErrorCode = int16(protocol.ErrKafkaStorageError)
			resp.Dirs = append(resp.Dirs, dir)
			continue
		}
		dir.TotalBytes, dir.UsableBytes = stats.TotalBytes, stats.FreeBytes
		tagDir(&dir.UnknownTags, &stats)
		dir.Topics = describeDirTopics(byDir[filepath.Clean(stats.Dir)])
		resp.Dirs = append(resp.Dirs, dir)
	}
	r.Reply(resp)
}

// logsByDir groups the logs that the request asks for by log directory and topic.
func (b *Broker) logsByDir(topics []kmsg.DescribeLogDirsRequestTopic) map[string]map[string][]*engine.Log {
	var logs []*engine.Log
	if topics == nil {
		image := b.node.Image()
		for _, log := range b.store.Logs() {
			if image.Topic(log.TopicPartition().Topic) != nil { // not the cluster's own log
				logs = append(logs, log)
			}
		}
	}
	seen := make(map[engine.TopicPartition]bool)
	for _, topic := range topics {
		for _, partition := range topic.Partitions {
			tp := engine.TopicPartition{Topic: topic.Topic, Partition: partition}
			if ref, code := b.partition(topic.Topic, partition, noLeaderEpoch); code == protocol.ErrNone && !seen[tp] {
				seen[tp] = true
				logs = append(logs, ref.log)
			}
		}
	}
	byDir := make(map[string]map[string][]*engine.Log)
	for _, log := range logs {
		dir := filepath.Dir(log.Dir())
		if byDir[dir] == nil {
			byDir[dir] = make(map[string][]*engine.Log)
		}
		topic := log.TopicPartition().Topic
		byDir[dir][topic] = append(byDir[dir][topic], log)
	}
	return byDir
}

func describeDirTopics(byTopic map[string][]*engine.Log) []kmsg.DescribeLogDirsResponseDirTopic {
	topics := make([]kmsg.DescribeLogDirsResponseDirTopic, 0, len(byTopic))
	for _, name := range slices.Sorted(maps.Keys(byTopic)) {
		topic := kmsg.NewDescribeLogDirsResponseDirTopic()
		topic.Topic = name
		logs := byTopic[name]
		slices.SortFunc(logs, func(a, b *engine.Log) int {
			return int(a.TopicPartition().Partition) - int(b.TopicPartition().Partition)
		})
		for _, log := range logs {
			p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			p.Partition, p.Size = log.TopicPartition().Partition, log.Size()
			tagPartition(&p.UnknownTags, log)
			topic.Partitions = append(topic.Partitions, p)
		}
		topics = append(topics, topic)
	}
	return topics
}
