package broker

import (
	"strconv"
	"strings"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/record"
)

// LogConfig is the configuration of a topic's logs: the topic's own values over the broker's over the defaults. The values
// must have passed CheckTopic.
func (c *Config) LogConfig(own map[string]string) engine.LogConfig {
	number := func(key string) int64 { return parseInt(c.topicValue(own, key)) }
	text := func(key string) string { return c.topicValue(own, key) }
	ratio, _ := strconv.ParseFloat(strings.TrimSpace(text("min.cleanable.dirty.ratio")), 64)
	config := engine.LogConfig{
		SegmentBytes:         number("segment.bytes"),
		SegmentMs:            number("segment.ms"),
		SegmentJitterMs:      number("segment.jitter.ms"),
		IndexIntervalBytes:   minusOneForZero(number("index.interval.bytes")),
		IndexSizeMax:         max(number("segment.index.bytes"), 24), // two entries of the time index: one would roll at every batch
		RetentionBytes:       number("retention.bytes"),
		RetentionMs:          number("retention.ms"),
		FileDeleteDelayMs:    minusOneForZero(number("file.delete.delay.ms")),
		MessageBytesMax:      int(number("max.message.bytes")),
		TimestampBeforeMaxMs: max(number("message.timestamp.before.max.ms"), 1), // 0 would mean the default
		TimestampAfterMaxMs:  max(number("message.timestamp.after.max.ms"), 1),
		Cleanup:              cleanupPolicy(text("cleanup.policy")),
		MinCleanableRatio:    ratio,
		MinCompactionLagMs:   number("min.compaction.lag.ms"),
		MaxCompactionLagMs:   number("max.compaction.lag.ms"),
		DeleteRetentionMs:    minusOneForZero(number("delete.retention.ms")),
		Strict:               text("validation") == "strict",
		Preallocate:          strings.EqualFold(text("preallocate"), "true"),
		FsyncInterval:        millis(number("fsync.interval.ms")),
		FsyncIntervalBytes:   number("fsync.interval.bytes"),
		FsyncMaxDelay:        millis(number("fsync.max.delay.ms")),
	}
	if ratio == 0 {
		config.MinCleanableRatio = -1
	}
	if text("message.timestamp.type") == "LogAppendTime" {
		config.TimestampType = record.LogAppendTime
	}
	choice := c.fsync(own)
	config.Fsync = choice.policy
	if choice.interval > 0 {
		config.FsyncInterval = choice.interval
	}
	return config.EnsureDefaults()
}

// minusOneForZero turns Kafka's 0 into the engine's -1: there, the zero value of a field stands for its default.
func minusOneForZero(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

func cleanupPolicy(value string) engine.CleanupPolicy {
	var policy engine.CleanupPolicy
	for _, item := range SplitList(value) {
		switch item {
		case "delete":
			policy |= engine.CleanupDelete
		case "compact":
			policy |= engine.CleanupCompact
		}
	}
	return policy
}
