package vfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestSyncAllMakesEverythingDurable: after SyncAll a power cut takes nothing, of files, sizes or names; before it, everything.
func TestSyncAllMakesEverythingDurable(t *testing.T) {
	m := NewMem(MemOptions{})
	must(t, m.MkdirAll("/d/e"))
	fs, err := m.OpenFileSystem("/d")
	must(t, err)
	write(t, create(t, m, "/d/e/f"), "bytes", 0)
	write(t, create(t, m, "/gone"), "x", 0)
	must(t, m.Remove("/gone"))
	cut := create(t, m, "/cut")
	write(t, cut, "0123456789", 0)
	must(t, cut.Sync())
	must(t, cut.Truncate(4))
	must(t, m.Rename("/cut", "/d/renamed"))
	if names, _ := m.CrashClone(1, CrashLoseUnsynced).List("/"); len(names) != 0 {
		t.Fatalf("names before SyncAll: %v", names)
	}
	must(t, fs.SyncAll())
	write(t, create(t, m, "/late"), "x", 0)
	for seed := range uint64(20) {
		mode := CrashRandom
		if seed == 0 {
			mode = CrashLoseUnsynced
		}
		clone := m.CrashClone(seed, mode)
		names, err := clone.List("/")
		must(t, err)
		if names = slices.DeleteFunc(names, func(n string) bool { return n == "late" && seed > 0 }); !slices.Equal(names, []string{"d"}) {
			t.Fatalf("names after SyncAll and a power cut: %v", names)
		}
		if got := contents(t, clone, "/d/e/f") + "|" + contents(t, clone, "/d/renamed"); got != "bytes|0123" {
			t.Fatalf("after SyncAll and a power cut: %q", got)
		}
	}
	m.StopAfter(0)
	if err := fs.SyncAll(); !errors.Is(err, ErrStopped) {
		t.Fatalf("SyncAll after the stop: %v", err)
	}
	must(t, fs.Close())
}

// TestStagedFilesSurviveEveryCrash: files replaced together, with two SyncAll for all of them, are old or new after a crash before any operation.
func TestStagedFilesSurviveEveryCrash(t *testing.T) {
	names := []string{"a", "b", "c"}
	m := NewMem(MemOptions{})
	for _, name := range names {
		must(t, WriteFileAtomic(m, name, []byte("old "+name)))
	}
	fs, err := m.OpenFileSystem(".")
	must(t, err)
	for stop := int64(0); ; stop++ {
		for seed := range uint64(30) {
			run := m.CrashClone(0, CrashKeepAll)
			all, err := run.OpenFileSystem(".")
			must(t, err)
			run.StopAfter(stop)
			err = stageAll(run, all, names)
			after := run.CrashClone(seed, CrashRandom)
			for _, name := range names {
				got := contents(t, after, name)
				if got != "new "+name && (err == nil || got != "old "+name) {
					t.Fatalf("stopped after %d operations (%v), seed %d: %s holds %q", stop, err, seed, name, got)
				}
			}
			if err == nil && seed == 29 {
				must(t, fs.Close())
				return
			}
		}
	}
}

func stageAll(m *Mem, all FileSystem, names []string) error {
	for _, name := range names {
		if err := StageFile(m, name, []byte("new "+name)); err != nil {
			return err
		}
	}
	if err := all.SyncAll(); err != nil {
		return err
	}
	for _, name := range names {
		if err := CommitFile(m, name); err != nil {
			return err
		}
	}
	return all.SyncAll()
}

func TestErrorFSFailsSyncAll(t *testing.T) {
	m := NewMem(MemOptions{})
	e := NewErrorFS(m, ErrorFSOptions{})
	fs, err := e.OpenFileSystem("/")
	must(t, err)
	write(t, create(t, e, "/f"), "x", 0)
	e.Add(Rule{Ops: OpSyncAll, Err: syscall.EIO, Count: 1})
	if err := fs.SyncAll(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("SyncAll: %v, want EIO", err)
	}
	if got := contents(t, m.CrashClone(1, CrashLoseUnsynced), "/f"); got == "x" {
		t.Fatal("a SyncAll that failed made the file durable")
	}
	must(t, fs.SyncAll())
	if got := contents(t, m.CrashClone(1, CrashLoseUnsynced), "/f"); got != "x" {
		t.Fatalf("after SyncAll: %q", got)
	}
	e.Add(Rule{Ops: OpOpen, Path: "/", Err: syscall.EMFILE})
	if _, err := e.OpenFileSystem("/"); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("OpenFileSystem: %v, want EMFILE", err)
	}
}

func TestSyncfsReports(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": false, "5.16.20-generic": false, "5.17.0-rc6": true, "5.17": true, "6.1.0-13-amd64": true, "10.0": true, "4.4.0": false, "4.20.1": false,
		"": false, "x.y": false, "6": false, "6.x": false,
	} {
		if got := syncfsReports(release); got != want {
			t.Errorf("%q: got %t, want %t", release, got, want)
		}
	}
}

func TestOSFileSystemHolds(t *testing.T) {
	dir := t.TempDir()
	fs, err := OS().OpenFileSystem(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	defer fs.Close()
	must(t, os.Symlink("/proc/self/status", filepath.Join(dir, "link")))
	for name, want := range map[string]bool{dir: true, filepath.Join(dir, "link"): false, "/proc": false} {
		if got, err := fs.Holds(name); err != nil || got != want {
			t.Errorf("%s: got %t, %v, want %t", name, got, err, want)
		}
	}
	if _, err := fs.Holds(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	must(t, fs.SyncAll())
	if _, err := OS().OpenFileSystem("/proc"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("/proc: %v, want ErrUnsupported", err)
	}
}

// TestOSSyncAllReportsAFailedWriteBack has the disk lose what the page cache accepted, of a file that is closed, and an fsync of another descriptor see
// the error first: SyncAll of a FileSystem that was opened before must tell it all the same.
func TestOSSyncAllReportsAFailedWriteBack(t *testing.T) {
	disk, enlarge := tooSmallDisk(t)
	fs, err := OS().OpenFileSystem(disk)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	defer fs.Close()
	witness, err := OS().OpenFileSystem(disk)
	must(t, err)
	defer witness.Close()
	name := filepath.Join(disk, "f")
	f := create(t, OS(), name)
	write(t, f, strings.Repeat("x", 32<<20), 0)
	must(t, f.Close())
	f, err = OS().OpenReadWrite(name)
	must(t, err)
	if err := f.Datasync(); err == nil {
		t.Skip("this disk did not fail")
	}
	must(t, f.Close())
	must(t, OS().Remove(name))
	enlarge() // nothing fails from here on
	for what, fs := range map[string]FileSystem{"first": fs, "second": witness} {
		if err := fs.SyncAll(); err == nil {
			t.Errorf("%s SyncAll after a failed write-back returned no error", what)
		}
	}
	late, err := OS().OpenFileSystem(disk)
	must(t, err)
	defer late.Close()
	if err := late.SyncAll(); err != nil {
		t.Errorf("a FileSystem opened after all that: %v", err) // shows that the moment of opening is what counts
	}
}

// tooSmallDisk mounts an ext4 of 64 MiB whose image finds place for 12.
func tooSmallDisk(t *testing.T) (disk string, enlarge func()) {
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	disk = filepath.Join(dir, "disk")
	image := filepath.Join(small, "image")
	must(t, os.MkdirAll(small, 0o700))
	must(t, os.MkdirAll(disk, 0o700))
	for _, command := range [][]string{
		{"mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small}, {"truncate", "-s", "64M", image},
		{"mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-J", "size=4", image}, {"mount", "-o", "loop,errors=continue", image, disk},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", command, err, out)
		}
		if command[0] == "mount" {
			t.Cleanup(func() { _ = exec.Command("umount", "-l", command[len(command)-1]).Run() })
		}
	}
	return disk, func() { must(t, exec.Command("mount", "-o", "remount,size=256m", small).Run()) }
}

// TestOSWriteOutTakesTheErrorOfAWriteBack: it is reported by the call that waits for the pages, and by no fsync of that descriptor after it.
func TestOSWriteOutTakesTheErrorOfAWriteBack(t *testing.T) {
	disk, enlarge := tooSmallDisk(t)
	f := create(t, OS(), filepath.Join(disk, "f"))
	defer f.Close()
	write(t, f, strings.Repeat("x", 32<<20), 0)
	if err := f.WriteOut(0, 32<<20); !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("WriteOut on a disk with room for 12 of 32 MiB: %v, want EIO or ENOSPC", err)
	}
	enlarge()
	if err := f.Datasync(); err != nil {
		t.Logf("this kernel's fsync reports it again: %v", err)
	}
}
