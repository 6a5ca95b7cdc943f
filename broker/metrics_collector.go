package broker

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirmq/weir/ioqueue"
)

// collector reads the broker's counters when Prometheus asks; nothing is counted twice.
type collector struct{ b *Broker }

// Describe sends nothing: the metrics depend on the partitions there are, so the collector is an unchecked one.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends all metrics.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.directories(out)
	c.partitions(out)
	c.network(out)
	c.cleaner(out)
	image := c.b.node.Image()
	send(out, "weir_topics", "Topics in the metadata.", prometheus.GaugeValue, float64(image.TopicCount()), nil)
	send(out, "weir_partitions", "Partitions in the metadata.", prometheus.GaugeValue, float64(image.PartitionCount()), nil)
}

// label is one label of a metric.
type label struct{ name, value string }

func send(out chan<- prometheus.Metric, name, help string, kind prometheus.ValueType, value float64, labels []label) {
	desc, values := describe(name, help, labels)
	out <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

func describe(name, help string, labels []label) (*prometheus.Desc, []string) {
	names, values := make([]string, len(labels)), make([]string, len(labels))
	for i, l := range labels {
		names[i], values[i] = l.name, l.value
	}
	return prometheus.NewDesc(name, help, names, nil), values
}

func sendHistogram(out chan<- prometheus.Metric, name, help string, h ioqueue.Histogram, labels []label) {
	buckets, sum := make(map[float64]uint64, len(h.UpperBounds)), uint64(0)
	for i, bound := range h.UpperBounds {
		sum += h.Counts[i]
		buckets[bound] = sum
	}
	desc, values := describe(name, help, labels)
	out <- prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, buckets, values...)
}

func (c *collector) directories(out chan<- prometheus.Metric) {
	for _, dir := range c.b.store.DirStats() {
		labels := []label{{"dir", dir.Dir}}
		gauge := func(name, help string, v float64) { send(out, name, help, prometheus.GaugeValue, v, labels) }
		count := func(name, help string, v float64) { send(out, name, help, prometheus.CounterValue, v, labels) }
		online := 1.0
		if dir.Err != nil {
			online = 0
		}
		gauge("weir_dir_online", "1 while the log directory takes writes.", online)
		gauge("weir_dir_logs", "Partitions in the directory.", float64(dir.Logs))
		gauge("weir_dir_log_bytes", "Bytes of log in the directory.", float64(dir.Bytes))
		gauge("weir_dir_disk_total_bytes", "Size of the directory's file system.", float64(dir.TotalBytes))
		gauge("weir_dir_disk_free_bytes", "Free bytes of the directory's file system.", float64(dir.FreeBytes))
		c.space(out, &dir, labels)
		gauge("weir_dir_unsynced_bytes", "Bytes written and not yet durable.", float64(dir.Queue.UnsyncedBytes))
		count("weir_fsyncs_total", "fsyncs that succeeded.", float64(dir.Queue.Syncs))
		count("weir_fsync_errors_total", "fsyncs that failed.", float64(dir.Queue.SyncErrors))
		count("weir_fsync_appends_total", "Appends made durable.", float64(dir.Queue.Appends))
		sendHistogram(out, "weir_fsync_seconds", "Duration of fsyncs.", dir.Queue.Latency, labels)
		sendHistogram(out, "weir_fsync_group_appends", "Appends per group commit.", dir.Queue.GroupAppends, labels)
	}
}

func (c *collector) partitions(out chan<- prometheus.Metric) {
	for _, log := range c.b.store.Logs() {
		tp, offsets, stats := log.TopicPartition(), log.Offsets(), log.Stats()
		labels := []label{{"topic", tp.Topic}, {"partition", strconv.Itoa(int(tp.Partition))}}
		gauge := func(name, help string, v int64) { send(out, name, help, prometheus.GaugeValue, float64(v), labels) }
		gauge("weir_log_start_offset", "First offset of the partition.", offsets.LogStart)
		gauge("weir_last_stable_offset", "Last stable offset of the partition.", offsets.LastStable)
		gauge("weir_high_watermark", "High watermark of the partition.", offsets.HighWatermark)
		gauge("weir_durable_offset", "Durable offset of the partition.", offsets.Durable)
		gauge("weir_log_end_offset", "Log end offset of the partition.", offsets.LogEnd)
		gauge("weir_log_bytes", "Bytes of the partition's log.", stats.Bytes)
		gauge("weir_log_unsynced_bytes", "Bytes of the partition not yet durable.", stats.UnsyncedBytes)
		count := func(name, help string, v int64) { send(out, name, help, prometheus.CounterValue, float64(v), labels) }
		count("weir_log_fsyncs_total", "fsyncs of the partition's log since it was opened.", stats.Syncs)
		count("weir_log_fsync_appends_total", "Appends that those fsyncs made durable.", stats.SyncedAppends)
		count("weir_log_appends_total", "Appends to the partition since it was opened.", stats.Appends)
		count("weir_log_appended_bytes_total", "Bytes appended to the partition since it was opened.", stats.AppendedBytes)
	}
}
