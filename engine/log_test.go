package engine

import (
	"bytes"
	"testing"

	"github.com/weirmq/weir/vfs"
)

func TestAppendReadReopen(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	l := createTestLog(t, s, testTP, LogConfig{SegmentBytes: 4096, IndexIntervalBytes: 300})
	var want []byte
	next := int64(0)
	for i := range 200 {
		b := testBatch(1+i%5, 50, int64(1000+i))
		res := mustAppend(t, l, b)
		if res.BaseOffset != next {
			t.Fatalf("base offset: got %d, want %d", res.BaseOffset, next)
		}
		next = res.EndOffset
		want = append(want, b...)
	}
	waitDurable(t, l, next)
	if o := l.Offsets(); o != (Offsets{LastStable: next, HighWatermark: next, Durable: next, LogEnd: next}) {
		t.Fatalf("offsets: %+v", o)
	}
	if n := len(l.segments()); n < 5 {
		t.Fatalf("segments: got %d, want several", n)
	}
	if got := readAll(t, l, 0, ReadOptions{}); !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, want %d", len(got), len(want))
	}
	closeTestStore(t, s)

	s = openTestStore(t, testStoreOptions(fsys))
	defer closeTestStore(t, s)
	l = s.Log(testTP)
	if l == nil {
		t.Fatal("log not found after reopening")
	}
	if l.loaded.Load() {
		t.Fatal("a clean start opened the log")
	}
	if got := readAll(t, l, 0, ReadOptions{MaxBytes: 500}); !bytes.Equal(got, want) {
		t.Fatalf("after reopening: read %d bytes, want %d", len(got), len(want))
	}
	if o := l.Offsets(); o.LogEnd != next || o.HighWatermark != next {
		t.Fatalf("offsets after reopening: %+v, want end %d", o, next)
	}
	if res := mustAppend(t, l, testBatch(1, 10, 1)); res.BaseOffset != next {
		t.Fatalf("base offset after reopening: got %d, want %d", res.BaseOffset, next)
	}
}
