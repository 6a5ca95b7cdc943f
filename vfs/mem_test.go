package vfs

import (
	"bytes"
	"errors"
	"path"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/internal/testkit"
)

func TestCrashModes(t *testing.T) {
	m := NewMem(MemOptions{})
	f := create(t, m, "f")
	write(t, f, "synced", 0)
	must(t, f.Datasync())
	must(t, m.SyncDir("/"))
	write(t, f, " and not", 6)
	create(t, m, "g").Close()
	must(t, m.MkdirAll("d/e"))

	lost := m.CrashClone(1, CrashLoseUnsynced)
	if got := contents(t, lost, "f"); got != "synced" {
		t.Fatalf("lose unsynced: %q", got)
	}
	if names, _ := lost.List("/"); strings.Join(names, " ") != "f" {
		t.Fatalf("lose unsynced: names %v", names)
	}
	kept := m.CrashClone(1, CrashKeepAll)
	if got := contents(t, kept, "f"); got != "synced and not" {
		t.Fatalf("keep all: %q", got)
	}
	if got := contents(t, kept.CrashClone(1, CrashLoseUnsynced), "f"); got != "synced and not" {
		t.Fatalf("keep all, crash again: %q", got)
	}
	if names, _ := kept.List("/"); strings.Join(names, " ") != "d f g" {
		t.Fatalf("keep all: names %v", names)
	}
	killed := m.CrashClone(1, CrashKillProcess)
	if got := contents(t, killed, "f"); got != "synced and not" {
		t.Fatalf("kill process: %q", got)
	}
	again := killed.CrashClone(1, CrashLoseUnsynced)
	if got := contents(t, again, "f"); got != "synced" {
		t.Fatalf("kill process, then power cut: %q", got)
	}
	if names, _ := again.List("/"); strings.Join(names, " ") != "f" {
		t.Fatalf("kill process, then power cut: names %v", names)
	}
	// After the kill a sync makes everything durable in the clone only.
	kf, err := killed.OpenReadWrite("f")
	must(t, err)
	must(t, kf.Sync())
	must(t, killed.SyncDir("/"))
	again = killed.CrashClone(1, CrashLoseUnsynced)
	if got := contents(t, again, "f"); got != "synced and not" {
		t.Fatalf("synced after the kill: %q", got)
	}
	if names, _ := again.List("/"); strings.Join(names, " ") != "d f g" {
		t.Fatalf("synced after the kill: names %v", names)
	}
	if names, _ := again.List("/d"); len(names) != 0 {
		t.Fatalf("d/e without a sync of d: %v", names)
	}
	if b, size, err := m.UnsyncedBytes("f"); err != nil || b != 8 || size != 6 {
		t.Fatalf("UnsyncedBytes = %d, %d, %v, want 8, 6", b, size, err)
	}
}

func TestClonesAreIndependent(t *testing.T) {
	m := NewMem(MemOptions{})
	f := create(t, m, "f")
	write(t, f, strings.Repeat("a", 10_000), 0)
	clone := m.CrashClone(1, CrashKeepAll)
	write(t, f, "b", 5000)
	must(t, f.Truncate(9000))
	g, err := clone.OpenReadWrite("f")
	must(t, err)
	write(t, g, "c", 100)
	if got := contents(t, clone, "f"); got != strings.Repeat("a", 100)+"c"+strings.Repeat("a", 9899) {
		t.Fatal("a write to the original shows in the clone")
	}
	if got := contents(t, m, "f"); got != strings.Repeat("a", 5000)+"b"+strings.Repeat("a", 3999) {
		t.Fatal("a write to the clone shows in the original")
	}
}

// TestRandomCrashShowsEveryOutcome checks that the model is as unkind as the
// package comment says: each outcome occurs among the seeds.
func TestRandomCrashShowsEveryOutcome(t *testing.T) {
	m := NewMem(MemOptions{})
	f := create(t, m, "f")
	must(t, m.SyncDir("/"))
	base := strings.Repeat("s", 700)
	write(t, f, base, 0)
	must(t, f.Sync())
	write(t, f, strings.Repeat("n", 1300), 700) // sectors 1, 2, 3
	create(t, m, "g").Close()
	seen := map[string]bool{}
	for seed := range uint64(3000) {
		c := m.CrashClone(seed, CrashRandom)
		got := contents(t, c, "f")
		if !strings.HasPrefix(got, base) {
			t.Fatalf("seed %d: synced bytes are gone, also those that share a sector with later ones", seed)
		}
		if len(got) > 2000 {
			t.Fatalf("seed %d: %d bytes, more than there ever were", seed, len(got))
		}
		switch len(got) {
		case 700:
			seen["old size"] = true
		case 2000:
			seen["new size"] = true
			first, last := got[1024:1536], got[1536:]
			zeros, news := strings.Repeat("\x00", 512), strings.Repeat("n", 512)
			seen["lost before arrived"] = seen["lost before arrived"] || first == zeros && last == news[:464]
			seen["arrived before lost"] = seen["arrived before lost"] || first == news && last == zeros[:464]
			seen["half a sector"] = seen["half a sector"] || strings.HasPrefix(first, "n") && strings.HasSuffix(first, "\x00")
			seen["garbage"] = seen["garbage"] || strings.Trim(first, "\x00n") != ""
			seen["all"] = seen["all"] || got == base+strings.Repeat("n", 1300)
		default:
			seen["size between"] = true
		}
		names, _ := c.List("/")
		seen["name lost"] = seen["name lost"] || len(names) == 1
		seen["name kept"] = seen["name kept"] || len(names) == 2
		if again := contents(t, m.CrashClone(seed, CrashRandom), "f"); again != got {
			t.Fatalf("seed %d gives two different clones", seed)
		}
	}
	for _, what := range []string{
		"old size", "new size", "size between", "lost before arrived", "arrived before lost",
		"half a sector", "garbage", "all", "name lost", "name kept",
	} {
		if !seen[what] {
			t.Errorf("outcome never seen: %s", what)
		}
	}
}

func TestCutComesBackOrStays(t *testing.T) {
	m := NewMem(MemOptions{})
	f := create(t, m, "f")
	must(t, m.SyncDir("/"))
	whole := strings.Repeat("x", 3000)
	write(t, f, whole, 0)
	must(t, f.Sync())
	must(t, f.Truncate(1000))
	seen := map[int]bool{}
	for seed := range uint64(100) {
		got := contents(t, m.CrashClone(seed, CrashRandom), "f")
		if got != whole && got != whole[:1000] {
			t.Fatalf("seed %d: %d bytes, want the file before the cut or after it", seed, len(got))
		}
		seen[len(got)] = true
	}
	if len(seen) != 2 {
		t.Fatalf("sizes seen: %v, want 3000 and 1000", seen)
	}
	must(t, f.Datasync())
	if got := contents(t, m.CrashClone(1, CrashLoseUnsynced), "f"); got != whole[:1000] {
		t.Fatalf("%d bytes after a synced cut", len(got))
	}
}

func TestRenameIsAtomicInACrash(t *testing.T) {
	m := NewMem(MemOptions{})
	f := create(t, m, "a")
	write(t, f, "A", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	must(t, m.Rename("a", "b"))
	seen := map[string]bool{}
	for seed := range uint64(50) {
		names, _ := m.CrashClone(seed, CrashRandom).List("/")
		seen[strings.Join(names, " ")] = true
	}
	if len(seen) != 2 || !seen["a"] || !seen["b"] {
		t.Fatalf("names after a crash: %v, want a or b, never both or none", seen)
	}
}

func TestStopAndCount(t *testing.T) {
	m := NewMem(MemOptions{})
	var ops []string
	m.OnOp(func(op Op, name string, n int64) {
		if n != int64(len(ops)+1) {
			t.Errorf("operation %s is number %d, want %d", op, n, len(ops)+1)
		}
		ops = append(ops, op.String()+" "+name)
	})
	f := create(t, m, "f")
	write(t, f, "x", 0)
	_, _ = f.Size()
	must(t, f.Truncate(0))
	must(t, f.Sync())
	must(t, m.SyncDir("."))
	m.StopAfter(1)
	must(t, m.MkdirAll("d"))
	for what, err := range map[string]error{
		"write": second(f.WriteAt([]byte("y"), 0)), "sync": f.Sync(), "create": createErr(m, "g"),
		"mkdir": m.MkdirAll("e"), "remove": m.Remove("f"), "removeall": m.RemoveAll("f"),
		"rename": m.Rename("f", "g"), "syncdir": m.SyncDir("."), "truncate": f.Truncate(3),
		"preallocate": f.Preallocate(0, 1), "lock": second(m.Lock("l")),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s after the stop: %v, want ErrStopped", what, err)
		}
	}
	if want := "create f,write f,truncate f,sync f,syncdir .,mkdir d"; strings.Join(ops, ",") != want {
		t.Errorf("operations %v, want %s", ops, want)
	}
	if m.Ops() != 6 {
		t.Errorf("Ops = %d, want 6", m.Ops())
	}
	m.StopAfter(-1)
	write(t, f, "z", 0)
}

func TestCapacity(t *testing.T) {
	m := NewMem(MemOptions{CapacityBytes: 5 * pageSize})
	f := create(t, m, "f")
	n, err := f.WriteAt(make([]byte, 6*pageSize), 100)
	if n != 5*pageSize-100 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("WriteAt = %d, %v, want %d and ENOSPC", n, err, 5*pageSize-100)
	}
	g := create(t, m, "g")
	if n, err := g.WriteAt([]byte("x"), 0); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("WriteAt on a full disk = %d, %v", n, err)
	}
	if u, _ := m.DiskUsage("/"); u.FreeBytes != 0 {
		t.Fatalf("%d bytes free", u.FreeBytes)
	}
	must(t, f.Truncate(pageSize))
	must(t, g.Preallocate(0, 3*pageSize))
	if err := f.Preallocate(0, 3*pageSize); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Preallocate: %v, want ENOSPC", err)
	}
	clone := m.CrashClone(1, CrashKeepAll)
	must(t, m.Remove("g"))
	if u, _ := m.DiskUsage("/"); u.FreeBytes != 4*pageSize {
		t.Fatalf("%d bytes free after Remove, want %d", u.FreeBytes, 4*pageSize)
	}
	if u, _ := clone.DiskUsage("/"); u.FreeBytes != pageSize {
		t.Fatalf("%d bytes free in the clone, want %d", u.FreeBytes, pageSize)
	}
	create(t, m, "h").Close()
	must(t, m.Rename("h", "f")) // gives back f's page
	if u, _ := m.DiskUsage("/"); u.FreeBytes != 5*pageSize {
		t.Fatalf("%d bytes free after Rename, want all", u.FreeBytes)
	}
	m.SetCapacity(0)
	write(t, g, strings.Repeat("x", 10*pageSize), 0)
}

// TestMemAgainstModel compares random operations on files with byte slices,
// and the synced contents after a crash with copies made at each sync.
func TestMemAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMem(MemOptions{})
		type model struct {
			file        File
			now, synced []byte
		}
		files := map[string]*model{}
		for _, name := range []string{"a", "b"} {
			files[name] = &model{file: create(t, m, name)}
		}
		must(t, m.SyncDir("/"))
		for range rapid.IntRange(1, 30).Draw(rt, "operations") {
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "file")
			f := files[name]
			switch rapid.IntRange(0, 5).Draw(rt, "operation") {
			case 0, 1:
				off := rapid.IntRange(0, 6000).Draw(rt, "off")
				p := testkit.Bytes(testkit.Rand(rapid.Uint64().Draw(rt, "seed")), rapid.IntRange(1, 5000).Draw(rt, "len"))
				_, err := f.file.Writev([][]byte{p[:len(p)/2], p[len(p)/2:]}, int64(off))
				must(t, err)
				if len(f.now) < off+len(p) {
					f.now = append(f.now, make([]byte, off+len(p)-len(f.now))...)
				}
				copy(f.now[off:], p)
			case 2:
				size := rapid.IntRange(0, 9000).Draw(rt, "size")
				must(t, f.file.Truncate(int64(size)))
				if size <= len(f.now) {
					f.now = f.now[:size:size]
				} else {
					f.now = append(f.now, make([]byte, size-len(f.now))...)
				}
			case 3:
				must(t, f.file.Datasync())
				f.synced = bytes.Clone(f.now)
			case 4:
				mode := rapid.SampledFrom([]CrashMode{CrashKeepAll, CrashKillProcess, CrashRandom}).Draw(rt, "mode")
				clone := m.CrashClone(rapid.Uint64().Draw(rt, "seed"), mode)
				if mode == CrashKillProcess { // go on with it
					m = clone
					for name, f := range files {
						var err error
						f.file, err = m.OpenReadWrite(name)
						must(t, err)
					}
				}
			}
			for name, f := range files {
				if got := contents(t, m, name); got != string(f.now) {
					rt.Fatalf("%s has %d bytes that differ from the model's %d", name, len(got), len(f.now))
				}
				if got := contents(t, m.CrashClone(0, CrashLoseUnsynced), name); got != string(f.synced) {
					rt.Fatalf("%s after a crash has %d bytes that differ from the model's %d", name, len(got), len(f.synced))
				}
			}
		}
	})
}

func BenchmarkCrashClone(b *testing.B) {
	m := NewMem(MemOptions{})
	for _, name := range []string{"a", "b", "c", "d"} {
		must(b, m.MkdirAll(name))
		f := create(b, m, path.Join(name, "log"))
		write(b, f, strings.Repeat("x", 60_000), 0)
		must(b, f.Sync())
		write(b, f, strings.Repeat("y", 5_000), 60_000)
		must(b, m.SyncDir(name))
	}
	must(b, m.SyncDir("/"))
	b.ReportAllocs()
	for seed := uint64(0); b.Loop(); seed++ {
		m.CrashClone(seed, CrashRandom)
	}
}
