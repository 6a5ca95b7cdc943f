package bench

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// Not parallel, like every test here that looks at the whole process.
func TestQuietKeepsTheCollectorOffAndPutsItBack(t *testing.T) {
	procs, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	limit := debug.SetMemoryLimit(-1)
	q := quiet(3)
	before := sampleSelf()
	for range 200 { // 200 MiB of garbage: several collections otherwise
		garbage := make([]byte, 1<<20)
		garbage[0] = 1
		runtime.KeepAlive(garbage)
	}
	after := sampleSelf()
	if n := after.gcCount - before.gcCount; n != 0 {
		t.Errorf("%d collections", n)
	}
	if p := runtime.GOMAXPROCS(0); p != runtime.NumCPU()+3 {
		t.Errorf("%d scheduler slots, want one for each of %d cores and 3 senders", p, runtime.NumCPU())
	}
	q.restore()
	q.restore() // nothing more happens
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GC percent %d after restore", got)
	}
	if got := debug.SetMemoryLimit(-1); got != limit || runtime.GOMAXPROCS(0) != procs {
		t.Errorf("limit %d, want %d; %d slots, want %d", got, limit, runtime.GOMAXPROCS(0), procs)
	}
	(*quietProcess)(nil).restore()
}

// A pause that did happen is seen, with its length: the rule that judges it must not go blind.
func TestACollectionIsMeasured(t *testing.T) {
	before := sampleSelf()
	runtime.GC()
	after := sampleSelf()
	if after.gcCount <= before.gcCount || after.longestPause(&before) <= 0 || after.longestPause(&after) != 0 {
		t.Fatalf("collections %d to %d, longest pause %v, since then %v", before.gcCount, after.gcCount, after.longestPause(&before),
			after.longestPause(&after))
	}
	old := selfSample{gcCount: 7, pauses: []time.Duration{9 * time.Second}}
	now := selfSample{gcCount: 9, pauses: []time.Duration{2, 5, 9 * time.Second}}
	if got := now.longestPause(&old); got != 5 {
		t.Errorf("longest pause %v, want 5 ns: that of 9 s was before", got)
	}
	f := startFake(t)
	f.onProduce = func(n int64) {
		if n%100 == 0 {
			runtime.GC()
		}
	}
	if res := mustRun(t, f, quickSpec(nil)); res.Generator.GCs == 0 || res.Generator.GCMaxUS <= 0 || res.Generator.GCMaxUS > res.Generator.GCPauseUS {
		t.Errorf("collections in a run do not show: %+v", res.Generator)
	}
}

// blackHole accepts one connection and drops what comes, or sends zeros for ever.
func blackHole(t *testing.T, send bool) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 64<<10)
		for err == nil {
			if send {
				_, err = c.Write(buf)
			} else {
				_, err = c.Read(buf)
			}
		}
	}()
	w, err := dial(context.Background(), ln.Addr().String(), dialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.close()
		ln.Close()
		<-done
	})
	return w
}

// A request costs the raw engine no allocation, and neither do record bytes that are dropped in the kernel.
func TestTheRawEngineMakesNoGarbage(t *testing.T) {
	spec := testSpec(func(s *Spec) { s.Codec, s.Acks = "lz4", 1 })
	r := newRun(&AddressTarget{name: "x", addr: "127.0.0.1:1", pid: 1 << 30}, spec, nil)
	var err error
	if r.templates, err = newTemplates(spec); err != nil {
		t.Fatal(err)
	}
	r.frames, r.sent = newProduceFrames(r.topic, 1, r.templates), newSentLedger(1, 1)
	r.from.Store(0)
	p := &producer{r: r, partitions: []int32{0}, w: blackHole(t, false), q: newInflight(64)}
	p.rec, p.cnt = r.worker()
	answer := producedOK(r.topic)
	one := func() {
		p.batch = p.batch[:0]
		for range 4 {
			req := pending{intended: r.clock.now()}
			p.prepare(&req)
			p.batch = append(p.batch, req)
		}
		if err := p.write(true); err != nil {
			t.Fatal(err)
		}
		for i := range p.batch {
			binary.BigEndian.PutUint32(answer, uint32(p.batch[i].correlation))
			if err := p.answer(answer, r.clock.now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	one() // makes histograms and buffers
	if n := testing.AllocsPerRun(200, one); n >= 1 {
		t.Errorf("%v allocations in 4 requests and their answers", n)
	}
	w, scratch := blackHole(t, true), make([]byte, 4096)
	drop := func() {
		if err := w.discard(100<<10, scratch); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(200, drop); n >= 1 {
		t.Errorf("%v allocations to drop 100 KiB", n)
	}
}

// producedOK is a Produce v7 response, from the correlation id on, for partition 0.
func producedOK(topic string) []byte {
	b := make([]byte, 4)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = appendKafkaString(b, topic)
	b = binary.BigEndian.AppendUint32(b, 1)
	return append(b, make([]byte, 4+2+8+8+8+4)...)
}

func TestOtherProcessesAndOwnCostsAreTold(t *testing.T) {
	child := exec.Command("sh", "-c", "while :; do :; done")
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	before := totals{host: sampleHost(nil)}
	deadline := time.Now().Add(time.Minute)
	for {
		time.Sleep(50 * time.Millisecond)
		cpu, ok := processCPU(child.Process.Pid)
		if !ok {
			t.Fatal("CPU clock of a child cannot be read")
		}
		after := totals{host: sampleHost(nil)}
		if l := hostLoad(&before, &after, 0.5); cpu > 0.5 && l.OtherCores > 0.3*float64(l.CPUs)/2 {
			res := &RunResult{Host: l}
			if res.judgeHost(); !hasReason(res, "busy with something else") {
				t.Errorf("%+v is not called disturbed", l)
			}
			if without := sampleHost([]int{child.Process.Pid}); without.others >= after.host.others {
				t.Errorf("a target counts as another process: %v s with it, %v s without", after.host.others, without.others)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy child of %.2f s does not show: %+v", cpu, hostLoad(&before, &after, 0.5))
		}
	}
}

// The target's own costs: the fake broker lives in this process, and syncs a file for every request.
func TestCostsOfALocalTargetAreMeasured(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := startFake(t)
	f.store = func(_ int64, p *fakePartition, b []byte) int16 {
		p.append(b)
		if _, err := file.Write(b); err != nil {
			t.Error(err)
		}
		if err := file.Sync(); err != nil {
			t.Error(err)
		}
		return 0
	}
	target := &AddressTarget{name: "fake", addr: f.ln.Addr().String(), pid: os.Getpid()}
	var res *RunResult
	if err := within(t, "the run", func(ctx context.Context) (err error) {
		res, err = Run(ctx, target, quickSpec(func(s *Spec) { s.Rate.Value, s.Consumers = 500, 0 }), nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b := res.Broker
	if b == nil || b.CPUSeconds <= 0 || b.RSSPeakBytes == 0 || b.Threads == 0 || b.CtxVoluntary == 0 || b.WriteCalls < res.Requests/2 || b.WrittenBytes == 0 {
		t.Fatalf("%d requests, %+v", res.Requests, b)
	}
	if res.StoredBytes == 0 || res.Limit == "" {
		t.Errorf("sent %d bytes, limit %q", res.StoredBytes, res.Limit)
	}
	if b.DeviceFlushes == 0 {
		t.Logf("no flushes of a disk seen: %s may not lie on one", os.TempDir())
	}
}
