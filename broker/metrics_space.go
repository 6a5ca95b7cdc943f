package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirmq/weir/engine"
)

// space sends what a directory's disk limits do.
func (c *collector) space(out chan<- prometheus.Metric, dir *engine.DirStats, labels []label) {
	gauge := func(name, help string, v float64) { send(out, name, help, prometheus.GaugeValue, v, labels) }
	count := func(name, help string, v int64) { send(out, name, help, prometheus.CounterValue, float64(v), labels) }
	truth := map[bool]float64{true: 1}
	if dir.TotalBytes > 0 {
		gauge("weir_dir_disk_used_ratio", "Share of the directory's file system in use, 0 to 1.",
			float64(dir.TotalBytes-dir.FreeBytes)/float64(dir.TotalBytes))
	}
	st := &dir.Space
	gauge("weir_dir_disk_throttle_free_bytes", "Free bytes below which producers are slowed down.", float64(st.ThrottleFree))
	gauge("weir_dir_disk_reserve_bytes", "Free bytes below which producers are refused.", float64(st.Reserve))
	gauge("weir_dir_disk_above_watermark", "1 while segments are deleted before their time for space.", truth[st.AboveUsedMax])
	gauge("weir_dir_disk_throttled", "1 while producers are slowed down for space.", truth[st.Throttled])
	gauge("weir_dir_disk_refused", "1 while producers are refused for space.", truth[st.Refused])
	count("weir_dir_disk_refused_appends_total", "Appends refused for the reserve.", st.RefusedAppends)
	count("weir_dir_watermark_deleted_segments_total", "Segments deleted before their time for space.", st.DeletedSegments)
	count("weir_dir_watermark_deleted_bytes_total", "Bytes of segments deleted before their time for space.", st.DeletedBytes)
}

// cleaner sends what throttling and compaction did.
func (c *collector) cleaner(out chan<- prometheus.Metric) {
	count := func(name, help string, v int64) { send(out, name, help, prometheus.CounterValue, float64(v), nil) }
	count("weir_produce_throttled_requests_total", "Produce requests answered with a throttle time because a disk is nearly full.",
		c.b.throttled.requests.Load())
	send(out, "weir_produce_throttled_seconds_total", "Sum of those throttle times.", prometheus.CounterValue,
		time.Duration(c.b.throttled.nanos.Load()).Seconds(), nil)
	st := c.b.store.CleanerStats()
	count("weir_cleaner_cleanings_total", "Passes of compaction that finished.", st.Cleanings)
	count("weir_cleaner_failures_total", "Passes of compaction that ended in an error.", st.Failures)
	count("weir_cleaner_read_bytes_total", "Bytes that compaction read while writing logs anew.", st.BytesRead)
	count("weir_cleaner_written_bytes_total", "Bytes that compaction wrote.", st.BytesWritten)
	count("weir_cleaner_read_records_total", "Records that compaction read while writing logs anew.", st.RecordsRead)
	count("weir_cleaner_written_records_total", "Records that compaction kept.", st.RecordsWritten)
	count("weir_cleaner_replaced_segments_total", "Segments that compaction replaced.", st.SegmentsReplaced)
	count("weir_cleaner_added_segments_total", "Segments that compaction put in their place.", st.SegmentsAdded)
}
