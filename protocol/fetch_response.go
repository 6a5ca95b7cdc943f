package protocol

// FetchResponse is a Fetch response, versions 4 to 18. One value is used again and again.
type FetchResponse struct {
	// ThrottleMs is how long the client is asked to pause, in ms.
	ThrottleMs int32
	// Error and SessionID are sent from version 7 on.
	Error     ErrorCode
	SessionID int32 // 0 for no session
	Topics    []FetchTopicResponse
	// NodeEndpoints (from version 16) tells clients where the leaders named in partitions are.
	NodeEndpoints []NodeEndpoint

	// partitions and aborted back the slices of what Decode made.
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
	Partition int32     // its number in the topic, from 0
	Error     ErrorCode // ErrNone when all is well
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
	FirstOffset int64 // of its first record in this partition
}

// AppendFrame appends the response frame without the records, its length counting them, and appends to cuts the
// positions, relative to the start of the frame, where the records of the partitions with RecordsBytes > 0 belong, in
// order. Send frame[0:cuts[0]], the first partition's records, frame[cuts[0]:cuts[1]], ... and frame[cuts[last]:],
// where frame is what was appended to dst. Versions 4 to 18.
func (f *FetchResponse) AppendFrame(dst []byte, cuts []int, version int16, correlationID int32) (out []byte, allCuts []int) {
	flexible, byID := version >= fetchFlexible, version >= fetchTopicIDs
	start, outside := len(dst), 0
	dst = AppendResponseHeader(dst, KeyFetch, version, correlationID)
	dst = appendInt32(dst, f.ThrottleMs)
	if version >= fetchSessions {
		dst = appendInt16(dst, int16(f.Error))
		dst = appendInt32(dst, f.SessionID)
	}
	dst = appendArrayLen(dst, len(f.Topics), flexible)
	for i := range f.Topics {
		t := &f.Topics[i]
		dst = appendTopic(dst, t.Name, &t.ID, byID, flexible)
		dst = appendArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			dst = p.appendHead(dst, version)
			if p.RecordsBytes > 0 {
				cuts = append(cuts, len(dst)-start)
				outside += p.RecordsBytes
			}
			if flexible {
				dst = p.appendTags(dst)
			}
		}
		dst = appendNoTags(dst, flexible)
	}
	if version >= fetchEndpoints {
		dst = appendNodeEndpoints(dst, f.NodeEndpoints)
	} else {
		dst = appendNoTags(dst, flexible)
	}
	FinishFrame(dst[start:], outside)
	return dst, cuts
}

// appendHead appends the partition up to and with the length of its records.
func (p *FetchPartitionResponse) appendHead(dst []byte, version int16) []byte {
	flexible := version >= fetchFlexible
	dst = appendInt32(dst, p.Partition)
	dst = appendInt16(dst, int16(p.Error))
	dst = appendInt64(dst, p.HighWatermark)
	dst = appendInt64(dst, p.LastStable)
	if version >= fetchLogStart {
		dst = appendInt64(dst, p.LogStart)
	}
	if p.Aborted == nil {
		dst = appendNullArray(dst, flexible)
	} else {
		dst = appendArrayLen(dst, len(p.Aborted), flexible)
		for i := range p.Aborted {
			dst = appendInt64(dst, p.Aborted[i].ProducerID)
			dst = appendInt64(dst, p.Aborted[i].FirstOffset)
			dst = appendNoTags(dst, flexible)
		}
	}
	if version >= fetchRack {
		replica := int32(-1)
		if p.HasPreferredReadReplica {
			replica = p.PreferredReadReplica
		}
		dst = appendInt32(dst, replica)
	}
	return appendBytesLen(dst, p.RecordsBytes, flexible)
}

// appendTags appends the partition's tagged fields.
func (p *FetchPartitionResponse) appendTags(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	if p.HasDivergingEpoch {
		dst[at]++
		dst = append(dst, 0, 4+8+1)
		dst = appendInt32(dst, p.DivergingEpoch)
		dst = appendInt64(dst, p.DivergingEndOffset)
		dst = append(dst, 0)
	}
	if p.HasCurrentLeader {
		dst[at]++
		dst = appendLeader(dst, 1, p.LeaderID, p.LeaderEpoch)
	}
	return dst
}

// Decode parses a response body, for a client. Strings and Records share body's bytes. Errors: as of FetchRequest.
func (f *FetchResponse) Decode(body []byte, version int16) error {
	if err := checkFetchVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= fetchFlexible, version >= fetchTopicIDs
	r := reader{src: body}
	*f = FetchResponse{Topics: f.Topics[:0], NodeEndpoints: f.NodeEndpoints[:0], partitions: f.partitions[:0], aborted: f.aborted[:0]}
	f.ThrottleMs = r.int32()
	if version >= fetchSessions {
		f.Error = ErrorCode(r.int16())
		f.SessionID = r.int32()
	}
	for range r.arrayLen(flexible, topicBytesMin(byID, flexible)) {
		name, id := r.topic(byID, flexible)
		start := len(f.partitions)
		for range r.arrayLen(flexible, 4+2+8+8+1+1) {
			f.partitions = append(f.partitions, FetchPartitionResponse{})
			f.decodePartition(&f.partitions[len(f.partitions)-1], &r, version)
			if r.bad {
				break
			}
		}
		r.tags(flexible)
		if r.bad {
			break
		}
		f.Topics = append(f.Topics, FetchTopicResponse{Name: name, ID: id, Partitions: f.partitions[start:len(f.partitions):len(f.partitions)]})
	}
	if flexible {
		f.NodeEndpoints = r.nodeEndpoints(f.NodeEndpoints)
	}
	return r.done(KeyFetch, version, body)
}

// decodePartition reads one partition.
func (f *FetchResponse) decodePartition(p *FetchPartitionResponse, r *reader, version int16) {
	flexible := version >= fetchFlexible
	p.Partition = r.int32()
	p.Error = ErrorCode(r.int16())
	p.HighWatermark, p.LastStable, p.LogStart = r.int64(), r.int64(), -1
	if version >= fetchLogStart {
		p.LogStart = r.int64()
	}
	if n := r.nullableArrayLen(flexible, 8+8); n >= 0 {
		start := len(f.aborted)
		for range n {
			f.aborted = append(f.aborted, AbortedTransaction{ProducerID: r.int64(), FirstOffset: r.int64()})
			r.tags(flexible)
			if r.bad {
				return
			}
		}
		p.Aborted = f.aborted[start:len(f.aborted):len(f.aborted)]
	}
	if version >= fetchRack {
		p.PreferredReadReplica = r.int32()
		p.HasPreferredReadReplica = p.PreferredReadReplica >= 0
	}
	p.Records = r.nullableBytes(flexible)
	p.RecordsBytes = len(p.Records)
	if !flexible {
		return
	}
	r.eachTag(func(tag uint32, field *reader) bool {
		switch tag {
		case 0:
			p.HasDivergingEpoch = true
			p.DivergingEpoch, p.DivergingEndOffset = field.int32(), field.int64()
			field.skipTags()
		case 1:
			p.HasCurrentLeader = true
			p.LeaderID, p.LeaderEpoch = field.leader()
		default:
			return false
		}
		return true
	})
}
