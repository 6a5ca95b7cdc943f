package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Proposals of many records are cut into entries of about this size, so that they share groups with others.
const (
	entryRecordsTarget    = 1_000
	entryPartitionsTarget = 100_000
	entryConfigsTarget    = 1 << 20 // bytes
)

// NewTopic asks for a topic.
type NewTopic struct {
	Name string
	// Partitions is the partition count, -1 for the default; -1 as well when Assignments is given.
	Partitions int32
	// ReplicationFactor is the replica count, -1 for the default; -1 as well when Assignments is given.
	ReplicationFactor int16
	// Assignments gives the replicas of each partition by its number, the leader first; nil: chosen here.
	Assignments map[int32][]int32
	// Configs are the topic's own values; checked through Options.CheckConfigs.
	Configs map[string]string
}

// TopicResult is what became of one topic of a request.
type TopicResult struct {
	Topic *Topic // as it is after the change; of a removed topic, as it was; nil after an error
	Err   error  // wraps one of this package's reasons
}

// NewPartitions asks for more partitions of a topic.
type NewPartitions struct {
	Name  string
	Total int32 // how many the topic is to have in all
	// Assignments gives the replicas of each added partition; nil: chosen here.
	Assignments [][]int32
}

// CreateTopics creates the topics and returns one result for each, in order. With validateOnly nothing is changed and the
// results say what would be. The error is of the proposal as a whole: one of those of Propose.
func (n *Node) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]TopicResult, error) {
	return n.creations(topics).run(ctx, validateOnly)
}

// SubmitTopics is CreateTopics without waiting: done is called once, on the node's loop or before SubmitTopics returns, and must be short. Of two
// calls of one goroutine the first is decided first.
func (n *Node) SubmitTopics(topics []NewTopic, done func([]TopicResult, error)) {
	n.creations(topics).start(done)
}

// creations are the records that create the topics.
func (n *Node) creations(topics []NewTopic) *batch {
	b := newBatch(n, len(topics))
	partitions := n.Image().PartitionCount()
	for i := range topics {
		count, err := n.partitionCount(&topics[i])
		if err == nil {
			err = n.roomFor(partitions, count)
		}
		var r *TopicRecord
		if err == nil {
			r, err = n.topicRecord(&topics[i], count)
		}
		if err != nil {
			b.refuse(i, err)
			continue
		}
		partitions += count
		b.add(i, r)
	}
	return b
}

// roomFor holds the partitions that there are, and so many more, against the limit. It is asked before anything is allocated for them, and again by
// the loop: what is in flight at the same time may have taken the room.
func (n *Node) roomFor(have, more int) error {
	if have+more > n.opts.PartitionsMax {
		return fmt.Errorf("%w: %d partitions and %d more: this broker takes %d", ErrLimit, have, more, n.opts.PartitionsMax)
	}
	return nil
}

// partitionCount is how many partitions t is to have. Nothing is allocated for a topic before this passed the limits.
func (n *Node) partitionCount(t *NewTopic) (int, error) {
	if err := CheckTopicName(t.Name); err != nil {
		return 0, err
	}
	if len(t.Assignments) > 0 {
		if t.Partitions != -1 || t.ReplicationFactor != -1 {
			return 0, fmt.Errorf("%w: topic %q has an assignment and also %d partitions and replication factor %d, which must be -1",
				ErrInvalidRequest, t.Name, t.Partitions, t.ReplicationFactor)
		}
		return len(t.Assignments), nil
	}
	count := t.Partitions
	if count == -1 {
		count = n.opts.PartitionsDefault
	}
	switch {
	case count < 1:
		return 0, fmt.Errorf("%w: %d, must be at least 1, or -1 for the default", ErrInvalidPartitions, count)
	case t.ReplicationFactor > 1:
		return 0, fmt.Errorf("%w: %d, but there is 1 broker", ErrInvalidReplicationFactor, t.ReplicationFactor)
	case t.ReplicationFactor == 0 || t.ReplicationFactor < -1:
		return 0, fmt.Errorf("%w: %d, must be at least 1, or -1 for the default", ErrInvalidReplicationFactor, t.ReplicationFactor)
	}
	return int(count), nil
}

// topicRecord is the record that creates t, or why there can be none. What depends on other topics is decided by Apply.
func (n *Node) topicRecord(t *NewTopic, count int) (*TopicRecord, error) {
	assignments := [][]int32(nil)
	if len(t.Assignments) == 0 {
		assignments = n.ownAssignments(count)
	} else {
		var err error
		if assignments, err = n.givenAssignments(t); err != nil {
			return nil, err
		}
	}
	if err := n.checkConfigs(Resource{ResourceTopic, t.Name}, t.Configs); err != nil {
		return nil, err
	}
	id, err := n.newTopicID()
	if err != nil {
		return nil, err
	}
	return &TopicRecord{Name: t.Name, ID: id, Assignments: assignments, Configs: t.Configs}, nil
}

// newTopicID draws a random UUID (version 4). Like Kafka, it draws again when the text form would begin with '-', which command
// lines take for an option; Apply refuses one that was ever used.
func (n *Node) newTopicID() (TopicID, error) {
	for {
		var id TopicID
		if _, err := io.ReadFull(n.opts.Rand, id[:]); err != nil {
			return TopicID{}, fmt.Errorf("%w: draw a topic id: %w", ErrFailed, err)
		}
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id, nil
		}
	}
}

// ownAssignments is count times this node alone, until there are others; all share one slice.
func (n *Node) ownAssignments(count int) [][]int32 {
	own := []int32{n.opts.NodeID}
	assignments := make([][]int32, count)
	for i := range assignments {
		assignments[i] = own
	}
	return assignments
}

func (n *Node) givenAssignments(t *NewTopic) ([][]int32, error) {
	assignments := make([][]int32, len(t.Assignments))
	for p, replicas := range t.Assignments {
		if p < 0 || int(p) >= len(assignments) {
			return nil, fmt.Errorf("%w: partition %d of %d: the numbers must be 0, 1, 2 and so on without gaps",
				ErrInvalidAssignment, p, len(assignments))
		}
		assignments[p] = replicas
	}
	return assignments, n.checkGiven(assignments, 0)
}

// checkGiven reports the first partition, counted from first, that this node cannot hold as asked.
func (n *Node) checkGiven(assignments [][]int32, first int) error {
	for i, replicas := range assignments {
		if len(replicas) != 1 || replicas[0] != n.opts.NodeID {
			return fmt.Errorf("%w: partition %d on brokers %v: the only broker is %d", ErrInvalidAssignment, first+i, replicas, n.opts.NodeID)
		}
	}
	return nil
}

// DeleteTopics deletes topics by name and by id and returns one result for each name, then for each id.
func (n *Node) DeleteTopics(ctx context.Context, names []string, ids []TopicID) ([]TopicResult, error) {
	return await(ctx, func(done func([]TopicResult, error)) { n.SubmitRemovals(names, ids, done) })
}

// SubmitRemovals is DeleteTopics without waiting, as SubmitTopics is to CreateTopics. Names are looked up in the present image.
func (n *Node) SubmitRemovals(names []string, ids []TopicID, done func([]TopicResult, error)) {
	img := n.Image()
	b := newBatch(n, len(names)+len(ids))
	for i, name := range names {
		if t := img.Topic(name); t != nil {
			b.add(i, &RemoveTopicRecord{Topic: t.ID})
		} else {
			b.refuse(i, fmt.Errorf("%w: %q", ErrUnknownTopic, name))
		}
	}
	for i, id := range ids {
		b.add(len(names)+i, &RemoveTopicRecord{Topic: id})
	}
	b.start(func(results []TopicResult, err error) {
		for i := range min(len(names), len(results)) {
			if errors.Is(results[i].Err, ErrUnknownTopicID) { // somebody was faster
				results[i].Err = fmt.Errorf("%w: %q", ErrUnknownTopic, names[i])
			}
		}
		done(results, err)
	})
}

// CreatePartitions adds partitions and returns one result for each topic, in order.
func (n *Node) CreatePartitions(ctx context.Context, topics []NewPartitions, validateOnly bool) ([]TopicResult, error) {
	return n.decide(ctx, len(topics), validateOnly, func(i int) (Record, error) { return n.partitionsRecord(&topics[i]) })
}

func (n *Node) partitionsRecord(p *NewPartitions) (Record, error) {
	img := n.Image()
	t := img.Topic(p.Name)
	if t == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, p.Name)
	}
	have := len(t.Partitions)
	add := int(p.Total) - have
	if add <= 0 {
		return nil, fmt.Errorf("%w: topic %q has %d partitions, which is not fewer than %d", ErrInvalidPartitions, p.Name, have, p.Total)
	}
	if err := n.roomFor(img.PartitionCount(), add); err != nil {
		return nil, err
	}
	r := &PartitionsRecord{Topic: t.ID, Total: p.Total}
	if p.Assignments == nil {
		r.Assignments = n.ownAssignments(add)
		return r, nil
	}
	if len(p.Assignments) != add {
		return nil, fmt.Errorf("%w: %d assignments for %d added partitions", ErrInvalidAssignment, len(p.Assignments), add)
	}
	r.Assignments = p.Assignments
	return r, n.checkGiven(p.Assignments, have)
}

// AllocateProducerIDs returns the first of count producer ids that nobody was or will be given again.
func (n *Node) AllocateProducerIDs(ctx context.Context, count int32) (first int64, err error) {
	results, err := n.Propose(ctx, []Record{&ProducerIDsRecord{Node: n.opts.NodeID, Count: count}})
	if err != nil {
		return 0, err
	}
	return results[0].ProducerID, results[0].Err
}

// ForgetTopics takes deleted topics out of Image.Removed, when their files are gone. Ids that are not there are passed over.
func (n *Node) ForgetTopics(ctx context.Context, ids []TopicID) error {
	b := newBatch(n, len(ids))
	for i, id := range ids {
		b.add(i, &ForgetTopicRecord{Topic: id})
	}
	_, err := b.run(ctx, false)
	return err
}
