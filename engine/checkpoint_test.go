package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/weirmq/weir/vfs"
)

func TestOffsetCheckpoint(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	if _, err := readOffsetCheckpoint(fsys, "c"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: got %v, want fs.ErrNotExist", err)
	}
	want := map[TopicPartition]int64{{"b", 10}: 7, {"b", 2}: 1 << 40, {"a.b_c-d", 0}: 0}
	if err := writeOffsetCheckpoint(fsys, "c", want); err != nil {
		t.Fatal(err)
	}
	got, err := readOffsetCheckpoint(fsys, "c")
	if err != nil || !maps.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	data, err := readSmallFile(fsys, "c", 1000)
	if text := "0\n3\na.b_c-d 0 0\nb 2 1099511627776\nb 10 7\n"; err != nil || string(data) != text {
		t.Fatalf("file: got %q, %v, want %q", data, err, text)
	}
	if _, err := readSmallFile(fsys, "c", 5); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("file over the size limit: got %v, want ErrCorrupt", err)
	}
}

func TestCheckpointFaults(t *testing.T) {
	for _, x := range []struct {
		text string
		pos  int64
	}{
		{"", 0}, {"1\n0\n", 0}, {"0", 1}, {"0\n", 2}, {"0\n-1\n", 2}, {"0\nx\n", 2}, {"0\n99999999999999999999\n", 2},
		{"0\n1000000\na 0 0\n", 2}, {"0\n1\n", 2}, {"0\n2\naaaa 0 0\n", 13}, {"0\n1\na 0\n", 4}, {"0\n1\na 0 0 0\n", 4},
		{"0\n1\na b 0\n", 4}, {"0\n1\na 0 -5\n", 4}, {"0\n1\na 2147483648 0\n", 4}, {"0\n2\na 0 0\na 0 1\n", 10},
		{"0\n1\na 0 0\nb 0 0\n", 10}, {"0\n0\n\x00\x00\x00\x00", 4}, {"\x00\x00\x00\x00\x00\x00", 0},
	} {
		_, err := parseOffsetCheckpoint([]byte(x.text), "dir/c")
		var fault *CorruptFileError
		if !errors.As(err, &fault) || fault.Pos != x.pos || fault.Path != "dir/c" {
			t.Errorf("%q: got %v, want a fault at byte %d", x.text, err, x.pos)
		}
	}
	for _, good := range []string{"0\n0\n", "0\n1\na 0 0", "0\r\n1\r\na 0 0\r\n", "0\n1\na 0 9223372036854775807\n\n"} {
		if _, err := parseOffsetCheckpoint([]byte(good), "c"); err != nil {
			t.Errorf("%q: got %v, want no error", good, err)
		}
	}
}

func TestMetaProperties(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	if _, err := ReadMetaProperties(fsys, "."); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: got %v, want fs.ErrNotExist", err)
	}
	for _, want := range []MetaProperties{
		{ClusterID: "MkU3OEVBNTcwNTJENDM2Qg", NodeID: 3, DirectoryID: TopicID{1, 2, 250}},
		{ClusterID: `odd = name: #1 \ !`, NodeID: 0},
	} {
		if err := WriteMetaProperties(fsys, ".", want); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadMetaProperties(fsys, "."); err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
	kafka := "#\n#Sat Nov 01 10:00:00 UTC 2025\nnode.id=1\ndirectory.id=c3c7tQ1CQZ-UzmhZYV0hKg\nversion=1\ncluster.id=abc\nother=x\n"
	got, err := parseMetaProperties([]byte(kafka), "m")
	if err != nil || got.NodeID != 1 || got.ClusterID != "abc" || got.DirectoryID == (TopicID{}) {
		t.Fatalf("as Kafka writes it: got %+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "version=1\n", "version=0\nbroker.id=1\n", "version=1\ncluster.id=a\n", "version=1\ncluster.id=a\nnode.id=x\n",
		"version=1\ncluster.id=a\nnode.id=-1\n", "version=1\ncluster.id=a\nnode.id=1\ndirectory.id=zz\n", "version\n", "\x00\x00\x00",
	} {
		if _, err := parseMetaProperties([]byte(bad), "m"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: got %v, want ErrCorrupt", bad, err)
		}
	}
}

func TestPartitionMetadata(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	want := TopicID{9, 8, 7, 255}
	if err := writePartitionMetadata(fsys, ".", want); err != nil {
		t.Fatal(err)
	}
	if got, err := readPartitionMetadata(fsys, "."); err != nil || got != want {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "version: 0\n", "version: 1\ntopic_id: " + want.String(), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
		"version: 0\ntopic_id: x", "topic_id: " + want.String(), "version: 0\ntopic_id: " + want.String() + "\nx", "\x00\x00"} {
		if _, err := parsePartitionMetadata([]byte(bad), "m"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: got %v, want ErrCorrupt", bad, err)
		}
	}
}

func TestCleanShutdownMark(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	check := func(wantEpoch int64, wantClean bool) {
		t.Helper()
		if epoch, clean, err := readCleanShutdown(fsys, "."); epoch != wantEpoch || clean != wantClean || err != nil {
			t.Fatalf("got %d, %v, %v, want %d, %v", epoch, clean, err, wantEpoch, wantClean)
		}
	}
	check(-1, false)
	if err := writeCleanShutdown(fsys, ".", 77); err != nil {
		t.Fatal(err)
	}
	check(77, true)
	fsys = fsys.CrashClone(1, vfs.CrashLoseUnsynced)
	check(77, true)
	if err := removeCleanShutdown(fsys, "."); err != nil {
		t.Fatal(err)
	}
	fsys = fsys.CrashClone(1, vfs.CrashLoseUnsynced)
	check(-1, false)
	if err := removeCleanShutdown(fsys, "."); err != nil {
		t.Fatalf("removing nothing: %v", err)
	}
	for _, bad := range []string{"", "\x00\x00", `{"version":1,"brokerEpoch":1}`, `{"version":0}`, `[]`} {
		if err := vfs.WriteFileAtomic(fsys, cleanShutdownName, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if _, clean, err := readCleanShutdown(fsys, "."); clean || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: got clean %v, %v, want ErrCorrupt", bad, clean, err)
		}
	}
}

func FuzzCheckpoints(f *testing.F) {
	f.Add([]byte("0\n1\ntopic 0 5\n"))
	f.Add([]byte("0\n2\n0 0\n3 17\n"))
	f.Add([]byte("version=1\ncluster.id=a\\=b\nnode.id=1\n"))
	f.Add([]byte("version: 0\ntopic_id: c3c7tQ1CQZ-UzmhZYV0hKg"))
	f.Add([]byte(`{"version":0,"brokerEpoch":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(what string, err error, again func() []byte, parse func([]byte) error) {
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s: got %v, want ErrCorrupt", what, err)
				}
				return
			}
			b := again()
			if err := parse(b); err != nil {
				t.Fatalf("%s: what was parsed and written again does not parse: %q: %v", what, b, err)
			}
		}
		offsets, err := parseOffsetCheckpoint(data, "x")
		check("offsets", err, func() []byte { return appendOffsetCheckpoint(nil, offsets) }, func(b []byte) error {
			got, err := parseOffsetCheckpoint(b, "x")
			if err == nil && !maps.Equal(got, offsets) {
				t.Fatalf("got %v, want %v", got, offsets)
			}
			return err
		})
		epochs, err := parseEpochCheckpoint(data, "x")
		check("epochs", err, func() []byte { return appendEpochCheckpoint(nil, epochs) }, func(b []byte) error {
			_, err := parseEpochCheckpoint(b, "x")
			return err
		})
		m, err := parseMetaProperties(data, "x")
		check("meta", err, func() []byte { return []byte("version=1\nnode.id=1\ncluster.id=" + escapeProperty(m.ClusterID)) },
			func(b []byte) error {
				got, err := parseMetaProperties(b, "x")
				// Blanks around a value belong to nobody.
				if err == nil && strings.TrimSpace(got.ClusterID) != strings.TrimSpace(m.ClusterID) {
					t.Fatalf("cluster id: got %q, want %q", got.ClusterID, m.ClusterID)
				}
				return err
			})
		id, err := parsePartitionMetadata(data, "x")
		if err == nil && !bytes.Contains(data, []byte(id.String())) {
			t.Fatalf("topic id %v is not in the file", id)
		}
		_, _ = parseCleanShutdown(data, "x")
	})
}
