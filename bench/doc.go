// Package bench is weir's load generator as a library: it drives any broker that speaks the Kafka protocol with an open-loop
// load and says what the load cost, and whether the answer can be trusted.
//
// Place in the path: cmd/weir (flags) -> profile.go (a readable file becomes Specs) -> series.go (repeats, ABBA order, several
// targets) -> run.go (one measured run) -> producer.go and consumer.go (raw connections) -> stats.go, validity.go (is it real?)
// -> result.go, report.go (JSON, .hlog, one HTML file). It imports no broker code: a target is an address, perhaps with a pid.
//
// # What is measured
//
// Every request has an intended send time, fixed before the run by a Schedule. Response time counts from the intended time,
// service time from the moment of the write, slip is the difference between the two starts. A generator that waits for a slow
// answer and then counts from the late send hides the stall (coordinated omission); here the late requests all count.
// End-to-end latency counts from the intended time that travels in the first record of each batch to the moment when a
// consumer has that batch.
//
// # How the generator stays cheap
//
// Batches are encoded and compressed once. Per request only a stamp (producer, sequence, time) in the first record's key and
// two timestamps change; CRC-32C is linear, so the checksum is corrected with table lookups and the batch's bytes are never
// touched again. The stamp stays verbatim in compressed batches too (see template.go). Consumers in "offsets" mode read batch
// headers and let the kernel drop the record bytes (MSG_TRUNC).
//
// # Goroutines
//
//	producer connection: one sender (paces, writev) and one receiver (acks); both end when the connection's run is over. One goroutine does both
//	  when the next request waits for the answer to the last (in_flight 1, rate max)
//	consumer connection: one goroutine, one fetch in flight
//	collector: swaps the shards' histograms every second, feeds the live view
//
// In a process of its own (SeriesOptions.Alone) a measurement turns the garbage collector off and gives each sender a scheduler slot:
// quiet.go. These settings are the whole process's, which is why Run by itself leaves them alone.
//
// Every goroutine is waited for by the run that started it.
//
// # Locks
//
// recorder.mu (a leaf, per shard), inflight.mu (a leaf, per connection), ledger.mu (a leaf, per partition). None is held
// while another is taken.
package bench
