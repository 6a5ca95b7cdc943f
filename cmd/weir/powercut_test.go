package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

var powerCuts = flag.Int("power-cuts", 12, "power cuts of TestPowerCut for each policy")

// cutDisk is an ext4 file system of its own on a loop device, whose power can be cut.
type cutDisk struct {
	t            *testing.T
	image, mount string
}

func newCutDisk(t *testing.T) *cutDisk {
	t.Helper()
	dir := t.TempDir()
	return mountImage(t, dir, filepath.Join(dir, "image"), "256M")
}

// mountImage makes an ext4 of a size in the file image and mounts it below dir.
func mountImage(t *testing.T, dir, image, size string, mkfs ...string) *cutDisk {
	t.Helper()
	d := &cutDisk{t: t, image: image, mount: filepath.Join(dir, "mount")}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file system of its own")
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	mkfs = append(append([]string{"mkfs.ext4", "-q", "-F"}, mkfs...), d.image)
	for _, step := range [][]string{{"truncate", "-s", size, d.image}, mkfs} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system to break: %v: %s", err, out)
		}
	}
	if out, err := exec.Command("mount", "-o", "loop,errors=continue", d.image, d.mount).CombinedOutput(); err != nil {
		t.Skipf("this host does not mount loop devices: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.mount).Run() })
	return d
}

// cut takes the power away: what the kernel had not written is gone, its journal included.
func (d *cutDisk) cut() {
	d.t.Helper()
	root, err := os.Open(d.mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer root.Close()
	const ext4IoctlShutdown, noLogFlush = 0x8004587d, 2
	if err := unix.IoctlSetPointerInt(int(root.Fd()), ext4IoctlShutdown, noLogFlush); err != nil {
		d.t.Skipf("this kernel cannot shut an ext4 down: %v", err)
	}
}

// halt stops every thread of the broker. States lists, as proc_pid_stat(5) has them, the states in which a thread is at rest: with D, calls of the
// disk may be under way.
func (s *server) halt(states string) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(faultDeadline); ; time.Sleep(100 * time.Microsecond) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			s.t.Fatalf("no threads: %v\n%s", err, s.log)
		}
		moving := slices.ContainsFunc(tasks, func(task string) bool {
			stat, err := os.ReadFile(task)
			_, state, found := strings.Cut(string(stat), ") ")
			return err == nil && !(found && strings.ContainsRune(states, rune(state[0])))
		})
		if !moving {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %s a thread still runs\n%s", faultDeadline, s.log)
		}
	}
}

// again mounts the disk after a cut; the file system replays its journal.
func (d *cutDisk) again() {
	d.t.Helper()
	var out []byte
	err := errors.New("not tried")
	for deadline := time.Now().Add(2 * time.Minute); err != nil; time.Sleep(50 * time.Millisecond) { // the kernel may hold it for a while
		if time.Now().After(deadline) {
			d.t.Fatalf("unmounting after the cut: %v: %s", err, out)
		}
		out, err = exec.Command("umount", d.mount).CombinedOutput()
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.mount).CombinedOutput(); err != nil {
		d.t.Fatalf("mounting after the cut: %v: %s", err, out)
	}
}

// TestPowerCut cuts the power of a broker's disk under load: commit loses nothing that was acknowledged, and never loses
// something, or the test has proved nothing.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	f := func(policy string, mayLose bool) {
		t.Run(policy, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("-power-cuts=%d, seed %d", *powerCuts, seed)
			random := rand.New(rand.NewPCG(seed, 2))
			disk := newCutDisk(t)
			acked, lost := 0, 0
			for round := range *powerCuts {
				l := &ledger{}
				l.mu.acked = map[int32]map[int64]string{}
				data := filepath.Join(disk.mount, "data")
				s := serve(t, data, "--set", "num.partitions=3", "--set", "log.segment.bytes=1048576",
					"--set", "fsync.policy="+policy)
				stop := produceUntilStopped(t, s.address, round, l)
				time.Sleep(time.Duration(100+random.IntN(150)) * time.Millisecond)
				// Nothing is acknowledged after the cut begins: an fdatasync that is under way may return without an error though the kernel has
				// given its journal commit up.
				s.halt("TD")
				disk.cut()
				s.kill()
				stop()
				disk.again()
				s = serve(t, data)
				acked += l.size()
				gone := l.missing(t, s.address)
				if gone > 0 && !mayLose {
					t.Fatalf("round %d: %d of %d acknowledged records are lost", round, gone, l.size())
				}
				lost += gone
				s.kill()
				if round%20 == 19 { // before the disk is full
					if err := os.RemoveAll(data); err != nil {
						t.Fatal(err)
					}
				}
			}
			t.Logf("%d acknowledged, %d lost", acked, lost)
			if acked == 0 {
				t.Error("nothing was acknowledged: the test has proved nothing")
			}
			if mayLose && lost == 0 {
				t.Error("nothing was lost without fsync: the power was not cut")
			}
		})
	}
	f("commit", false)
	f("never", true)
}

// missing reads the whole topic and counts the records that were in the ledger before and are not at their offset.
func (l *ledger) missing(t *testing.T, address string) (count int) {
	t.Helper()
	acked := map[int32]map[int64]string{}
	l.mu.Lock()
	for partition, byOffset := range l.mu.acked {
		acked[partition] = maps.Clone(byOffset)
	}
	l.mu.Unlock()
	found := readTopic(t, address, "ledger")
	for partition, byOffset := range acked {
		for offset, value := range byOffset {
			if found[partition][offset] != value {
				count++
			}
		}
	}
	return count
}

// readTopic reads every record from the log start to the high watermark.
func readTopic(t *testing.T, address, topic string) map[int32]map[int64]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	found, from, left := map[int32]map[int64]string{}, map[int32]kgo.Offset{}, int64(0)
	ends.Each(func(end kadm.ListedOffset) {
		if errors.Is(end.Err, kerr.UnknownTopicOrPartition) {
			return // the topic itself was not yet durable
		}
		start, _ := starts.Lookup(topic, end.Partition)
		if end.Err != nil || start.Err != nil {
			t.Fatalf("listing offsets: %v, %v", start.Err, end.Err)
		}
		if end.Offset > start.Offset {
			found[end.Partition], from[end.Partition] = map[int64]string{}, kgo.NewOffset().At(start.Offset)
			left += end.Offset - start.Offset
		}
	})
	if left == 0 {
		return found
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading %s, %d records left: %v", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			found[r.Partition][r.Offset] = string(r.Value)
			left--
		})
	}
	return found
}
