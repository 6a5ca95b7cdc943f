package protocol

import "fmt"

// The versions of Produce whose bodies are coded here, and where their form changes.
const (
	produceMin          = 3
	produceLogStart     = 5
	produceRecordErrors = 8
	produceFlexible     = 9
	produceLeaders      = 10
	produceTopicIDs     = 13
	produceMax          = 13
)

// ProducePartitionsMax is the most partitions, and the most topics, that ProduceRequest.Decode takes in one request. An entry takes
// some thirty times its size on the wire, with its answer: this bounds what a request without records can make the broker allocate.
const ProducePartitionsMax = 200_000

// ProduceRequest is a Produce request, versions 3 to 13. One value is used again and again: Decode keeps its slices.
type ProduceRequest struct {
	// TransactionalID is empty when null.
	TransactionalID string
	// Acks is 0 (no response), 1 (leader) or -1 (all in-sync replicas).
	Acks int16
	// TimeoutMs is how long the broker may wait for acknowledgements, in ms.
	TimeoutMs int32
	Topics    []ProduceTopic
	// partitions backs the Partitions of all topics that Decode made.
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
	Partition int32 // its number in the topic, from 0
	// Records are batches, one after the other, a slice of the frame; nil for null. The broker may stamp them in place.
	Records []byte
}

// checkProduceVersion returns ErrUnservedAPI for versions that are not coded here.
func checkProduceVersion(version int16) error {
	if version < produceMin || version > produceMax {
		return fmt.Errorf("%w: Produce version %d, want %d to %d", ErrUnservedAPI, version, produceMin, produceMax)
	}
	return nil
}

// Decode parses a request body. All strings and Records share body's bytes. Errors: ErrUnservedAPI for a version
// outside 3 to 13, ErrMalformed, also for more than ProducePartitionsMax partitions, ErrTrailing; the request is then not to be used.
func (p *ProduceRequest) Decode(body []byte, version int16) error {
	if err := checkProduceVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= produceFlexible, version >= produceTopicIDs
	r := reader{src: body}
	p.Topics, p.partitions = p.Topics[:0], p.partitions[:0]
	p.TransactionalID = r.nullableString(flexible)
	p.Acks = r.int16()
	p.TimeoutMs = r.int32()
	for range r.arrayLenUpTo(ProducePartitionsMax, flexible, topicBytesMin(byID, flexible)) {
		name, id := r.topic(byID, flexible)
		start := len(p.partitions)
		for range r.arrayLenUpTo(ProducePartitionsMax-len(p.partitions), flexible, pick(flexible, 6, 8)) {
			p.partitions = append(p.partitions, ProducePartition{Partition: r.int32(), Records: r.nullableBytes(flexible)})
			r.tags(flexible)
			if r.bad {
				break
			}
		}
		r.tags(flexible)
		if r.bad {
			break
		}
		p.Topics = append(p.Topics, ProduceTopic{Name: name, ID: id, Partitions: p.partitions[start:len(p.partitions):len(p.partitions)]})
	}
	r.tags(flexible)
	return r.done(KeyProduce, version, body)
}

// AppendFrame appends a whole request frame, length included, for a client. Versions 3 to 13.
func (p *ProduceRequest) AppendFrame(dst []byte, version int16, correlationID int32, clientID string) []byte {
	dst, _ = p.appendFrame(dst, nil, requestID{version, correlationID, clientID}, true)
	return dst
}

// AppendFrameCuts is AppendFrame without the records, for a caller that sends them from where they are: the frame's
// length counts them, and the positions where they belong, relative to the frame's start, are appended to cuts, one
// for each partition with records, in order.
func (p *ProduceRequest) AppendFrameCuts(dst []byte, cuts []int, version int16, correlationID int32, clientID string) ([]byte, []int) {
	return p.appendFrame(dst, cuts, requestID{version, correlationID, clientID}, false)
}

// requestID is what a request header says besides the key.
type requestID struct {
	version       int16
	correlationID int32
	clientID      string
}

// appendFrame encodes the request, with or without its records.
func (p *ProduceRequest) appendFrame(dst []byte, cuts []int, id requestID, withRecords bool) ([]byte, []int) {
	flexible, byID := id.version >= produceFlexible, id.version >= produceTopicIDs
	start, outside := len(dst), 0
	dst = AppendRequestHeader(dst, KeyProduce, id.version, id.correlationID, id.clientID)
	dst = appendNullableString(dst, p.TransactionalID, flexible)
	dst = appendInt16(dst, p.Acks)
	dst = appendInt32(dst, p.TimeoutMs)
	dst = appendArrayLen(dst, len(p.Topics), flexible)
	for i := range p.Topics {
		t := &p.Topics[i]
		dst = appendTopic(dst, t.Name, &t.ID, byID, flexible)
		dst = appendArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			part := &t.Partitions[j]
			dst = appendInt32(dst, part.Partition)
			switch {
			case part.Records == nil:
				dst = appendNullArray(dst, flexible)
			case withRecords:
				dst = appendBytesLen(dst, len(part.Records), flexible)
				dst = append(dst, part.Records...)
			default:
				dst = appendBytesLen(dst, len(part.Records), flexible)
				if len(part.Records) > 0 {
					cuts = append(cuts, len(dst)-start)
					outside += len(part.Records)
				}
			}
			dst = appendNoTags(dst, flexible)
		}
		dst = appendNoTags(dst, flexible)
	}
	dst = appendNoTags(dst, flexible)
	FinishFrame(dst[start:], outside)
	return dst, cuts
}
