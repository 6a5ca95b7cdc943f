package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// testSegment writes batches to a segment at base in dir "p", with indexes, and gives it and the batches' positions.
func testSegment(t testing.TB, fs vfs.FS, base int64, batches []record.Batch) (*segment, []int64) {
	t.Helper()
	if err := fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	dir := &partitionDir{fs: fs, pool: vfs.NewPool(fs, 100), path: "p"}
	s := newSegment(dir, base, 0, 300)
	if err := s.file.create(); err != nil {
		t.Fatal(err)
	}
	s.resetIndexes()
	var at []int64
	pos := int64(0)
	for _, b := range batches {
		if _, err := s.file.WriteAt(b, pos); err != nil {
			t.Fatal(err)
		}
		s.note(b, pos)
		at = append(at, pos)
		pos += int64(len(b))
	}
	s.size.Store(pos)
	s.seal()
	if err := errors.Join(s.file.Sync(), fs.SyncDir("p")); err != nil {
		t.Fatal(err)
	}
	return s, at
}

func testBatches(base int64, n int) []record.Batch {
	var out []record.Batch
	codecs := []compression.Codec{compression.None, compression.Lz4, compression.Zstd, compression.Gzip, compression.Snappy}
	for i := range n {
		b := record.NewBuilder(codecs[i%len(codecs)])
		b.SetBaseOffset(base)
		b.SetPartitionLeaderEpoch(int32(i / 10))
		for k := range i%3 + 1 {
			b.Append(1000+int64(i*10)-int64(k), []byte(fmt.Sprint("key", k)), []byte("value"), record.Header{Key: []byte("h"), Value: nil})
		}
		out = append(out, b.Finish(nil))
		base = out[i].NextOffset()
	}
	return out
}

func writeRaw(t testing.TB, fs vfs.FS, path string, data []byte) {
	t.Helper()
	if err := vfs.WriteFileAtomic(fs, path, data); err != nil {
		t.Fatal(err)
	}
}

func inspectAll(t testing.TB, fs vfs.FS, path string, o InspectOptions) []FileReport {
	t.Helper()
	reports, err := Inspect(fs, path, o)
	if err != nil {
		t.Fatal(err)
	}
	return reports
}

func TestInspectGoodDirectory(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	testSegment(t, fs, 100, testBatches(100, 60))
	writeRaw(t, fs, "p/00000000000000000160.snapshot", appendSnapshot(nil, []snapshotEntry{{ProducerID: 1, LastOffset: -1, LastSequence: -1}}))
	writeRaw(t, fs, "p/00000000000000000100.txnindex", appendTxnIndexEntry(nil, AbortedTxn{ProducerID: 1, FirstOffset: 100, LastOffset: 103}))
	writeRaw(t, fs, "p/leader-epoch-checkpoint", appendEpochCheckpoint(nil, []epochEntry{{0, 100}, {1, 110}}))
	writeRaw(t, fs, "p/partition.metadata", []byte("version: 0\ntopic_id: c3c7tQ1CQZ-UzmhZYV0hKg"))
	writeRaw(t, fs, "recovery-point-offset-checkpoint", []byte("0\n1\np 0 100\n"))
	writeRaw(t, fs, "notes.txt", []byte("not ours"))
	if err := WriteMetaProperties(fs, ".", MetaProperties{ClusterID: "c", NodeID: 1}); err != nil {
		t.Fatal(err)
	}
	if err := writeCleanShutdown(fs, ".", -1); err != nil {
		t.Fatal(err)
	}
	kinds := map[FileKind]int64{}
	lines := 0
	reports := inspectAll(t, fs, ".", InspectOptions{Records: true, Visit: func(path string, item InspectItem) error {
		lines++
		if s := item.String(); s == "" || strings.Contains(s, "\n") {
			t.Errorf("%s: item prints as %q, want one line", path, s)
		}
		if _, err := json.Marshal(item); err != nil {
			t.Error(err)
		}
		return nil
	}})
	var records int64
	for _, r := range reports {
		if r.Fault != nil {
			t.Errorf("%s: %v", r.Path, r.Fault)
		}
		kinds[r.Kind] = r.Items
		records += r.Records
	}
	if len(kinds) != 10 || kinds[KindLog] != 60 || kinds[KindOffsetIndex] < 10 || kinds[KindTimeIndex] < 10 || records != 120 {
		t.Fatalf("got %v and %d records, want 10 kinds, 60 batches, some index entries, 120 records", kinds, records)
	}
	if lines < 180 {
		t.Fatalf("visited %d items, want batches and records", lines)
	}
}

func TestInspectFindsEveryFlippedBit(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	batches := testBatches(0, 12)
	s, at := testSegment(t, fs, 0, batches)
	_ = s
	for _, name := range []string{"00000000000000000000.log", "00000000000000000000.index", "00000000000000000000.timeindex"} {
		path := filepath.Join("p", name)
		good, err := readSmallFile(fs, path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		batch := 0
		for i := range good {
			pos := int64(0)
			if strings.HasSuffix(name, ".log") {
				for batch+1 < len(at) && at[batch+1] <= int64(i) {
					batch++
				}
				pos = at[batch]
				if in := int64(i) - pos; in < record.PosBatchLength || (in >= record.PosPartitionLeaderEpoch && in < record.PosMagic) {
					continue // stamped by the broker outside the CRC
				}
			}
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			writeRaw(t, fs, path, bad)
			fault := inspectAll(t, fs, path, InspectOptions{})[0].Fault
			if fault == nil {
				t.Fatalf("%s: a flipped bit in byte %d went unnoticed", name, i)
			}
			if strings.HasSuffix(name, ".log") && (fault.Pos < pos || fault.Pos >= pos+int64(len(batches[batch]))) {
				t.Fatalf("%s: bit flipped in byte %d: fault at %d, want inside the batch at %d", name, i, fault.Pos, pos)
			}
		}
		writeRaw(t, fs, path, good)
	}
}

func TestInspectTornTail(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	_, at := testSegment(t, fs, 0, testBatches(0, 5))
	const path = "p/00000000000000000000.log"
	good, _ := readSmallFile(fs, path, 1<<20)
	last := at[len(at)-1]
	for n := last + 1; n < int64(len(good)); n++ {
		writeRaw(t, fs, path, good[:n])
		if r := inspectAll(t, fs, path, InspectOptions{})[0]; r.Fault == nil || r.Fault.Pos < last || r.Items != 4 {
			t.Fatalf("cut to %d bytes: got %+v, want a fault in the batch at %d", n, r, last)
		}
	}
	writeRaw(t, fs, path, append(bytes.Clone(good), make([]byte, 4096)...))
	if r := inspectAll(t, fs, path, InspectOptions{})[0]; r.Fault == nil || r.Fault.Pos < int64(len(good)) || r.Items != 5 {
		t.Fatalf("zeros behind the last batch: got %+v", r)
	}
}

func TestInspectOptionsAndErrors(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	testSegment(t, fs, 0, testBatches(0, 30))
	const path = "p/00000000000000000000.log"
	first := int64(-1)
	inspectAll(t, fs, path, InspectOptions{StartOffset: 20, Visit: func(_ string, item InspectItem) error {
		if b := item.(*BatchInfo); first < 0 {
			first = b.LastOffset
		}
		return nil
	}})
	if first < 20 || first > 23 {
		t.Fatalf("StartOffset 20: the first batch shown ends at %d", first)
	}
	stop := errors.New("stop")
	if _, err := Inspect(fs, path, InspectOptions{Visit: func(string, InspectItem) error { return stop }}); !errors.Is(err, stop) {
		t.Fatalf("an error of Visit: got %v", err)
	}
	if _, err := Inspect(fs, "p/nothing", InspectOptions{}); err == nil {
		t.Fatal("a missing file is no error")
	}
	writeRaw(t, fs, "p/x.txt", nil)
	if _, err := Inspect(fs, "p/x.txt", InspectOptions{}); err == nil {
		t.Fatal("a file of unknown kind is no error")
	}
	if err := fs.MkdirAll("q"); err != nil {
		t.Fatal(err)
	}
	writeRaw(t, fs, "q/00000000000000000000.index", make([]byte, 64))
	if r := inspectAll(t, fs, "q", InspectOptions{})[0]; r.Fault != nil || len(r.Warnings) != 2 {
		t.Fatalf("a reserved index without log: got %+v, want two warnings", r)
	}
	// A batch whose CRC is right but whose records are not.
	b := testBatches(0, 1)[0]
	b[record.HeaderBytes] ^= 0x7e
	b.SetCRC()
	writeRaw(t, fs, "q/00000000000000000000.log", b)
	if r := inspectAll(t, fs, "q/00000000000000000000.log", InspectOptions{}); r[0].Fault != nil {
		t.Fatalf("headers only: got %v", r[0].Fault)
	}
	if r := inspectAll(t, fs, "q/00000000000000000000.log", InspectOptions{Records: true}); r[0].Fault == nil {
		t.Fatal("a bad record went unnoticed")
	}
}

func FuzzInspect(f *testing.F) {
	var log []byte
	for _, b := range testBatches(0, 5) {
		log = append(log, b...)
	}
	names := []string{
		"00000000000000000000.log", "00000000000000000000.index", "00000000000000000000.timeindex",
		"00000000000000000000.txnindex", "00000000000000000000.snapshot",
	}
	f.Add(uint8(0), log)
	f.Add(uint8(1), []byte{0, 0, 0, 1, 0, 0, 0, 80})
	f.Add(uint8(2), []byte{0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 1})
	f.Add(uint8(4), appendSnapshot(nil, nil))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		fs := vfs.NewMem(vfs.MemOptions{})
		if err := fs.MkdirAll("p"); err != nil {
			t.Fatal(err)
		}
		writeRaw(t, fs, "p/"+names[0], log)
		path := "p/" + names[int(kind)%len(names)]
		writeRaw(t, fs, path, data)
		o := InspectOptions{Records: true, RecordBytesMax: 1 << 20, Visit: func(_ string, item InspectItem) error {
			_ = item.String()
			if item.Position() < 0 || item.Position() > int64(len(data)) {
				t.Fatalf("item at %d of %d bytes", item.Position(), len(data))
			}
			return nil
		}}
		r := inspectAll(t, fs, path, o)[0]
		if r.Fault != nil && (r.Fault.Pos < 0 || r.Fault.Pos > int64(len(data))) {
			t.Fatalf("fault at %d of %d bytes", r.Fault.Pos, len(data))
		}
	})
}
