package ioqueue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/vfs"
)

// pieces notes what a file is asked to do, in order.
type pieces struct {
	vfs.File
	mu    sync.Mutex
	asked []string
}

func (p *pieces) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, text)
}

func (p *pieces) WriteOut(off, n int64) error {
	p.note(fmt.Sprint(off>>20, "+", n>>20))
	return p.File.WriteOut(off, n)
}

func (p *pieces) Datasync() error {
	p.note("fsync")
	return p.File.Datasync()
}

// TestSealedFileIsWrittenInPieces: all that is not synced of a file that `never` left is written before its fsync, a piece at a time; a small rest and
// an active file are left to the fsync.
func TestSealedFileIsWrittenInPieces(t *testing.T) {
	r := newRig(t, Options{})
	st := r.s.NewStream(StreamOptions{Policy: PolicyNever})
	f := &pieces{File: create(t, r.fs, "a")}
	st.Written(f, 0, 20<<20, 20)
	must(t, st.SyncNow())
	st.Written(f, 20<<20, 17<<20, 37)
	st.Written(f, 37<<20, 2<<20, 39)
	small := &pieces{File: create(t, r.fs, "b")}
	st.SetFile(small)
	testkit.Eventually(t, "the sealed file durable", func() bool { return st.Durable() == 39 })
	st.Written(small, 0, 1<<20, 40)
	st.SetFile(create(t, r.fs, "c"))
	testkit.Eventually(t, "the small file durable", func() bool { return st.Durable() == 40 })
	want := []string{"fsync"}
	for at := 20; at < 39; at++ {
		want = append(want, fmt.Sprint(at, "+1"))
	}
	if want = append(want, "fsync"); !slices.Equal(f.asked, want) {
		t.Errorf("asked for %v, want %v (MiB)", f.asked, want)
	}
	if want := []string{"fsync"}; !slices.Equal(small.asked, want) {
		t.Errorf("the small file was asked for %v, want %v", small.asked, want)
	}
}

// TestFailedPieceIsFinal: the fsync that comes after would succeed, and must not be tried.
func TestFailedPieceIsFinal(t *testing.T) {
	r := newRig(t, Options{})
	st := r.s.NewStream(StreamOptions{Policy: PolicyNever})
	f := create(t, r.fs, "a")
	st.Written(f, 0, 40<<20, 40)
	r.fs.Add(vfs.Rule{Ops: vfs.OpWriteOut, Skip: 2, Count: 1, Err: syscall.EIO})
	st.SetFile(create(t, r.fs, "b"))
	testkit.Eventually(t, "the directory offline", func() bool { return r.s.Err() != nil })
	r.settle()
	if err := st.SyncNow(); !errors.Is(err, syscall.EIO) {
		t.Errorf("SyncNow: %v, want EIO", err)
	}
	if n, asked := r.fs.Count(vfs.OpSync), r.fs.Count(vfs.OpWriteOut); n != 0 || asked != 3 || st.Durable() != 0 {
		t.Errorf("%d fsyncs, %d pieces, durable %d after a piece was not written; want 0, 3, 0", n, asked, st.Durable())
	}
}

// TestDroppedFileIsNotWrittenOn: the rest of a file that is about to be deleted need not reach the disk.
func TestDroppedFileIsNotWrittenOn(t *testing.T) {
	r := newRig(t, Options{})
	st := r.s.NewStream(StreamOptions{Policy: PolicyNever})
	f := create(t, r.fs, "a")
	st.Written(f, 0, 40<<20, 40)
	entered, release := make(chan struct{}, 100), make(chan struct{})
	r.fs.Add(vfs.Rule{Ops: vfs.OpWriteOut, Hook: func(vfs.Op, string) {
		entered <- struct{}{}
		<-release
	}})
	st.SetFile(create(t, r.fs, "b"))
	testkit.Receive(t, "the first piece", entered)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		st.Drop(f)
	}()
	testkit.Eventually(t, "the file dropped", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.mu.files) > 0 && st.mu.files[0].dropped
	})
	close(release)
	<-gone
	if n := r.fs.Count(vfs.OpWriteOut); n != 1 {
		t.Errorf("%d pieces of a dropped file written, want 1", n)
	}
}
