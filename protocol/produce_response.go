package protocol

import "encoding/binary"

// ProduceResponse is a Produce response, versions 3 to 13. One value is used again and again.
type ProduceResponse struct {
	Topics     []ProduceTopicResponse
	ThrottleMs int32 // how long the client is asked to pause, in ms
	// NodeEndpoints (from version 10) tells clients where the leaders named in partitions are.
	NodeEndpoints []NodeEndpoint

	// partitions and recordErrors back the slices of what Decode made.
	partitions   []ProducePartitionResponse
	recordErrors []RecordError
}

// ProduceTopicResponse is a topic of a ProduceResponse. Name is sent up to version 12, ID from 13 on.
type ProduceTopicResponse struct {
	Name       string
	ID         [16]byte
	Partitions []ProducePartitionResponse
}

// ProducePartitionResponse is the outcome of one partition.
type ProducePartitionResponse struct {
	Partition int32     // its number in the topic, from 0
	Error     ErrorCode // ErrNone when all is well
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

// RecordError names a record of a refused batch, by its Index in the batch from 0, and what is wrong with it. Message is empty for null.
type RecordError struct {
	Index   int32
	Message string
}

// AppendFrame appends the whole response frame, length included.
func (p *ProduceResponse) AppendFrame(dst []byte, version int16, correlationID int32) []byte {
	start := len(dst)
	dst = AppendResponseHeader(dst, KeyProduce, version, correlationID)
	dst = p.AppendTo(dst, version)
	FinishFrame(dst[start:], 0)
	return dst
}

// AppendTo appends the response body. Versions 3 to 13.
func (p *ProduceResponse) AppendTo(dst []byte, version int16) []byte {
	flexible, byID := version >= produceFlexible, version >= produceTopicIDs
	dst = appendArrayLen(dst, len(p.Topics), flexible)
	for i := range p.Topics {
		t := &p.Topics[i]
		dst = appendTopic(dst, t.Name, &t.ID, byID, flexible)
		dst = appendArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			dst = t.Partitions[j].appendTo(dst, version)
		}
		dst = appendNoTags(dst, flexible)
	}
	dst = appendInt32(dst, p.ThrottleMs)
	if version < produceLeaders {
		return appendNoTags(dst, flexible)
	}
	return appendNodeEndpoints(dst, p.NodeEndpoints)
}

// appendTo appends one partition.
func (p *ProducePartitionResponse) appendTo(dst []byte, version int16) []byte {
	flexible := version >= produceFlexible
	dst = appendInt32(dst, p.Partition)
	dst = appendInt16(dst, int16(p.Error))
	dst = appendInt64(dst, p.BaseOffset)
	dst = appendInt64(dst, p.LogAppendTimeMs)
	if version >= produceLogStart {
		dst = appendInt64(dst, p.LogStartOffset)
	}
	if version >= produceRecordErrors {
		dst = appendArrayLen(dst, len(p.RecordErrors), flexible)
		for i := range p.RecordErrors {
			dst = appendInt32(dst, p.RecordErrors[i].Index)
			dst = appendNullableString(dst, p.RecordErrors[i].Message, flexible)
			dst = appendNoTags(dst, flexible)
		}
		dst = appendNullableString(dst, p.ErrorMessage, flexible)
	}
	if version >= produceLeaders && p.HasCurrentLeader {
		return appendLeader(append(dst, 1), 0, p.LeaderID, p.LeaderEpoch)
	}
	return appendNoTags(dst, flexible)
}

// Decode parses a response body, for a client. Strings share body's bytes. Errors: as of ProduceRequest.Decode.
func (p *ProduceResponse) Decode(body []byte, version int16) error {
	if err := checkProduceVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= produceFlexible, version >= produceTopicIDs
	r := reader{src: body}
	p.Topics, p.partitions, p.recordErrors = p.Topics[:0], p.partitions[:0], p.recordErrors[:0]
	p.NodeEndpoints = p.NodeEndpoints[:0]
	for range r.arrayLen(flexible, topicBytesMin(byID, flexible)) {
		name, id := r.topic(byID, flexible)
		start := len(p.partitions)
		for range r.arrayLen(flexible, 4+2+8+8) {
			p.partitions = append(p.partitions, p.decodePartition(&r, version))
			if r.bad {
				break
			}
		}
		r.tags(flexible)
		if r.bad {
			break
		}
		p.Topics = append(p.Topics, ProduceTopicResponse{Name: name, ID: id, Partitions: p.partitions[start:len(p.partitions):len(p.partitions)]})
	}
	p.ThrottleMs = r.int32()
	if flexible {
		p.NodeEndpoints = r.nodeEndpoints(p.NodeEndpoints)
	}
	return r.done(KeyProduce, version, body)
}

// decodePartition reads one partition.
func (p *ProduceResponse) decodePartition(r *reader, version int16) (part ProducePartitionResponse) {
	flexible := version >= produceFlexible
	part.Partition = r.int32()
	part.Error = ErrorCode(r.int16())
	part.BaseOffset = r.int64()
	part.LogAppendTimeMs = r.int64()
	part.LogStartOffset = -1
	if version >= produceLogStart {
		part.LogStartOffset = r.int64()
	}
	if version >= produceRecordErrors {
		start := len(p.recordErrors)
		for range r.arrayLen(flexible, pick(flexible, 6, 6)) {
			p.recordErrors = append(p.recordErrors, RecordError{Index: r.int32(), Message: r.nullableString(flexible)})
			r.tags(flexible)
			if r.bad {
				return part
			}
		}
		part.RecordErrors = p.recordErrors[start:len(p.recordErrors):len(p.recordErrors)]
		part.ErrorMessage = r.nullableString(flexible)
	}
	if flexible {
		r.eachTag(func(tag uint32, field *reader) bool {
			if tag == 0 {
				part.HasCurrentLeader = true
				part.LeaderID, part.LeaderEpoch = field.leader()
			}
			return tag == 0
		})
	}
	return part
}

// NodeEndpoint is the address of a broker in a Produce or Fetch response. Rack is empty for null.
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   string
}

// appendNodeEndpoints appends the tagged fields at the end of a response, of which the endpoints are tag 0.
func appendNodeEndpoints(dst []byte, nodes []NodeEndpoint) []byte {
	if len(nodes) == 0 {
		return append(dst, 0)
	}
	size := uvarintLen(uint64(len(nodes)) + 1)
	for i := range nodes {
		n := &nodes[i]
		size += 4 + uvarintLen(uint64(len(n.Host))+1) + len(n.Host) + 4 + 1 + 1
		if n.Rack != "" {
			size += uvarintLen(uint64(len(n.Rack))+1) - 1 + len(n.Rack)
		}
	}
	dst = append(dst, 1, 0)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendArrayLen(dst, len(nodes), true)
	for i := range nodes {
		dst = appendInt32(dst, nodes[i].NodeID)
		dst = appendString(dst, nodes[i].Host, true)
		dst = appendInt32(dst, nodes[i].Port)
		dst = appendNullableString(dst, nodes[i].Rack, true)
		dst = append(dst, 0)
	}
	return dst
}

// nodeEndpoints reads the tagged fields at the end of a response and appends the endpoints to nodes.
func (r *reader) nodeEndpoints(nodes []NodeEndpoint) []NodeEndpoint {
	r.eachTag(func(tag uint32, field *reader) bool {
		if tag != 0 {
			return false
		}
		for range field.arrayLen(true, 4+1+4+1+1) {
			nodes = append(nodes, NodeEndpoint{field.int32(), field.string(true), field.int32(), field.nullableString(true)})
			field.skipTags()
			if field.bad {
				break
			}
		}
		return true
	})
	return nodes
}

// appendLeader appends a tagged field that names a leader and its epoch.
func appendLeader(dst []byte, tag byte, id, epoch int32) []byte {
	dst = append(dst, tag, 4+4+1)
	dst = appendInt32(dst, id)
	dst = appendInt32(dst, epoch)
	return append(dst, 0)
}

// leader reads the content of a tagged field that names a leader and its epoch.
func (r *reader) leader() (id, epoch int32) {
	id, epoch = r.int32(), r.int32()
	r.skipTags()
	return id, epoch
}
