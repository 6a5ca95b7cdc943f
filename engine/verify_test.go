package engine

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

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
