package engine

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// TestRecoveryDecisionsAreTotal holds every combination of findings against the table in recovery.go.
func TestRecoveryDecisionsAreTotal(t *testing.T) {
	counts := map[recoveryAction]int{}
	for fault := range faultKinds {
		for side := range pointSides {
			for bits := range 8 {
				c := recoveryCase{fault: fault, side: side, newest: bits&1 != 0, goodAfter: bits&2 != 0, compacted: bits&4 != 0}
				a := decide(c)
				counts[a]++
				if a == 0 {
					t.Errorf("%+v: no decision", c)
				}
				// What was fsynced is never cut off.
				if a == actTruncate && side == belowRecoveryPoint {
					t.Errorf("%+v: truncates below the recovery point", c)
				}
				if a == actTruncate && side == recoveryPointLost && (!c.newest || c.goodAfter) {
					t.Errorf("%+v: truncates good batches without knowing the recovery point", c)
				}
				// What is torn is never served.
				if fault == faultTorn && (a == actGoOn || a == actDone) {
					t.Errorf("%+v: goes on after a torn batch", c)
				}
			}
		}
	}
	for _, a := range []recoveryAction{actGoOn, actDone, actTruncate, actCorrupt} {
		if counts[a] == 0 {
			t.Errorf("action %d is never taken", a)
		}
	}
}

// damagedLog is a log of several segments on a disk that was not shut down cleanly, with what was written.
type damagedLog struct {
	fsys    *vfs.Mem
	cfg     LogConfig
	batches [][]byte
	point   int64 // recovery point
}

// newDamagedLog writes 60 batches of 3 records, with a checkpoint after 40 of them, and kills the process.
func newDamagedLog(t *testing.T) *damagedLog {
	d := &damagedLog{fsys: vfs.NewMem(vfs.MemOptions{}), cfg: LogConfig{SegmentBytes: 2500, IndexIntervalBytes: 400}}
	s := openTestStore(t, testStoreOptions(d.fsys))
	l := createTestLog(t, s, testTP, d.cfg)
	for i := range 60 {
		b := testBatch(3, 20+i, int64(1000+i))
		res := mustAppend(t, l, b)
		d.batches = append(d.batches, b)
		if i == 40 {
			waitDurable(t, l, res.EndOffset)
			must(t, s.Checkpoint())
			d.point = res.EndOffset
		}
	}
	waitDurable(t, l, 180)
	s.crash()
	return d
}

func (d *damagedLog) open(t *testing.T) (*Store, *Log) {
	t.Helper()
	o := testStoreOptions(d.fsys)
	o.Config = func(string) LogConfig { return d.cfg }
	s := openTestStore(t, o)
	l := s.Log(testTP)
	if l == nil {
		t.Fatal("log not found")
	}
	return s, l
}

// find gives file and position of the i-th batch.
func (d *damagedLog) find(t *testing.T, i int) (path string, pos int64) {
	t.Helper()
	names, err := d.fsys.List(filepath.Join(testDir, "t-0"))
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, logSuffix) {
			continue
		}
		path := filepath.Join(testDir, "t-0", name)
		data, err := vfs.ReadFile(d.fsys, path, 1<<20)
		must(t, err)
		if at := bytes.Index(data, d.batches[i]); at >= 0 {
			return path, int64(at)
		}
	}
	t.Fatalf("batch %d not found", i)
	return "", 0
}

func corrupt(t *testing.T, fsys vfs.FS, path string, pos int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	must(t, err)
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], pos); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], pos)
	must(t, err)
}

func TestUncleanStartKeepsEverything(t *testing.T) {
	d := newDamagedLog(t)
	s, l := d.open(t)
	defer closeTestStore(t, s)
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(d.batches, nil)) {
		t.Fatalf("got %d bytes, want %d", len(got), len(bytes.Join(d.batches, nil)))
	}
}

func TestFaultAboveTheRecoveryPointTruncates(t *testing.T) {
	for _, i := range []int{41, 50, 59} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			d := newDamagedLog(t)
			path, pos := d.find(t, i)
			corrupt(t, d.fsys, path, pos+70)
			s, l := d.open(t)
			defer closeTestStore(t, s)
			must(t, l.Err())
			if end := l.Offsets().LogEnd; end != int64(3*i) {
				t.Fatalf("log end: got %d, want %d", end, 3*i)
			}
			if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(d.batches[:i], nil)) {
				t.Fatalf("got %d bytes", len(got))
			}
			mustAppend(t, l, testBatch(1, 10, 1))
		})
	}
}

// TestTornFieldsOutsideTheCRC: a crash may tear base offset or leader epoch off a batch that is otherwise whole.
func TestTornFieldsOutsideTheCRC(t *testing.T) {
	for name, pos := range map[string]int64{"base offset": record.PosBaseOffset + 7, "leader epoch": record.PosPartitionLeaderEpoch + 3} {
		t.Run(name, func(t *testing.T) {
			d := newDamagedLog(t)
			path, at := d.find(t, 50)
			corrupt(t, d.fsys, path, at+pos)
			s, l := d.open(t)
			defer closeTestStore(t, s)
			must(t, l.Err())
			if end := l.Offsets().LogEnd; end != 150 {
				t.Fatalf("log end: got %d, want 150", end)
			}
			if epoch := l.LeaderEpoch(); epoch != 0 {
				t.Fatalf("leader epoch: got %d, want 0", epoch)
			}
		})
	}
}

func TestFaultBelowTheRecoveryPointIsCorruption(t *testing.T) {
	// The batch at the recovery point's end is scanned because its index entry lies before it.
	d := newDamagedLog(t)
	path, pos := d.find(t, 40)
	corrupt(t, d.fsys, path, pos+70)
	size := func() int64 {
		info, err := d.fsys.Stat(path)
		must(t, err)
		return info.Size
	}
	before := size()
	s, l := d.open(t)
	err := l.Err()
	wantErr(t, err, ErrOffline)
	wantErr(t, err, ErrCorrupt)
	var fault *CorruptFileError
	if !errors.As(err, &fault) || fault.Path != path || fault.Pos != pos+record.PosCRC {
		t.Fatalf("fault: got %v, want %s at byte %d", err, path, pos+record.PosCRC)
	}
	if _, err := l.Append(testBatch(1, 10, 1), AppendOptions{}); !errors.Is(err, ErrOffline) {
		t.Fatalf("append to a corrupt log: %v", err)
	}
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(d.batches[:40], nil)) {
		t.Fatalf("read below the fault: got %d bytes, want %d", len(got), len(bytes.Join(d.batches[:40], nil)))
	}
	if size() != before {
		t.Fatal("a corrupt log was truncated")
	}
	must(t, s.Close(t.Context()))
	// The fault is found again, after a clean stop as well: nothing forgets what should be there.
	s, l = d.open(t)
	wantErr(t, l.load2(), ErrCorrupt)
	s.crash()
}

// load2 loads the log and gives what is wrong with it.
func (l *Log) load2() error {
	if err := l.load(); err != nil {
		return err
	}
	return l.Err()
}

func TestMissingFilesAreLossesNotEmptyLogs(t *testing.T) {
	dir := filepath.Join(testDir, "t-0")
	for name, harm := range map[string]func(*testing.T, *damagedLog){
		"partition directory": func(t *testing.T, d *damagedLog) { must(t, d.fsys.RemoveAll(dir)) },
		"all segments": func(t *testing.T, d *damagedLog) {
			names, err := d.fsys.List(dir)
			must(t, err)
			for _, name := range names {
				if strings.HasSuffix(name, logSuffix) {
					must(t, d.fsys.Remove(filepath.Join(dir, name)))
				}
			}
		},
		"the newest segments": func(t *testing.T, d *damagedLog) {
			names, err := d.fsys.List(dir)
			must(t, err)
			for _, name := range names {
				if base, ok := parseSegmentName(name, logSuffix); ok && base >= 60 {
					must(t, d.fsys.Remove(filepath.Join(dir, name)))
				}
			}
		},
		"the end of the file": func(t *testing.T, d *damagedLog) {
			path, pos := d.find(t, 39)
			f, err := d.fsys.OpenReadWrite(path)
			must(t, err)
			must(t, f.Truncate(pos))
			must(t, f.Close())
			names, err := d.fsys.List(dir)
			must(t, err)
			for _, name := range names {
				if base, ok := parseSegmentName(name, logSuffix); ok && base > 117 {
					must(t, d.fsys.Remove(filepath.Join(dir, name)))
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDamagedLog(t)
			harm(t, d)
			o := testStoreOptions(d.fsys)
			s := openTestStore(t, o)
			defer s.crash()
			l := createTestLog(t, s, testTP, d.cfg)
			wantErr(t, l.load2(), ErrCorrupt)
			if _, err := l.Append(testBatch(1, 10, 1), AppendOptions{}); !errors.Is(err, ErrOffline) {
				t.Fatalf("append: %v", err)
			}
		})
	}
}

func TestLostRecoveryPoints(t *testing.T) {
	path := filepath.Join(testDir, recoveryPointCheckpointName)
	for _, c := range []struct {
		name    string
		batch   int // to be damaged
		corrupt bool
	}{{"torn tail", 59, false}, {"torn in the middle", 50, true}, {"torn in an old segment", 5, true}, {"nothing torn", -1, false}} {
		for _, how := range []string{"missing", "damaged"} {
			t.Run(c.name+" "+how, func(t *testing.T) {
				d := newDamagedLog(t)
				if c.batch >= 0 {
					p, pos := d.find(t, c.batch)
					corrupt(t, d.fsys, p, pos+70)
				}
				if how == "missing" {
					must(t, d.fsys.Remove(path))
				} else {
					must(t, vfs.WriteFileAtomic(d.fsys, path, []byte("0\n17\ngarbage")))
				}
				want := d.batches
				if c.batch >= 0 {
					want = d.batches[:c.batch]
				}
				// The second start has recovery points again, and must not take the fault for a torn tail.
				for range 2 {
					s, l := d.open(t)
					if got := errors.Is(l.load2(), ErrCorrupt); got != c.corrupt {
						t.Fatalf("corrupt: got %t (%v), want %t", got, l.Err(), c.corrupt)
					}
					if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(want, nil)) {
						t.Fatalf("got %d bytes, want %d", len(got), len(bytes.Join(want, nil)))
					}
					must(t, s.Checkpoint())
					s.crash()
				}
			})
		}
	}
}

// TestDamagedIndexes flips bits and garbles lengths of all index files: every read still gives the right bytes.
func TestDamagedIndexes(t *testing.T) {
	seed := testkit.Seed(t, 7)
	for run := range 40 {
		rng := testkit.Rand(seed + uint64(run))
		d := newDamagedLog(t)
		clean := run%2 == 0
		if clean {
			s, l := d.open(t)
			must(t, l.load())
			closeTestStore(t, s)
		}
		dir := filepath.Join(testDir, "t-0")
		names, err := d.fsys.List(dir)
		must(t, err)
		for _, name := range names {
			if !strings.HasSuffix(name, indexSuffix) && !strings.HasSuffix(name, timeIndexSuffix) {
				continue
			}
			path := filepath.Join(dir, name)
			data, err := vfs.ReadFile(d.fsys, path, 1<<20)
			must(t, err)
			switch {
			case len(data) > 0 && rng.IntN(3) > 0:
				for range 1 + rng.IntN(4) {
					data[rng.IntN(len(data))] ^= byte(1 << rng.IntN(8))
				}
			case rng.IntN(2) == 0:
				data = data[:rng.IntN(len(data)+1)]
			default:
				data = append(data, testkit.Bytes(rng, rng.IntN(100))...)
			}
			if rng.IntN(6) == 0 {
				must(t, d.fsys.Remove(path))
				continue
			}
			must(t, vfs.WriteFileAtomic(d.fsys, path, data))
		}
		s, l := d.open(t)
		must(t, l.load2())
		for range 30 {
			i := rng.IntN(len(d.batches))
			res, err := l.Read(int64(3*i+rng.IntN(3)), ReadOptions{MaxBytes: 1, MinOneBatch: true})
			must(t, err)
			got, err := spanBytes(&res)
			must(t, err)
			if !bytes.Equal(got, d.batches[i]) {
				t.Fatalf("seed %d run %d: batch %d is another one", seed, run, i)
			}
			r, err := l.OffsetForTimestamp(int64(1000+i), ReadUncommitted)
			must(t, err)
			if r.Offset != int64(3*i) {
				t.Fatalf("seed %d run %d: time %d: got offset %d, want %d", seed, run, 1000+i, r.Offset, 3*i)
			}
		}
		closeTestStore(t, s)
	}
}

// TestStartChecksIndexEntries spoils every index entry for itself, in each of its two fields: no start goes by an entry that does not
// name a batch, whether the stop was clean or not.
func TestStartChecksIndexEntries(t *testing.T) {
	dir := filepath.Join(testDir, "t-0")
	for _, clean := range []bool{false, true} {
		d := newDamagedLog(t)
		if clean {
			s, l := d.open(t)
			must(t, l.load())
			closeTestStore(t, s)
		}
		names, err := d.fsys.List(dir)
		must(t, err)
		spoiled := 0
		for _, name := range names {
			entryBytes := map[string]int{indexSuffix: offsetEntryBytes, timeIndexSuffix: timeEntryBytes}[filepath.Ext(name)]
			if entryBytes == 0 {
				continue
			}
			path := filepath.Join(dir, name)
			data, err := vfs.ReadFile(d.fsys, path, 1<<20)
			must(t, err)
			for at := 0; at+entryBytes <= len(data); at += entryBytes {
				for _, field := range []int{at + entryBytes - 5, at + entryBytes - 1} { // the last bytes of both
					spoiled++
					d := &damagedLog{fsys: d.fsys.CrashClone(0, vfs.CrashKillProcess), cfg: d.cfg, batches: d.batches}
					corrupt(t, d.fsys, path, int64(field))
					s, l := d.open(t)
					must(t, l.load2())
					if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, bytes.Join(d.batches, nil)) {
						t.Fatalf("clean stop %t, %s, byte %d: %d bytes of the log are read", clean, name, field, len(got))
					}
					s.crash()
				}
			}
		}
		if spoiled < 20 {
			t.Fatalf("only %d entries spoiled", spoiled)
		}
	}
}

// TestDamagedHeaderIsFoundByReads: a batch header in a sealed segment that rots while the log is open.
func TestDamagedHeaderIsFoundByReads(t *testing.T) {
	d := newDamagedLog(t)
	s, l := d.open(t)
	defer s.crash()
	must(t, l.load())
	path, pos := d.find(t, 6)
	corrupt(t, d.fsys, path, pos+record.PosMagic)
	_, err := tryReadAll(l, 0, ReadOptions{MaxBytes: 200})
	wantErr(t, err, ErrCorrupt)
	if !strings.Contains(err.Error(), path) {
		t.Fatalf("error does not name the file: %v", err)
	}
	wantErr(t, l.Err(), ErrOffline)
	if got, err := tryReadAll(l, 120, ReadOptions{}); err != nil || len(got) == 0 {
		t.Fatalf("read of good segments: %d bytes, %v", len(got), err)
	}
}
