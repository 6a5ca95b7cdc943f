package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The versions of Fetch whose bodies are coded here, and where their form changes.
const (
	fetchMin          = 4
	fetchLogStart     = 5
	fetchSessions     = 7
	fetchLeaderEpoch  = 9
	fetchRack         = 11
	fetchFlexible     = 12
	fetchTopicIDs     = 13
	fetchReplicaState = 15
	fetchEndpoints    = 16
	fetchDirectoryID  = 17
	fetchHighWater    = 18
	fetchMax          = 18
)

// FetchRequest is a Fetch request, versions 4 to 18. One value is used again and again: Decode keeps its slices.
type FetchRequest struct {
	// ClusterID is sent by Raft voters only; empty for null.
	ClusterID string
	// ReplicaID is -1 for consumers. ReplicaEpoch is -1 when not sent; it exists from version 15 on.
	ReplicaID    int32
	ReplicaEpoch int64
	// MaxWaitMs is how long the broker may wait for MinBytes, in ms. MaxBytes bounds the response softly.
	MaxWaitMs, MinBytes, MaxBytes int32
	// IsolationLevel is 0 for read uncommitted, 1 for read committed.
	IsolationLevel int8
	// SessionID and SessionEpoch belong to incremental fetches (KIP-227): 0 and -1 for a full fetch without session.
	SessionID, SessionEpoch int32
	Topics                  []FetchTopic     // what is new or changed in the session, or all without one
	Forgotten               []ForgottenTopic // what leaves the session, from version 7 on
	RackID                  string           // the consumer's rack, from version 11 on; empty for none

	// partitions and forgotten back the slices of what Decode made.
	partitions []FetchPartition
	forgotten  []int32
}

// FetchTopic is a topic of a FetchRequest. Name is set up to version 12, ID from 13 on.
type FetchTopic struct {
	Name       string
	ID         [16]byte
	Partitions []FetchPartition
}

// FetchPartition is what is wanted of one partition. Fields that the request lacks hold -1, HighWatermark MaxInt64.
type FetchPartition struct {
	Partition          int32 // its number in the topic, from 0
	CurrentLeaderEpoch int32 // the leader epoch that the client knows, from version 9 on
	FetchOffset        int64 // the first offset wanted
	LastFetchedEpoch   int32 // the leader epoch of the follower's last record, from version 12 on
	LogStartOffset     int64 // the follower's first offset, from version 5 on
	// MaxBytes bounds the partition's records softly: a first batch is returned whole.
	MaxBytes           int32
	ReplicaDirectoryID [16]byte // the follower's log directory, from version 17 on
	HighWatermark      int64    // the follower's, from version 18 on
}

// ForgottenTopic names partitions to drop from the session.
type ForgottenTopic struct {
	Name       string   // up to version 12
	ID         [16]byte // from version 13 on
	Partitions []int32  // their numbers
}

// NewFetchPartition returns what a consumer asks of a partition: no epochs, no replica fields.
func NewFetchPartition(partition int32, offset int64, maxBytes int32) FetchPartition {
	return FetchPartition{
		Partition: partition, CurrentLeaderEpoch: -1, FetchOffset: offset, LastFetchedEpoch: -1, LogStartOffset: -1,
		MaxBytes: maxBytes, HighWatermark: math.MaxInt64,
	}
}

// checkFetchVersion returns ErrUnservedAPI for versions that are not coded here.
func checkFetchVersion(version int16) error {
	if version < fetchMin || version > fetchMax {
		return fmt.Errorf("%w: Fetch version %d, want %d to %d", ErrUnservedAPI, version, fetchMin, fetchMax)
	}
	return nil
}

// Decode parses a request body. Strings share body's bytes. Errors: ErrUnservedAPI for a version outside 4 to 18,
// ErrMalformed, ErrTrailing; the request is then not to be used.
func (f *FetchRequest) Decode(body []byte, version int16) error {
	if err := checkFetchVersion(version); err != nil {
		return err
	}
	flexible := version >= fetchFlexible
	r := reader{src: body}
	*f = FetchRequest{ReplicaID: -1, ReplicaEpoch: -1, SessionEpoch: -1,
		Topics: f.Topics[:0], Forgotten: f.Forgotten[:0], partitions: f.partitions[:0], forgotten: f.forgotten[:0]}
	if version < fetchReplicaState {
		f.ReplicaID = r.int32()
	}
	f.MaxWaitMs, f.MinBytes, f.MaxBytes = r.int32(), r.int32(), r.int32()
	f.IsolationLevel = r.int8()
	if version >= fetchSessions {
		f.SessionID, f.SessionEpoch = r.int32(), r.int32()
	}
	f.decodeTopics(&r, version)
	if version >= fetchSessions {
		f.decodeForgotten(&r, version)
	}
	if version >= fetchRack {
		f.RackID = r.string(flexible)
	}
	if flexible {
		r.eachTag(func(tag uint32, field *reader) bool {
			switch {
			case tag == 0:
				f.ClusterID = field.nullableString(true)
			case tag == 1 && version >= fetchReplicaState:
				f.ReplicaID, f.ReplicaEpoch = field.int32(), field.int64()
				field.skipTags()
			default:
				return false
			}
			return true
		})
	}
	return r.done(KeyFetch, version, body)
}

// decodeTopics reads the topics.
func (f *FetchRequest) decodeTopics(r *reader, version int16) {
	flexible, byID := version >= fetchFlexible, version >= fetchTopicIDs
	for range r.arrayLen(flexible, topicBytesMin(byID, flexible)) {
		name, id := r.topic(byID, flexible)
		start := len(f.partitions)
		for range r.arrayLen(flexible, 4+8+4) {
			f.partitions = append(f.partitions, decodeFetchPartition(r, version))
			if r.bad {
				return
			}
		}
		r.tags(flexible)
		if r.bad {
			return
		}
		f.Topics = append(f.Topics, FetchTopic{Name: name, ID: id, Partitions: f.partitions[start:len(f.partitions):len(f.partitions)]})
	}
}

// decodeFetchPartition reads one partition.
func decodeFetchPartition(r *reader, version int16) FetchPartition {
	p := NewFetchPartition(r.int32(), 0, 0)
	if version >= fetchLeaderEpoch {
		p.CurrentLeaderEpoch = r.int32()
	}
	p.FetchOffset = r.int64()
	if version >= fetchFlexible {
		p.LastFetchedEpoch = r.int32()
	}
	if version >= fetchLogStart {
		p.LogStartOffset = r.int64()
	}
	p.MaxBytes = r.int32()
	if version < fetchDirectoryID {
		r.tags(version >= fetchFlexible)
		return p
	}
	r.eachTag(func(tag uint32, field *reader) bool {
		switch {
		case tag == 0:
			p.ReplicaDirectoryID = field.uuid()
		case tag == 1 && version >= fetchHighWater:
			p.HighWatermark = field.int64()
		default:
			return false
		}
		return true
	})
	return p
}

// decodeForgotten reads the partitions that leave the session.
func (f *FetchRequest) decodeForgotten(r *reader, version int16) {
	flexible, byID := version >= fetchFlexible, version >= fetchTopicIDs
	for range r.arrayLen(flexible, topicBytesMin(byID, flexible)) {
		name, id := r.topic(byID, flexible)
		start := len(f.forgotten)
		for range r.arrayLen(flexible, 4) {
			f.forgotten = append(f.forgotten, r.int32())
		}
		r.tags(flexible)
		if r.bad {
			return
		}
		f.Forgotten = append(f.Forgotten, ForgottenTopic{Name: name, ID: id, Partitions: f.forgotten[start:len(f.forgotten):len(f.forgotten)]})
	}
}

// AppendFrame appends a whole request frame, length included, for a client. Versions 4 to 18.
func (f *FetchRequest) AppendFrame(dst []byte, version int16, correlationID int32, clientID string) []byte {
	flexible, byID := version >= fetchFlexible, version >= fetchTopicIDs
	start := len(dst)
	dst = AppendRequestHeader(dst, KeyFetch, version, correlationID, clientID)
	if version < fetchReplicaState {
		dst = appendInt32(dst, f.ReplicaID)
	}
	dst = appendInt32(dst, f.MaxWaitMs)
	dst = appendInt32(dst, f.MinBytes)
	dst = appendInt32(dst, f.MaxBytes)
	dst = append(dst, byte(f.IsolationLevel))
	if version >= fetchSessions {
		dst = appendInt32(dst, f.SessionID)
		dst = appendInt32(dst, f.SessionEpoch)
	}
	dst = appendArrayLen(dst, len(f.Topics), flexible)
	for i := range f.Topics {
		t := &f.Topics[i]
		dst = appendTopic(dst, t.Name, &t.ID, byID, flexible)
		dst = appendArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			dst = t.Partitions[j].appendTo(dst, version)
		}
		dst = appendNoTags(dst, flexible)
	}
	if version >= fetchSessions {
		dst = appendArrayLen(dst, len(f.Forgotten), flexible)
		for i := range f.Forgotten {
			t := &f.Forgotten[i]
			dst = appendTopic(dst, t.Name, &t.ID, byID, flexible)
			dst = appendArrayLen(dst, len(t.Partitions), flexible)
			for _, p := range t.Partitions {
				dst = appendInt32(dst, p)
			}
			dst = appendNoTags(dst, flexible)
		}
	}
	if version >= fetchRack {
		dst = appendString(dst, f.RackID, flexible)
	}
	if flexible {
		dst = f.appendTags(dst, version)
	}
	FinishFrame(dst[start:], 0)
	return dst
}

// appendTags appends the request's tagged fields.
func (f *FetchRequest) appendTags(dst []byte, version int16) []byte {
	replica := version >= fetchReplicaState && (f.ReplicaID != -1 || f.ReplicaEpoch != -1)
	at := len(dst)
	dst = append(dst, 0)
	if f.ClusterID != "" {
		dst[at]++
		dst = append(dst, 0)
		dst = binary.AppendUvarint(dst, uint64(uvarintLen(uint64(len(f.ClusterID))+1)+len(f.ClusterID)))
		dst = appendString(dst, f.ClusterID, true)
	}
	if replica {
		dst[at]++
		dst = append(dst, 1, 4+8+1)
		dst = appendInt32(dst, f.ReplicaID)
		dst = appendInt64(dst, f.ReplicaEpoch)
		dst = append(dst, 0)
	}
	return dst
}

// appendTo appends one partition.
func (p *FetchPartition) appendTo(dst []byte, version int16) []byte {
	dst = appendInt32(dst, p.Partition)
	if version >= fetchLeaderEpoch {
		dst = appendInt32(dst, p.CurrentLeaderEpoch)
	}
	dst = appendInt64(dst, p.FetchOffset)
	if version >= fetchFlexible {
		dst = appendInt32(dst, p.LastFetchedEpoch)
	}
	if version >= fetchLogStart {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	dst = appendInt32(dst, p.MaxBytes)
	if version < fetchFlexible {
		return dst
	}
	at := len(dst)
	dst = append(dst, 0)
	if version >= fetchDirectoryID && p.ReplicaDirectoryID != [16]byte{} {
		dst[at]++
		dst = append(dst, 0, 16)
		dst = append(dst, p.ReplicaDirectoryID[:]...)
	}
	if version >= fetchHighWater && p.HighWatermark != math.MaxInt64 {
		dst[at]++
		dst = append(dst, 1, 8)
		dst = appendInt64(dst, p.HighWatermark)
	}
	return dst
}
