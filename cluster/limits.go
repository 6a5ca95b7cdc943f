package cluster

import (
	"fmt"
	"math"
)

// Hard limits of the format, the same on every node for ever: proposals that pass them are refused, and so are bytes that do.
const (
	partitionsMax   = 1 << 20 // partitions of all topics together
	replicasMax     = 1 << 7  // replicas of one partition
	topicNameMax    = 249     // bytes; Kafka's limit, which leaves room for "-<partition>" in a folder name
	nameBytesMax    = 1 << 10 // bytes of any name in a record; legal topic names are shorter
	configsMax      = 1 << 10 // values of one resource
	configBytesMax  = 1 << 18 // bytes of all keys and values of one resource
	producerIDsMax  = 1 << 20 // producer ids of one block
	entryRecordsMax = 1 << 14 // records of one entry
	entryBytesMax   = 8 << 20 // bytes of one entry
	groupBytesMax   = 4 << 20 // bytes of the proposals of one turn, but for a single larger one
)

// checkLimits holds r against the hard limits; the decoder holds what it reads against the same.
func checkLimits(r Record) error {
	switch r := r.(type) {
	case *ClusterRecord:
		return checkName(r.ID)
	case *TopicRecord:
		if err := checkName(r.Name); err != nil {
			return err
		}
		if err := checkAssignments(r.Assignments); err != nil {
			return err
		}
		return checkConfigs(r.Configs)
	case *PartitionsRecord:
		if r.Total < 0 {
			return fmt.Errorf("%w: %d", ErrInvalidPartitions, r.Total)
		}
		return checkAssignments(r.Assignments)
	case *ConfigsRecord:
		if r.Resource.Type != ResourceTopic && r.Resource.Type != ResourceBroker {
			return fmt.Errorf("%w: resource type %d has no configuration", ErrInvalidRequest, r.Resource.Type)
		}
		if err := checkName(r.Resource.Name); err != nil {
			return err
		}
		return checkConfigs(r.Configs)
	case *ProducerIDsRecord:
		if r.Count < 1 || r.Count > producerIDsMax || r.Node < 0 {
			return fmt.Errorf("%w: %d producer ids for node %d: 1 to %d", ErrInvalidRequest, r.Count, r.Node, producerIDsMax)
		}
	}
	return nil
}

func checkName(s string) error {
	if len(s) > nameBytesMax {
		return fmt.Errorf("%w: a name of %d bytes, at most %d", ErrInvalidRequest, len(s), nameBytesMax)
	}
	return nil
}

func checkAssignments(assignments [][]int32) error {
	if len(assignments) > partitionsMax {
		return fmt.Errorf("%w: %d partitions, at most %d", ErrLimit, len(assignments), partitionsMax)
	}
	for p, replicas := range assignments {
		if len(replicas) == 0 || len(replicas) > replicasMax {
			return fmt.Errorf("%w: %d replicas, 1 to %d", ErrInvalidAssignment, len(replicas), replicasMax)
		}
		if p > 0 && &replicas[0] == &assignments[p-1][0] {
			continue // shared with the partition before: checked
		}
		for i, id := range replicas {
			if id < 0 {
				return fmt.Errorf("%w: broker id %d", ErrInvalidAssignment, id)
			}
			for _, other := range replicas[:i] {
				if id == other {
					return fmt.Errorf("%w: broker %d twice in one partition", ErrInvalidAssignment, id)
				}
			}
		}
	}
	return nil
}

func checkConfigs(configs map[string]string) error {
	if len(configs) > configsMax {
		return fmt.Errorf("%w: %d values, at most %d", ErrInvalidConfig, len(configs), configsMax)
	}
	bytes := 0
	for k, v := range configs {
		bytes += len(k) + len(v)
	}
	if bytes > configBytesMax {
		return fmt.Errorf("%w: %d bytes of keys and values, at most %d", ErrInvalidConfig, bytes, configBytesMax)
	}
	return nil
}

// producerIDEnd is the end of the producer ids: the protocol's are signed 64-bit.
const producerIDEnd = math.MaxInt64

// addedPartitions is how many partitions a record spells out.
func addedPartitions(r Record) int {
	switch r := r.(type) {
	case *TopicRecord:
		return len(r.Assignments)
	case *PartitionsRecord:
		return len(r.Assignments)
	default:
		return 0
	}
}
