package engine

import (
	"testing"

	"github.com/weirmq/weir/vfs"
)

// TestPartitionsShareTheirConfiguration: ten thousand idle partitions are not to hold ten thousand copies, and a change of one is not one of all.
func TestPartitionsShareTheirConfiguration(t *testing.T) {
	s := openTestStore(t, testStoreOptions(vfs.NewMem(vfs.MemOptions{})))
	defer s.crash()
	a := createTestLog(t, s, TopicPartition{"t", 0}, neverSync())
	b := createTestLog(t, s, TopicPartition{"t", 1}, neverSync())
	if a.Config() != b.Config() {
		t.Error("equal configurations are held twice")
	}
	must(t, s.UpdateConfig(TopicPartition{"t", 1}, LogConfig{SegmentBytes: 1 << 20}))
	if a.Config().SegmentBytes == 1<<20 || b.Config().SegmentBytes != 1<<20 {
		t.Errorf("after a change of one: segment.bytes %d and %d", a.Config().SegmentBytes, b.Config().SegmentBytes)
	}
}
