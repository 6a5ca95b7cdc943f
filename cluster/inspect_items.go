package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// QuorumStateInfo is the content of a quorum-state file.
type QuorumStateInfo struct {
	// Term is the newest Raft term that the node knows; VotedFor the id of the node that it voted for there, -1 for none.
	Term     uint64 `json:"term"`
	VotedFor int64  `json:"votedFor"`
	// Commit is the Raft index up to which entries were known to be committed.
	Commit uint64 `json:"commit"`
}

// Position implements engine.InspectItem.
func (i *QuorumStateInfo) Position() int64 { return 0 }

// Row gives the columns of a table: item, name, and what else there is.
func (i *QuorumStateInfo) Row() []string { return []string{"quorum state", "", i.text()} }

// String is one line.
func (i *QuorumStateInfo) String() string { return "quorum state " + i.text() }

func (i *QuorumStateInfo) text() string {
	return fmt.Sprintf("term %d voted for node %d commit %d", i.Term, i.VotedFor, i.Commit)
}

// ImageInfo is the head of a metadata snapshot.
type ImageInfo struct {
	// Pos is the position of the voters.
	Pos int64 `json:"position"`
	// Index and Term are those of the last entry that the snapshot holds; Voters the node ids of the quorum.
	Index  uint64  `json:"index"`
	Term   uint64  `json:"term"`
	Voters []int64 `json:"voters"`
	// ClusterID is the cluster's; NextProducerID is the first producer id that was not given out.
	ClusterID      string `json:"clusterId"`
	NextProducerID int64  `json:"nextProducerId"`
}

// Position implements engine.InspectItem.
func (i *ImageInfo) Position() int64 { return i.Pos }

// Row gives the columns of a table.
func (i *ImageInfo) Row() []string { return []string{"snapshot", i.ClusterID, i.text()} }

// String is one line.
func (i *ImageInfo) String() string {
	return fmt.Sprintf("snapshot of cluster %s %s", i.ClusterID, i.text())
}

func (i *ImageInfo) text() string {
	return fmt.Sprintf("index %d term %d voters %v next producer id %d", i.Index, i.Term, i.Voters, i.NextProducerID)
}

// BrokerInfo is one broker's configuration in a metadata snapshot.
type BrokerInfo struct {
	// Pos is the position of the entry.
	Pos int64 `json:"position"`
	// Name is the node id in decimal, "" for the default of all brokers; Version counts the changes of Configs.
	Name    string            `json:"broker"`
	Version uint64            `json:"version"`
	Configs map[string]string `json:"configs"`
}

// Position implements engine.InspectItem.
func (i *BrokerInfo) Position() int64 { return i.Pos }

// Row gives the columns of a table.
func (i *BrokerInfo) Row() []string {
	return []string{"broker", strconv.Quote(i.Name), fmt.Sprintf("version %d%s", i.Version, configsText(i.Configs))}
}

// String is one line.
func (i *BrokerInfo) String() string { return strings.Join(i.Row(), " ") }

// PartitionRun is a run of partitions that are equal.
type PartitionRun struct {
	// Count is how many; Leader the node id of their leader, -1 for none; LeaderEpoch counts its changes. Both are absent in changes.
	Count       int    `json:"count"`
	Leader      *int32 `json:"leader,omitempty"`
	LeaderEpoch *int32 `json:"leaderEpoch,omitempty"`
	// Replicas are node ids, the preferred leader first; ISR are those in sync.
	Replicas []int32 `json:"replicas"`
	ISR      []int32 `json:"isr,omitempty"`
}

func runsText(runs []PartitionRun) string {
	var s strings.Builder
	for i, r := range runs {
		if i == 8 {
			fmt.Fprintf(&s, " and %d runs more", len(runs)-i)
			break
		}
		fmt.Fprintf(&s, " %d on %v", r.Count, r.Replicas)
		if r.Leader != nil {
			fmt.Fprintf(&s, " in sync %v leader %d epoch %d", r.ISR, *r.Leader, *r.LeaderEpoch)
		}
	}
	return s.String()
}

func configsText(configs map[string]string) string {
	var s strings.Builder
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		fmt.Fprintf(&s, " %s=%s", key, strconv.Quote(configs[key]))
	}
	return s.String()
}

// TopicInfo is one topic in a metadata snapshot.
type TopicInfo struct {
	// Pos is the position of the entry.
	Pos int64 `json:"position"`
	// Name and ID are the topic's; PartitionCount is the number of its partitions, which Runs describes in their order.
	Name           string         `json:"topic"`
	ID             string         `json:"topicId"`
	PartitionCount int            `json:"partitionCount"`
	Runs           []PartitionRun `json:"partitions"`
	// Version counts the changes of Configs.
	Version uint64            `json:"version"`
	Configs map[string]string `json:"configs"`
}

// Position implements engine.InspectItem.
func (i *TopicInfo) Position() int64 { return i.Pos }

// Row gives the columns of a table.
func (i *TopicInfo) Row() []string {
	return []string{"topic", i.Name, fmt.Sprintf("id %s partitions %d:%s version %d%s", i.ID, i.PartitionCount, runsText(i.Runs), i.Version,
		configsText(i.Configs))}
}

// String is one line.
func (i *TopicInfo) String() string { return strings.Join(i.Row(), " ") }

// RemovedTopicInfo is a deleted topic in a metadata snapshot, of which files may remain.
type RemovedTopicInfo struct {
	// Pos is the position of the entry.
	Pos int64 `json:"position"`
	// Name and ID are the topic's; PartitionCount is the number of its partitions.
	Name           string `json:"topic"`
	ID             string `json:"topicId"`
	PartitionCount int32  `json:"partitionCount"`
}

// Position implements engine.InspectItem.
func (i *RemovedTopicInfo) Position() int64 { return i.Pos }

// Row gives the columns of a table.
func (i *RemovedTopicInfo) Row() []string {
	return []string{"removed topic", i.Name, fmt.Sprintf("id %s partitions %d", i.ID, i.PartitionCount)}
}

// String is one line.
func (i *RemovedTopicInfo) String() string { return strings.Join(i.Row(), " ") }

// EntryInfo is one entry of the metadata log.
type EntryInfo struct {
	// Pos is the position of the entry's batch in the file.
	Pos int64 `json:"position"`
	// Index and Term are Raft's; Timestamp is in ms since 1970.
	Index     uint64 `json:"index"`
	Term      uint64 `json:"term"`
	Timestamp int64  `json:"timestamp"`
	// Changes are the records, none for the entry with which a leader begins.
	Changes []ChangeInfo `json:"changes"`
}

// Position implements engine.InspectItem.
func (i *EntryInfo) Position() int64 { return i.Pos }

// Row gives the columns of a table.
func (i *EntryInfo) Row() []string {
	text := []string{fmt.Sprintf("term %d", i.Term)}
	for _, c := range i.Changes {
		text = append(text, c.String())
	}
	if len(i.Changes) == 0 {
		text = append(text, "a leader begins")
	}
	return []string{"entry", strconv.FormatUint(i.Index, 10), strings.Join(text, "; ")}
}

// String is one line.
func (i *EntryInfo) String() string { return strings.Join(i.Row(), " ") }

// ChangeInfo is one record of an entry: what is set depends on Change.
type ChangeInfo struct {
	// Change is what the record asks for: "cluster", "create topic", "add partitions", "remove topic", "forget topic", "configure topic",
	// "configure broker" or "give out producer ids".
	Change string `json:"change"`
	// Name is that of the cluster, topic or broker; TopicID the topic's.
	Name    string `json:"name,omitempty"`
	TopicID string `json:"topicId,omitempty"`
	// Total is the number of partitions afterwards, Runs are the new ones.
	Total int32          `json:"total,omitempty"`
	Runs  []PartitionRun `json:"partitions,omitempty"`
	// Version is that of the configuration from which Configs was made.
	Version *uint64           `json:"version,omitempty"`
	Configs map[string]string `json:"configs,omitempty"`
	// Node gets Count producer ids.
	Node  *int32 `json:"node,omitempty"`
	Count int32  `json:"count,omitempty"`
}

// String is a part of a line.
func (c *ChangeInfo) String() string {
	s := c.Change
	if c.Name != "" || c.Change == "configure broker" {
		s += " " + strconv.Quote(c.Name)
	}
	if c.TopicID != "" {
		s += " id " + c.TopicID
	}
	if c.Total > 0 {
		s += fmt.Sprintf(" to %d partitions:", c.Total)
	}
	s += runsText(c.Runs)
	if c.Version != nil {
		s += fmt.Sprintf(" from version %d to", *c.Version)
	}
	s += configsText(c.Configs)
	if c.Node != nil {
		s += fmt.Sprintf(" %d to node %d", c.Count, *c.Node)
	}
	return s
}

// changeInfo describes a record.
func changeInfo(r Record) ChangeInfo {
	switch r := r.(type) {
	case *ClusterRecord:
		return ChangeInfo{Change: "cluster", Name: r.ID}
	case *TopicRecord:
		return ChangeInfo{Change: "create topic", Name: r.Name, TopicID: r.ID.String(), Total: int32(len(r.Assignments)),
			Runs: assignmentRuns(r.Assignments), Configs: r.Configs}
	case *PartitionsRecord:
		return ChangeInfo{Change: "add partitions", TopicID: r.Topic.String(), Total: r.Total, Runs: assignmentRuns(r.Assignments)}
	case *RemoveTopicRecord:
		return ChangeInfo{Change: "remove topic", TopicID: r.Topic.String()}
	case *ForgetTopicRecord:
		return ChangeInfo{Change: "forget topic", TopicID: r.Topic.String()}
	case *ConfigsRecord:
		what := map[ResourceType]string{ResourceTopic: "configure topic", ResourceBroker: "configure broker"}[r.Resource.Type]
		return ChangeInfo{Change: what, Name: r.Resource.Name, Version: &r.Version, Configs: r.Configs}
	case *ProducerIDsRecord:
		return ChangeInfo{Change: "give out producer ids", Node: &r.Node, Count: r.Count}
	default:
		panic(fmt.Sprintf("BUG: cluster: record of type %T cannot be described", r))
	}
}

func assignmentRuns(assignments [][]int32) (runs []PartitionRun) {
	for p := 0; p < len(assignments); p = runEnd(assignments, p) {
		runs = append(runs, PartitionRun{Count: runEnd(assignments, p) - p, Replicas: assignments[p]})
	}
	return runs
}
