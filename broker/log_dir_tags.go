package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/engine"
)

// Tagged fields (KIP-482) of weir's own in DescribeLogDirs responses from v2 on: how durable the partitions are, for `weir topic describe`.
// Clients skip tags that they do not know; Kafka numbers its own from 0. Each value but tagOffline's is a big-endian int64. The numbers are a format:
// FORMATS.md lists them, none is ever used for anything else.
const (
	tagLogStart      = 10000 + iota // partition: its first offset
	tagHighWatermark                // partition
	tagDurable                      // partition: the offset below which a power cut takes nothing
	tagLogEnd                       // partition
	tagUnsyncedBytes                // partition: appended and not yet durable
	tagSyncs                        // partition: fsyncs since it was opened; directory: since the start
	tagSyncedAppends                // both: appends that they made durable
	tagSyncP50                      // directory: duration of its fsyncs since the start, in microseconds
	tagSyncP99                      // directory
	tagOffline                      // partition: text, why it takes no records; absent while it does
)

func setTag(tags *kmsg.Tags, key uint32, value int64) {
	tags.Set(key, binary.BigEndian.AppendUint64(nil, uint64(value)))
}

func tagPartition(tags *kmsg.Tags, log *engine.Log) {
	offsets, stats := log.Offsets(), log.Stats()
	setTag(tags, tagLogStart, offsets.LogStart)
	setTag(tags, tagHighWatermark, offsets.HighWatermark)
	setTag(tags, tagDurable, offsets.Durable)
	setTag(tags, tagLogEnd, offsets.LogEnd)
	setTag(tags, tagUnsyncedBytes, stats.UnsyncedBytes)
	setTag(tags, tagSyncs, stats.Syncs)
	setTag(tags, tagSyncedAppends, stats.SyncedAppends)
	if err := log.Err(); err != nil && !errors.Is(err, engine.ErrClosed) {
		tags.Set(tagOffline, []byte(strings.TrimPrefix(err.Error(), fmt.Sprintf("%v: %s: ", engine.ErrOffline, log.TopicPartition()))))
	}
}

func tagDir(tags *kmsg.Tags, stats *engine.DirStats) {
	setTag(tags, tagSyncs, stats.Queue.Syncs)
	setTag(tags, tagSyncedAppends, stats.Queue.Appends)
	if stats.Queue.Syncs > 0 {
		setTag(tags, tagSyncP50, int64(stats.Queue.Latency.Quantile(0.5)*1e6))
		setTag(tags, tagSyncP99, int64(stats.Queue.Latency.Quantile(0.99)*1e6))
	}
}

// LogDurability is what weir's tagged fields in a DescribeLogDirs response say of a partition.
type LogDurability struct {
	// LogStart, HighWatermark, Durable and LogEnd are offsets: the first one, the end of what consumers see, of what a power cut
	// cannot take, and of what was appended. They are of one moment.
	LogStart, HighWatermark, Durable, LogEnd int64
	// UnsyncedBytes were appended and are not yet durable.
	UnsyncedBytes int64
	// Syncs counts fsyncs since the partition was opened, SyncedAppends the appends that they made durable.
	Syncs, SyncedAppends int64
}

// ReadLogDurability reads the tags of a partition in a DescribeLogDirs response; ok is false when they are not weir's.
func ReadLogDurability(tags *kmsg.Tags) (d LogDurability, ok bool) {
	ok = readTags(tags, map[uint32]*int64{
		tagLogStart: &d.LogStart, tagHighWatermark: &d.HighWatermark, tagDurable: &d.Durable, tagLogEnd: &d.LogEnd,
		tagUnsyncedBytes: &d.UnsyncedBytes, tagSyncs: &d.Syncs, tagSyncedAppends: &d.SyncedAppends,
	})
	return d, ok
}

// ReadLogOffline reads from the tags of a partition in a DescribeLogDirs response why it takes no records: because it is damaged, or its log directory
// has failed. ok is false when it takes them, as far as weir's tags tell.
func ReadLogOffline(tags *kmsg.Tags) (why string, ok bool) {
	tags.Each(func(key uint32, value []byte) {
		if key == tagOffline {
			why, ok = string(value), true
		}
	})
	return why, ok
}

// ReadSyncLatency reads the tags of a directory in a DescribeLogDirs response: the median and the 99th percentile of its fsyncs since
// the broker's start, in microseconds. ok is false when there were none, or the tags are not weir's.
func ReadSyncLatency(tags *kmsg.Tags) (p50, p99 int64, ok bool) {
	ok = readTags(tags, map[uint32]*int64{tagSyncP50: &p50, tagSyncP99: &p99})
	return p50, p99, ok
}

// readTags says whether every wanted tag was there, eight bytes long.
func readTags(tags *kmsg.Tags, wanted map[uint32]*int64) bool {
	found := 0
	tags.Each(func(key uint32, value []byte) {
		if to := wanted[key]; to != nil && len(value) == 8 {
			*to = int64(binary.BigEndian.Uint64(value))
			found++
		}
	})
	return found == len(wanted)
}
