package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Versions of the formats that this file writes; it reads no others yet.
const (
	recordsVersion    = 1 // of a list of records
	recordBodyVersion = 0 // of each kind's body
)

// appendRecords appends the payload of an entry. The records must be within the limits (checkLimits).
func appendRecords(dst []byte, records []Record) []byte {
	dst = append(dst, recordsVersion)
	dst = binary.AppendUvarint(dst, uint64(len(records)))
	var body []byte
	for _, r := range records {
		body = appendBody(body[:0], r)
		dst = binary.AppendUvarint(dst, uint64(r.kind()))
		dst = binary.AppendUvarint(dst, uint64(len(body)))
		dst = append(dst, body...)
	}
	return dst
}

func appendBody(dst []byte, r Record) []byte {
	dst = append(dst, recordBodyVersion)
	switch r := r.(type) {
	case *ClusterRecord:
		return appendString(dst, r.ID)
	case *TopicRecord:
		dst = appendString(dst, r.Name)
		dst = append(dst, r.ID[:]...)
		dst = appendAssignments(dst, r.Assignments)
		return appendConfigs(dst, r.Configs)
	case *PartitionsRecord:
		dst = append(dst, r.Topic[:]...)
		dst = binary.AppendUvarint(dst, uint64(r.Total))
		return appendAssignments(dst, r.Assignments)
	case *RemoveTopicRecord:
		return append(dst, r.Topic[:]...)
	case *ForgetTopicRecord:
		return append(dst, r.Topic[:]...)
	case *ConfigsRecord:
		dst = binary.AppendUvarint(dst, uint64(r.Resource.Type))
		dst = appendString(dst, r.Resource.Name)
		dst = binary.AppendUvarint(dst, r.Version)
		return appendConfigs(dst, r.Configs)
	case *ProducerIDsRecord:
		dst = binary.AppendUvarint(dst, uint64(r.Node))
		return binary.AppendUvarint(dst, uint64(r.Count))
	default:
		panic(fmt.Sprintf("BUG: cluster: record of type %T cannot be encoded", r))
	}
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendConfigs(dst []byte, configs map[string]string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(configs)))
	for _, k := range slices.Sorted(maps.Keys(configs)) {
		dst = appendString(dst, k)
		dst = appendString(dst, configs[k])
	}
	return dst
}

// appendAssignments writes equal neighbours once: a topic of 10,000 partitions on one node takes 5 bytes.
func appendAssignments(dst []byte, assignments [][]int32) []byte {
	runs := 0
	for p := 0; p < len(assignments); p = runEnd(assignments, p) {
		runs++
	}
	dst = binary.AppendUvarint(dst, uint64(runs))
	for p := 0; p < len(assignments); {
		end := runEnd(assignments, p)
		dst = binary.AppendUvarint(dst, uint64(end-p))
		dst = appendNodes(dst, assignments[p])
		p = end
	}
	return dst
}

func runEnd(assignments [][]int32, p int) int {
	end := p + 1
	for end < len(assignments) && slices.Equal(assignments[p], assignments[end]) {
		end++
	}
	return end
}

func appendNodes(dst []byte, nodes []int32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(nodes)))
	for _, id := range nodes {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	return dst
}

// decodeRecords reads the payload of an entry. b is not kept.
func decodeRecords(b []byte) ([]Record, error) { return newDecoder(b).records() }

// records reads a list of records to the end of the bytes.
func (d *decoder) records() ([]Record, error) {
	if v := d.byte("version"); d.err == nil && v != recordsVersion {
		return nil, d.failf("version %d of the records, this build reads %d", v, recordsVersion)
	}
	count := d.count("records", entryRecordsMax, 3)
	records := make([]Record, 0, count)
	for range count {
		kind := recordKind(d.uvarint("kind"))
		end := d.pos + d.count("record length", entryBytesMax, 1)
		r := d.body(kind)
		if d.err == nil && d.pos != end {
			d.failf("record of kind %d ends here, its length says %d", kind, end)
		}
		if d.err != nil {
			return nil, d.err
		}
		records = append(records, r)
	}
	return records, d.finish()
}

// body reads the body of a record; nil after an error.
func (d *decoder) body(kind recordKind) Record {
	if v := d.byte("body version"); d.err == nil && v != recordBodyVersion {
		d.failf("version %d of record kind %d, this build reads %d", v, kind, recordBodyVersion)
	}
	var r Record
	switch kind {
	case kindCluster:
		r = &ClusterRecord{ID: d.string("cluster id", nameBytesMax)}
	case kindTopic:
		r = &TopicRecord{Name: d.string("topic name", nameBytesMax), ID: d.id(), Assignments: d.assignments(), Configs: d.configs()}
	case kindPartitions:
		r = &PartitionsRecord{Topic: d.id(), Total: d.int32("total"), Assignments: d.assignments()}
	case kindRemoveTopic:
		r = &RemoveTopicRecord{Topic: d.id()}
	case kindForgetTopic:
		r = &ForgetTopicRecord{Topic: d.id()}
	case kindConfigs:
		res := Resource{Type: ResourceType(d.count("resource type", math.MaxInt8, 0)), Name: d.string("resource name", nameBytesMax)}
		r = &ConfigsRecord{Resource: res, Version: d.uvarint("version"), Configs: d.configs()}
	case kindProducerIDs:
		r = &ProducerIDsRecord{Node: d.int32("node"), Count: d.int32("count")}
	default:
		d.failf("unknown record kind %d: written by a newer version?", kind)
		return nil
	}
	if d.err != nil {
		return nil
	}
	if err := checkLimits(r); err != nil {
		d.failf("%v", err)
		return nil
	}
	return r
}
