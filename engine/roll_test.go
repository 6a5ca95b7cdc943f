package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

// TestAppendsWaitForNoFsync: with every fsync, deletion and cut held up, appends go on through rolls and the producer
// snapshots that come with them.
func TestAppendsWaitForNoFsync(t *testing.T) {
	for i, policy := range []ioqueue.Policy{ioqueue.PolicyCommit, ioqueue.PolicyInterval, ioqueue.PolicyNever, ioqueue.PolicyNever} {
		preallocate := i == 3
		if ok := t.Run(fmt.Sprintf("%v preallocate=%v", policy, preallocate), func(t *testing.T) {
			fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
			s := openTestStore(t, testStoreOptions(fsys))
			l := createTestLog(t, s, testTP, LogConfig{Fsync: policy, FsyncInterval: time.Millisecond, SegmentBytes: 2000, Preallocate: preallocate})
			mustAppend(t, l, producerTestBatch(7, 0, 0, false))
			awaitRest(t, s)
			held, release := make(chan struct{}, 1), make(chan struct{})
			fsys.Add(vfs.Rule{Ops: vfs.OpSync | vfs.OpSyncDir | vfs.OpSyncAll | vfs.OpWriteBack | vfs.OpRemove | vfs.OpTruncate,
				Hook: func(op vfs.Op, name string) {
					if op == vfs.OpTruncate || strings.Contains(name, snapshotSuffix) {
						select {
						case held <- struct{}{}:
						default:
						}
					}
					<-release
				}})
			done := make(chan error, 1)
			go func() {
				for seq := int32(1); seq <= 200; seq++ {
					if _, err := l.Append(producerTestBatch(7, 0, seq, false), AppendOptions{}); err != nil {
						done <- err
						return
					}
					if seq == 100 {
						<-held // a worker is at the fsync of a snapshot, or gives reserved space back, and the next rolls come to theirs
					}
				}
				done <- nil
			}()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(10 * time.Second):
				t.Error("an append waits for the disk")
			}
			if n := len(l.segments()); n < 5 {
				t.Errorf("%d segments, want several rolls", n)
			}
			close(release)
			must(t, l.Sync())
			closeTestStore(t, s)
		}); !ok {
			return // one wait in vain is enough
		}
	}
}
