package engine

import (
	"bytes"
	"errors"
	"math"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// verified waits until the records of a read from an offset are checked; it gives what is then read.
func verified(t *testing.T, l *Log, offset int64) (data []byte, err error) {
	t.Helper()
	for range 100 {
		res, err := l.Read(offset, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true, Isolation: ReadAll})
		if err != nil {
			return nil, err
		}
		done := make(chan struct{})
		if len(res.Spans) > 0 && !l.Verified(offset, res.NextOffset, func() { close(done) }) {
			res.Release()
			<-done
			continue
		}
		data, err = spanBytes(&res)
		res.Release()
		return data, err
	}
	t.Fatal("checked a hundred times and still not trusted")
	return nil, nil
}

// TestOldRecordsAreCheckedBeforeTheyAreServed: after a clean stop, when nothing else looks at them.
func TestOldRecordsAreCheckedBeforeTheyAreServed(t *testing.T) {
	for name, c := range map[string]struct {
		batch int
		pos   int64
	}{
		"records": {10, 70}, "crc": {10, record.PosCRC}, "base offset beyond the log": {10, record.PosBaseOffset + 3},
		"base offset down": {10, record.PosBaseOffset + 7}, "base offset up": {1, record.PosBaseOffset + 7}, // 30 to 14, 3 to 19
	} {
		end := int64(3 * c.batch)
		t.Run(name, func(t *testing.T) {
			d := newDamagedLog(t)
			s, l := d.open(t)
			must(t, l.Err())
			must(t, s.Close(t.Context()))
			path, at := d.find(t, c.batch)
			corrupt(t, d.fsys, path, at+c.pos)
			s, l = d.open(t)
			defer s.crash()
			must(t, l.load2())
			for offset := int64(0); offset < end; {
				data, err := verified(t, l, offset)
				must(t, err)
				_, next, _ := checkBatches(t, data)
				if next <= offset || next > end {
					t.Fatalf("read from %d: up to %d, the fault is at %d", offset, next, end)
				}
				if want := bytes.Join(d.batches[offset/3:next/3], nil); !bytes.Equal(data, want) {
					t.Fatalf("read from %d: other bytes than were written", offset)
				}
				offset = next
			}
			_, err := verified(t, l, end)
			wantErr(t, err, ErrOffline)
			wantErr(t, err, ErrCorrupt)
			var fault *CorruptFileError
			if !errors.As(l.Err(), &fault) || fault.Path != path || fault.Pos < at || fault.Pos > at+record.PosCRC {
				t.Fatalf("got %v, want a fault of %s in the header at byte %d", l.Err(), path, at)
			}
		})
	}
}

// TestUnreadableOldRecordsTakeThePartitionOffline: a disk that fails to read is no reason to try again and again.
func TestUnreadableOldRecordsTakeThePartitionOffline(t *testing.T) {
	d := newDamagedLog(t)
	s, _ := d.open(t)
	must(t, s.Close(t.Context()))
	fsys := vfs.NewErrorFS(d.fsys, vfs.ErrorFSOptions{})
	o := testStoreOptions(fsys)
	o.Config = func(string) LogConfig { return d.cfg }
	s = openTestStore(t, o)
	defer s.crash()
	l := s.Log(testTP)
	must(t, l.load2())
	res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true, Isolation: ReadAll})
	must(t, err)
	res.Release()
	fsys.Add(vfs.Rule{Ops: vfs.OpRead, Err: syscall.EIO})
	done := make(chan struct{})
	if l.Verified(0, res.NextOffset, func() { close(done) }) {
		t.Fatal("unread records are trusted")
	}
	<-done
	_, err = l.Read(0, ReadOptions{MaxBytes: 1 << 20, MinOneBatch: true, Isolation: ReadAll})
	wantErr(t, err, ErrOffline)
	wantErr(t, err, syscall.EIO)
}

// TestWhatWasWrittenIsTrusted: a read of what this process has appended waits for no check.
func TestWhatWasWrittenIsTrusted(t *testing.T) {
	d := newDamagedLog(t)
	s, l := d.open(t)
	defer closeTestStore(t, s)
	end := mustAppend(t, l, testBatch(3, 10, 1)).BaseOffset
	none := func() { t.Error("a check for what was just written") }
	if !l.Verified(end, end+3, none) {
		t.Error("what was just written is not trusted")
	}
	if data, err := verified(t, l, 0); err != nil || len(data) == 0 {
		t.Errorf("intact old records: %d bytes, %v", len(data), err)
	}
	if !l.Verified(0, end, none) {
		t.Error("what was checked is checked again")
	}
}

// newOldLog is a log of 180 batches of 100 KiB, one of them of 400 KiB, that an earlier process wrote.
func newOldLog(t *testing.T) (*Store, *Log) {
	t.Helper()
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, neverSync())
	for i := range 180 {
		size := 100 << 10
		if i == 1 {
			size = 400 << 10 // begins in what is read at once, and is larger
		}
		mustAppend(t, l, testBatch(1, size, 1))
	}
	must(t, s.Close(t.Context()))
	s = openTestStore(t, testStoreOptions(fsys))
	l = s.Log(testTP)
	must(t, l.load2())
	return s, l
}

// TestChecksRunAheadOfTheReader: once a reader is in the second half of what was checked, it does not have to wait for what follows.
func TestChecksRunAheadOfTheReader(t *testing.T) {
	s, l := newOldLog(t)
	defer s.crash()
	none := func() { t.Error("a wait for what was checked") }
	data, err := verified(t, l, 0)
	must(t, err)
	checked := func() (all []offsetRange, running bool) {
		l.verification.mu.Lock()
		defer l.verification.mu.Unlock()
		return slices.Clone(l.verification.mu.trusted), l.verification.mu.running
	}
	_, next, _ := checkBatches(t, data)
	first, _ := checked()
	if len(first) != 1 || first[0].from != 0 || next > first[0].middle() {
		t.Fatalf("%v was checked for a read up to %d", first, next)
	}
	ok := l.Verified(0, next, none)
	if now, running := checked(); !ok || running || !slices.Equal(now, first) {
		t.Errorf("a reader in the first half had %v checked, running: %t; want %v", now, running, first)
	}
	for to, end := first[0].to, l.Offsets().LogEnd; to < end; {
		if !l.Verified(to-1, to, none) {
			t.Fatalf("offset %d is checked again", to-1)
		}
		before := to
		testkit.Eventually(t, "what follows is checked", func() bool {
			all, _ := checked()
			to = all[0].to
			return len(all) == 1 && to > before
		})
	}
	if !l.Verified(0, l.Offsets().LogEnd, none) {
		t.Error("not all is trusted")
	}
}

// TestChecksReuseTheirBuffers: a buffer for each read made the garbage collector the larger part of a first read.
func TestChecksReuseTheirBuffers(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	s, l := newOldLog(t)
	defer s.crash()
	var before, after runtime.MemStats
	least := uint64(math.MaxUint64)
	for range 3 { // a collection between may empty the pool
		runtime.ReadMemStats(&before)
		for from, end := int64(0), l.Offsets().LogEnd; from < end; {
			to, err := l.check(from, end)
			must(t, err)
			from = to
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if most := uint64(512 << 10); least > most {
		t.Errorf("18 MiB were checked with %d bytes of new memory, want at most %d", least, most)
	}
}
