package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// madeAnew is what the log says of a rebuilt index.
const madeAnew = "index of aborted transactions made anew"

// txnDisk is a log of overlapping transactions in a dozen small segments, and what its readers are told.
type txnDisk struct {
	mem   *vfs.Mem
	pages []string // of committedPages
	bases []int64
}

func txnDiskConfig() LogConfig {
	cfg := neverSync()
	cfg.SegmentBytes, cfg.FileDeleteDelayMs = 1500, -1
	return cfg
}

func newTxnDisk(t *testing.T, clean bool) *txnDisk {
	t.Helper()
	d := &txnDisk{mem: vfs.NewMem(vfs.MemOptions{})}
	s, l := d.open(t, d.mem, nil)
	addTransactions(t, l, 160, 0)
	for _, seg := range l.segments() {
		d.bases = append(d.bases, seg.base)
	}
	if clean {
		closeTestStore(t, s)
	} else {
		must(t, l.Sync())
		must(t, s.Checkpoint())
		testkit.Eventually(t, "no jobs", func() bool { return s.dirs[0].sched.Stats().Jobs == 0 })
		s.crash()
	}
	d.pages, _ = d.read(t, d.mem.CrashClone(1, vfs.CrashKeepAll))
	if len(d.bases) < 8 || len(d.pages) < 20 {
		t.Fatalf("%d segments and %d pages: too few to mean anything", len(d.bases), len(d.pages))
	}
	return d
}

// addTransactions appends batches and markers of producers 1 to 5, and of 9, which never ends. The same seed gives the same.
func addTransactions(t *testing.T, l *Log, n int, seed uint64) {
	t.Helper()
	rng, left := rand.New(rand.NewPCG(seed, 3)), map[int64]int{1: 12}
	for i := range n {
		id := int64(1 + rng.IntN(5))
		if i == n*9/10 {
			id = 9
		}
		_, err := l.Append(producerTestBatch(id, int16(seed), 0, true), AppendOptions{Origin: OriginInternal})
		must(t, err)
		if left[id]--; left[id] <= 0 && id != 9 {
			marker := record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: rng.IntN(3) == 0, ProducerID: id, ProducerEpoch: int16(seed)})
			_, err := l.Append(marker, AppendOptions{Origin: OriginInternal})
			must(t, err)
			left[id] = 1 + rng.IntN(3)*rng.IntN(4)
		}
	}
}

func (d *txnDisk) open(t *testing.T, fsys vfs.FS, lines *testkit.LogBuffer) (*Store, *Log) {
	t.Helper()
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return txnDiskConfig() }
	if lines != nil {
		o.Logger = slog.New(slog.NewTextHandler(lines, nil))
	}
	s := openTestStore(t, o)
	return s, createTestLog(t, s, testTP, txnDiskConfig())
}

func (d *txnDisk) index(segment int) string {
	return fmt.Sprintf("%s/t-0/%s", testDir, segmentName(d.bases[segment], txnIndexSuffix))
}

// read opens the log on fsys and reads all of it.
func (d *txnDisk) read(t *testing.T, fsys vfs.FS) (pages []string, lines *testkit.LogBuffer) {
	t.Helper()
	lines = &testkit.LogBuffer{}
	s, l := d.open(t, fsys, lines)
	defer s.crash()
	pages, err := committedPages(l, l.Offsets().LogStart)
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return pages, lines
}

// committedPages reads a log as read_committed in small pages, as a fetch does, and gives for each what its client is told.
func committedPages(l *Log, offset int64) (pages []string, err error) {
	for range 10_000 {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 400, MinOneBatch: true, Isolation: ReadCommitted})
		if err != nil {
			return pages, err
		}
		res.Release()
		if res.Bytes == 0 {
			return pages, nil
		}
		done := make(chan struct{})
		if !l.Verified(offset, res.NextOffset, func() { close(done) }) {
			<-done
			continue
		}
		pages = append(pages, fmt.Sprint(offset, res.NextOffset, res.Aborted))
		offset = res.NextOffset
	}
	return pages, errors.New("the reads do not end")
}

func mustRead(t *testing.T, fsys vfs.FS, path string) []byte {
	t.Helper()
	data, err := readSmallFile(fsys, path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	return data
}

// txnRots are ways to damage an index of two entries or more.
var txnRots = []struct {
	name string
	rot  func(data []byte) []byte // nil removes the file
}{
	{"missing", func([]byte) []byte { return nil }},
	{"empty", func([]byte) []byte { return []byte{} }},
	{"zeros", func(b []byte) []byte { clear(b); return b }},
	{"zeros in the first entry", func(b []byte) []byte { clear(b[:txnIndexEntrySize]); return b }},
	{"zeros in the last entry", func(b []byte) []byte { clear(b[len(b)-txnIndexEntrySize:]); return b }},
	{"first entry gone", func(b []byte) []byte { return b[txnIndexEntrySize:] }},
	{"last entry gone", func(b []byte) []byte { return b[:len(b)-txnIndexEntrySize] }},
	{"half an entry", func(b []byte) []byte { return b[:len(b)-txnIndexEntrySize/2] }},
	{"garbage behind", func(b []byte) []byte { return append(b, 1, 2, 3) }},
	{"bit in a version", func(b []byte) []byte { b[1] ^= 1; return b }},
	{"bit in a producer id", func(b []byte) []byte { b[9] ^= 1; return b }},
	{"large bit in a first offset", func(b []byte) []byte { b[10] ^= 0x80; return b }},
	{"bit in a last offset", func(b []byte) []byte { b[25] ^= 1; return b }},
	{"large bit in a last stable offset", func(b []byte) []byte { b[28] ^= 1; return b }},
}

// TestDamagedTransactionIndexesAreMadeAnew: whatever becomes of one, after a clean stop or a kill, readers of committed records are told what
// they were told before, the file is as it was written, and the log names it, once, with what was wrong.
func TestDamagedTransactionIndexesAreMadeAnew(t *testing.T) {
	for how, clean := range map[string]bool{"after a stop": true, "after a kill": false} {
		d := newTxnDisk(t, clean)
		for segment := range d.bases {
			whole := mustRead(t, d.mem, d.index(segment))
			if len(whole) < 2*txnIndexEntrySize {
				continue
			}
			for _, c := range txnRots {
				name := fmt.Sprintf("%s, segment %d, %s", c.name, segment, how)
				mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
				if damaged := c.rot(bytes.Clone(whole)); damaged == nil {
					must(t, mem.Remove(d.index(segment)))
				} else {
					writeRaw(t, mem, d.index(segment), damaged)
				}
				pages, lines := d.read(t, mem)
				if !slices.Equal(pages, d.pages) {
					t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(pages, "\n"), strings.Join(d.pages, "\n"))
				}
				if got := mustRead(t, mem, d.index(segment)); !bytes.Equal(got, whole) {
					t.Errorf("%s: the file has\n%x\nwant\n%x", name, got, whole)
				}
				if said := lines.With("WARN", madeAnew, "t-0", d.index(segment), "reason="); len(said) != 1 {
					t.Errorf("%s: %d lines that name the file, want 1: %q", name, len(said), said)
				}
				// It is on disk: a power cut leaves it.
				if again, lines := d.read(t, mem.CrashClone(2, vfs.CrashLoseUnsynced)); !slices.Equal(again, d.pages) || len(lines.With(madeAnew)) > 0 {
					t.Errorf("%s: after a power cut %d pages of %d, and %q", name, len(again), len(d.pages), lines.With(madeAnew))
				}
			}
		}
	}
}

// TestLastStableOffsetsThatHideTransactions: an entry that says that nothing was open at its marker ends a reader's search, and a transaction
// that was would be served as committed.
func TestLastStableOffsetsThatHideTransactions(t *testing.T) {
	d, damaged := newTxnDisk(t, true), 0
	for segment := range d.bases {
		whole := mustRead(t, d.mem, d.index(segment))
		txns, err := parseTxnIndex(whole, "")
		must(t, err)
		for i, txn := range txns {
			if txn.LastStableOffset == txn.LastOffset+1 || i < len(txns)-1 {
				continue
			}
			mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
			txn.LastStableOffset = txn.LastOffset + 1
			writeRaw(t, mem, d.index(segment), appendTxnIndexEntry(bytes.Clone(whole[:i*txnIndexEntrySize]), txn))
			damaged++
			if pages, _ := d.read(t, mem); !slices.Equal(pages, d.pages) {
				t.Errorf("segment %d, entry %d: got\n%s\nwant\n%s", segment, i, strings.Join(pages, "\n"), strings.Join(d.pages, "\n"))
			}
		}
	}
	if damaged < 3 {
		t.Errorf("%d entries were damaged: too few to mean anything", damaged)
	}
}

// TestRebuildOfTransactionIndexesWithoutSnapshots: the first offset of a transaction that began in an earlier segment is found there.
func TestRebuildOfTransactionIndexesWithoutSnapshots(t *testing.T) {
	d := newTxnDisk(t, true)
	for name, spoil := range map[string]func(mem *vfs.Mem, path string){
		"no snapshot":       func(mem *vfs.Mem, path string) { must(t, mem.Remove(path)) },
		"damaged snapshots": func(mem *vfs.Mem, path string) { writeRaw(t, mem, path, []byte("rot")) },
	} {
		for segment := range d.bases {
			mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
			names, err := mem.List(testDir + "/t-0")
			must(t, err)
			for _, file := range names {
				if _, ok := parseSnapshotName(file); ok {
					spoil(mem, testDir+"/t-0/"+file)
				}
			}
			whole := mustRead(t, mem, d.index(segment))
			if whole == nil {
				continue
			}
			must(t, mem.Remove(d.index(segment)))
			pages, _ := d.read(t, mem)
			if got := mustRead(t, mem, d.index(segment)); !bytes.Equal(got, whole) || !slices.Equal(pages, d.pages) {
				t.Errorf("%s, segment %d: got\n%x\nwant\n%x", name, segment, got, whole)
			}
		}
	}
}

// TestRebuildWhereTheLogStartCutsTransactions: of a transaction whose begin is gone what is left is hidden, and nothing else.
func TestRebuildWhereTheLogStartCutsTransactions(t *testing.T) {
	d := newTxnDisk(t, true)
	s, l := d.open(t, d.mem, nil)
	segment, cut := 0, 0
	for ; cut == 0; segment++ {
		txns, err := parseTxnIndex(mustRead(t, d.mem, d.index(segment+1)), "")
		must(t, err)
		cut = len(slices.DeleteFunc(txns, func(a AbortedTxn) bool { return a.FirstOffset >= d.bases[segment+1] }))
	}
	start := d.bases[segment] + 1 // within the segment, whose snapshot goes too
	_, err := l.DeleteRecords(start)
	must(t, err)
	testkit.Eventually(t, "the segments below are gone", func() bool { return s.dirs[0].sched.Stats().Jobs == 0 && len(l.segments()) == len(d.bases)-segment })
	want := visible(t, l, start)
	closeTestStore(t, s)
	must(t, d.mem.Remove(d.index(segment)))
	lines := &testkit.LogBuffer{}
	s, l = d.open(t, d.mem, lines)
	defer s.crash()
	if _, err := committedPages(l, start); err != nil {
		t.Fatal(err)
	}
	if got := visible(t, l, start); !slices.Equal(got, want) || len(lines.With(madeAnew)) != 1 {
		t.Errorf("got %v, want %v; %q", got, want, lines.With(madeAnew))
	}
}

// visible are the offsets that a client shows of a log, which it reads as read_committed from an offset on.
func visible(t *testing.T, l *Log, from int64) (offsets []int64) {
	t.Helper()
	res, err := l.Read(from, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
	must(t, err)
	aborted := slices.Clone(res.Aborted)
	data, err := spanBytes(&res)
	must(t, err)
	_, _, batches := checkBatches(t, data)
	hidden := map[int64]bool{}
	for _, b := range batches {
		for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
			hidden[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch {
		case b.IsControl():
			if p, _, _ := producerBatchOf(b); !p.Commit {
				delete(hidden, p.ProducerID)
			}
		case !hidden[b.ProducerID()] && b.BaseOffset() >= from && b.RecordCount() > 0:
			offsets = append(offsets, b.BaseOffset())
		}
	}
	return offsets
}

// TestBeginsThatCompactionTookAway: an entry may name a batch that is not there any more, in a topic that was compacted once.
func TestBeginsThatCompactionTookAway(t *testing.T) {
	d, took := newTxnDisk(t, true), 0
	for segment := range d.bases {
		txns, err := parseTxnIndex(mustRead(t, d.mem, d.index(segment)), "")
		must(t, err)
		for _, txn := range txns {
			i, found := slices.BinarySearch(d.bases, txn.FirstOffset+1)
			if i--; found || i == segment {
				continue
			}
			mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
			path := fmt.Sprintf("%s/t-0/%s", testDir, segmentName(d.bases[i], ""))
			var kept []byte
			for rest := mustRead(t, mem, path+logSuffix); len(rest) > 0; {
				b, next, err := record.Next(rest)
				must(t, err)
				if b.BaseOffset() != txn.FirstOffset {
					kept = append(kept, b...)
				}
				rest = next
			}
			writeRaw(t, mem, path+logSuffix, kept)
			must(t, mem.Remove(path+indexSuffix))
			must(t, mem.Remove(path+timeIndexSuffix))
			took++
			if _, lines := d.read(t, mem); len(lines.With("offline")) > 0 || len(lines.With(madeAnew)) > 0 {
				t.Errorf("%v, without its first batch: the log says\n%s", txn, lines)
			}
		}
	}
	if took < 3 {
		t.Errorf("%d batches were taken away: too few to mean anything", took)
	}
}

// TestRebuildOnADamagedLog: the partition is offline with the position in the log, is read below that, and nothing is written.
func TestRebuildOnADamagedLog(t *testing.T) {
	for how, clean := range map[string]bool{"after a stop": true, "after a kill": false} {
		d := newTxnDisk(t, clean)
		mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
		segment := len(d.bases) / 2
		for len(mustRead(t, mem, d.index(segment))) == 0 {
			segment++
		}
		log := fmt.Sprintf("%s/t-0/%s", testDir, segmentName(d.bases[segment], logSuffix))
		corrupt(t, mem, log, record.HeaderBytes+2)
		writeRaw(t, mem, d.index(segment), []byte("rot"))
		lines := &testkit.LogBuffer{}
		s, l := d.open(t, mem, lines)
		pages, err := committedPages(l, 0)
		if !errors.Is(err, ErrCorrupt) || !slices.Equal(pages, d.pages[:len(pages)]) {
			t.Errorf("%s: %d pages, then %v; want ErrCorrupt", how, len(pages), err)
		}
		if _, err := l.Append(testBatch(1, 1, 1), AppendOptions{}); !errors.Is(err, ErrOffline) {
			t.Errorf("%s: append: got %v, want ErrOffline", how, err)
		}
		at := fmt.Sprintf("%s: corrupt at byte %d", log, record.PosCRC)
		if len(lines.With("partition offline", at)) != 1 || len(lines.With(madeAnew)) > 0 {
			t.Errorf("%s: the log says\n%s", how, lines)
		}
		if got := mustRead(t, mem, d.index(segment)); string(got) != "rot" {
			t.Errorf("%s: the index was changed to %x", how, got)
		}
		s.crash()
	}
}

// TestRebuildCrashPoints cuts the power after every operation of the file system: the next start finishes what this one began.
func TestRebuildCrashPoints(t *testing.T) {
	recoveries := 0
	for _, clean := range []bool{true, false} {
		d := newTxnDisk(t, clean)
		for segment := range d.bases {
			whole := mustRead(t, d.mem, d.index(segment))
			if len(whole) == 0 {
				continue
			}
			base := d.mem.CrashClone(1, vfs.CrashKeepAll)
			writeRaw(t, base, d.index(segment), whole[:len(whole)-1])
			for op, done := int64(1), false; !done; op++ {
				mem := base.CrashClone(1, vfs.CrashKeepAll)
				mem.StopAfter(mem.Ops() + op)
				o := testStoreOptions(mem)
				o.Config = func(string) LogConfig { return txnDiskConfig() }
				if s, err := OpenStore(o); err == nil {
					l := s.Log(testTP)
					_, err = committedPages(l, 0)
					done = err == nil && l.Err() == nil && s.dirs[0].err() == nil
					s.crash()
				}
				for _, mode := range []vfs.CrashMode{vfs.CrashRandom, vfs.CrashLoseUnsynced, vfs.CrashKillProcess} {
					crashed := mem.CrashClone(uint64(op), mode)
					if got := mustRead(t, crashed, d.index(segment)); !bytes.Equal(got, whole) && !bytes.Equal(got, whole[:len(whole)-1]) {
						t.Fatalf("clean %v, segment %d, stopped after operation %d, %v: left %x, neither old nor new", clean, segment, op, mode, got)
					}
					if pages, _ := d.read(t, crashed); !slices.Equal(pages, d.pages) {
						t.Fatalf("clean %v, segment %d, stopped after operation %d, %v: got\n%s", clean, segment, op, mode, strings.Join(pages, "\n"))
					}
					if got := mustRead(t, crashed, d.index(segment)); !bytes.Equal(got, whole) {
						t.Fatalf("clean %v, segment %d, stopped after operation %d, %v: the file has %x", clean, segment, op, mode, got)
					}
					recoveries++
				}
				if op > 500 {
					t.Fatal("the rebuild does not end")
				}
			}
		}
	}
	if recoveries < 300 {
		t.Errorf("%d recoveries: too few to mean anything", recoveries)
	}
}

// TestRebuildThatCannotBeWritten: a full disk leaves the new index in memory; a failed fsync takes the directory offline.
func TestRebuildThatCannotBeWritten(t *testing.T) {
	d := newTxnDisk(t, true)
	segment := 3
	for name, c := range map[string]struct {
		rule    vfs.Rule
		offline bool
	}{
		"full disk":      {vfs.Rule{Ops: vfs.OpCreate | vfs.OpWrite, Path: txnIndexSuffix + tmpSuffix, Err: syscall.ENOSPC}, false},
		"read-only disk": {vfs.Rule{Ops: vfs.OpCreate, Path: txnIndexSuffix + tmpSuffix, Err: syscall.EROFS}, false},
		"failed fsync":   {vfs.Rule{Ops: vfs.OpSync, Path: txnIndexSuffix, Err: syscall.EIO}, true},
	} {
		mem := d.mem.CrashClone(1, vfs.CrashKeepAll)
		writeRaw(t, mem, d.index(segment), []byte("rot"))
		fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{Rules: []vfs.Rule{c.rule}})
		lines := &testkit.LogBuffer{}
		s, l := d.open(t, fsys, lines)
		pages, err := committedPages(l, 0)
		if offline := s.dirs[0].err() != nil; offline != c.offline {
			t.Errorf("%s: the directory's error is %v", name, s.dirs[0].err())
		}
		if !c.offline && (err != nil || !slices.Equal(pages, d.pages) || len(lines.With(madeAnew, "unwritten=")) != 1) {
			t.Errorf("%s: %d pages of %d, %v; %q", name, len(pages), len(d.pages), err, lines.With(madeAnew))
		}
		if got := string(mustRead(t, mem, d.index(segment))); got != "rot" {
			t.Errorf("%s: the file has %x", name, got)
		}
		s.crash()
		if pages, _ := d.read(t, mem); !slices.Equal(pages, d.pages) {
			t.Errorf("%s: the next start reads %d pages of %d", name, len(pages), len(d.pages))
		}
	}
}
