package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/vfs"
)

// inspectedDir is a data directory that a node has written: a snapshot, a log that goes on behind it, and quorum-state.
func inspectedDir(t *testing.T) (fs *vfs.Mem, img *Image) {
	t.Helper()
	fs = vfs.NewMem(vfs.MemOptions{})
	r := startRig(t, fs, func(o *Options) { o.SnapshotBytes = 2_000 })
	for i := range 100 {
		mustCreate(t, r.node, fmt.Sprintf("t%03d", i))
	}
	r.stop()
	r = startRig(t, fs, nil)
	mustCreate(t, r.node, "last")
	r.stop()
	return fs, r.node.Image()
}

func inspected(t *testing.T, fs vfs.FS, path string) (reports []engine.FileReport, items []engine.InspectItem) {
	t.Helper()
	reports, err := Inspect(fs, path, engine.InspectOptions{Visit: func(_ string, item engine.InspectItem) error {
		if item.String() == "" {
			t.Errorf("%T is an empty line", item)
		}
		items = append(items, item)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return reports, items
}

func faults(reports []engine.FileReport) (found []string) {
	for _, r := range reports {
		if r.Fault != nil {
			found = append(found, r.Fault.Error())
		}
	}
	return found
}

// oneFile is the only file of a folder with a suffix.
func oneFile(t *testing.T, fs vfs.FS, dir, suffix string) string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, suffix) })
	if len(names) != 1 {
		t.Fatalf("files *%s: %q, want one", suffix, names)
	}
	return filepath.Join(dir, names[0])
}

func TestInspectOfWhatANodeWrote(t *testing.T) {
	fs, img := inspectedDir(t)
	reports, items := inspected(t, fs, "/data")
	if found := faults(reports); len(found) > 0 {
		t.Errorf("faults of a good directory: %q", found)
	}
	topics := map[string]bool{}
	kinds := map[string]int{}
	for _, item := range items {
		kinds[fmt.Sprintf("%T", item)]++
		switch item := item.(type) {
		case *TopicInfo:
			if topic := img.Topic(item.Name); topic == nil || topic.ID.String() != item.ID || item.PartitionCount != len(topic.Partitions) {
				t.Errorf("snapshot: %v", item)
			}
			topics[item.Name] = true
		case *EntryInfo:
			for _, c := range item.Changes {
				if topic := img.Topic(c.Name); c.Change == "create topic" && (topic == nil || topic.ID.String() != c.TopicID || c.Total != int32(len(topic.Partitions))) {
					t.Errorf("entry %d: %v", item.Index, c)
				}
				topics[c.Name] = true
			}
		case *ImageInfo:
			if item.ClusterID != img.ClusterID() || !slices.Equal(item.Voters, []int64{1}) {
				t.Errorf("snapshot: %v", item)
			}
		case *QuorumStateInfo:
			if item.Term != img.Term() || item.VotedFor != 1 || item.Commit != img.Index() {
				t.Errorf("quorum state: %v, want term %d, commit %d", item, img.Term(), img.Index())
			}
		}
	}
	for topic := range img.Topics() {
		if !topics[topic.Name] {
			t.Errorf("topic %s is in no file", topic.Name)
		}
	}
	if kinds["*cluster.ImageInfo"] != 1 || kinds["*cluster.QuorumStateInfo"] != 1 || kinds["*cluster.EntryInfo"] < 2 || kinds["*cluster.TopicInfo"] < 10 {
		t.Errorf("items: %v", kinds)
	}
}

// TestInspectFindsEveryDamage flips bits in and cuts off the ends of each file of the metadata: the fault is told, with file and a position in it.
func TestInspectFindsEveryDamage(t *testing.T) {
	fs, _ := inspectedDir(t)
	folder := "/data/" + folderName
	for _, path := range []string{oneFile(t, fs, folder, hardStateFile), oneFile(t, fs, folder, snapshotSuffix)} {
		good, err := readFile(fs, path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(what string, data []byte) {
			t.Helper()
			if err := vfs.WriteFileAtomic(fs, path, data); err != nil {
				t.Fatal(err)
			}
			reports, items := inspected(t, fs, path)
			if f := reports[0].Fault; f == nil || f.Path != path || f.Pos < 0 || f.Pos > int64(len(good)) || f.What == "" {
				t.Fatalf("%s, %s: fault %v, %d items", path, what, f, len(items))
			}
		}
		for at := 0; at < len(good); at += 1 + len(good)/500 {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			expect(fmt.Sprint("bit in byte ", at), bad)
			expect(fmt.Sprint("cut to ", at), good[:at])
		}
		expect("a byte more", append(bytes.Clone(good), 'x'))
		if err := vfs.WriteFileAtomic(fs, path, good); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInspectReadsBodiesThatACRCCovers: what a writer at fault has made, with a right CRC, is told where it is.
func TestInspectReadsBodiesThatACRCCovers(t *testing.T) {
	fs, img := inspectedDir(t)
	path := oneFile(t, fs, "/data/"+folderName, snapshotSuffix)
	good := appendSnapshot(nil, snapshot{image: img, voters: []uint64{2}})
	index := img.index
	inspect := func(body []byte) *engine.CorruptFileError {
		t.Helper()
		name := filepath.Join(filepath.Dir(path), snapshotName(index, img.term))
		if err := vfs.WriteFileAtomic(fs, name, withHeader(body)); err != nil {
			t.Fatal(err)
		}
		reports, _ := inspected(t, fs, name)
		return reports[0].Fault
	}
	body := good[snapshotHeaderBytes:]
	if f := inspect(body); f != nil {
		t.Fatalf("a good one: %v", f)
	}
	index++
	if f := inspect(body); f == nil || !strings.Contains(f.What, "its name says") {
		t.Errorf("under another's name: %v", f)
	}
	index--
	for at := range body {
		d := newDecoder(body[:at])
		if _, err := d.snapshot(); err == nil {
			t.Fatalf("a body cut to %d bytes is good", at)
		}
		if f := inspect(body[:at]); f == nil || f.Pos > int64(snapshotHeaderBytes+at) {
			t.Fatalf("a body cut to %d bytes: %v", at, f)
		}
	}
}

// withHeader makes a snapshot's file of its body.
func withHeader(body []byte) []byte {
	file := binary.BigEndian.AppendUint32([]byte(snapshotMagic), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(binary.BigEndian.AppendUint64(file, uint64(len(body))), body...)
}

// TestInspectHoldsTheFilesAgainstEachOther: a start would refuse these.
func TestInspectHoldsTheFilesAgainstEachOther(t *testing.T) {
	folder := "/data/" + folderName
	for want, damage := range map[string]func(fs *vfs.Mem, img *Image){
		"first entry of the log: got": func(fs *vfs.Mem, _ *Image) { _ = fs.Remove(oneFile(t, fs, folder, snapshotSuffix)) },
		"last entry of the log: got": func(fs *vfs.Mem, img *Image) {
			_ = writeHardState(fs, folder, hardState{term: img.Term(), vote: 2, commit: img.Index() + 1})
		},
		"term: got 1, want at least 2": func(fs *vfs.Mem, img *Image) {
			_ = writeHardState(fs, folder, hardState{term: 1, vote: 2, commit: img.Index()})
		},
	} {
		fs, img := inspectedDir(t)
		damage(fs, img)
		reports, _ := inspected(t, fs, "/data")
		if found := faults(reports); len(found) != 1 || !strings.Contains(found[0], want) {
			t.Errorf("faults %q, want %q", found, want)
		}
	}
}

// TestInspectOfEntries: entries that do not decode are a fault at their batch.
func TestInspectOfEntries(t *testing.T) {
	for name, value := range map[string][]byte{
		"empty": nil, "unknown type": {9, 1}, "records cut off": append([]byte{entryRecords}, appendRecords(nil, sampleRecords())[:40]...),
		"version": {entryRecords, 9}, "leader with more": {entryEmpty, 1},
	} {
		_, err := entryInfo(&engine.RecordInfo{Pos: 7, Offset: 4, Value: value}, 1)
		var fault *engine.CorruptFileError
		if !errors.As(fileFault(err, "f", 7), &fault) || fault.Pos != 7 || !strings.Contains(fault.Error(), "f: corrupt at byte 7: entry 5: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := entryInfo(&engine.RecordInfo{Value: append([]byte{entryRecords}, appendRecords(nil, sampleRecords())...)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := `entry 1 term 1; cluster "cluster"; create topic "t" id AQIDAAAAAAAAAAAAAAAAAA to 3 partitions: 2 on [1] 1 on [2 1] a="" b="c"; ` +
		`add partitions id AQAAAAAAAAAAAAAAAAAAAA to 300 partitions: 1 on [0]; remove topic id AgAAAAAAAAAAAAAAAAAAAA; ` +
		`forget topic id AwAAAAAAAAAAAAAAAAAAAA; configure broker "1" from version 7 to k="v"; give out producer ids 1000 to node 1`
	if got := e.String(); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// TestInspectHoldsLittleInMemory: of a snapshot that is many times as large as a window.
func TestInspectHoldsLittleInMemory(t *testing.T) {
	img := newImage()
	for i := range 20_000 {
		img, _ = Apply(img, &TopicRecord{Name: fmt.Sprintf("topic-%06d", i), ID: TopicID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Assignments: [][]int32{{1}},
			Configs: map[string]string{"key": strings.Repeat("v", i%100)}})
	}
	img = img.at(5, 1)
	fs := vfs.NewMem(vfs.MemOptions{})
	name, err := writeSnapshot(fs, "/", snapshot{image: img, voters: []uint64{2}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open("/" + name)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	topics, moved := 0, int64(0)
	i := imageInspector{decoder: newFileDecoder(f, int64(snapshotHeaderBytes), size), path: "/" + name, r: &engine.FileReport{}}
	i.visit = func(_ string, item engine.InspectItem) error {
		if cap(i.b) > windowBytes {
			t.Fatalf("%d bytes are held", cap(i.b))
		}
		if topic, ok := item.(*TopicInfo); ok {
			if want := img.Topic(topic.Name); want == nil || want.Configs.Values["key"] != topic.Configs["key"] {
				t.Fatalf("topic %v", topic)
			}
			topics++
		}
		moved = i.base
		return nil
	}
	if err := errors.Join(i.head(), i.brokers(), i.topics(), i.removedTopics(), i.finish()); err != nil || topics != 20_000 || moved < 10*windowBytes {
		t.Errorf("%d topics, window at %d of %d, %v", topics, moved, size, err)
	}
}
