package engine

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/weirmq/weir/vfs"
)

// TestTailReads: a read that goes on where one ended at the bound does not touch the file, and stays right over the end of a segment and
// over truncations that move the batch boundaries.
func TestTailReads(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.NewMem(vfs.MemOptions{}), vfs.ErrorFSOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer closeTestStore(t, s)
	cfg := neverSync()
	cfg.SegmentBytes = 4 << 10
	l := createTestLog(t, s, testTP, cfg)
	var want [][]byte // by offset: the batch that holds it
	add := func(records, size int) {
		batch := testBatch(records, size, 1)
		mustAppend(t, l, batch)
		for range records {
			want = append(want, batch)
		}
	}
	// read reads one append's bytes at offset and says how often the file was read for it.
	read := func(what string, offset int64) (next, reads int64) {
		t.Helper()
		before := fsys.Count(vfs.OpRead)
		res, err := l.Read(offset, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true})
		must(t, err)
		reads = fsys.Count(vfs.OpRead) - before
		got, err := spanBytes(&res)
		must(t, err)
		if !bytes.Equal(got, want[offset]) {
			t.Fatalf("%s: read at %d gave %d bytes, want the %d of the batch there", what, offset, len(got), len(want[offset]))
		}
		return res.NextOffset, reads
	}
	add(3, 100)
	at, reads := read("first", 0)
	if reads == 0 {
		t.Error("the first read found its batch without looking: this test measures nothing")
	}
	for i := range 40 { // over several segments
		segments := len(l.segments())
		add(1+i%3, 100+i)
		what := fmt.Sprint("append ", i)
		if at, reads = read(what, at); len(l.segments()) == segments && reads != 0 {
			t.Errorf("%s: the read looked %d times at the file, want 0", what, reads)
		}
		if at != int64(len(want)) {
			t.Fatalf("%s: next offset %d, want %d", what, at, len(want))
		}
	}
	// Offset at is now reached with batches of another size: it lies elsewhere in the file of the same name.
	for range 3 {
		end := at
		must(t, l.TruncateTo(at-4))
		want = want[:l.Offsets().LogEnd]
		for next := int64(len(want)); next < end; {
			add(1, 17)
			next, _ = read("after truncation", next)
		}
		add(2, 50)
		at, _ = read("at the offset from before", end)
	}
}
