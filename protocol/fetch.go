package protocol

// FetchRequest is a Fetch request, versions 4 to 18. One value is used again and again: Decode keeps its slices.
type FetchRequest struct {
	// ClusterID is sent by Raft voters only; empty for null.
	ClusterID string
	// ReplicaID is -1 for consumers. ReplicaEpoch is -1 before version 15.
	ReplicaID    int32
	ReplicaEpoch int64
	// MaxWaitMs is how long the broker may wait for MinBytes, in ms. MaxBytes bounds the response softly.
	MaxWaitMs, MinBytes, MaxBytes int32
	// IsolationLevel is 0 for read uncommitted, 1 for read committed.
	IsolationLevel int8
	// SessionID and SessionEpoch belong to incremental fetches (KIP-227): 0 and -1 for a full fetch without session.
	SessionID, SessionEpoch int32
	Topics                  []FetchTopic
	Forgotten               []ForgottenTopic
	RackID                  string

	partitions []FetchPartition
	forgotten  []int32
}

// FetchTopic is a topic of a FetchRequest. Name is set up to version 12, ID from 13 on.
type FetchTopic struct {
	Name       string
	ID         [16]byte
	Partitions []FetchPartition
}

// FetchPartition is what is wanted of one partition. Fields that the version lacks hold -1 (HighWatermark: MaxInt64).
type FetchPartition struct {
	Partition          int32
	CurrentLeaderEpoch int32
	FetchOffset        int64
	LastFetchedEpoch   int32
	LogStartOffset     int64
	// MaxBytes bounds the partition's records softly: a first batch is returned whole.
	MaxBytes           int32
	ReplicaDirectoryID [16]byte
	HighWatermark      int64
}

// ForgottenTopic names partitions to drop from the session.
type ForgottenTopic struct {
	Name       string
	ID         [16]byte
	Partitions []int32
}

// Decode parses a request body. Strings share body's bytes. Errors: ErrUnservedAPI for a version outside 4 to 18,
// ErrMalformed, ErrTrailing; the request is then not to be used.
func (f *FetchRequest) Decode(body []byte, version int16) error { return ErrUnservedAPI }

// AppendFrame appends a whole request frame, length included, for a client.
func (f *FetchRequest) AppendFrame(dst []byte, version int16, correlationID int32, clientID string) []byte {
	return dst
}
