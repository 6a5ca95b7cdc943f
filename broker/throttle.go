package broker

import (
	"sync/atomic"
	"time"
)

// Producers are slowed down before a disk is full, as Kafka's quotas do it (KIP-219): the response leaves at once and tells
// throttle_time_ms; the client should wait that long, and whoever does not finds that the broker does not read its connection meanwhile.
// So an old client is slowed down too, and acks=0. The delay grows with the disk, see engine.DiskLimits. A request that a full disk
// refuses is throttled by the longest delay: KAFKA_STORAGE_ERROR makes clients send the same records again at once.

// throttleCounters count what throttling did since the start.
type throttleCounters struct {
	requests atomic.Int64
	nanos    atomic.Int64 // the sum of the delays asked for
}

// throttleProduce mutes the connection of a request that the disks of its partitions ask to slow down.
func (b *Broker) throttleProduce(r *request, op *produceOp) {
	if op.throttle < time.Millisecond {
		return
	}
	b.throttled.requests.Add(1)
	b.throttled.nanos.Add(int64(op.throttle))
	op.response.ThrottleMs = int32(op.throttle.Milliseconds())
	r.conn.Mute(op.throttle)
}
