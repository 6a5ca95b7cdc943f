package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/internal/testkit"
)

// faultDeadline bounds every wait of the fault tests: it only ever ends a test that has failed.
const faultDeadline = 2 * time.Minute

// eventually waits until cond holds; what says what was waited for.
func eventually(t *testing.T, cond func() bool, what string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(faultDeadline); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", faultDeadline, fmt.Sprintf(what, args...))
		}
	}
}

// faultRig is a broker with two log directories, four partitions of a topic, and a producer for each. The first directory holds the
// metadata.
type faultRig struct {
	t    *testing.T
	dirs [2]string
	s    *server
	l    *ledger

	stopLoad  context.CancelFunc
	wg        sync.WaitGroup
	producers []*faultProducer // by partition
	// sticky says that an acknowledgement after an error in the same directory is wrong: true but for a full disk.
	sticky   atomic.Bool
	failed   [2]atomic.Bool // by directory: an error was seen
	stopping atomic.Bool    // the broker was told to stop: every error is right
}

// faultProducer writes one record after the other to its partition, over a connection of its own, and tries none again.
type faultProducer struct {
	partition     int32
	dir           atomic.Int32 // index of the log directory, -1 until it is known
	acked, failed atomic.Int64
}

// newFaultRig starts the broker and the producers and waits until every partition has taken records.
func newFaultRig(t *testing.T, dirs [2]string, args ...string) *faultRig {
	t.Helper()
	if testing.Short() {
		t.Skip("a broker with a broken disk takes its seconds")
	}
	r := &faultRig{t: t, dirs: dirs, l: &ledger{}}
	r.l.mu.acked = map[int32]map[int64]string{}
	r.sticky.Store(true)
	r.start(args...)
	must(t, "", "topic", "create", "ledger", "--partitions", "4", "--brokers", r.s.address)
	r.load()
	for _, p := range r.producers {
		r.moreAcked(p)
		for i, dir := range r.dirs {
			if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("ledger-%d", p.partition))); err == nil {
				p.dir.Store(int32(i))
			}
		}
	}
	for i := range r.dirs {
		if len(r.in(i)) != 2 {
			t.Fatalf("directory %d has %d of the four partitions, want 2", i, len(r.in(i)))
		}
	}
	return r
}

func (r *faultRig) start(args ...string) {
	r.t.Helper()
	r.s = serve(r.t, r.dirs[0], append([]string{"--data-dir", r.dirs[1]}, args...)...)
}

// load starts the producers.
func (r *faultRig) load() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.stopLoad = cancel
	r.t.Cleanup(r.unload)
	for partition := range int32(4) {
		client, err := kgo.NewClient(kgo.SeedBrokers(r.s.address), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.ProducerLinger(0),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			r.t.Fatal(err)
		}
		p := &faultProducer{partition: partition}
		p.dir.Store(-1)
		r.producers = append(r.producers, p)
		r.wg.Go(func() {
			defer client.Close()
			r.produce(ctx, client, p)
		})
	}
}

// unload stops the producers.
func (r *faultRig) unload() {
	r.stopLoad()
	r.wg.Wait()
}

func (r *faultRig) produce(ctx context.Context, client *kgo.Client, p *faultProducer) {
	for n := 0; ctx.Err() == nil; n++ {
		dir := p.dir.Load()
		late := p.acked.Load() > 0 && dir >= 0 && r.failed[dir].Load() && r.sticky.Load()
		value := fmt.Sprintf("partition %d record %d %s", p.partition, n, strings.Repeat("x", 200))
		rec := &kgo.Record{Topic: "ledger", Partition: p.partition, Value: []byte(value)}
		err := client.ProduceSync(ctx, rec).FirstErr()
		switch {
		case err == nil:
			r.l.note(rec)
			p.acked.Add(1)
			if late {
				r.t.Errorf("partition %d: offset %d was acknowledged after an error in its directory", p.partition, rec.Offset)
				return
			}
		case ctx.Err() != nil || r.stopping.Load():
			return
		case errors.Is(err, kerr.KafkaStorageError):
			if dir >= 0 {
				r.failed[dir].Store(true)
			}
			p.failed.Add(1)
			time.Sleep(2 * time.Millisecond)
		default:
			r.t.Errorf("partition %d: got error %v, want none or KAFKA_STORAGE_ERROR", p.partition, err)
			return
		}
	}
}

// in lists the producers whose partitions are in a directory.
func (r *faultRig) in(dir int) (producers []*faultProducer) {
	for _, p := range r.producers {
		if int(p.dir.Load()) == dir {
			producers = append(producers, p)
		}
	}
	return producers
}

// moreAcked waits for acknowledgements of records that are sent from now on.
func (r *faultRig) moreAcked(producers ...*faultProducer) {
	r.t.Helper()
	for _, p := range producers {
		from := p.acked.Load()
		eventually(r.t, func() bool { return p.acked.Load() >= from+3 }, "more acknowledgements of partition %d\n%s", p.partition, r.s.log)
	}
}

// moreFailed waits for errors of records that are sent from now on.
func (r *faultRig) moreFailed(producers ...*faultProducer) {
	r.t.Helper()
	for _, p := range producers {
		from := p.failed.Load()
		eventually(r.t, func() bool { return p.failed.Load() >= from+3 }, "errors of partition %d\n%s", p.partition, r.s.log)
	}
}

// allRead holds the ledger against what the broker serves.
func (r *faultRig) allRead(when string) {
	r.t.Helper()
	if gone := r.l.missing(r.t, r.s.address); gone > 0 {
		r.t.Errorf("%s: %d of %d acknowledged records are not served", when, gone, r.l.size())
	}
}

// signal asks the broker to stop.
func (r *faultRig) signal() { _ = r.s.cmd.Process.Signal(syscall.SIGTERM) } // it may have ended

// terminate is SIGTERM to a broker with a fault: it has to end, with the given exit status.
func (r *faultRig) terminate(status int) {
	r.t.Helper()
	r.unload()
	r.signal()
	r.s.awaitEnd()
	if got := r.s.cmd.ProcessState.ExitCode(); got != status {
		r.t.Errorf("exit status %d after SIGTERM, want %d\n%s", got, status, r.s.log)
	}
}

// again restarts the broker after the fault is gone: everything acknowledged is there, and every partition takes records.
func (r *faultRig) again() {
	r.t.Helper()
	r.stopping.Store(false)
	r.failed[0].Store(false)
	r.failed[1].Store(false)
	r.start()
	r.allRead("after the restart")
	r.producers = nil
	r.load()
	r.moreAcked(r.producers...)
	must(r.t, "", "topic", "create", "after", "--brokers", r.s.address)
	r.unload()
	r.s.stop()
	if r.l.size() == 0 {
		r.t.Error("nothing was acknowledged: the test has proved nothing")
	}
}

// segments are the paths of the active segments of the partitions in a directory.
func (r *faultRig) segments(dir int) (paths []string) {
	for _, p := range r.in(dir) {
		paths = append(paths, filepath.Join(r.dirs[dir], fmt.Sprintf("ledger-%d", p.partition), "00000000000000000000.log"))
	}
	return paths
}

// injector is strace attached to a broker, which changes what its system calls do.
type injector struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   string
	once  sync.Once
	ended chan struct{}
}

// inject attaches strace to the broker: calls of the kinds in calls get the fault, those on paths only, if there are any.
func inject(t *testing.T, s *server, calls, fault string, paths ...string) *injector {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("injecting faults into system calls needs strace")
	}
	i := &injector{t: t, out: filepath.Join(t.TempDir(), "strace"), ended: make(chan struct{})}
	args := []string{"-f", "-qq", "-o", i.out, "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + fault}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	i.cmd = exec.Command("strace", append(args, "-p", fmt.Sprint(s.cmd.Process.Pid))...)
	var said testkit.LogBuffer
	i.cmd.Stderr = &said
	if err := i.cmd.Start(); err != nil {
		t.Skipf("strace does not start: %v", err)
	}
	go func() { _ = i.cmd.Wait(); close(i.ended) }()
	t.Cleanup(i.remove)
	eventually(t, func() bool {
		select {
		case <-i.ended:
			t.Skipf("this host does not let strace attach: %s", &said)
		default:
		}
		return traced(s.cmd.Process.Pid)
	}, "strace is attached to every thread: %s", &said)
	return i
}

// traced says whether every thread of a process has a tracer.
func traced(pid int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil || strings.Contains(string(status), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

// remove ends strace; calls that it holds go on. It is killed, because strace does not let go of a thread that it delays.
func (i *injector) remove() {
	i.once.Do(func() { _ = i.cmd.Process.Kill() }) // it may have ended with the broker
	<-i.ended
}

// hit waits until a call got the fault.
func (i *injector) hit() {
	i.t.Helper()
	eventually(i.t, func() bool {
		out, _ := os.ReadFile(i.out)
		return strings.Contains(string(out), "INJECTED") || strings.Contains(string(out), "DELAYED")
	}, "a system call got the fault")
}

// fill writes a file until the file system is full, and returns what frees the space again.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err == nil {
			continue
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		size /= 2
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}
