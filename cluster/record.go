package cluster

// Record is one change to the metadata, as it stands in the log. The types that implement it are those of this file; Apply says
// what each does and when it is refused.
type Record interface {
	kind() recordKind
}

type recordKind uint64

// The kinds of records: part of the format.
const (
	kindCluster     recordKind = 1
	kindTopic       recordKind = 2
	kindPartitions  recordKind = 3
	kindRemoveTopic recordKind = 4
	kindForgetTopic recordKind = 5
	kindConfigs     recordKind = 6
	kindProducerIDs recordKind = 7
)

// ClusterRecord names the cluster, once.
type ClusterRecord struct{ ID string }

// TopicRecord creates a topic. Assignments holds the replicas of each partition, the leader first.
type TopicRecord struct {
	Name        string
	ID          TopicID
	Assignments [][]int32         // node ids by partition number
	Configs     map[string]string // nil when nothing is set
}

// PartitionsRecord adds partitions to a topic, which must then have Total. Assignments holds the replicas of each added one.
type PartitionsRecord struct {
	Topic       TopicID
	Total       int32     // partitions in all, afterwards
	Assignments [][]int32 // node ids, by partition number from the old total on
}

// RemoveTopicRecord deletes a topic; its id moves to Image.Removed.
type RemoveTopicRecord struct{ Topic TopicID }

// ForgetTopicRecord takes a deleted topic out of Image.Removed: its files are gone.
type ForgetTopicRecord struct{ Topic TopicID }

// ConfigsRecord replaces the dynamic configuration of a resource, when it still has the expected version.
type ConfigsRecord struct {
	Resource Resource
	Version  uint64            // of the Configs that the change was made from
	Configs  map[string]string // all that is set afterwards
}

// ProducerIDsRecord gives the next Count producer ids to the broker whose id is Node.
type ProducerIDsRecord struct {
	Node  int32 // node id
	Count int32 // ids in the block
}

func (*ClusterRecord) kind() recordKind     { return kindCluster }
func (*TopicRecord) kind() recordKind       { return kindTopic }
func (*PartitionsRecord) kind() recordKind  { return kindPartitions }
func (*RemoveTopicRecord) kind() recordKind { return kindRemoveTopic }
func (*ForgetTopicRecord) kind() recordKind { return kindForgetTopic }
func (*ConfigsRecord) kind() recordKind     { return kindConfigs }
func (*ProducerIDsRecord) kind() recordKind { return kindProducerIDs }

// Result is what became of one record.
type Result struct {
	Err        error  // why it was refused, wrapping one of this package's reasons; nil when it was applied
	Topic      *Topic // the topic as the record left it (created, grown, configured), or as it was (removed)
	ProducerID int64  // of ProducerIDsRecord: the first id of the block
}
