package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// grown is a node's disk and log after some topics and, when snapshots is set, at least one snapshot; the node is stopped.
func grown(t testing.TB, snapshots bool) (*vfs.Mem, *fakeLog, *Image) {
	t.Helper()
	log, mem := newFakeLog(), newMem(t)
	o := testOptions(t, mem)
	if snapshots {
		o.SnapshotBytes = 10 * log.perEntry
	}
	n := startFake(t, o, log)
	for i := range 40 {
		mustCreate(t, n, fmt.Sprint("t", i))
	}
	n.Stop()
	return mem, log, n.Image()
}

func folder(name string) string { return filepath.Join("/data", folderName, name) }

func snapshotsOn(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	names, err := snapshotNames(fs, folder(""))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestSnapshotsReplaceTheLog(t *testing.T) {
	mem, log, want := grown(t, true)
	names := snapshotsOn(t, mem)
	if len(names) != 1 {
		t.Fatalf("snapshots %v, want the newest only", names)
	}
	index, _, _ := parseSnapshotName(names[0])
	if log.first() != index+1 || index < 10 {
		t.Errorf("the log begins with %d, the snapshot ends with %d", log.first(), index)
	}
	n := startFake(t, testOptions(t, mem), log)
	if !n.Image().at(0, 0).Equal(want.at(0, 0)) {
		t.Error("another image after the restart")
	}
	mustCreate(t, n, "after")
}

func TestSnapshotsGoOnBesideProposals(t *testing.T) {
	log, mem := newFakeLog(), newMem(t)
	o := testOptions(t, mem)
	o.SnapshotBytes = 1
	n := startFake(t, o, log)
	for i := range 30 {
		mustCreate(t, n, fmt.Sprint("t", i))
	}
	testkit.Eventually(t, "a snapshot", func() bool { return log.first() > 10 })
}

// TestStartDecides has one case for each row of the table at recover.
func TestStartDecides(t *testing.T) {
	f := func(name string, snapshots bool, damage func(t *testing.T, mem *vfs.Mem, log *fakeLog), want error, says string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			mem, log, image := grown(t, snapshots)
			damage(t, mem, log)
			before := mem.Ops()
			n, err := start(testOptions(t, mem), testClusterID, log)
			if want == nil {
				if err != nil {
					t.Fatal(err)
				}
				defer n.Stop()
				if !n.Image().at(0, 0).Equal(image.at(0, 0)) {
					t.Error("another image")
				}
				return
			}
			if err == nil {
				n.Stop()
			}
			wantErr(t, name, err, want)
			if err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("error %q does not say %q", err, says)
			}
			if mem.Ops() != before {
				t.Errorf("a refused start changed the disk: %d operations", mem.Ops()-before)
			}
		})
	}
	remove := func(t *testing.T, mem *vfs.Mem, name string) {
		if err := mem.Remove(folder(name)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, mem *vfs.Mem, name string, b []byte) {
		if err := vfs.WriteFileAtomic(mem, folder(name), b); err != nil {
			t.Fatal(err)
		}
	}
	empty := func(l *fakeLog) { l.start, l.entries = 1, nil }
	f("intact without a snapshot", false, func(*testing.T, *vfs.Mem, *fakeLog) {}, nil, "")
	f("intact with a snapshot", true, func(*testing.T, *vfs.Mem, *fakeLog) {}, nil, "")
	f("hard state gone", false, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) { remove(t, mem, hardStateFile) }, ErrMissing, "quorum-state")
	f("hard state and log gone, snapshot there", true, func(t *testing.T, mem *vfs.Mem, l *fakeLog) {
		remove(t, mem, hardStateFile)
		empty(l)
	}, ErrMissing, "quorum-state")
	f("all metadata gone, partitions there", false, func(t *testing.T, mem *vfs.Mem, l *fakeLog) {
		remove(t, mem, hardStateFile)
		empty(l)
		l.other = "orders-3"
	}, ErrMissing, "orders-3")
	f("hard state damaged", false, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) {
		write(t, mem, hardStateFile, []byte("weir quorum-state 1\nterm 1\nvote 2\ncommit 0\ncrc 00000000\n"))
	}, ErrCorrupt, hardStateFile)
	f("hard state empty", false, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) { write(t, mem, hardStateFile, nil) }, ErrCorrupt, hardStateFile)
	f("snapshot damaged", true, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) {
		name := snapshotsOn(t, mem)[0]
		b, err := readFile(mem, folder(name), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 4
		write(t, mem, name, b)
	}, ErrCorrupt, snapshotSuffix)
	f("snapshot cut to nothing", true, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) { write(t, mem, snapshotsOn(t, mem)[0], nil) }, ErrCorrupt, snapshotSuffix)
	f("snapshot under another name", true, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) {
		if err := mem.Rename(folder(snapshotsOn(t, mem)[0]), folder(snapshotName(39, 1))); err != nil {
			t.Fatal(err)
		}
	}, ErrCorrupt, "it holds entry")
	f("snapshot gone", true, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) { remove(t, mem, snapshotsOn(t, mem)[0]) }, ErrMissing, "fake.log begins with entry")
	f("snapshot of another node", true, func(t *testing.T, mem *vfs.Mem, _ *fakeLog) {
		s, err := readSnapshot(mem, folder(""))
		if err != nil {
			t.Fatal(err)
		}
		s.voters = []uint64{9}
		if _, err := writeSnapshot(mem, folder(""), *s); err != nil {
			t.Fatal(err)
		}
	}, ErrForeign, "voters are [9]")
	f("log gone", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { empty(l) }, ErrMissing, "entries to 42 were committed")
	f("log gone, snapshot there", true, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { empty(l) }, ErrMissing, "were committed")
	f("log ends early", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries = l.entries[:41] }, ErrMissing, "fake.log ends with entry 41, but entries to 42")
	f("entry damaged", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries[20].Data[3] ^= 0xff }, ErrCorrupt, "entry 21")
	f("entry out of place", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries[20].Index = new(uint64(22)) }, ErrCorrupt, "place of entry 21")
	f("term beyond the hard state", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries[41].Term = new(uint64(7)) }, ErrCorrupt, "its term is 7")
	f("term that falls", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries[41].Term = new(uint64(0)) }, ErrCorrupt, "its term is 0")
	f("entry of a newer version", false, func(_ *testing.T, _ *vfs.Mem, l *fakeLog) { l.entries[20].Data[0] = recordsVersion + 1 }, ErrCorrupt, "version 2 of the records")
}

func TestStartRefusesAnotherCluster(t *testing.T) {
	mem, log, _ := grown(t, false)
	_, err := start(testOptions(t, mem), "another", log)
	wantErr(t, "another cluster", err, ErrForeign)
}

func TestNewestOfSeveralSnapshotsCounts(t *testing.T) {
	mem, log, want := grown(t, false)
	// An older snapshot beside a newer one: the crash came before the older was removed.
	for _, s := range []snapshot{{image: newImage().at(3, 1), voters: []uint64{2}}, {image: want, voters: []uint64{2}}} {
		if _, err := writeSnapshot(mem, folder(""), s); err != nil {
			t.Fatal(err)
		}
	}
	n := startFake(t, testOptions(t, mem), log)
	if n.Image().TopicCount() != want.TopicCount() {
		t.Errorf("%d topics, want %d", n.Image().TopicCount(), want.TopicCount())
	}
}

func TestFailedSnapshotChangesNothing(t *testing.T) {
	log, mem := newFakeLog(), newMem(t)
	broken := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{{Path: snapshotSuffix, Err: errors.New("no snapshot today")}}})
	o := testOptions(t, broken)
	o.SnapshotBytes = 1
	n := startFake(t, o, log)
	for i := range 20 {
		mustCreate(t, n, fmt.Sprint("t", i))
	}
	n.Stop()
	if n.Err() != nil || log.first() != 1 {
		t.Errorf("%v, the log begins with %d", n.Err(), log.first())
	}
	startFake(t, testOptions(t, mem), log)
}

func TestParseEntry(t *testing.T) {
	e, err := parseEntry(5, 2, []byte{entryEmpty})
	if err != nil || e.GetIndex() != 5 || e.GetTerm() != 2 || e.GetType() != raftpb.EntryNormal || e.Data != nil {
		t.Errorf("%v %v", e, err)
	}
	for _, bad := range [][]byte{nil, {}, {entryRecords}, {entryEmpty, 0}, {1, 0}, {9}} {
		if _, err := parseEntry(5, 2, bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
