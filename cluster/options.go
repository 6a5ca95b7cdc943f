package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/vfs"
)

// The partition that holds the metadata log. No client can create a topic of that name.
const (
	LogTopic     = "__cluster_metadata"
	LogPartition = 0
)

// Options configures a Node.
type Options struct {
	// NodeID is this broker's id, 0 or more. Default: none, must be set when a node of id 0 is not meant.
	NodeID int32
	// Store holds the metadata log and the other partitions. It must have been opened with LogConfig for LogTopic, and with
	// NodeID; the cluster's id is the store's. Required; it stays the caller's.
	Store *engine.Store
	// Dir is the log directory beside whose partitions the snapshots and Raft's hard state live, in a folder of their own:
	// the first one of the store. Required.
	Dir string
	// FS is where Dir lives. Default: vfs.OS().
	FS vfs.FS
	// Clock stamps records. Default: clock.Real().
	Clock clock.Clock
	// Logger is for starts, snapshots and failures. Default: slog.Default().
	Logger *slog.Logger
	// Rand gives the bytes of topic ids. Default: crypto/rand.Reader.
	Rand io.Reader

	// CheckConfigs is asked before a proposal whether a resource may have exactly these dynamic values; its error goes to the
	// client as INVALID_CONFIG. Called from any goroutine. Default: everything may.
	CheckConfigs func(r Resource, values map[string]string) error
	// ListConfig tells whether key of a resource type holds a comma-separated list, to which AlterAppend and AlterSubtract apply,
	// and the value that it has when unset. Called from any goroutine. Default: no key does.
	ListConfig func(t ResourceType, key string) (isList bool, unset string)

	// PartitionsDefault is the partition count of a topic created with -1. Default: 1.
	PartitionsDefault int32
	// PartitionsMax limits the partitions of all topics together. Default: 200,000. At most 1,048,576.
	PartitionsMax int
	// SnapshotBytes is how many bytes of log a snapshot may replace at the earliest. Default: 16 MiB.
	SnapshotBytes int64
	// QueueMax limits the proposals that wait for their turn; more wait outside. Default: 65,536.
	QueueMax int
}

// EnsureDefaults fills in what is unset.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.CheckConfigs == nil {
		o.CheckConfigs = func(Resource, map[string]string) error { return nil }
	}
	if o.ListConfig == nil {
		o.ListConfig = func(ResourceType, string) (bool, string) { return false, "" }
	}
	if o.PartitionsDefault == 0 {
		o.PartitionsDefault = 1
	}
	if o.PartitionsMax == 0 {
		o.PartitionsMax = 200_000
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = 16 << 20
	}
	if o.QueueMax == 0 {
		o.QueueMax = 65_536
	}
}

// Validate reports the first value that cannot be.
func (o *Options) Validate() error {
	switch {
	case o.NodeID < 0:
		return fmt.Errorf("cluster: NodeID=%d: must be 0 or more", o.NodeID)
	case o.Store == nil:
		return errors.New("cluster: Store is required")
	case o.Dir == "":
		return errors.New("cluster: Dir is required")
	case o.PartitionsDefault < 1:
		return fmt.Errorf("cluster: PartitionsDefault=%d: must be at least 1", o.PartitionsDefault)
	case o.PartitionsMax < 1 || o.PartitionsMax > partitionsMax:
		return fmt.Errorf("cluster: PartitionsMax=%d: must be between 1 and %d", o.PartitionsMax, partitionsMax)
	case o.SnapshotBytes < 1:
		return fmt.Errorf("cluster: SnapshotBytes=%d: must be positive", o.SnapshotBytes)
	case o.QueueMax < 1:
		return fmt.Errorf("cluster: QueueMax=%d: must be positive", o.QueueMax)
	}
	return nil
}
