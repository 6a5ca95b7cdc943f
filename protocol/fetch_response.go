package protocol

// FetchResponse is a Fetch response, versions 4 to 18. One value is used again and again.
type FetchResponse struct {
	ThrottleMs int32
	// Error and SessionID are sent from version 7 on.
	Error     ErrorCode
	SessionID int32
	Topics    []FetchTopicResponse
	// NodeEndpoints (from version 16) tells clients where the CurrentLeaders named in partitions are.
	NodeEndpoints []NodeEndpoint

	partitions []FetchPartitionResponse
	aborted    []AbortedTransaction
}

// FetchTopicResponse is a topic of a FetchResponse. Name is sent up to version 12, ID from 13 on.
type FetchTopicResponse struct {
	Name       string
	ID         [16]byte
	Partitions []FetchPartitionResponse
}

// FetchPartitionResponse is the answer for one partition.
type FetchPartitionResponse struct {
	Partition int32
	Error     ErrorCode
	// HighWatermark, LastStable and LogStart are offsets, -1 when unknown; LogStart is sent from version 5 on.
	HighWatermark, LastStable, LogStart int64
	// Aborted must be sorted by FirstOffset; nil is sent as null.
	Aborted []AbortedTransaction
	// HasPreferredReadReplica says that PreferredReadReplica is to be read (from version 11 on); else -1 is sent.
	HasPreferredReadReplica bool
	PreferredReadReplica    int32
	// HasDivergingEpoch says that the divergence is sent (from version 12 on), for followers (KIP-595).
	HasDivergingEpoch  bool
	DivergingEpoch     int32
	DivergingEndOffset int64
	// HasCurrentLeader says that the leader is sent (from version 12 on).
	HasCurrentLeader bool
	LeaderID         int32
	LeaderEpoch      int32
	// RecordsBytes is the length of the records that the caller sends at this partition's cut. 0 sends no records
	// and makes no cut.
	RecordsBytes int
	// Records is set by Decode: a slice of the frame, nil when null. The encoder ignores it.
	Records []byte
}

// AbortedTransaction names a producer and where its aborted transaction starts.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
}

// AppendFrame appends the response frame without the records, its length counting them, and appends to cuts the
// positions, relative to the start of the frame, where the records of the partitions with RecordsBytes > 0 belong, in
// order. Send frame[0:cuts[0]], the first partition's records, frame[cuts[0]:cuts[1]], ... and frame[cuts[last]:].
// dst grows as append does. Versions 4 to 18.
func (f *FetchResponse) AppendFrame(dst []byte, cuts []int, version int16, correlationID int32) (frame []byte, allCuts []int) {
	return dst, cuts
}

// Decode parses a response body, for a client. Strings and Records share body's bytes. Errors: as of FetchRequest.
func (f *FetchResponse) Decode(body []byte, version int16) error { return ErrUnservedAPI }
