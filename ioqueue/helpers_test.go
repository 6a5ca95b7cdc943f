package ioqueue

import (
	"encoding/binary"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func create(t testing.TB, fs vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// testLog is a log of 8-byte records, all different, also from those that a
// cut removed. It writes under a lock as the engine does, rolls, and cuts.
type testLog struct {
	t      testing.TB
	fs     vfs.FS
	stream *Stream

	mu       sync.Mutex
	end      int64 // records
	values   []uint64
	written  uint64
	files    []testFile
	reported []int64 // what OnDurable said
	done     []vfs.File
	cuts     int // that took records away
}

type testFile struct {
	base int64
	file vfs.File
}

const recordBytes = 8

func newTestLog(t testing.TB, s *Scheduler, fs vfs.FS, opts StreamOptions) *testLog {
	l := &testLog{t: t, fs: fs}
	opts.OnDurable = func(end int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reported = append(l.reported, end)
	}
	opts.OnFileDone = func(f vfs.File) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.done = append(l.done, f)
	}
	l.stream = s.NewStream(opts)
	l.roll()
	return l
}

func segmentName(base int64) string { return string(binary.AppendVarint([]byte("seg"), base)) }

func (l *testLog) roll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.files) > 0 && l.files[len(l.files)-1].base == l.end {
		return // empty
	}
	f := create(l.t, l.fs, segmentName(l.end))
	if err := l.fs.SyncDir("."); err != nil {
		l.t.Log(err)
	}
	l.files = append(l.files, testFile{l.end, f})
	l.stream.SetFile(f)
}

// append writes n records and returns the end offset.
func (l *testLog) append(n int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.files[len(l.files)-1]
	pos := (l.end - last.base) * recordBytes
	var p []byte
	for range n {
		l.written++
		l.values = append(l.values, l.written)
		p = binary.BigEndian.AppendUint64(p, l.written)
	}
	if _, err := last.file.WriteAt(p, pos); err != nil {
		l.stream.s.Fail(err)
		return l.end
	}
	l.end += int64(n)
	l.stream.Written(last.file, pos, len(p), l.end)
	return l.end
}

// truncate cuts the log to end records.
func (l *testLog) truncate(end int64) {
	l.mu.Lock()
	var dropped []vfs.File
	for len(l.files) > 1 && l.files[len(l.files)-1].base > end {
		dropped = append(dropped, l.files[len(l.files)-1].file)
		l.files = l.files[:len(l.files)-1]
	}
	last := l.files[len(l.files)-1]
	if err := last.file.Truncate((end - last.base) * recordBytes); err != nil {
		l.t.Error(err)
	}
	if end < l.end {
		l.cuts++
	}
	l.end = end
	l.values = l.values[:end]
	l.stream.TruncateTo(last.file, end)
	l.mu.Unlock()
	for _, f := range dropped {
		l.stream.Drop(f)
		if err := f.Close(); err != nil {
			l.t.Error(err)
		}
		if err := l.fs.Remove(f.Name()); err != nil {
			l.t.Error(err)
		}
	}
}

func (l *testLog) snapshot() (end int64, reported []int64, done int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end, append([]int64(nil), l.reported...), len(l.done)
}

func (l *testLog) waitDurable(end int64) {
	l.t.Helper()
	testkit.Eventually(l.t, "durable", func() bool { return l.stream.Durable() >= end })
}

// recovered returns how many records of the log are intact in fs, from the
// start.
func (l *testLog) recovered(fs vfs.FS) (n int64) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f.base > n {
			return n
		}
		data, err := vfs.ReadFile(fs, segmentName(f.base), 1<<30)
		if err != nil {
			return n
		}
		for i := f.base; i < l.end && int64(len(data)) >= recordBytes; i++ {
			if binary.BigEndian.Uint64(data) != l.values[i] {
				break
			}
			n = max(n, i+1)
			data = data[recordBytes:]
		}
	}
	return n
}
