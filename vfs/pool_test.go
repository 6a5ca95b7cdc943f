package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

// countFS counts the files that are open.
type countFS struct {
	FS
	open atomic.Int64
}

type countFile struct {
	File
	fs *countFS
}

func (c *countFS) Open(name string) (File, error) {
	f, err := c.FS.Open(name)
	if err == nil {
		c.open.Add(1)
		f = &countFile{f, c}
	}
	return f, err
}

func (f *countFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

func poolRig(t testing.TB, files, openMax int) (*countFS, *Pool, []*PooledFile) {
	c := &countFS{FS: NewMem(MemOptions{})}
	p := NewPool(c, openMax)
	handles := make([]*PooledFile, files)
	for i := range handles {
		name := fmt.Sprint("f", i)
		f := create(t, c, name)
		write(t, f, name, 0)
		must(t, f.Close())
		handles[i] = p.File(name, false)
	}
	return c, p, handles
}

func acquire(t testing.TB, f *PooledFile) File {
	t.Helper()
	file, err := f.Acquire()
	must(t, err)
	return file
}

func TestPoolKeepsUnderItsCap(t *testing.T) {
	c, p, handles := poolRig(t, 10, 3)
	if c.open.Load() != 0 {
		t.Fatal("files are open before their first use")
	}
	for range 3 {
		for i, h := range handles {
			file := acquire(t, h)
			b := make([]byte, 2)
			if _, err := file.ReadAt(b, 0); err != nil || string(b) != fmt.Sprint("f", i) {
				t.Fatalf("read %q, %v from file %d", b, err, i)
			}
			h.Release()
			if n := c.open.Load(); n > 3 || p.Stats().Open != int(n) {
				t.Fatalf("%d files open, stats say %d, cap is 3", n, p.Stats().Open)
			}
		}
	}
	if s := p.Stats(); s.Opens != 30 || s.Evictions != 27 {
		t.Fatalf("%d opened, %d evicted, want 30, 27", s.Opens, s.Evictions)
	}
}

func TestPoolNeverClosesWhatIsInUse(t *testing.T) {
	c, p, handles := poolRig(t, 6, 2)
	var files []File
	for _, h := range handles[:4] {
		files = append(files, acquire(t, h))
	}
	if n := c.open.Load(); n != 4 {
		t.Fatalf("%d files open, want 4: all are in use", n)
	}
	for _, f := range files {
		if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range handles[:4] {
		h.Release()
	}
	acquire(t, handles[5])
	handles[5].Release()
	if n := c.open.Load(); n != 2 {
		t.Fatalf("%d files open after the use, want 2", n)
	}
	if acquire(t, handles[5]); p.Stats().Opens != 5 {
		t.Fatalf("%d opens, want 5: the last file was open", p.Stats().Opens)
	}
}

func TestPoolGivesASecondChance(t *testing.T) {
	_, p, handles := poolRig(t, 30, 4)
	for _, h := range handles[1:] {
		acquire(t, handles[0]) // used between all others
		handles[0].Release()
		acquire(t, h)
		h.Release()
	}
	// Each of the 29 others is opened once; the busy one hardly ever again.
	if opens := p.Stats().Opens; opens > 29+10 {
		t.Fatalf("%d opens, want about 30", opens)
	}
}

func TestPoolClose(t *testing.T) {
	c, _, handles := poolRig(t, 2, 5)
	file := acquire(t, handles[0])
	handles[0].Close()
	if _, err := handles[0].Acquire(); !errors.Is(err, syscall.EBADF) {
		t.Fatalf("Acquire after Close: %v, want EBADF", err)
	}
	if _, err := file.ReadAt(make([]byte, 1), 0); err != nil {
		t.Fatalf("the file was closed under its user: %v", err)
	}
	handles[0].Release()
	handles[0].Close()
	handles[1].Close() // never opened
	if n := c.open.Load(); n != 0 {
		t.Fatalf("%d files open", n)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("one Release too many went unnoticed")
		}
	}()
	handles[0].Release()
}

func TestPoolAdoptAndRename(t *testing.T) {
	c, p, handles := poolRig(t, 3, 1)
	f := create(t, c, "new")
	write(t, f, "new", 0)
	h := p.Adopt(f, true)
	acquire(t, handles[0]) // evicts it
	handles[0].Release()
	must(t, c.Rename("new", "newer"))
	if _, err := h.Acquire(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Acquire of a renamed file: %v", err)
	}
	h.SetName("newer")
	write(t, acquire(t, h), "!", 3)
	if got := contents(t, c, h.Name()); got != "new!" {
		t.Fatalf("contents %q", got)
	}
	h.Release()
}

func TestPoolEvictsDirtyFilesLast(t *testing.T) {
	c, p, handles := poolRig(t, 10, 3)
	for _, h := range handles[:2] {
		acquire(t, h)
		h.MarkDirty()
		h.Release()
	}
	for range 3 {
		for _, h := range handles[2:] {
			acquire(t, h)
			h.Release()
		}
	}
	opens := p.Stats().Opens
	for _, h := range handles[:2] {
		acquire(t, h)
		h.Release()
	}
	if p.Stats().Opens != opens {
		t.Fatal("a dirty file was closed while clean ones were open")
	}
	for _, h := range handles { // nothing else to take: the cap counts more
		acquire(t, h)
		h.MarkDirty()
		h.Release()
	}
	if n := c.open.Load(); n > 3 {
		t.Fatalf("%d files open, cap is 3", n)
	}
}

func TestPoolTakesACleanedFileFirst(t *testing.T) {
	_, p, handles := poolRig(t, 4, 3)
	for _, h := range handles[:3] {
		acquire(t, h)
		h.MarkDirty()
		h.Release()
	}
	handles[1].MarkClean()
	acquire(t, handles[3])
	handles[3].MarkDirty()
	handles[3].Release()
	opens := p.Stats().Opens
	acquire(t, handles[0])
	acquire(t, handles[2])
	if p.Stats().Opens != opens {
		t.Fatal("a dirty file was closed before the clean one")
	}
	acquire(t, handles[1])
	if p.Stats().Opens != opens+1 {
		t.Fatal("no file was closed")
	}
}

// TestPoolKeepsTheDirtyFileUsedLast: an append opens a file, and the fetch that waits for it reads that file next, whatever was opened in between.
func TestPoolKeepsTheDirtyFileUsedLast(t *testing.T) {
	_, p, handles := poolRig(t, 40, 8)
	write := func(i int) {
		acquire(t, handles[i])
		handles[i].MarkDirty()
		handles[i].Release()
	}
	write(0)
	for i := 1; i < len(handles); i++ {
		write(i)
		before := p.Stats().Opens
		acquire(t, handles[i-1])
		handles[i-1].Release()
		if p.Stats().Opens != before {
			t.Fatalf("file %d was closed for the next one, with %d idle dirty files that were used before it", i-1, min(i-1, 7))
		}
	}
}

// TestPoolEvictionIsBounded: an event loop that opens a file waits for the look at some hundred others, however many are open.
func TestPoolEvictionIsBounded(t *testing.T) {
	const openMax = 4 * secondChances
	_, p, handles := poolRig(t, openMax+2, openMax)
	open := func(i int) {
		acquire(t, handles[i])
		handles[i].MarkDirty()
		handles[i].Release()
	}
	for i := range openMax {
		open(i)
	}
	for i := openMax; i < len(handles); i++ {
		open(i)
		passed := 0
		for _, h := range handles[:openMax] {
			if !h.used.Swap(true) {
				passed++
			}
		}
		if passed != secondChances {
			t.Errorf("opening a file passed over %d of %d open ones, want %d", passed, openMax, secondChances)
		}
	}
	if got := p.Stats().Open; got != openMax {
		t.Errorf("%d files open, cap is %d", got, openMax)
	}
}

func TestPoolConcurrently(t *testing.T) {
	c, _, handles := poolRig(t, 20, 4)
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			rng := testkit.Rand(g)
			for range 2000 {
				i := rng.IntN(len(handles))
				f, err := handles[i].Acquire()
				if err != nil {
					t.Error(err)
					return
				}
				switch rng.IntN(4) {
				case 0:
					handles[i].MarkDirty()
				case 1:
					handles[i].MarkClean()
				}
				b := make([]byte, 2)
				if _, err := f.ReadAt(b, 0); err != nil || string(b) != fmt.Sprint("f", i)[:2] {
					t.Errorf("read %q, %v from file %d", b, err, i)
				}
				handles[i].Release()
			}
		})
	}
	wg.Wait()
	for _, h := range handles {
		h.Close()
	}
	if n := c.open.Load(); n != 0 {
		t.Fatalf("%d files open after all were closed", n)
	}
}

func BenchmarkPoolAcquire(b *testing.B) {
	_, _, handles := poolRig(b, 100, 200)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			h := handles[i%len(handles)]
			if _, err := h.Acquire(); err != nil {
				b.Error(err)
				return
			}
			h.Release()
		}
	})
}

// BenchmarkPoolOverItsCap opens files in turn, of which a fifth more are written than may be open.
func BenchmarkPoolOverItsCap(b *testing.B) {
	_, _, handles := poolRig(b, 10_000, 8_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		h := handles[i%len(handles)]
		if _, err := h.Acquire(); err != nil {
			b.Fatal(err)
		}
		h.MarkDirty()
		h.Release()
		i++
	}
}

// TestPoolMakesRoomForADescriptor: the process has no descriptor left, the pool has one that is idle.
func TestPoolMakesRoomForADescriptor(t *testing.T) {
	fsys := NewErrorFS(NewMem(MemOptions{}), ErrorFSOptions{})
	p := NewPool(fsys, 10)
	for _, name := range []string{"/idle", "/used", "/wanted"} {
		f, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	idle, used, wanted := p.File("/idle", true), p.File("/used", true), p.File("/wanted", true)
	for _, f := range []*PooledFile{idle, used} {
		if _, err := f.Acquire(); err != nil {
			t.Fatal(err)
		}
	}
	idle.Release()
	fsys.Add(Rule{Ops: OpOpen, Count: 1, Err: syscall.EMFILE})
	if _, err := wanted.Acquire(); err != nil {
		t.Fatalf("acquire: %v", err)
	}
	if s := p.Stats(); s.Open != 2 || s.Evictions != 1 {
		t.Fatalf("stats: got %+v, want 2 open, 1 evicted", s)
	}
	fsys.Add(Rule{Ops: OpOpen, Count: 1, Err: syscall.EMFILE})
	if _, err := idle.Acquire(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("acquire when all are in use: got %v, want EMFILE", err)
	}
}

func TestPoolIsCrowdedWhenAllFilesAreInUse(t *testing.T) {
	fsys := NewMem(MemOptions{})
	p := NewPool(fsys, 2)
	var files []*PooledFile
	for _, name := range []string{"/a", "/b", "/c"} {
		f, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, p.Adopt(f, true))
	}
	if p.Crowded() {
		t.Error("crowded, with one file of three closed and none in use")
	}
	for i, f := range files {
		if _, err := f.Acquire(); err != nil {
			t.Fatal(err)
		}
		if got, want := p.Crowded(), i == 2; got != want {
			t.Errorf("%d files in use of 2 allowed: crowded is %t", i+1, got)
		}
	}
	files[0].Release()
	files[0].Close()
	if p.Crowded() {
		t.Error("crowded, with two files open")
	}
}
