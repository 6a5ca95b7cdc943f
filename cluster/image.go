package cluster

import (
	"bytes"
	"iter"
	"strings"

	"github.com/weirmq/weir/engine"
)

// TopicID is a topic's random UUID. It names one topic for ever: a topic created again under the same name gets another.
// String is Kafka's form: URL-safe base64 without padding, 22 characters.
type TopicID = engine.TopicID

func compareIDs(a, b TopicID) int { return bytes.Compare(a[:], b[:]) }

// ResourceType is the kind of thing that has configuration, numbered as in the Kafka protocol.
type ResourceType int8

// The resources that have configuration here.
const (
	ResourceTopic  ResourceType = 2
	ResourceBroker ResourceType = 4
)

// Resource names a thing that has configuration: a topic by its name, a broker by its node id in decimal; the broker "" is the
// default of all brokers.
type Resource struct {
	Type ResourceType
	Name string
}

// Image is the cluster's metadata at one point of the log. It is immutable: every method is safe from any goroutine, for ever,
// and what they return must not be changed.
type Image struct {
	clusterID      string
	index          uint64
	term           uint64
	topics         tree[string, *Topic]
	topicIDs       tree[TopicID, *Topic]
	similar        tree[string, string] // name with '.' as '_' -> name, of the names that hold one of them
	removed        tree[TopicID, RemovedTopic]
	brokers        tree[string, Configs]
	partitions     int
	nextProducerID int64
}

// Topic is one topic. Immutable.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions []Partition // by partition number, from 0 without gaps
	Configs    Configs     // what was set for this topic; the rest has its default
}

// Partition is the state of one partition. Its slices are shared between partitions and immutable.
type Partition struct {
	Replicas    []int32 // node ids, the preferred leader first
	ISR         []int32 // in-sync replicas
	Leader      int32   // node id, or -1 when there is none
	LeaderEpoch int32   // counts the changes of leader, from 0
}

// Configs is the dynamic configuration of one resource. Immutable.
type Configs struct {
	Values  map[string]string // nil when nothing is set
	Version uint64            // counts the changes; 0 when nothing was ever set
}

// RemovedTopic is a topic that was deleted and whose files may still be on disk. It stays in the image until Node.ForgetTopics,
// so that a start after a crash knows which partition folders may go: nothing is ever deleted because metadata is absent.
type RemovedTopic struct {
	Name           string
	ID             TopicID
	PartitionCount int32 // partitions 0 to PartitionCount-1 may have files
}

func newImage() *Image {
	return &Image{
		topics:   newTree[string, *Topic](strings.Compare),
		topicIDs: newTree[TopicID, *Topic](compareIDs),
		similar:  newTree[string, string](strings.Compare),
		removed:  newTree[TopicID, RemovedTopic](compareIDs),
		brokers:  newTree[string, Configs](strings.Compare),
	}
}

// ClusterID returns the cluster's id: 22 characters of URL-safe base64.
func (i *Image) ClusterID() string { return i.clusterID }

// Index returns the Raft index of the last entry in the image.
func (i *Image) Index() uint64 { return i.index }

// Term returns the Raft term of the last entry in the image.
func (i *Image) Term() uint64 { return i.term }

// Topic returns the topic of that name, or nil.
func (i *Image) Topic(name string) *Topic {
	t, _ := i.topics.get(name)
	return t
}

// TopicByID returns the topic of that id, or nil.
func (i *Image) TopicByID(id TopicID) *Topic {
	t, _ := i.topicIDs.get(id)
	return t
}

// Topics yields every topic, ordered by name.
func (i *Image) Topics() iter.Seq[*Topic] { return values(i.topics.all()) }

// TopicsFrom yields the topics whose name is at least name, ordered by name.
func (i *Image) TopicsFrom(name string) iter.Seq[*Topic] { return values(i.topics.from(name)) }

// Removed yields the deleted topics whose files may still be on disk.
func (i *Image) Removed() iter.Seq[RemovedTopic] { return values(i.removed.all()) }

// RemovedTopic returns the deleted topic of that id, and whether its files may still be on disk.
func (i *Image) RemovedTopic(id TopicID) (RemovedTopic, bool) { return i.removed.get(id) }

// TopicCount returns the number of topics.
func (i *Image) TopicCount() int { return i.topics.count }

// PartitionCount returns the number of partitions of all topics.
func (i *Image) PartitionCount() int { return i.partitions }

// NextProducerID returns the first producer id not yet given out.
func (i *Image) NextProducerID() int64 { return i.nextProducerID }

// BrokerConfigs returns the dynamic configuration of the broker of that name: a node id in decimal, or "" for the default of
// all brokers.
func (i *Image) BrokerConfigs(name string) Configs {
	c, _ := i.brokers.get(name)
	return c
}

// Configs returns the dynamic configuration of the resource, and whether the resource exists. A broker always does.
func (i *Image) Configs(r Resource) (Configs, bool) {
	switch r.Type {
	case ResourceTopic:
		if t := i.Topic(r.Name); t != nil {
			return t.Configs, true
		}
		return Configs{}, false
	case ResourceBroker:
		return i.BrokerConfigs(r.Name), true
	default:
		return Configs{}, false
	}
}

// at returns the image as that after the entry of this index and term.
func (i *Image) at(index, term uint64) *Image {
	next := *i
	next.index, next.term = index, term
	return &next
}

func values[K, V any](pairs iter.Seq2[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range pairs {
			if !yield(v) {
				return
			}
		}
	}
}
