package protocol

// ProduceRequest is a Produce request, versions 3 to 13. One value is used again and again: Decode keeps its slices.
type ProduceRequest struct {
	// TransactionalID is empty when null.
	TransactionalID string
	// Acks is 0 (no response), 1 (leader) or -1 (all in-sync replicas).
	Acks int16
	// TimeoutMs is how long the broker may wait for acknowledgements, in ms.
	TimeoutMs int32
	Topics    []ProduceTopic
	// partitions backs the Partitions of all topics.
	partitions []ProducePartition
}

// ProduceTopic is a topic of a ProduceRequest. Name is set up to version 12, ID from 13 on.
type ProduceTopic struct {
	Name       string
	ID         [16]byte
	Partitions []ProducePartition
}

// ProducePartition is one partition's records.
type ProducePartition struct {
	Partition int32
	// Records are batches, one after the other, a slice of the frame; nil for null. The broker may stamp them in place.
	Records []byte
}

// Decode parses a request body. All strings and Records share body's bytes. Errors: ErrUnservedAPI for a version
// outside 3 to 13, ErrMalformed, ErrTrailing; the request is then not to be used.
func (p *ProduceRequest) Decode(body []byte, version int16) error { return ErrUnservedAPI }

// AppendFrame appends a whole request frame, length included, for a client. Versions 3 to 13.
func (p *ProduceRequest) AppendFrame(dst []byte, version int16, correlationID int32, clientID string) []byte {
	return dst
}

// ProduceResponse is a Produce response, versions 3 to 13. One value is used again and again.
type ProduceResponse struct {
	Topics     []ProduceTopicResponse
	ThrottleMs int32
	// NodeEndpoints (from version 10) tells clients where the CurrentLeaders named in partitions are.
	NodeEndpoints []NodeEndpoint

	partitions []ProducePartitionResponse
}

// NodeEndpoint is the address of a broker in a Produce or Fetch response. Rack is empty for null.
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   string
}

// ProduceTopicResponse is a topic of a ProduceResponse. Name is sent up to version 12, ID from 13 on.
type ProduceTopicResponse struct {
	Name       string
	ID         [16]byte
	Partitions []ProducePartitionResponse
}

// ProducePartitionResponse is the outcome of one partition.
type ProducePartitionResponse struct {
	Partition int32
	Error     ErrorCode
	// BaseOffset is the offset of the first record, -1 on an error.
	BaseOffset int64
	// LogAppendTimeMs is -1 unless the topic stamps log append time.
	LogAppendTimeMs int64
	// LogStartOffset is sent from version 5 on; -1 when unknown.
	LogStartOffset int64
	// RecordErrors are sent from version 8 on.
	RecordErrors []RecordError
	// ErrorMessage is sent from version 8 on, empty as null.
	ErrorMessage string
	// HasCurrentLeader says whether LeaderID and LeaderEpoch are sent (from version 10 on), as they should be with
	// NOT_LEADER_OR_FOLLOWER (KIP-951).
	HasCurrentLeader bool
	LeaderID         int32
	LeaderEpoch      int32
}

// RecordError names a record of a refused batch and what is wrong with it. Message is empty for null.
type RecordError struct {
	Index   int32
	Message string
}

// AppendTo appends the response body. Versions 3 to 13.
func (p *ProduceResponse) AppendTo(dst []byte, version int16) []byte { return dst }

// AppendFrame appends the whole response frame, length included.
func (p *ProduceResponse) AppendFrame(dst []byte, version int16, correlationID int32) []byte {
	start := len(dst)
	dst = AppendResponseHeader(dst, KeyProduce, version, correlationID)
	dst = p.AppendTo(dst, version)
	FinishFrame(dst[start:], 0)
	return dst
}

// Decode parses a response body, for a client. Strings share body's bytes.
func (p *ProduceResponse) Decode(body []byte, version int16) error { return ErrUnservedAPI }
