package cluster

import "context"

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

// AlterOp says what to do with a configuration key, numbered as in the Kafka protocol.
type AlterOp int8

// The operations of IncrementalAlterConfigs.
const (
	AlterSet      AlterOp = 0
	AlterDelete   AlterOp = 1
	AlterAppend   AlterOp = 2
	AlterSubtract AlterOp = 3
)

// Alteration changes one key of a resource's configuration. Value is ignored by AlterDelete.
type Alteration struct {
	Key   string
	Op    AlterOp
	Value string
}

// ConfigChange changes the dynamic configuration of one resource, all of it or nothing.
type ConfigChange struct {
	Resource Resource
	// Replace first drops every value that is set (AlterConfigs); without it the others stay (IncrementalAlterConfigs).
	Replace     bool
	Alterations []Alteration
}

// Change is what a group of entries did to the image.
type Change struct {
	Old, New *Image
	// Created, Changed and Removed are the topics that the group touched, in log order; Changed has new partitions or new
	// configuration. A topic created and removed in one group is in both.
	Created, Changed, Removed []*Topic
	// Brokers are the broker resources whose configuration changed.
	Brokers []Resource
}

// CreateTopics creates the topics and returns one result for each, in order. With validateOnly nothing is changed and the
// results say what would be. The error is of the proposal as a whole: ErrStopped, ErrFailed, ErrNotLeader or the context's.
func (n *Node) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) ([]TopicResult, error) {
	return nil, nil
}

// DeleteTopics deletes topics by name and by id and returns one result for each name, then for each id.
func (n *Node) DeleteTopics(ctx context.Context, names []string, ids []TopicID) ([]TopicResult, error) {
	return nil, nil
}

// CreatePartitions adds partitions and returns one result for each topic, in order.
func (n *Node) CreatePartitions(ctx context.Context, topics []NewPartitions, validateOnly bool) ([]TopicResult, error) {
	return nil, nil
}

// AlterConfigs changes dynamic configuration and returns one error, or nil, for each resource, in order.
func (n *Node) AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) ([]error, error) {
	return nil, nil
}

// AllocateProducerIDs returns the first of count producer ids that nobody was or will be given again.
func (n *Node) AllocateProducerIDs(ctx context.Context, count int32) (first int64, err error) {
	return 0, nil
}

// ForgetTopics takes deleted topics out of Image.Removed, when their files are gone.
func (n *Node) ForgetTopics(ctx context.Context, ids []TopicID) error { return nil }
