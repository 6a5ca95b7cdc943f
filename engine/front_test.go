package engine

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// frontLog is a damagedLog of which the records below start were deleted, stopped cleanly or killed.
type frontLog struct {
	*damagedLog
	start int64
	base  int64 // of the first segment
	next  int64 // of the second
}

func newFrontLog(t *testing.T, start int64, clean bool) *frontLog {
	t.Helper()
	f := &frontLog{damagedLog: newDamagedLog(t), start: start}
	s, l := f.open(t)
	must(t, l.load())
	if start > 0 {
		_, err := l.DeleteRecords(start)
		must(t, err)
		l.dropBelow(0)
	}
	segs := l.segments()
	if len(segs) < 4 || start > 0 && segs[0].base == 0 {
		t.Fatalf("%d segments, from %d on: want several, and those below %d gone", len(segs), segs[0].base, start)
	}
	f.base, f.next = segs[0].base, segs[1].base
	if clean {
		closeTestStore(t, s)
	} else {
		must(t, s.Checkpoint())
		s.crash()
	}
	return f
}

func (f *frontLog) file(base int64, suffix string) string {
	return filepath.Join(testDir, "t-0", segmentName(base, suffix))
}

// content is what the partition's directory holds, name by name.
func (f *frontLog) content(t *testing.T) string {
	t.Helper()
	names, err := f.fsys.List(filepath.Join(testDir, "t-0"))
	must(t, err)
	var out strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, deletedSuffix) {
			continue // goes with the next start
		}
		data, err := vfs.ReadFile(f.fsys, filepath.Join(testDir, "t-0", name), 1<<20)
		must(t, err)
		fmt.Fprintf(&out, "%s %x\n", name, data)
	}
	return out.String()
}

// faults are those of an inspection of path.
func (f *frontLog) faults(t *testing.T, path string) (faults []*CorruptFileError) {
	t.Helper()
	for _, r := range inspectAll(t, f.fsys, path, InspectOptions{Records: true}) {
		if r.Fault != nil {
			faults = append(faults, r.Fault)
		}
	}
	return faults
}

// whole opens the log, which has to be there from its start on.
func (f *frontLog) whole(t *testing.T, start int64) {
	t.Helper()
	s, l := f.open(t)
	defer closeTestStore(t, s)
	must(t, l.load2())
	if off := l.Offsets(); off.LogStart != start || off.LogEnd != 180 {
		t.Fatalf("offsets: got %+v, want %d to 180", off, start)
	}
	if got := readAll(t, l, start, ReadOptions{}); !bytes.Equal(got, bytes.Join(f.batches[start/3:], nil)) {
		t.Fatalf("%d bytes are read from %d on", len(got), start)
	}
}

// TestLostFirstSegmentIsCorruption: the records of a first segment that is missing were not deleted, whatever the stop before, the log start and
// what is left of the segment's other files. Nothing is changed, start after start, so that the file can be put back.
func TestLostFirstSegmentIsCorruption(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for _, start := range []int64{0, 48} {
			for _, lost := range []string{"records", "records and indexes", "records, and the recovery points"} {
				t.Run(fmt.Sprintf("clean stop %t, log start %d, %s", clean, start, lost), func(t *testing.T) {
					f := newFrontLog(t, start, clean)
					path := f.file(f.base, logSuffix)
					data, err := vfs.ReadFile(f.fsys, path, 1<<20)
					must(t, err)
					must(t, f.fsys.Remove(path))
					switch lost {
					case "records and indexes":
						must(t, f.fsys.Remove(f.file(f.base, indexSuffix)))
						must(t, f.fsys.Remove(f.file(f.base, timeIndexSuffix)))
						if start > 0 {
							path = filepath.Join(testDir, "t-0") // nothing tells the file's name
						}
					case "records, and the recovery points":
						must(t, f.fsys.Remove(filepath.Join(testDir, recoveryPointCheckpointName)))
					}
					before := f.content(t)
					for range 2 {
						f.refused(t, path)
					}
					if f.content(t) != before {
						t.Fatal("the partition's files were changed")
					}
					must(t, vfs.WriteFileAtomic(f.fsys, f.file(f.base, logSuffix), data))
					f.whole(t, start)
				})
			}
		}
	}
}

// refused dumps and opens a log whose first segment is missing, and stops cleanly.
func (f *frontLog) refused(t *testing.T, path string) {
	t.Helper()
	want := fmt.Sprintf("%s: corrupt at byte 0: first segment: got none: the log begins with %s, want offsets %d to %d, from the log start on",
		path, segmentName(f.next, logSuffix), f.start, f.next-1)
	for _, at := range []string{testDir, filepath.Join(testDir, "t-0")} {
		if faults := f.faults(t, at); len(faults) != 1 || faults[0].Error() != want {
			t.Fatalf("inspection of %s: got %v, want %s", at, faults, want)
		}
	}
	s, l := f.open(t)
	defer closeTestStore(t, s)
	err := l.load2()
	var fault *CorruptFileError
	if !errors.As(err, &fault) || fault.Error() != want {
		t.Fatalf("opened: got %v, want %s", err, want)
	}
	wantErr(t, err, ErrOffline)
	if _, err := l.Append(testBatch(1, 10, 1), AppendOptions{}); !errors.Is(err, ErrOffline) {
		t.Fatalf("append: %v", err)
	}
	if got, err := tryReadAll(l, f.next, ReadOptions{}); len(got) > 0 {
		t.Fatalf("%d bytes are read above the fault, %v", len(got), err)
	}
}

// TestTrimmedLogIsWhole: what retention has left is no loss, to a start and to an inspection. Neither is it where the checkpoint of log starts is
// missing or damaged: then the first segment tells, with a warning, and the next checkpoint keeps that, also of a log that nobody has opened.
func TestTrimmedLogIsWhole(t *testing.T) {
	path := filepath.Join(testDir, logStartCheckpointName)
	for name, harm := range map[string]func(f *frontLog) error{
		"nothing lost": func(*frontLog) error { return nil },
		"missing":      func(f *frontLog) error { return f.fsys.Remove(path) },
		"damaged":      func(f *frontLog) error { return vfs.WriteFileAtomic(f.fsys, path, []byte("0\n17\ngarbage")) },
		"both missing": func(f *frontLog) error {
			return errors.Join(f.fsys.Remove(path), f.fsys.Remove(filepath.Join(testDir, recoveryPointCheckpointName)))
		},
	} {
		for _, clean := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, clean stop %t", name, clean), func(t *testing.T) {
				f := newFrontLog(t, 48, clean)
				must(t, harm(f))
				start := int64(48)
				if name != "nothing lost" {
					start = f.base
				}
				if faults := f.faults(t, filepath.Join(testDir, "t-0")); len(faults) > 0 {
					t.Fatalf("inspection: %v", faults)
				}
				var text bytes.Buffer
				o := testStoreOptions(f.fsys)
				o.Logger = slog.New(slog.NewTextHandler(&text, nil))
				closeTestStore(t, openTestStore(t, o))
				warned := fmt.Sprintf(`level=WARN msg="log start not known, the first segment is taken for it" partition=t-0 path=/data/t-0 logStart=%d missing=%s`,
					start, path)
				if strings.Contains(text.String(), warned) != (name != "nothing lost") {
					t.Fatalf("the log of a start:\n%s", &text)
				}
				f.whole(t, start)
				if faults := f.faults(t, testDir); len(faults) > 0 {
					t.Fatalf("inspection: %v", faults)
				}
			})
		}
	}
}

// TestLossIsFoundWithoutLogStarts: without the checkpoint of log starts, a first segment above the recovery point still tells that records are missing.
func TestLossIsFoundWithoutLogStarts(t *testing.T) {
	f := newFrontLog(t, 0, false)
	must(t, f.fsys.Remove(filepath.Join(testDir, logStartCheckpointName)))
	must(t, writeOffsetCheckpoint(f.fsys, filepath.Join(testDir, recoveryPointCheckpointName), map[TopicPartition]int64{testTP: f.base + 3}))
	must(t, f.fsys.Remove(f.file(f.base, logSuffix)))
	s, l := f.open(t)
	defer s.crash()
	wantErr(t, l.load2(), ErrCorrupt)
}

// TestReplacementThatStartsLower: a replacement of the whole log by one that starts lower, stopped when its log start was written: nothing of the
// old log counts any more, and its first segment above the new start is no loss.
func TestReplacementThatStartsLower(t *testing.T) {
	for _, clean := range []bool{true, false} {
		f := newFrontLog(t, 48, clean)
		for _, name := range []string{recoveryPointCheckpointName, logStartCheckpointName} {
			must(t, writeOffsetCheckpoint(f.fsys, filepath.Join(testDir, name), map[TopicPartition]int64{testTP: 21}))
		}
		if faults := f.faults(t, testDir); len(faults) > 0 {
			t.Fatalf("clean stop %t: inspection: %v", clean, faults)
		}
		s, l := f.open(t)
		must(t, l.load2())
		if off := l.Offsets(); off.LogStart != 21 || off.LogEnd != 21 {
			t.Fatalf("clean stop %t: offsets: got %+v, want a log without records at 21", clean, off)
		}
		mustAppend(t, l, testBatch(1, 10, 1))
		closeTestStore(t, s)
	}
}

// TestFailureAfterAReplacementThatStartsLower: the start that the log had before is not written down again when it fails.
func TestFailureAfterAReplacementThatStartsLower(t *testing.T) {
	f := newFrontLog(t, 48, true)
	s, l := f.open(t)
	must(t, l.TruncateFullyAndStartAt(21))
	mustAppend(t, l, testBatch(1, 10, 1))
	must(t, l.stream.SyncNow())
	want := l.Offsets().LogEnd
	l.fail(errors.New("broken"), true)
	must(t, l.dir.checkpoint(false))
	s.crash()
	s, l = f.open(t)
	must(t, l.load2())
	if off := l.Offsets(); off.LogStart != 21 || off.LogEnd != want {
		t.Fatalf("offsets: got %+v, want 21 to %d", off, want)
	}
	closeTestStore(t, s)
}

// TestInspectionBesideRetention: log starts that an inspection has read before a segment went are read again before it says that it is missing.
func TestInspectionBesideRetention(t *testing.T) {
	f := newFrontLog(t, 0, false)
	dir := filepath.Join(testDir, "t-0")
	in := frontInspector{fs: f.fsys, dir: testDir}
	names, err := f.fsys.List(dir)
	must(t, err)
	must(t, in.fault(dir, names)) // the log starts are read
	s, l := f.open(t)
	_, err = l.DeleteRecords(48)
	must(t, err)
	l.dropBelow(0)
	s.crash()
	names, err = f.fsys.List(dir)
	must(t, err)
	must(t, in.fault(dir, names))
}

// TestInspectionWithoutRecords: a partition of which no segment is left, though its recovery point tells of records.
func TestInspectionWithoutRecords(t *testing.T) {
	f := newFrontLog(t, 0, true)
	names, err := f.fsys.List(filepath.Join(testDir, "t-0"))
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, logSuffix) {
			must(t, f.fsys.Remove(filepath.Join(testDir, "t-0", name)))
		}
	}
	want := "/data/t-0: corrupt at byte 0: segments: got none, want records up to offset 180, as the recovery point says"
	if faults := f.faults(t, testDir); len(faults) != 1 || faults[0].Error() != want {
		t.Fatalf("got %v, want %s", faults, want)
	}
}

// TestFirstSegmentOfASwap: while compaction puts its result in place of the first segments, that counts for them.
func TestFirstSegmentOfASwap(t *testing.T) {
	for want, names := range map[int64][]string{
		-1: {"00000000000000000000.index", "00000000000000000000.log.cleaned", "00000000000000000000.log.3.deleted", "next.tmp"},
		0:  {"00000000000000000000.log.swap", "00000000000000000007.log"},
		7:  {"00000000000000000000.log.deleted", "00000000000000000007.log", "00000000000000000009.log"},
	} {
		if got := firstSegment(names); got != want {
			t.Errorf("first segment of %v: got %d, want %d", names, got, want)
		}
	}
}
