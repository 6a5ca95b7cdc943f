package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

// forEach runs a test of the FS contract on every implementation.
func forEach(t *testing.T, test func(t *testing.T, fs FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem(MemOptions{})
		must(t, m.MkdirAll("/data"))
		test(t, m, "/data")
	})
	t.Run("errorfs", func(t *testing.T) {
		e := NewErrorFS(NewMem(MemOptions{}), ErrorFSOptions{})
		must(t, e.MkdirAll("/data"))
		test(t, e, "/data")
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fs FS, name string) File {
	t.Helper()
	f, err := fs.Create(name)
	must(t, err)
	return f
}

func write(t testing.TB, f File, p string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(p), off); err != nil || n != len(p) {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
}

func contents(t testing.TB, fs FS, name string) string {
	t.Helper()
	data, err := ReadFile(fs, name, 1<<30)
	if err != nil {
		return "<" + errors.Unwrap(err).Error() + ">"
	}
	return string(data)
}

func TestFileContract(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "f")
		f := create(t, fsys, name)
		write(t, f, "hello world", 0)
		write(t, f, "W", 6)
		write(t, f, "!", 5000) // a hole
		if n, err := f.Size(); err != nil || n != 5001 {
			t.Fatalf("Size = %d, %v, want 5001", n, err)
		}
		p := make([]byte, 12)
		if n, err := f.ReadAt(p, 0); err != nil || n != 12 || string(p) != "hello World\x00" {
			t.Fatalf("ReadAt = %d, %v, %q", n, err, p)
		}
		if n, err := f.ReadAt(p, 4999); err != io.EOF || string(p[:n]) != "\x00!" {
			t.Fatalf("ReadAt at the end = %d, %v, %q, want 2 bytes and EOF", n, err, p[:n])
		}
		if n, err := f.ReadAt(p, 9000); err != io.EOF || n != 0 {
			t.Fatalf("ReadAt beyond the end = %d, %v, want 0, EOF", n, err)
		}
		must(t, f.Truncate(3))
		must(t, f.Truncate(6))
		must(t, f.Datasync())
		must(t, f.Sync())
		must(t, f.WriteBack(0, 6))
		must(t, f.WriteOut(0, 6))
		must(t, f.Preallocate(0, 1<<20))
		if got := contents(t, fsys, name); got != "hel\x00\x00\x00" {
			t.Fatalf("contents %q, want hel and three zeros: preallocation keeps the size", got)
		}
		info, err := fsys.Stat(name)
		if err != nil || info.Size != 6 || info.Dir || info.Name != "f" || info.AllocatedBytes < 1<<20 {
			t.Fatalf("Stat = %+v, %v", info, err)
		}
		must(t, f.Truncate(6))
		if f.Name() != name {
			t.Fatalf("Name = %q, want %q", f.Name(), name)
		}
		must(t, f.Close())
		r, err := fsys.Open(name)
		must(t, err)
		if _, err := r.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
			t.Fatalf("WriteAt of a file open for reading: %v, want EBADF", err)
		}
		must(t, r.Close())
		create(t, fsys, name).Close()
		if got := contents(t, fsys, name); got != "" {
			t.Fatalf("contents %q after Create, want none", got)
		}
	})
}

func TestWritev(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "f")
		f := create(t, fsys, name)
		defer f.Close()
		rng := testkit.Rand(1)
		var want []byte
		var bufs [][]byte
		for range 3000 { // more than one call takes
			b := testkit.Bytes(rng, rng.IntN(40))
			bufs = append(bufs, b)
			want = append(want, b...)
		}
		copies := slices.Clone(bufs)
		n, err := f.Writev(bufs, 7)
		if err != nil || n != len(want) {
			t.Fatalf("Writev = %d, %v, want %d", n, err, len(want))
		}
		for i := range bufs {
			if !bytes.Equal(bufs[i], copies[i]) {
				t.Fatal("Writev changed the caller's slices")
			}
		}
		if got := contents(t, fsys, name); got[7:] != string(want) {
			t.Fatal("contents differ")
		}
		if n, err := f.Writev(nil, 0); n != 0 || err != nil {
			t.Fatalf("Writev of nothing = %d, %v", n, err)
		}
	})
}

func TestNames(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		p := func(name string) string { return path.Join(dir, name) }
		must(t, fsys.MkdirAll(p("a/b/c")))
		must(t, fsys.MkdirAll(p("a/b/c")))
		create(t, fsys, p("a/b/f")).Close()
		create(t, fsys, p("a/b/e")).Close()
		must(t, fsys.SyncDir(p("a/b")))
		names, err := fsys.List(p("a/b"))
		if err != nil || !slices.Equal(names, []string{"c", "e", "f"}) {
			t.Fatalf("List = %v, %v", names, err)
		}
		for what, test := range map[string]struct{ got, want error }{
			"open missing":        {openErr(fsys, p("x")), fs.ErrNotExist},
			"open write missing":  {openErr(fsys, p("x")), fs.ErrNotExist},
			"create in missing":   {createErr(fsys, p("x/y")), fs.ErrNotExist},
			"create in a file":    {createErr(fsys, p("a/b/f/y")), syscall.ENOTDIR},
			"create a directory":  {createErr(fsys, p("a/b")), syscall.EISDIR},
			"remove missing":      {fsys.Remove(p("x")), fs.ErrNotExist},
			"remove full":         {fsys.Remove(p("a/b")), syscall.ENOTEMPTY},
			"rename missing":      {fsys.Rename(p("x"), p("y")), fs.ErrNotExist},
			"rename over full":    {fsys.Rename(p("a/b/c"), p("a")), fs.ErrExist},
			"rename into itself":  {fsys.Rename(p("a"), p("a/b/z")), syscall.EINVAL},
			"rename dir to file":  {fsys.Rename(p("a/b/c"), p("a/b/f")), syscall.ENOTDIR},
			"mkdir of a file":     {fsys.MkdirAll(p("a/b/f")), syscall.ENOTDIR},
			"mkdir below a file":  {fsys.MkdirAll(p("a/b/f/g")), syscall.ENOTDIR},
			"list missing":        {second(fsys.List(p("x"))), fs.ErrNotExist},
			"stat missing":        {second(fsys.Stat(p("x"))), fs.ErrNotExist},
			"usage missing":       {second(fsys.DiskUsage(p("x"))), fs.ErrNotExist},
			"sync dir missing":    {fsys.SyncDir(p("x")), fs.ErrNotExist},
			"sync dir of a file":  {fsys.SyncDir(p("a/b/f")), syscall.ENOTDIR},
			"remove all missing":  {fsys.RemoveAll(p("x/y/z")), nil},
			"rename file to file": {fsys.Rename(p("a/b/e"), p("a/b/f")), nil},
		} {
			if !errors.Is(test.got, test.want) {
				t.Errorf("%s: %v, want %v", what, test.got, test.want)
			}
		}
		must(t, fsys.MkdirAll(p("d")))
		must(t, fsys.Rename(p("a/b"), p("d"))) // an empty directory gives way
		if names, _ := fsys.List(p("d")); !slices.Equal(names, []string{"c", "f"}) {
			t.Fatalf("after the renames: %v", names)
		}
		if info, err := fsys.Stat(p("d")); err != nil || !info.Dir {
			t.Fatalf("Stat of a directory = %+v, %v", info, err)
		}
		must(t, fsys.RemoveAll(p("d")))
		must(t, fsys.Remove(p("a")))
		if names, _ := fsys.List(dir); len(names) != 0 {
			t.Fatalf("left over: %v", names)
		}
		if u, err := fsys.DiskUsage(dir); err != nil || u.TotalBytes <= 0 || u.FreeBytes > u.TotalBytes || u.Type == "" {
			t.Fatalf("DiskUsage = %+v, %v", u, err)
		}
	})
}

func openErr(fsys FS, name string) error {
	_, err := fsys.Open(name)
	_, err2 := fsys.OpenReadWrite(name)
	return errors.Join(err, err2)
}

func createErr(fsys FS, name string) error { return second(fsys.Create(name)) }

func second[T any](_ T, err error) error { return err }

func TestUnlinkedFileLivesOn(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		f := create(t, fsys, path.Join(dir, "f"))
		write(t, f, "abc", 0)
		must(t, fsys.Remove(path.Join(dir, "f")))
		write(t, f, "d", 3)
		p := make([]byte, 4)
		if _, err := f.ReadAt(p, 0); err != nil || string(p) != "abcd" {
			t.Fatalf("ReadAt of a removed file: %q, %v", p, err)
		}
		must(t, f.Close())
	})
}

func TestLock(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, ".lock")
		l, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
			t.Fatalf("second Lock: %v, want ErrLocked", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
		if _, err := fsys.Stat(name); err != nil {
			t.Fatalf("the lock file is gone: %v", err)
		}
	})
}

func TestWriteFileAtomic(t *testing.T) {
	forEach(t, func(t *testing.T, fsys FS, dir string) {
		name := path.Join(dir, "checkpoint")
		must(t, WriteFileAtomic(fsys, name, []byte("one")))
		must(t, WriteFileAtomic(fsys, name, []byte("second")))
		if got := contents(t, fsys, name); got != "second" {
			t.Fatalf("contents %q", got)
		}
		if names, _ := fsys.List(dir); len(names) != 1 {
			t.Fatalf("left over: %v", names)
		}
		if _, err := ReadFile(fsys, name, 5); err == nil {
			t.Fatal("ReadFile beyond its limit succeeded")
		}
	})
}

// TestWriteFileAtomicCrashes cuts the power after every operation: the old
// contents or the new are there, the new ones if it had returned.
func TestWriteFileAtomicCrashes(t *testing.T) {
	for stop := int64(0); ; stop++ {
		m := NewMem(MemOptions{})
		must(t, WriteFileAtomic(m, "f", []byte("old contents")))
		m.StopAfter(stop)
		err := WriteFileAtomic(m, "f", bytes.Repeat([]byte("new"), 1000))
		for seed := range uint64(200) {
			for _, mode := range []CrashMode{CrashRandom, CrashLoseUnsynced, CrashKeepAll, CrashKillProcess} {
				got := contents(t, m.CrashClone(seed, mode), "f")
				isNew := got == string(bytes.Repeat([]byte("new"), 1000))
				if !isNew && (got != "old contents" || err == nil) {
					t.Fatalf("stop %d, seed %d, %v: %d bytes %.20q, returned %v", stop, seed, mode, len(got), got, err)
				}
			}
		}
		if err == nil {
			if stop < 5 {
				t.Fatalf("done after %d operations, want create, write, sync, rename, sync of the directory", stop)
			}
			return
		}
		if !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	}
}

func TestShortWritesOfTheKernel(t *testing.T) {
	// RLIMIT_FSIZE makes the kernel write less than asked, then EFBIG.
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	f := create(t, OS(), filepath.Join(t.TempDir(), "f"))
	defer f.Close()
	limited := old
	limited.Cur = 10_000
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited))
	var bufs [][]byte
	for i := range 100 {
		bufs = append(bufs, bytes.Repeat([]byte{byte('a' + i%26)}, 150))
	}
	n, err := f.Writev(bufs, 0)
	n2, err2 := f.WriteAt(make([]byte, 100), 9_950)
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old))
	if n != 10_000 || !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("Writev = %d, %v, want 10000 bytes and EFBIG", n, err)
	}
	if n2 != 50 || !errors.Is(err2, syscall.EFBIG) {
		t.Fatalf("WriteAt = %d, %v, want 50 bytes and EFBIG", n2, err2)
	}
	p := make([]byte, 9_950)
	if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, slices.Concat(bufs...)[:9_950]) {
		t.Fatalf("what was written before the limit differs: %v", err)
	}
}

func TestWritevGoesOnAfterShortWrites(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t, 3))
	var bufs [][]byte
	for range 2000 {
		bufs = append(bufs, testkit.Bytes(rng, rng.IntN(30)))
	}
	want := slices.Concat(bufs...)
	got := make([]byte, 0, len(want))
	pwritev := func(iov [][]byte, off int64) (int, error) {
		if off != int64(100+len(got)) || len(iov) > iovMax {
			t.Fatalf("%d buffers at %d, want at most %d at %d", len(iov), off, iovMax, 100+len(got))
		}
		all := slices.Concat(iov...)
		n := 1 + rng.IntN(len(all))
		got = append(got, all[:n]...)
		return n, nil
	}
	if n, err := writevAll(bufs, 100, pwritev); err != nil || n != len(want) || !bytes.Equal(got, want) {
		t.Fatalf("writevAll = %d, %v, want %d; bytes equal: %v", n, err, len(want), bytes.Equal(got, want))
	}
	stuck := func([][]byte, int64) (int, error) { return 0, nil }
	if _, err := writevAll(bufs, 0, stuck); !errors.Is(err, syscall.EIO) {
		t.Fatalf("without progress: %v, want EIO", err)
	}
}

func TestOSHasDescriptors(t *testing.T) {
	f := create(t, OS(), filepath.Join(t.TempDir(), "f"))
	defer f.Close()
	if fd, ok := f.Fd(); !ok || fd == 0 {
		t.Fatalf("Fd = %d, %v", fd, ok)
	}
	m := create(t, NewMem(MemOptions{}), "f")
	if _, ok := m.Fd(); ok {
		t.Fatal("a file in memory has a descriptor")
	}
}

func BenchmarkOSWritev(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := create(b, OS(), filepath.Join(b.TempDir(), "f"))
			defer f.Close()
			bufs := make([][]byte, n)
			for i := range bufs {
				bufs[i] = make([]byte, 1024)
			}
			b.SetBytes(int64(n * 1024))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Writev(bufs, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
