package ioqueue

import (
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// TestRecoveredIsSyncedWhateverThePolicy: files that recovery found are synced at once, in their order, and count as durable only then.
func TestRecoveredIsSyncedWhateverThePolicy(t *testing.T) {
	for _, policy := range []Policy{PolicyCommit, PolicyInterval, PolicyNever} {
		fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
		entered, release := make(chan string, 8), make(chan struct{})
		fsys.Add(vfs.Rule{Ops: vfs.OpSync, Hook: func(_ vfs.Op, name string) { entered <- name; <-release }})
		s := NewScheduler(Options{})
		st := s.NewStream(StreamOptions{Policy: policy, InitialEnd: 7})
		a, b := create(t, fsys, "a"), create(t, fsys, "b")
		st.Recovered(a, 100, 20)
		st.Recovered(b, 10, 30)
		if name := testkit.Receive(t, "an fsync", entered); name != "a" || st.Durable() != 7 || st.UnsyncedBytes() != 110 {
			t.Errorf("%v: fsync of %s, durable %d, %d bytes unsynced", policy, name, st.Durable(), st.UnsyncedBytes())
		}
		release <- struct{}{}
		if name := testkit.Receive(t, "an fsync", entered); name != "b" || st.Durable() != 20 {
			t.Errorf("%v: fsync of %s, durable %d", policy, name, st.Durable())
		}
		close(release)
		testkit.Eventually(t, "durable", func() bool { return st.Durable() == 30 })
		if _, appends := st.Syncs(); appends != 0 || st.UnsyncedBytes() != 0 {
			t.Errorf("%v: %d appends made durable, %d bytes unsynced", policy, appends, st.UnsyncedBytes())
		}
		s.Close()
	}
}
