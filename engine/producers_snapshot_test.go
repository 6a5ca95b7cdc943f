package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/vfs"
)

func TestSnapshotCorruption(t *testing.T) {
	good := appendSnapshot(nil, []snapshotEntry{
		{ProducerID: 3, Epoch: 1, LastSequence: 9, LastOffset: 40, OffsetDelta: 2, TimestampMs: 5, CoordinatorEpoch: 1, TxnFirstOffset: -1},
		{ProducerID: 8, Epoch: 0, LastSequence: -1, LastOffset: -1, TimestampMs: 6, TxnFirstOffset: 12},
	})
	if _, err := parseSnapshot(good, "x"); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		var fault *CorruptFileError
		if _, err := parseSnapshot(bad, "x"); !errors.As(err, &fault) || !errors.Is(err, ErrCorrupt) || fault.Path != "x" {
			t.Fatalf("bit flipped in byte %d: got %v, want a CorruptFileError", i, err)
		}
	}
	for n := range len(good) {
		if _, err := parseSnapshot(good[:n], "x"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: got %v, want ErrCorrupt", n, err)
		}
	}
	if _, err := parseSnapshot(append(bytes.Clone(good), 0), "x"); !errors.Is(err, ErrCorrupt) {
		t.Fatal("a byte too many went unnoticed")
	}
	twice := appendSnapshot(nil, []snapshotEntry{{ProducerID: 1, LastOffset: -1}, {ProducerID: 1, LastOffset: -1}})
	if _, err := parseSnapshot(twice, "x"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a producer twice: got %v, want ErrCorrupt", err)
	}
}

// TestSnapshotGolden holds the layout against bytes worked out by hand from the format.
func TestSnapshotGolden(t *testing.T) {
	got := appendSnapshot(nil, []snapshotEntry{{
		ProducerID: 1, Epoch: 2, LastSequence: 3, LastOffset: 4, OffsetDelta: 5, TimestampMs: 6, CoordinatorEpoch: 7, TxnFirstOffset: -1,
	}})
	want := []byte{0, 1, got[2], got[3], got[4], got[5], 0, 0, 0, 1,
		0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 7,
		255, 255, 255, 255, 255, 255, 255, 255}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestSnapshotFallsBackToOlder(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	if err := fs.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	s := newProducerState(producerOptions{FS: fs, Dir: "p"})
	for _, offset := range []int64{10, 20, 30, 40} {
		s.update(dataBatch(0, int32(offset), 1, offset-1), 0)
		if err := s.writeSnapshot(s.prepareSnapshot(offset)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := fs.OpenReadWrite("p/00000000000000000030.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xee}, 12); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s = newProducerState(producerOptions{FS: fs, Dir: "p"})
	from, err := s.reload(0, 35, 0)
	if err != nil || from != 20 || s.entries[7].lastSequence() != 20 {
		t.Fatalf("got replay from %d, %v, sequence %d, want 20 from the newest good snapshot", from, err, s.entries[7].lastSequence())
	}
	if _, err := fs.Stat("p/00000000000000000040.snapshot"); err == nil {
		t.Fatal("a snapshot above the log's end was kept")
	}
	if from, err := s.reload(25, 35, 0); err != nil || from != 25 || s.count() != 0 {
		t.Fatalf("log start above all good snapshots: got %d, %v, want replay from the log start", from, err)
	}
	if err := s.removeStraySnapshots([]int64{10}); err != nil {
		t.Fatal(err)
	}
	if want := []int64{10, 30}; !slices.Equal(s.snapshots.offsets, want) {
		t.Fatalf("stray snapshots removed: left %v, want %v", s.snapshots.offsets, want)
	}
	if err := s.removeSnapshotsBefore(20); err != nil {
		t.Fatal(err)
	}
	if want := []int64{30}; !slices.Equal(s.snapshots.offsets, want) {
		t.Fatalf("left %v, want %v", s.snapshots.offsets, want)
	}
	if err := s.removeAllSnapshots(); err != nil {
		t.Fatal(err)
	}
	if names, _ := fs.List("p"); len(names) != 0 {
		t.Fatalf("left %v", names)
	}
}

// TestSnapshotOfTruncatedHistory: a snapshot prepared before a truncation must not appear after it.
func TestSnapshotOfTruncatedHistory(t *testing.T) {
	s := testProducers(t)
	s.update(dataBatch(0, 0, 1, 9), 0)
	p := s.prepareSnapshot(10)
	if _, err := s.reload(0, 5, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.writeSnapshot(p); err != nil {
		t.Fatal(err)
	}
	if names, _ := s.opts.FS.List("p"); len(names) != 0 {
		t.Fatalf("written in spite of the truncation: %v", names)
	}
}

func withCRC(data []byte) []byte {
	data = bytes.Clone(data)
	binary.BigEndian.PutUint32(data[2:], snapshotCRC(data))
	return data
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add(appendSnapshot(nil, nil))
	f.Add(appendSnapshot(nil, []snapshotEntry{{ProducerID: 3, LastOffset: 4, OffsetDelta: 1, TxnFirstOffset: -1}}))
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		// Most inputs fail at the CRC: parse them with the right one as well.
		if len(data) >= snapshotHeadSize {
			fixed := appendSnapshot(nil, nil)
			fixed = append(fixed[:snapshotCRCStart], data[snapshotCRCStart:]...)
			if entries, err := parseSnapshot(withCRC(fixed), "x"); err == nil {
				if again := appendSnapshot(nil, entries); !bytes.Equal(again, withCRC(fixed)) {
					t.Fatalf("parse and append: got %x, want %x", again, fixed)
				}
				newProducerState(producerOptions{}).restore(entries, 0)
			}
		}
		if _, err := parseSnapshot(data, "x"); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, want ErrCorrupt", err)
		}
	})
}
