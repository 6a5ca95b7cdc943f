package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// TestRebuildBesideAppends: the entries that this process has written stay, in the file too; and appends that end transactions go on.
func TestRebuildBesideAppends(t *testing.T) {
	for name, rot := range map[string]func(mem *vfs.Mem, path string){
		"missing":   func(mem *vfs.Mem, path string) { must(t, mem.Remove(path)) },
		"no format": func(mem *vfs.Mem, path string) { writeRaw(t, mem, path, []byte("rot")) },
	} {
		intact, damaged := newTxnDisk(t, true), newTxnDisk(t, true)
		active := len(intact.bases) - 1
		if len(mustRead(t, damaged.mem, damaged.index(active))) == 0 {
			t.Fatal("the active segment has no index")
		}
		rot(damaged.mem, damaged.index(active))
		var pages [2][]string
		var files [2][]byte
		lines := &testkit.LogBuffer{}
		for i, d := range []*txnDisk{intact, damaged} {
			s, l := d.open(t, d.mem, lines)
			addTransactions(t, l, 20, 1)
			var err error
			pages[i], err = committedPages(l, 0)
			must(t, err)
			addTransactions(t, l, 20, 2)
			closeTestStore(t, s)
			files[i] = mustRead(t, d.mem, d.index(active))
			for range 2 { // from the file
				again, _ := d.read(t, d.mem)
				pages[i] = append(pages[i], again...)
			}
		}
		if !slices.Equal(pages[0], pages[1]) || !bytes.Equal(files[0], files[1]) || len(files[0]) < 3*txnIndexEntrySize {
			t.Errorf("%s: got\n%s\nfile %x\nwant\n%s\nfile %x", name, strings.Join(pages[1], "\n"), files[1], strings.Join(pages[0], "\n"), files[0])
		}
		if n := len(lines.With(madeAnew)); n != 1 {
			t.Errorf("%s: %d rebuilds, want 1", name, n)
		}
	}
}

// TestReadsBeforeTheRebuildAreOfNoUse: a read that met the damage may come to ask when another one's check has had the index made anew.
func TestReadsBeforeTheRebuildAreOfNoUse(t *testing.T) {
	d := newTxnDisk(t, true)
	writeRaw(t, d.mem, d.index(0), []byte("rot"))
	s, l := d.open(t, d.mem, nil)
	defer s.crash()
	res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
	must(t, err)
	res.Release()
	if res.Bytes == 0 || res.NextOffset != 0 {
		t.Errorf("a read of %d bytes that has met the damage goes on at %d, want 0", res.Bytes, res.NextOffset)
	}
	_, err = committedPages(l, 0)
	must(t, err)
	done := make(chan struct{})
	if l.Verified(0, res.NextOffset, func() { close(done) }) {
		t.Fatal("the read may be used")
	}
	testkit.Closed(t, "the end of the check", done)
	if res, err = l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted}); err != nil || len(res.Aborted) == 0 || res.NextOffset == 0 {
		t.Errorf("the next read: %d aborted transactions, next offset %d, %v", len(res.Aborted), res.NextOffset, err)
	}
	res.Release()
}

// TestTruncationIntoADamagedTransactionIndex: the index is made anew while the batches that it needs are there.
func TestTruncationIntoADamagedTransactionIndex(t *testing.T) {
	d := newTxnDisk(t, true)
	segment := 5
	whole := mustRead(t, d.mem, d.index(segment))
	txns, err := parseTxnIndex(whole, "")
	must(t, err)
	if len(txns) < 2 {
		t.Fatalf("%d entries: too few", len(txns))
	}
	writeRaw(t, d.mem, d.index(segment), []byte("rot"))
	s, l := d.open(t, d.mem, nil)
	end := txns[1].LastOffset
	must(t, l.TruncateTo(end))
	closeTestStore(t, s)
	if got := mustRead(t, d.mem, d.index(segment)); !bytes.Equal(got, whole[:txnIndexEntrySize]) {
		t.Errorf("the file has\n%x\nwant\n%x", got, whole[:txnIndexEntrySize])
	}
}

// TestCompactedLogsHaveTheirTransactionIndexesChecked: compaction takes aborted records and their entries, and what it leaves is no damage; the
// part that it has not come to is held against its indexes as ever.
func TestCompactedLogsHaveTheirTransactionIndexesChecked(t *testing.T) {
	mem, cfg, rng := vfs.NewMem(vfs.MemOptions{}), compactTestConfig(), rand.New(rand.NewPCG(1, 9))
	open := func(fsys vfs.FS) (*Store, *Log, *testkit.LogBuffer) {
		o, lines := testStoreOptions(fsys), &testkit.LogBuffer{}
		o.Config, o.Logger = func(string) LogConfig { return cfg }, slog.New(slog.NewTextHandler(lines, nil))
		s := openTestStore(t, o)
		return s, createTestLog(t, s, testTP, cfg), lines
	}
	s, l, _ := open(mem)
	c := storeCleaner(s)
	for round := range 4 {
		for range 100 {
			id := int64(1 + rng.IntN(3))
			b := record.NewBuilder()
			b.SetProducer(id, 0, 0)
			b.SetTransactional(true)
			b.Append(1, fmt.Appendf(nil, "key-%d", rng.IntN(40)), bytes.Repeat([]byte{'v'}, rng.IntN(150)))
			_, err := l.Append(b.Finish(nil), AppendOptions{Origin: OriginInternal})
			must(t, err)
			if rng.IntN(3) > 0 {
				marker := record.AppendEndTxnMarker(nil, record.EndTxnMarker{Commit: rng.IntN(2) == 0, ProducerID: id})
				_, err := l.Append(marker, AppendOptions{Origin: OriginInternal})
				must(t, err)
			}
		}
		must(t, l.Sync())
		if round < 3 && !c.cleanFilthiest() {
			t.Fatalf("not cleaned: %d failures", c.stats.Failures.Load())
		}
	}
	closeTestStore(t, s)
	read := func(fsys vfs.FS) (shown []int64, lines *testkit.LogBuffer) {
		s, l, lines := open(fsys)
		defer s.crash()
		_, err := committedPages(l, l.Offsets().LogStart)
		must(t, err)
		return visible(t, l, l.Offsets().LogStart), lines
	}
	want, lines := read(mem)
	if told := lines.With("WARN"); len(told) > 0 || len(want) < 30 {
		t.Errorf("%d records of a good log, and %q", len(want), told)
	}
	names, err := mem.List(testDir + "/t-0")
	must(t, err)
	rebuilds := 0
	for _, name := range names {
		if !strings.HasSuffix(name, txnIndexSuffix) {
			continue
		}
		path := testDir + "/t-0/" + name
		whole := mustRead(t, mem, path)
		for i := 0; i < len(whole); i += txnIndexEntrySize {
			damaged := mem.CrashClone(1, vfs.CrashKeepAll)
			writeRaw(t, damaged, path, slices.Delete(bytes.Clone(whole), i, i+txnIndexEntrySize))
			got, lines := read(damaged)
			if !slices.Equal(got, want) {
				t.Errorf("%s without the entry at byte %d: got %v, want %v", name, i, got, want)
			}
			rebuilds += len(lines.With(madeAnew, path)) // none for a transaction whose records are all gone
		}
	}
	if rebuilds < 4 {
		t.Errorf("%d rebuilds: too few to mean anything", rebuilds)
	}
}
