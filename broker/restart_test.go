package broker

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/vfs"
)

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	tb := startBrokerIn(t, dir, nil, Options{})
	id := tb.createTopic("t", 1, nil)
	cluster := tb.ClusterID()
	c := tb.dial()
	for i := range 10 {
		c.mustProduce("t", sequencedBatch(5000, 0, int32(i), fmt.Sprint(i)))
	}
	tb.stop()
	tb = startBrokerIn(t, dir, nil, Options{})
	if got := tb.ClusterID(); got != cluster {
		t.Errorf("cluster id: got %s, want %s", got, cluster)
	}
	ref, code := tb.partitionByID(id, 0, noLeaderEpoch)
	if code != protocol.ErrNone || ref.topic.Name != "t" {
		t.Fatalf("topic after the restart: %v", code)
	}
	c = tb.dial()
	if got := valuesOf(t, c.fetch("t", 0).RecordBatches); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("records after the restart: %q", got)
	}
	// A retry from before the restart is still known.
	if p := c.produce("t", acksAll, sequencedBatch(5000, 0, 9, "9")); p.ErrorCode != 0 || p.BaseOffset != 9 {
		t.Errorf("duplicate after the restart: %+v", p)
	}
	if got := c.mustProduce("t", sequencedBatch(5000, 0, 10, "10")); got != 10 {
		t.Errorf("next offset: got %d, want 10", got)
	}
}

// TestPowerCut cuts the power under commit, and kills the process under every policy: what was acknowledged is there, at its
// offset.
func TestPowerCut(t *testing.T) {
	for name, test := range map[string]struct {
		policy string
		mode   vfs.CrashMode
	}{
		"power cut, commit":        {"commit", vfs.CrashLoseUnsynced},
		"power cut, torn, commit":  {"commit", vfs.CrashRandom},
		"process killed, commit":   {"commit", vfs.CrashKillProcess},
		"process killed, never":    {"never", vfs.CrashKillProcess},
		"process killed, interval": {"interval", vfs.CrashKillProcess},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem(vfs.MemOptions{})
			const dir = "/data"
			if err := errors.Join(fs.MkdirAll(dir), fs.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			overrides := map[string]string{"fsync.policy": test.policy}
			tb := startBrokerIn(t, dir, overrides, Options{FS: fs})
			tb.createTopic("t", 1, nil)
			c := tb.dial()
			for i := range 20 {
				if got := c.mustProduce("t", batchOf(fmt.Sprint(i))); got != int64(i) {
					t.Fatalf("offset: got %d, want %d", got, i)
				}
			}
			after := fs.CrashClone(1, test.mode)
			tb.stop()
			tb = startBrokerIn(t, dir, overrides, Options{FS: after})
			got := valuesOf(t, tb.dial().fetch("t", 0).RecordBatches)
			if want := "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"; got != want {
				t.Errorf("after the crash: %q, want %q", got, want)
			}
		})
	}
}

// TestDiskErrorReachesTheClient fails one fsync: KAFKA_STORAGE_ERROR, no acknowledgement after it, reads go on.
func TestDiskErrorReachesTheClient(t *testing.T) {
	fs := vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, t.TempDir(), map[string]string{"fsync.policy": "commit"}, Options{FS: fs})
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("good"))
	fs.Add(vfs.Rule{Ops: vfs.OpSync, Path: "/t-0/", Count: 1, Err: syscall.EIO})
	wantCode(t, "failing fsync", c.produce("t", acksAll, batchOf("lost")).ErrorCode, protocol.ErrKafkaStorageError)
	wantCode(t, "after the failure", c.produce("t", acksAll, batchOf("refused")).ErrorCode, protocol.ErrKafkaStorageError)
	if got := valuesOf(t, c.fetch("t", 0).RecordBatches); got != "good" {
		t.Errorf("reads after the failure: %q, want the durable record", got)
	}
	tb.ok()
	tb.mayFailToStop = true
}

// TestFullDiskRecovers fills the disk: an error, and when there is space again the log goes on where it was.
func TestFullDiskRecovers(t *testing.T) {
	fs := vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, t.TempDir(), nil, Options{FS: fs})
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("good"))
	fs.Add(vfs.Rule{Ops: vfs.OpWrite, Path: "/t-0/00000000000000000000.log", Count: 1, Err: syscall.ENOSPC})
	wantCode(t, "full disk", c.produce("t", acksAll, batchOf("refused")).ErrorCode, protocol.ErrKafkaStorageError)
	testkit.Eventually(t, "appends after the full disk", func() bool { // the rest of the failed write is cut off first
		p := c.produce("t", acksAll, batchOf("space again"))
		if p.ErrorCode == 0 && p.BaseOffset != 1 {
			t.Errorf("offset after the full disk: got %d, want 1", p.BaseOffset)
		}
		return p.ErrorCode == 0
	})
	if got := valuesOf(t, c.fetch("t", 0).RecordBatches); got != "good space again" {
		t.Errorf("records: %q", got)
	}
}

// TestDeletionIsRepeatedAfterAFailure: the metadata keeps a deleted topic until its files are gone, so that a start after a failure knows
// whose they are.
func TestDeletionIsRepeatedAfterAFailure(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	const dir = "/data"
	if err := errors.Join(mem.MkdirAll(dir), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, dir, map[string]string{"fsync.policy": "commit"}, Options{FS: fs})
	tb.mayFailToStop = true
	id := tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("x"))
	tried := make(chan struct{})
	var disk *vfs.Mem
	fs.Add(vfs.Rule{Ops: vfs.OpRename, Path: "/t-0", Count: 1, Err: syscall.EIO, Hook: func(vfs.Op, string) {
		disk = mem.CrashClone(1, vfs.CrashLoseUnsynced)
		close(tried)
	}})
	resp := c.request(deleteTopicsRequest(5, []string{"t"}), 5).(*kmsg.DeleteTopicsResponse)
	wantCode(t, "delete", resp.Topics[0].ErrorCode, protocol.ErrNone)
	testkit.Closed(t, "the deletion of the files", tried)
	tb.stop()

	tb = startBrokerIn(t, dir, nil, Options{FS: disk})
	if strings.Contains(tb.logs.String(), "belongs to no topic") {
		t.Error("the files are nobody's")
	}
	testkit.Eventually(t, "the files to be gone and the topic forgotten", func() bool {
		_, removed := tb.node.Image().RemovedTopic(id)
		return !removed && tb.store.Log(engine.TopicPartition{Topic: "t"}) == nil
	})
	if got := tb.createTopic("t", 1, nil); got == id {
		t.Error("the id came back")
	}
}
