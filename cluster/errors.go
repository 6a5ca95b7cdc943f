package cluster

import (
	"errors"
	"fmt"
)

// The reasons for which a change is refused, to be tested with errors.Is. The broker maps each to a Kafka error code in its one
// table. Errors that carry one of them say more in their text: which topic, which value, which range.
var (
	// ErrTopicExists: a topic of that name exists (TOPIC_ALREADY_EXISTS).
	ErrTopicExists = errors.New("topic already exists")
	// ErrInvalidTopicName: the name breaks Kafka's rules or collides with another topic's (INVALID_TOPIC_EXCEPTION).
	ErrInvalidTopicName = errors.New("invalid topic name")
	// ErrUnknownTopic: no topic of that name (UNKNOWN_TOPIC_OR_PARTITION).
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrUnknownTopicID: no topic of that id (UNKNOWN_TOPIC_ID).
	ErrUnknownTopicID = errors.New("unknown topic id")
	// ErrInvalidPartitions: a partition count out of range (INVALID_PARTITIONS).
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	// ErrInvalidReplicationFactor: more replicas than there are brokers, or fewer than one (INVALID_REPLICATION_FACTOR).
	ErrInvalidReplicationFactor = errors.New("invalid replication factor")
	// ErrInvalidAssignment: a manual replica assignment that cannot be (INVALID_REPLICA_ASSIGNMENT).
	ErrInvalidAssignment = errors.New("invalid replica assignment")
	// ErrInvalidConfig: a configuration that the callback refused, or a null value (INVALID_CONFIG).
	ErrInvalidConfig = errors.New("invalid configuration")
	// ErrInvalidRequest: a request that contradicts itself (INVALID_REQUEST).
	ErrInvalidRequest = errors.New("invalid request")
	// ErrLimit: the change would pass a limit of this cluster (POLICY_VIOLATION).
	ErrLimit = errors.New("limit exceeded")
	// ErrConflict: the thing changed between the decision and its place in the log; typed proposals retry by themselves.
	ErrConflict = errors.New("changed meanwhile")
	// ErrUnknownBroker: a broker resource that is neither this node nor the cluster default (INVALID_REQUEST).
	ErrUnknownBroker = errors.New("unknown broker")
)

// The reasons for which a proposal has no result, to be tested with errors.Is.
var (
	// ErrStopped: the node has stopped. Whether the change was made is unknown.
	ErrStopped = errors.New("cluster: node is stopped")
	// ErrNotLeader: this node does not lead the metadata quorum (NOT_CONTROLLER). Whether the change was made is unknown.
	ErrNotLeader = errors.New("cluster: node is not the leader")
	// ErrBusy: too many proposals wait; nothing was changed (REQUEST_TIMED_OUT).
	ErrBusy = errors.New("cluster: too many changes are waiting")
	// ErrNoSpace: the disk is full; nothing was changed (KAFKA_STORAGE_ERROR). Later proposals try again.
	ErrNoSpace = errors.New("cluster: no space left for the metadata log")
	// ErrFailed: the metadata log or its disk failed; the node reads on but changes nothing until a restart (KAFKA_STORAGE_ERROR).
	ErrFailed = errors.New("cluster: metadata log failed")
)

// The reasons for which Start refuses a data directory, to be tested with errors.Is.
var (
	// ErrCorrupt: bytes of the metadata are not what was written. Never repaired by itself, never taken for empty.
	ErrCorrupt = errors.New("cluster: corrupt metadata")
	// ErrMissing: the directory was formatted, or holds partitions, but its metadata is gone.
	ErrMissing = errors.New("cluster: metadata is missing")
	// ErrForeign: the directory belongs to another cluster or another node.
	ErrForeign = errors.New("cluster: directory belongs to another cluster or node")
)

// CorruptError tells what is wrong with which bytes of the metadata; errors.Is(err, ErrCorrupt) holds.
type CorruptError struct {
	Path   string // file or log
	Pos    int64  // byte position in the file or payload, or -1
	Index  uint64 // Raft index of the entry, or 0
	Reason string // what was expected and what was found
}

// Error implements error.
func (e *CorruptError) Error() string {
	s := ErrCorrupt.Error()
	if e.Path != "" {
		s += ": " + e.Path
	}
	if e.Index != 0 {
		s += fmt.Sprintf(": entry %d", e.Index)
	}
	if e.Pos >= 0 {
		s += fmt.Sprintf(": at byte %d", e.Pos)
	}
	return s + ": " + e.Reason
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
