package broker

import (
	"math"
	"time"

	"github.com/weirmq/weir/engine"
)

// cleanerBackoff is log.cleaner.backoff.ms for the engine, for which a negative one means no cleaner.
func cleanerBackoff(c *Config) time.Duration {
	if !c.Bool("log.cleaner.enable") {
		return -1
	}
	return max(c.Duration("log.cleaner.backoff.ms"), time.Millisecond)
}

// diskLimits are the log.disk keys in force, for the engine.
func (c *Config) diskLimits() engine.DiskLimits {
	return engine.DiskLimits{
		UsedMax:      c.Float("log.disk.used.max.ratio"),
		ThrottleFree: c.Int("log.disk.throttle.free.bytes"),
		Reserve:      c.Int("log.disk.reserve.bytes"),
		ThrottleMax:  c.Duration("log.disk.throttle.max.ms"),
	}
}

// cleanerRate is log.cleaner.io.max.bytes.per.second for the engine, for which 0 is no limit; Kafka's default is the largest number there is.
func cleanerRate(bytesPerSecond float64) int64 {
	if bytesPerSecond >= math.MaxInt64 {
		return 0
	}
	return int64(bytesPerSecond)
}
