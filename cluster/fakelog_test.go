package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// fakeLog is an entryLog in memory, which can be told to fail. What appended is durable at once.
type fakeLog struct {
	mu       sync.Mutex
	start    uint64 // index of entries[0]
	entries  []*raftpb.Entry
	appends  int
	noSpace  bool
	broken   error
	other    string
	hold     chan struct{} // when set, appends wait for a value or its close
	entered  chan struct{} // when set, gets a value when an append begins
	trimmed  uint64
	perEntry int64
}

func newFakeLog() *fakeLog { return &fakeLog{start: 1, perEntry: 100} }

func (l *fakeLog) first() uint64                 { l.mu.Lock(); defer l.mu.Unlock(); return l.start }
func (l *fakeLog) end() uint64                   { l.mu.Lock(); defer l.mu.Unlock(); return l.endLocked() }
func (l *fakeLog) endLocked() uint64             { return l.start + uint64(len(l.entries)) }
func (l *fakeLog) locate(uint64) (string, int64) { return "fake.log", 7 }
func (l *fakeLog) otherPartition() string        { return l.other }

func (l *fakeLog) load(from uint64) ([]*raftpb.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*raftpb.Entry(nil), l.entries[from-l.start:]...), nil
}

func (l *fakeLog) append(entries []*raftpb.Entry) (int64, error) {
	if l.entered != nil {
		l.entered <- struct{}{}
	}
	if l.hold != nil {
		<-l.hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noSpace {
		return 0, fmt.Errorf("%w: fake", ErrNoSpace)
	}
	if l.broken != nil {
		return 0, l.broken
	}
	if entries[0].GetIndex() != l.endLocked() {
		return 0, fmt.Errorf("fake log: entry %d, want %d", entries[0].GetIndex(), l.endLocked())
	}
	l.appends++
	for _, e := range entries {
		l.entries = append(l.entries, &raftpb.Entry{
			Index: new(e.GetIndex()), Term: new(e.GetTerm()), Type: raftpb.EntryNormal.Enum(), Data: append([]byte(nil), e.Data...)})
	}
	return l.perEntry * int64(len(entries)), nil
}

func (l *fakeLog) trim(index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimmed = index
	l.entries = l.entries[index-l.start:]
	l.start = index
	return nil
}

func (l *fakeLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// testRand makes ids that a seed repeats.
type testRand struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func newTestRand(seed byte) *testRand { return &testRand{r: rand.NewChaCha8([32]byte{seed})} }

func (r *testRand) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Read(p)
}

// randSeeds makes the ids of each start of a test differ.
var randSeeds atomic.Uint32

// testOptions are options of a node whose folder is on fs.
func testOptions(t testing.TB, fs vfs.FS) Options {
	t.Helper()
	o := Options{NodeID: 1, Dir: "/data", FS: fs, Clock: clock.Real(), Logger: slog.New(slog.DiscardHandler), Rand: newTestRand(byte(randSeeds.Add(1))),
		Store: new(engine.Store)}
	o.EnsureDefaults()
	return o
}

const testClusterID = "dGVzdC1jbHVzdGVyLWlkLQ"

// startFake starts a node over a fake log and stops it with the test.
func startFake(t testing.TB, o Options, log *fakeLog) *Node {
	t.Helper()
	n, err := start(o, testClusterID, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem(vfs.MemOptions{})
	if err := m.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return m
}

func mustCreate(t testing.TB, n *Node, names ...string) []*Topic {
	t.Helper()
	var topics []NewTopic
	for _, name := range names {
		topics = append(topics, NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1})
	}
	results, err := n.CreateTopics(context.Background(), topics, false)
	if err != nil {
		t.Fatal(err)
	}
	var created []*Topic
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("create %q: %v", names[i], r.Err)
		}
		created = append(created, r.Topic)
	}
	return created
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// appendOne writes one record, so that the partition is on disk.
func appendOne(t testing.TB, log *engine.Log) {
	t.Helper()
	b := record.NewBuilder()
	b.Append(1, nil, []byte("x"))
	if _, err := log.Append(b.Finish(nil), engine.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := log.Sync(); err != nil {
		t.Fatal(err)
	}
}
