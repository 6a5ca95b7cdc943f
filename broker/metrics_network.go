package broker

import "github.com/prometheus/client_golang/prometheus"

// network sends the counters of the network layer.
func (c *collector) network(out chan<- prometheus.Metric) {
	stats := c.b.server.Stats()
	gauge := func(name, help string, v int64) { send(out, name, help, prometheus.GaugeValue, float64(v), nil) }
	count := func(name, help string, v int64) { send(out, name, help, prometheus.CounterValue, float64(v), nil) }
	gauge("weir_connections", "Connections open now.", stats.Connections)
	count("weir_connections_accepted_total", "Connections accepted.", stats.Accepted)
	count("weir_connections_refused_total", "Connections closed at once for a limit.", stats.Refused)
	count("weir_network_received_bytes_total", "Bytes received.", stats.BytesIn)
	count("weir_network_sent_bytes_total", "Bytes sent.", stats.BytesOut)
	count("weir_network_sendfile_bytes_total", "Bytes sent by sendfile, without passing through user space.", stats.FileBytesOut)
	count("weir_requests_total", "Request frames received.", stats.FramesIn)
	count("weir_responses_total", "Response frames sent.", stats.FramesOut)
	gauge("weir_request_buffer_bytes", "Bytes of requests held in memory now.", stats.BufferBytes)
	count("weir_request_buffer_pauses_total", "Times reading paused because the buffer budget was spent.", stats.BudgetPauses)
}
