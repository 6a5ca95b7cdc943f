package broker

import (
	"context"
	"errors"
	"log/slog"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

// errorMapping is a row of the one table from errors of lower packages to Kafka codes.
type errorMapping struct {
	err  error
	code protocol.ErrorCode
}

// errorTable maps every error that a handler may meet, most specific first: the first row that errors.Is finds counts.
// TestErrorTable holds it against the errors that the packages export.
func errorTable() []errorMapping {
	return []errorMapping{
		// The log refuses what the client asked.
		{engine.ErrOffsetOutOfRange, protocol.ErrOffsetOutOfRange},
		{engine.ErrTooLarge, protocol.ErrMessageTooLarge},
		{engine.ErrDuplicateSequence, protocol.ErrDuplicateSequenceNumber},
		{engine.ErrOutOfOrderSequence, protocol.ErrOutOfOrderSequenceNumber},
		{engine.ErrInvalidProducerEpoch, protocol.ErrInvalidProducerEpoch},
		{engine.ErrInvalidTxnState, protocol.ErrInvalidTxnState},
		{engine.ErrCoordinatorFenced, protocol.ErrTransactionCoordinatorFenced},
		{engine.ErrInvalidTimestamp, protocol.ErrInvalidTimestamp},
		{engine.ErrInvalidRecord, protocol.ErrInvalidRecord},
		{engine.ErrUnsupportedFormat, protocol.ErrInvalidRecord},
		{engine.ErrUnsupportedCodec, protocol.ErrUnsupportedCompressionType},
		{engine.ErrStaleLeaderEpoch, protocol.ErrNotLeaderOrFollower},
		{engine.ErrInvalidConfig, protocol.ErrInvalidConfig},
		{engine.ErrUnknownLog, protocol.ErrUnknownTopicOrPartition},
		// The disk or the broker fails. A log that was closed is gone with its topic, or the broker stops: either
		// way the client refreshes its metadata.
		{engine.ErrOffline, protocol.ErrKafkaStorageError},
		{engine.ErrNoSpace, protocol.ErrKafkaStorageError},
		{engine.ErrClosed, protocol.ErrNotLeaderOrFollower},
		{engine.ErrExists, protocol.ErrKafkaStorageError},
		{engine.ErrLocked, protocol.ErrKafkaStorageError},
		{engine.ErrForeignDirectory, protocol.ErrKafkaStorageError},
		{engine.ErrCorrupt, protocol.ErrCorruptMessage},
		// A batch is refused before it reaches the log.
		{record.ErrTooLarge, protocol.ErrMessageTooLarge},
		{record.ErrInvalid, protocol.ErrInvalidRecord},
		{record.ErrInvalidTimestamp, protocol.ErrInvalidTimestamp},
		{record.ErrUnsupportedMagic, protocol.ErrInvalidRecord},
		{record.ErrUnsupportedCodec, protocol.ErrUnsupportedCompressionType},
		{record.ErrCorrupt, protocol.ErrCorruptMessage},
		// The cluster refuses a change.
		{cluster.ErrTopicExists, protocol.ErrTopicAlreadyExists},
		{cluster.ErrInvalidTopicName, protocol.ErrInvalidTopicException},
		{cluster.ErrUnknownTopic, protocol.ErrUnknownTopicOrPartition},
		{cluster.ErrUnknownTopicID, protocol.ErrUnknownTopicID},
		{cluster.ErrInvalidPartitions, protocol.ErrInvalidPartitions},
		{cluster.ErrInvalidReplicationFactor, protocol.ErrInvalidReplicationFactor},
		{cluster.ErrInvalidAssignment, protocol.ErrInvalidReplicaAssignment},
		{cluster.ErrInvalidConfig, protocol.ErrInvalidConfig},
		{cluster.ErrInvalidRequest, protocol.ErrInvalidRequest},
		{cluster.ErrLimit, protocol.ErrPolicyViolation},
		{cluster.ErrConflict, protocol.ErrUnknownServerError},
		{cluster.ErrUnknownBroker, protocol.ErrInvalidRequest},
		{cluster.ErrStopped, protocol.ErrNotController},
		{cluster.ErrNotLeader, protocol.ErrNotController},
		{cluster.ErrBusy, protocol.ErrRequestTimedOut},
		{cluster.ErrNoSpace, protocol.ErrKafkaStorageError},
		{cluster.ErrFailed, protocol.ErrKafkaStorageError},
		{cluster.ErrCorrupt, protocol.ErrKafkaStorageError},
		{cluster.ErrMissing, protocol.ErrKafkaStorageError},
		{cluster.ErrForeign, protocol.ErrKafkaStorageError},
		// The broker itself.
		{ErrConfig, protocol.ErrInvalidConfig},
		{context.DeadlineExceeded, protocol.ErrRequestTimedOut},
		{context.Canceled, protocol.ErrRequestTimedOut},
	}
}

// errorCode is the Kafka code of an error of a lower package: ErrNone for nil, UNKNOWN_SERVER_ERROR for one that has no row.
func errorCode(err error) protocol.ErrorCode {
	if err == nil {
		return protocol.ErrNone
	}
	var code protocol.ErrorCode
	if errors.As(err, &code) {
		return code
	}
	for _, row := range errorTable() {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return protocol.ErrUnknownServerError
}

// errorCode is the Kafka code of err. What is our fault, or has no code of its own, goes to the log as well.
func (b *Broker) errorCode(err error) protocol.ErrorCode {
	code := errorCode(err)
	if errors.Is(err, engine.ErrNoSpace) {
		// The engine has told of the full disk; every producer's every retry would tell it again.
		b.logger.Debug("request refused", slog.String("code", code.String()), slog.Any("error", err))
		return code
	}
	switch code {
	case protocol.ErrUnknownServerError, protocol.ErrKafkaStorageError:
		if omitted, ok := b.told.tell(err.Error(), b.clock.Now()); ok {
			b.logger.Error("request failed", slog.String("code", code.String()), slog.Any("error", err), slog.Int("omitted", omitted))
		}
	}
	return code
}

// errorText is the message that goes to the client with a code: what is wrong with the request, or nothing when
// the fault is ours, whose text would tell paths and positions.
func errorText(code protocol.ErrorCode, err error) string {
	if errors.Is(err, engine.ErrNoSpace) {
		return "the disk of the partition's log directory is full; the broker takes records again when there is space"
	}
	switch code {
	case protocol.ErrKafkaStorageError, protocol.ErrUnknownServerError, protocol.ErrNotLeaderOrFollower, protocol.ErrNone:
		return ""
	}
	return err.Error()
}
