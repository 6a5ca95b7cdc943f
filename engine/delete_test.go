package engine

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// deletedTogether makes five logs, three with records, and returns their names.
func deletedTogether(t *testing.T, s *Store) (tps []TopicPartition) {
	t.Helper()
	for i := range 5 {
		tps = append(tps, TopicPartition{Topic: "t", Partition: int32(i)})
		l := createTestLog(t, s, tps[i], LogConfig{})
		if i < 3 {
			res := mustAppend(t, l, testBatch(1, 1, 1))
			waitDurable(t, l, res.EndOffset)
		}
	}
	return tps
}

func TestDeleteLogsSyncsTheirDirectoryOnce(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	tps := deletedTogether(t, s)
	var syncs atomic.Int32
	fsys.Add(vfs.Rule{Ops: vfs.OpSyncDir, Path: testDir, Hook: func(vfs.Op, string) { syncs.Add(1) }})
	stays := tps[2]
	asked := []TopicPartition{tps[0], {Topic: "unknown"}, tps[3], tps[1], tps[0], tps[4]}
	for i, err := range s.DeleteLogs(asked) {
		if i == 1 || i == 4 { // not there, and there no longer
			wantErr(t, err, ErrUnknownLog)
		} else {
			must(t, err)
		}
	}
	if got := syncs.Load(); got != 1 {
		t.Errorf("the log directory was fsynced %d times for 2 partitions on disk, want 1", got)
	}
	if logs := s.Logs(); len(logs) != 1 || logs[0].TopicPartition() != stays {
		t.Errorf("%d logs are left, want the one that was not named", len(logs))
	}
	for seed := range uint64(20) {
		c := openTestStore(t, testStoreOptions(mem.CrashClone(seed, vfs.CrashRandom)))
		if logs := c.Logs(); len(logs) != 1 || logs[0].TopicPartition() != stays {
			t.Errorf("seed %d: %d logs after a crash, want the one that was not named", seed, len(logs))
		}
		c.crash()
	}
}

// A deletion that is not durable is not told as one, of no partition.
func TestDeleteLogsFailsWhole(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer s.crash()
	tps := deletedTogether(t, s)
	fsys.Add(vfs.Rule{Ops: vfs.OpSyncDir, Path: testDir, Err: errors.New("broken")})
	for i, err := range s.DeleteLogs(tps) {
		if i >= 3 { // nothing on disk
			must(t, err)
			continue
		}
		wantErr(t, err, ErrOffline)
		if l := s.Log(tps[i]); l == nil {
			t.Errorf("%s is forgotten", tps[i])
		} else {
			wantErr(t, l.Err(), ErrClosed)
		}
	}
	if s.dirs[0].err() == nil {
		t.Error("the log directory is online after a failed fsync")
	}
}
