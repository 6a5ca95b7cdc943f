package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// newFaultDisk is a file system of its own, small enough to be filled at once.
func newFaultDisk(t *testing.T) *cutDisk {
	t.Helper()
	dir := t.TempDir()
	return mountImage(t, dir, filepath.Join(dir, "image"), "64M")
}

// createTopic asks for a topic and returns the broker's answer; that there is none fails the test.
func (r *faultRig) createTopic(name string) error {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.s.address))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), faultDeadline)
	defer cancel()
	answers, err := kadm.NewClient(client).CreateTopics(ctx, 1, 1, nil, name)
	if err != nil {
		r.t.Fatalf("creating %s: no answer: %v\n%s", name, err, r.s.log)
	}
	return answers[name].Err
}

// refusesTopics waits until the creation of a topic is refused, with an error of the storage. What is left of the metadata log's last
// block may take some first.
func (r *faultRig) refusesTopics() {
	r.t.Helper()
	for n := range 1000 {
		err := r.createTopic(fmt.Sprintf("refused-%d-%d", r.l.size(), n))
		if errors.Is(err, kerr.KafkaStorageError) {
			return
		}
		if err != nil {
			r.t.Fatalf("creating a topic: got %v, want KAFKA_STORAGE_ERROR\n%s", err, r.s.log)
		}
	}
	r.t.Fatal("a thousand topics were created on the broken disk")
}

// spaceModes are the two ways in which a disk is full: producers are refused before it is, or the file system refuses. A producer that is
// refused pauses, shorter here than by default.
func spaceModes(t *testing.T, test func(t *testing.T, settings ...string)) {
	t.Run("reserve", func(t *testing.T) { test(t, "--set", "log.disk.throttle.max.ms=20") })
	t.Run("no reserve", func(t *testing.T) {
		test(t, "--set", "log.disk.reserve.bytes=0", "--set", "log.disk.throttle.free.bytes=0")
	})
}

// TestFaultLogDirectoryIsFull fills the disk of one directory: appends to it are refused until there is space, and then go on.
func TestFaultLogDirectoryIsFull(t *testing.T) {
	spaceModes(t, func(t *testing.T, settings ...string) {
		disk := newFaultDisk(t)
		r := newFaultRig(t, [2]string{t.TempDir(), filepath.Join(disk.mount, "data")}, settings...)
		r.sticky.Store(false)
		for range 2 {
			free := fill(t, disk.mount)
			r.moreFailed(r.in(1)...)
			r.moreAcked(r.in(0)...)
			r.allRead("with a full disk")
			if err := r.createTopic(fmt.Sprintf("beside-%d", r.l.size())); err != nil {
				t.Errorf("creating a topic beside the full disk: %v", err)
			}
			free()
			r.moreAcked(r.producers...)
		}
		r.terminate(0)
		r.again()
	})
}

// TestFaultMetadataDirectoryIsFull fills the disk that holds the metadata: topics cannot be created until there is space, partitions
// on the other disk do not notice.
func TestFaultMetadataDirectoryIsFull(t *testing.T) {
	spaceModes(t, func(t *testing.T, settings ...string) {
		disk := newFaultDisk(t)
		r := newFaultRig(t, [2]string{filepath.Join(disk.mount, "data"), t.TempDir()}, settings...)
		r.sticky.Store(false)
		for round := range 2 {
			free := fill(t, disk.mount)
			r.moreFailed(r.in(0)...)
			r.refusesTopics()
			r.moreAcked(r.in(1)...)
			r.allRead("with a full disk")
			free()
			eventually(t, func() bool { return r.createTopic(fmt.Sprintf("again-%d", round)) == nil }, "topics are created again\n%s", r.s.log)
			r.moreAcked(r.producers...)
		}
		r.terminate(0)
		r.again()
	})
}

// TestFaultBrokerIsStoppedOnAFullDisk stops and starts a broker whose disks are full.
func TestFaultBrokerIsStoppedOnAFullDisk(t *testing.T) {
	spaceModes(t, func(t *testing.T, settings ...string) {
		disk := newFaultDisk(t)
		r := newFaultRig(t, [2]string{filepath.Join(disk.mount, "one"), filepath.Join(disk.mount, "two")}, settings...)
		r.sticky.Store(false)
		free := fill(t, disk.mount)
		r.moreFailed(r.producers...)
		r.unload()
		r.signal()
		r.s.awaitEnd()
		r.start(settings...)
		r.allRead("after a start on a full disk")
		r.refusesTopics()
		r.s.kill()
		free()
		r.again()
	})
}

// between breaks a disk while no fsync is under way: one that the fault meets may return without an error, and nothing is on the disk. A program
// that only appends and fsyncs sees that too, of 300 files that an abort met 17 lacked a record whose fdatasync had returned 0.
func (r *faultRig) between(fault func()) {
	r.t.Helper()
	r.s.halt("T")
	fault()
	if err := r.s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		r.t.Fatal(err)
	}
}

// abort makes the file system of a disk read-only, as the kernel does after an error in its journal.
func (r *faultRig) abort(disk *cutDisk) {
	r.t.Helper()
	r.between(func() {
		if out, err := exec.Command("mount", "-o", "remount,abort", disk.mount).CombinedOutput(); err != nil {
			r.t.Skipf("this kernel does not abort an ext4: %v: %s", err, out)
		}
	})
}

// TestFaultFileSystemGoesReadOnly is what ext4 does of itself after an error: writes get EROFS, reads go on.
func TestFaultFileSystemGoesReadOnly(t *testing.T) {
	disk := newFaultDisk(t)
	r := newFaultRig(t, [2]string{t.TempDir(), filepath.Join(disk.mount, "data")})
	r.abort(disk)
	r.moreFailed(r.in(1)...)
	r.moreAcked(r.in(0)...)
	r.allRead("with a read-only directory")
	if err := r.createTopic("beside"); err != nil {
		t.Errorf("creating a topic: %v", err)
	}
	r.terminate(1)
	disk.again()
	r.again()
}

// TestFaultMetadataFileSystemGoesReadOnly is the same for the directory of the metadata.
func TestFaultMetadataFileSystemGoesReadOnly(t *testing.T) {
	disk := newFaultDisk(t)
	r := newFaultRig(t, [2]string{filepath.Join(disk.mount, "data"), t.TempDir()})
	r.abort(disk)
	r.refusesTopics()
	r.moreFailed(r.in(0)...)
	r.moreAcked(r.in(1)...)
	r.allRead("with read-only metadata")
	r.terminate(1)
	disk.again()
	r.again()
}

// TestFaultDiskIsGone takes a disk away whole, reads included.
func TestFaultDiskIsGone(t *testing.T) {
	disk := newFaultDisk(t)
	r := newFaultRig(t, [2]string{t.TempDir(), filepath.Join(disk.mount, "data")})
	r.between(disk.cut)
	r.moreFailed(r.in(1)...)
	r.moreAcked(r.in(0)...)
	if err := r.createTopic("beside"); err != nil {
		t.Errorf("creating a topic: %v", err)
	}
	r.terminate(1)
	disk.again()
	r.again()
}

// TestFaultFileSystemFreezes holds every write to a disk for a while. The kernel lets nobody go that writes there, so the whole broker may
// wait; nothing is lost, and it goes on after.
func TestFaultFileSystemFreezes(t *testing.T) {
	disk := newFaultDisk(t)
	r := newFaultRig(t, [2]string{t.TempDir(), filepath.Join(disk.mount, "data")})
	if out, err := exec.Command("fsfreeze", "-f", disk.mount).CombinedOutput(); err != nil {
		t.Skipf("this host does not freeze file systems: %v: %s", err, out)
	}
	thaw := func() { _ = exec.Command("fsfreeze", "-u", disk.mount).Run() } // twice does no harm
	t.Cleanup(thaw)
	time.Sleep(time.Second)
	thaw()
	r.moreAcked(r.producers...)
	r.allRead("after the thaw")
	r.terminate(0)
	r.again()
}
