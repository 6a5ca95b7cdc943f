package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMountInFindsTheLongestPoint(t *testing.T) {
	table := "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n" +
		"23 22 0:5 / /data rw - xfs /dev/vdb rw,noatime\n" +
		"24 23 0:6 / /data/my\\040disk rw - tmpfs none rw,size=1k\nbroken line\n"
	f := func(path, point, kind string) {
		t.Helper()
		if got := mountIn(table, path); got.Point != point || got.Type != kind {
			t.Errorf("%s: got %+v, want %s on %s", path, got, kind, point)
		}
	}
	f("/var", "/", "ext4")
	f("/data", "/data", "xfs")
	f("/database", "/", "ext4")
	f("/data/my disk/x", "/data/my disk", "tmpfs")
	if got := mountIn(table, "/").Options; got != "rw,relatime,rw,discard" {
		t.Errorf("options: got %q", got)
	}
}

func TestThisHostTellsItsFacts(t *testing.T) {
	facts := Read()
	if facts.Kernel == "" || facts.CPUs < 1 || facts.MemoryBytes < 1<<20 || facts.OpenFiles == 0 {
		t.Errorf("got %+v", facts)
	}
	mount, err := MountOf(t.TempDir())
	if err != nil || mount.Type == "" || mount.TotalBytes == 0 {
		t.Errorf("got %+v, %v", mount, err)
	}
	if _, err := MountOf("/no/such/path"); err == nil {
		t.Error("a missing path has a mount")
	}
}

func TestMeasureSyncSortsItsTimes(t *testing.T) {
	times, err := MeasureSync(t.TempDir(), 5, 4096)
	if err != nil || len(times) != 5 {
		t.Fatalf("got %v, %v", times, err)
	}
	if times.Quantile(0) > times.Quantile(1) || times.Quantile(1) != times[4] {
		t.Errorf("got %v", times)
	}
	if got := (SyncTimes{1, 2, 3, 4}).Quantile(0.5); got != 3*time.Nanosecond {
		t.Errorf("median: got %v", got)
	}
	if SyncTimes(nil).Quantile(0.5) != 0 {
		t.Error("no times have a median")
	}
}

func TestAnExt4WithoutAJournalIsFound(t *testing.T) {
	sysfs, devices := t.TempDir(), t.TempDir()
	for name, task := range map[string]string{"vda": "<none>\n", "dm-0": "<none>\n", "vdb": "417\n"} {
		if err := os.MkdirAll(filepath.Join(sysfs, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sysfs, name, "journal_task"), []byte(task), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mapped := filepath.Join(devices, "data")
	if err := os.WriteFile(filepath.Join(devices, "dm-0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dm-0", mapped); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]bool{"/dev/vda": true, mapped: true, "/dev/vdb": false, "/dev/vdc": false} {
		if got := noJournal(sysfs, device); got != want {
			t.Errorf("%s: without a journal %v, want %v", device, got, want)
		}
	}
}
