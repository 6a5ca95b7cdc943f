package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaultFsyncFails has the fsyncs of one directory's logs fail on a running broker: nothing in it is acknowledged from then on,
// also when fsyncs would succeed again, and the other directory goes on.
func TestFaultFsyncFails(t *testing.T) {
	r := newFaultRig(t, [2]string{t.TempDir(), t.TempDir()})
	fault := inject(t, r.s, "fsync,fdatasync,sync_file_range", "error=EIO", r.segments(1)...)
	fault.hit()
	r.moreFailed(r.in(1)...)
	fault.remove()
	r.moreFailed(r.in(1)...)
	r.moreAcked(r.in(0)...)
	r.allRead("with a directory offline")
	must(t, "", "topic", "create", "healthy", "--brokers", r.s.address)
	must(t, "", "produce", "healthy", "one", "--brokers", r.s.address)
	if !strings.Contains(r.s.log.String(), "log directory offline") {
		t.Errorf("the log does not tell\n%s", r.s.log)
	}
	r.terminate(1)
	r.again()
}

// TestFaultFsyncOfTheMetadataFails is the same for the directory that holds the metadata: changes of topics are refused, not left waiting.
func TestFaultFsyncOfTheMetadataFails(t *testing.T) {
	r := newFaultRig(t, [2]string{t.TempDir(), t.TempDir()})
	fault := inject(t, r.s, "fsync,fdatasync", "error=EIO",
		filepath.Join(r.dirs[0], "__cluster_metadata-0", "00000000000000000000.log"))
	r.refusesTopics()
	fault.hit()
	fault.remove()
	r.refusesTopics()
	r.moreFailed(r.in(0)...)
	r.moreAcked(r.in(1)...)
	r.allRead("with the metadata's directory offline")
	r.terminate(1)
	r.again()
}

// TestFaultFsyncIsSlow makes every fsync take 200 ms longer: slow is no error.
func TestFaultFsyncIsSlow(t *testing.T) {
	r := newFaultRig(t, [2]string{t.TempDir(), t.TempDir()})
	fault := inject(t, r.s, "fsync,fdatasync", "delay_exit=200000")
	fault.hit()
	r.moreAcked(r.producers...)
	r.allRead("with slow fsyncs")
	for _, p := range r.producers {
		if n := p.failed.Load(); n > 0 {
			t.Errorf("partition %d: %d errors", p.partition, n)
		}
	}
	fault.remove()
	r.terminate(0)
	r.again()
}

// TestFaultFsyncHangs has fsyncs of one directory never return: nobody is told that its records are durable, everything else goes on,
// and what waited is acknowledged when the disk comes back.
func TestFaultFsyncHangs(t *testing.T) {
	r := newFaultRig(t, [2]string{t.TempDir(), t.TempDir()})
	fault := inject(t, r.s, "fsync,fdatasync", "delay_enter=3600000000", r.segments(1)...)
	r.moreAcked(r.in(0)...)
	before := []int64{r.in(1)[0].acked.Load(), r.in(1)[1].acked.Load()}
	r.moreAcked(r.in(0)...)
	must(t, "", "topic", "create", "meanwhile", "--brokers", r.s.address)
	r.allRead("with a directory that hangs")
	for i, p := range r.in(1) {
		if got := p.acked.Load(); got != before[i] {
			t.Errorf("partition %d: %d records were acknowledged while no fsync returned", p.partition, got-before[i])
		}
	}
	fault.remove()
	r.moreAcked(r.producers...)
	r.terminate(0)
	r.again()
}

// TestFaultFsyncHangsAndTheBrokerIsStopped stops a broker while its disk hangs. It waits for the disk, to stop cleanly; a second signal
// ends it as soon as the kernel lets go of the thread that is in the fsync.
func TestFaultFsyncHangsAndTheBrokerIsStopped(t *testing.T) {
	r := newFaultRig(t, [2]string{t.TempDir(), t.TempDir()})
	fault := inject(t, r.s, "fsync,fdatasync", "delay_enter=3600000000", r.segments(1)...)
	r.moreAcked(r.in(0)...)
	r.stopping.Store(true)
	r.signal()
	eventually(t, func() bool { return strings.Contains(r.s.log.String(), "msg=stopping") }, "the broker stops\n%s", r.s.log)
	eventually(t, func() bool { // signals that follow at once count as one
		r.signal()
		return strings.Contains(r.s.log.String(), "second signal")
	}, "the second signal is noticed\n%s", r.s.log)
	fault.remove()
	r.s.awaitEnd()
	if got := r.s.cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit status %d after two signals, want 1", got)
	}
	r.unload()
	r.again()
}

// TestFaultWriteBackFails is a disk that accepts writes and cannot keep them: the file system's image lies on a file system that is too
// small. The kernel tells it once, at an fsync; the next one would succeed over records that are gone.
func TestFaultWriteBackFails(t *testing.T) {
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("this host does not mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", small).Run() })
	disk := mountImage(t, dir, filepath.Join(small, "image"), "128M", "-E", "nodiscard", "-J", "size=4")
	r := newFaultRig(t, [2]string{t.TempDir(), filepath.Join(disk.mount, "data")})
	free := fill(t, small)
	r.moreFailed(r.in(1)...)
	r.moreAcked(r.in(0)...)
	free()
	r.moreFailed(r.in(1)...)
	r.allRead("after the write-back failed")
	r.terminate(1)
	if out, err := exec.Command("mount", "-o", "remount,size=256m", small).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	disk.again() // what only the page cache had is gone
	r.again()
}
