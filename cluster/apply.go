package cluster

import (
	"fmt"
	"slices"
)

// Apply returns the image that follows from img by r, and what became of r. A refused record leaves img as it is. Apply is pure:
// it reads no clock, no option and no random number, so every node comes to the same image.
func Apply(img *Image, r Record) (*Image, Result) {
	switch r := r.(type) {
	case *ClusterRecord:
		return img.nameCluster(r)
	case *TopicRecord:
		return img.createTopic(r)
	case *PartitionsRecord:
		return img.addPartitions(r)
	case *RemoveTopicRecord:
		return img.removeTopic(r)
	case *ForgetTopicRecord:
		return img.forgetTopic(r)
	case *ConfigsRecord:
		return img.setConfigs(r)
	case *ProducerIDsRecord:
		return img.giveProducerIDs(r)
	default:
		panic(fmt.Sprintf("BUG: cluster: record of type %T cannot be applied", r))
	}
}

func refuse(img *Image, reason error, format string, args ...any) (*Image, Result) {
	return img, Result{Err: fmt.Errorf("%w: %s", reason, fmt.Sprintf(format, args...))}
}

func (i *Image) nameCluster(r *ClusterRecord) (*Image, Result) {
	if i.clusterID != "" {
		return refuse(i, ErrConflict, "the cluster is %q already", i.clusterID)
	}
	if r.ID == "" {
		return refuse(i, ErrInvalidRequest, "the cluster id is empty")
	}
	next := *i
	next.clusterID = r.ID
	return &next, Result{}
}

func (i *Image) createTopic(r *TopicRecord) (*Image, Result) {
	if err := CheckTopicName(r.Name); err != nil {
		return i, Result{Err: err}
	}
	if i.Topic(r.Name) != nil {
		return refuse(i, ErrTopicExists, "%q", r.Name)
	}
	similar, ok := similarName(r.Name)
	if other, clash := i.similar.get(similar); ok && clash {
		return refuse(i, ErrInvalidTopicName, "%q collides with %q: '.' and '_' count as the same", r.Name, other)
	}
	if _, dead := i.removed.get(r.ID); dead || i.TopicByID(r.ID) != nil || r.ID == (TopicID{}) || r.ID == logTopicID {
		return refuse(i, ErrConflict, "topic id %s is not free", r.ID)
	}
	if len(r.Assignments) == 0 {
		return refuse(i, ErrInvalidPartitions, "%q: 0, must be at least 1", r.Name)
	}
	if i.partitions+len(r.Assignments) > partitionsMax {
		return refuse(i, ErrLimit, "%d partitions and %d more: at most %d", i.partitions, len(r.Assignments), partitionsMax)
	}
	t := &Topic{Name: r.Name, ID: r.ID, Partitions: newPartitions(nil, r.Assignments)}
	if len(r.Configs) > 0 {
		t.Configs = Configs{Values: r.Configs, Version: 1}
	}
	next := i.withTopic(t)
	next.partitions += len(t.Partitions)
	if ok {
		next.similar = next.similar.set(similar, r.Name)
	}
	return next, Result{Topic: t}
}

// newPartitions returns old and one partition for each assignment.
func newPartitions(old []Partition, assignments [][]int32) []Partition {
	partitions := make([]Partition, len(old), len(old)+len(assignments))
	copy(partitions, old)
	for _, replicas := range assignments {
		partitions = append(partitions, Partition{Replicas: replicas, ISR: replicas, Leader: replicas[0]})
	}
	return partitions
}

// withTopic returns the image with t in its place in both orders.
func (i *Image) withTopic(t *Topic) *Image {
	next := *i
	next.topics = next.topics.set(t.Name, t)
	next.topicIDs = next.topicIDs.set(t.ID, t)
	return &next
}

func (i *Image) addPartitions(r *PartitionsRecord) (*Image, Result) {
	old := i.TopicByID(r.Topic)
	if old == nil {
		return refuse(i, ErrUnknownTopicID, "%s", r.Topic)
	}
	have := len(old.Partitions)
	if int(r.Total) <= have {
		return refuse(i, ErrInvalidPartitions, "topic %q has %d partitions, which is not fewer than %d", old.Name, have, r.Total)
	}
	if have+len(r.Assignments) != int(r.Total) {
		return refuse(i, ErrConflict, "topic %q has %d partitions, %d more do not make %d", old.Name, have, len(r.Assignments), r.Total)
	}
	if i.partitions+len(r.Assignments) > partitionsMax {
		return refuse(i, ErrLimit, "%d partitions and %d more: at most %d", i.partitions, len(r.Assignments), partitionsMax)
	}
	t := *old
	t.Partitions = newPartitions(old.Partitions, r.Assignments)
	next := i.withTopic(&t)
	next.partitions += len(r.Assignments)
	return next, Result{Topic: &t}
}

func (i *Image) removeTopic(r *RemoveTopicRecord) (*Image, Result) {
	t := i.TopicByID(r.Topic)
	if t == nil {
		return refuse(i, ErrUnknownTopicID, "%s", r.Topic)
	}
	next := *i
	next.topics = next.topics.remove(t.Name)
	next.topicIDs = next.topicIDs.remove(t.ID)
	if similar, ok := similarName(t.Name); ok {
		next.similar = next.similar.remove(similar)
	}
	next.partitions -= len(t.Partitions)
	next.removed = next.removed.set(t.ID, RemovedTopic{Name: t.Name, ID: t.ID, PartitionCount: int32(len(t.Partitions))})
	return &next, Result{Topic: t}
}

func (i *Image) forgetTopic(r *ForgetTopicRecord) (*Image, Result) {
	if _, ok := i.removed.get(r.Topic); !ok {
		return refuse(i, ErrUnknownTopicID, "%s is not a removed topic", r.Topic)
	}
	next := *i
	next.removed = next.removed.remove(r.Topic)
	return &next, Result{}
}

func (i *Image) setConfigs(r *ConfigsRecord) (*Image, Result) {
	old, ok := i.Configs(r.Resource)
	if !ok {
		return refuse(i, ErrUnknownTopic, "%q", r.Resource.Name)
	}
	if old.Version != r.Version {
		return refuse(i, ErrConflict, "configuration of %q has version %d, not %d", r.Resource.Name, old.Version, r.Version)
	}
	configs := Configs{Values: r.Configs, Version: old.Version + 1}
	if len(r.Configs) == 0 {
		configs.Values = nil
	}
	if r.Resource.Type == ResourceBroker {
		next := *i
		next.brokers = next.brokers.set(r.Resource.Name, configs)
		return &next, Result{}
	}
	t := *i.Topic(r.Resource.Name)
	t.Configs = configs
	return i.withTopic(&t), Result{Topic: &t}
}

func (i *Image) giveProducerIDs(r *ProducerIDsRecord) (*Image, Result) {
	if i.nextProducerID > producerIDEnd-int64(r.Count) {
		return refuse(i, ErrLimit, "the producer ids are used up at %d", i.nextProducerID)
	}
	next := *i
	next.nextProducerID += int64(r.Count)
	return &next, Result{ProducerID: i.nextProducerID}
}

// Equal reports whether both images hold the same metadata at the same point of the log.
func (i *Image) Equal(o *Image) bool {
	return slices.Equal(appendImage(nil, i), appendImage(nil, o))
}
