package broker

import (
	"crypto/rand"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/protocol"
)

// GetTelemetrySubscriptions (key 71) and PushTelemetry (key 72), version 0 (KIP-714).
//
// No metric is subscribed to: clients are told an empty list, an id of their own if they have none, and to ask
// again in five minutes. Without these keys Java clients log a complaint at every poll. What a client pushes all
// the same is checked for its size and its subscription, and dropped.

const (
	telemetryInterval       = 5 * time.Minute
	telemetryBytesMax       = 1 << 20
	telemetrySubscriptionID = 0x77656972 // any constant: the subscription never changes
)

func (b *Broker) handleGetTelemetrySubscriptions(r *request, req *kmsg.GetTelemetrySubscriptionsRequest) {
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	resp.ClientInstanceID = req.ClientInstanceID
	if resp.ClientInstanceID == ([16]byte{}) {
		resp.ClientInstanceID = newUUID()
	}
	resp.SubscriptionID = telemetrySubscriptionID
	resp.AcceptedCompressionTypes = []int8{
		int8(compression.Zstd), int8(compression.Lz4), int8(compression.Gzip), int8(compression.Snappy),
	}
	resp.PushIntervalMillis = int32(telemetryInterval.Milliseconds())
	resp.TelemetryMaxBytes = telemetryBytesMax
	resp.DeltaTemporality = true
	resp.RequestedMetrics = []string{}
	r.Reply(resp)
}

func (b *Broker) handlePushTelemetry(r *request, req *kmsg.PushTelemetryRequest) {
	resp := kmsg.NewPtrPushTelemetryResponse()
	switch {
	case req.ClientInstanceID == ([16]byte{}):
		resp.ErrorCode = int16(protocol.ErrInvalidRequest)
	case req.SubscriptionID != telemetrySubscriptionID:
		resp.ErrorCode = int16(protocol.ErrUnknownSubscriptionID)
	case len(req.Metrics) > telemetryBytesMax:
		resp.ErrorCode = int16(protocol.ErrTelemetryTooLarge)
	case req.CompressionType < int8(compression.None) || req.CompressionType > int8(compression.Zstd):
		resp.ErrorCode = int16(protocol.ErrUnsupportedCompressionType)
	}
	r.Reply(resp)
}

// newUUID makes a random (version 4) UUID.
func newUUID() (id [16]byte) {
	rand.Read(id[:]) // never fails, by its contract
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
