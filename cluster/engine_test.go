package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// rig is a store and a node over one file system.
type rig struct {
	store *engine.Store
	node  *Node
}

func storeOptions(fs vfs.FS) engine.StoreOptions {
	return engine.StoreOptions{
		FS: fs, Dirs: []string{"/data"}, NodeID: 1, Seed: 7, Logger: slog.New(slog.DiscardHandler),
		Config: func(topic string) engine.LogConfig {
			if topic == LogTopic {
				return LogConfig()
			}
			return engine.LogConfig{}.EnsureDefaults()
		},
	}
}

// tryRig starts both; the error is of whichever refused.
func tryRig(t testing.TB, fs vfs.FS, change func(*Options)) (*rig, error) {
	t.Helper()
	store, err := engine.OpenStore(storeOptions(fs))
	if err != nil {
		return nil, err
	}
	o := testOptions(t, fs)
	o.Store = store
	if change != nil {
		change(&o)
	}
	n, err := Start(o)
	if err != nil {
		return nil, errors.Join(err, store.Close(context.Background()))
	}
	r := &rig{store, n}
	t.Cleanup(r.stop)
	return r, nil
}

func startRig(t testing.TB, fs vfs.FS, change func(*Options)) *rig {
	t.Helper()
	r, err := tryRig(t, fs, change)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stop stops both, as a broker does; it may be called again.
func (r *rig) stop() {
	r.node.Stop()
	_ = r.store.Close(context.Background()) // after a simulated crash it cannot succeed
}

func TestNodeOverAnEngineLogSurvivesRestarts(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	r := startRig(t, fs, nil)
	id := r.node.Image().ClusterID()
	if id == "" || id != r.store.ClusterID() {
		t.Errorf("cluster id %q, the store's %q", id, r.store.ClusterID())
	}
	for round := range 3 {
		mustCreate(t, r.node, fmt.Sprint("round-", round), fmt.Sprint("other-", round))
		want := r.node.Image()
		r.stop()
		r = startRig(t, fs, nil)
		got := r.node.Image()
		if !got.at(0, 0).Equal(want.at(0, 0)) || got.Term() != want.Term()+1 || got.Index() != want.Index()+1 {
			t.Fatalf("round %d: index %d after %d, term %d after %d", round, got.Index(), want.Index(), got.Term(), want.Term())
		}
	}
	log := r.store.Log(engine.TopicPartition{Topic: LogTopic})
	if o := log.Offsets(); o.LogEnd != int64(r.node.Image().Index()) || log.LeaderEpoch() != int32(r.node.Image().Term()) {
		t.Errorf("log end %d, leader epoch %d; index %d, term %d", o.LogEnd, log.LeaderEpoch(), r.node.Image().Index(), r.node.Image().Term())
	}
}

func TestSnapshotTrimsTheEngineLog(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	small := func(o *Options) { o.SnapshotBytes = 2_000 }
	r := startRig(t, fs, small)
	for i := range 100 {
		mustCreate(t, r.node, fmt.Sprint("t", i))
	}
	log := r.store.Log(engine.TopicPartition{Topic: LogTopic})
	testkit.Eventually(t, "the log start to move", func() bool { return log.Offsets().LogStart > 0 })
	want := r.node.Image()
	r.stop()
	r = startRig(t, fs, small)
	if !r.node.Image().at(0, 0).Equal(want.at(0, 0)) {
		t.Error("another image")
	}
	mustCreate(t, r.node, "after")
}

func TestStoreWithPartitionsButNoMetadataIsRefused(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	r := startRig(t, fs, nil)
	topic := mustCreate(t, r.node, "orders")[0]
	log, err := r.store.CreateLog(engine.TopicPartition{Topic: "orders"}, topic.ID, engine.LogConfig{}.EnsureDefaults())
	if err != nil {
		t.Fatal(err)
	}
	appendOne(t, log)
	r.stop()
	for _, gone := range []string{"/data/" + LogTopic + "-0", "/data/" + folderName, "/data/recovery-point-offset-checkpoint"} {
		if err := fs.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	_, err = tryRig(t, fs, nil)
	wantErr(t, "start", err, ErrMissing)
	if err != nil && !strings.Contains(err.Error(), "orders-0") {
		t.Errorf("error %q does not name the partition", err)
	}
}

func TestLostLogFolderIsRefused(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	r := startRig(t, fs, nil)
	mustCreate(t, r.node, "a")
	r.stop()
	if err := fs.RemoveAll("/data/" + LogTopic + "-0"); err != nil {
		t.Fatal(err)
	}
	_, err := tryRig(t, fs, nil)
	wantErr(t, "start", err, ErrCorrupt) // the engine's recovery point knows that there was more
}

// TestDamagedLogIsRefused flips one bit in each region of a cleanly closed log's file: the node must not start with less than it had.
func TestDamagedLogIsRefused(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	r := startRig(t, fs, nil)
	for i := range 10 {
		mustCreate(t, r.node, fmt.Sprint("t", i))
	}
	want := r.node.Image()
	r.stop()
	path := "/data/" + LogTopic + "-0/00000000000000000000.log"
	b, err := readFile(fs, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	rng := testkit.Rand(testkit.Seed(t, 1))
	for range 40 {
		clone := fs.CrashClone(1, vfs.CrashKeepAll)
		at := rng.IntN(len(b))
		f, err := clone.OpenReadWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[at] ^ 1<<rng.IntN(8)}, int64(at)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		r, err := tryRig(t, clone, nil)
		if err == nil {
			got := r.node.Image()
			r.stop()
			// The base offset and leader epoch lie outside the CRC; a flip there may go unseen, but never lose or change a topic.
			if !got.at(0, 0).Equal(want.at(0, 0)) {
				t.Errorf("byte %d damaged: started with %d of %d topics", at, got.TopicCount(), want.TopicCount())
			}
		}
	}
}

// TestCrashKeepsWhatWasAcknowledged cuts the power at a random operation of concurrent changes, again and again on what the last
// cut left. Whatever a caller was told to be done must be there after the start, and nothing may be there that nobody asked for.
func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	seed := testkit.Seed(t, 20261127)
	rng := testkit.Rand(seed)
	small := func(o *Options) { o.SnapshotBytes = 1_000 }
	fs := newMem(t)
	startRig(t, fs, nil).stop() // a formatted directory
	acked, asked, producerIDs := map[string]bool{}, map[string]bool{}, int64(0)
	for round := range 60 {
		fs.StopAfter(int64(rng.IntN(400)))
		if r, err := tryRig(t, fs, small); err == nil {
			var mu sync.Mutex
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 5 {
						name := fmt.Sprintf("r%d-w%d-%d", round, w, i)
						mu.Lock()
						asked[name] = true
						mu.Unlock()
						res, err := r.node.CreateTopics(background, []NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}, false)
						first, err2 := r.node.AllocateProducerIDs(background, 7)
						mu.Lock()
						if err == nil && res[0].Err == nil {
							acked[name] = true
						}
						if err2 == nil {
							producerIDs = max(producerIDs, first+7)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			r.stop()
		}
		fs = fs.CrashClone(rng.Uint64(), vfs.CrashRandom)
		r, err := tryRig(t, fs, small)
		if err != nil {
			t.Fatalf("seed %d, round %d: start after the crash: %v", seed, round, err)
		}
		image := r.node.Image()
		checkImage(t, image)
		for name := range acked {
			if image.Topic(name) == nil {
				t.Fatalf("seed %d, round %d: topic %s was acknowledged and is gone", seed, round, name)
			}
		}
		for topic := range image.Topics() {
			if !asked[topic.Name] {
				t.Fatalf("seed %d, round %d: nobody asked for topic %s", seed, round, topic.Name)
			}
		}
		if image.NextProducerID() < producerIDs {
			t.Fatalf("seed %d, round %d: producer ids to %d were given, the next is %d", seed, round, producerIDs, image.NextProducerID())
		}
		r.stop()
	}
	if len(acked) < 20 || len(acked) == len(asked) {
		t.Errorf("%d of %d changes were acknowledged: the crashes did not bite, or nothing worked", len(acked), len(asked))
	}
}

func TestFsyncErrorEndsChanges(t *testing.T) {
	broken := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	r := startRig(t, broken, nil)
	mustCreate(t, r.node, "before")
	broken.Add(vfs.Rule{Ops: vfs.OpSync, Path: ".log", Count: 1, Err: errors.New("input/output error")})
	_, err := r.node.CreateTopics(background, []NewTopic{{Name: "lost", Partitions: 1, ReplicationFactor: 1}}, false)
	wantErr(t, "create", err, ErrFailed)
	_, err = r.node.CreateTopics(background, []NewTopic{{Name: "later", Partitions: 1, ReplicationFactor: 1}}, false)
	wantErr(t, "create after", err, ErrFailed)
	if r.node.Image().Topic("before") == nil || r.node.Image().TopicCount() != 1 {
		t.Errorf("%d topics", r.node.Image().TopicCount())
	}
}
