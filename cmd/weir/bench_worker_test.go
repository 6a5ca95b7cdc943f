package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/bench"
	"github.com/weirmq/weir/internal/testkit"
)

// pairAddresses are the two ends of pair n. They are this process's own, so that two runs of the tests do not meet.
func pairAddresses(n int) (here, there string) {
	net := fmt.Sprintf("10.231.%d.", os.Getpid()%256)
	return fmt.Sprint(net, 4*n+1), fmt.Sprint(net, 4*n+2)
}

// namespace makes a network namespace joined to this one by a veth pair. The test is skipped where that is not allowed.
func namespace(t *testing.T, n int) (name string) {
	t.Helper()
	name = fmt.Sprintf("weir%d-%d", os.Getpid(), n)
	here, there := fmt.Sprintf("wa%d-%d", os.Getpid()%100_000, n), fmt.Sprintf("wb%d-%d", os.Getpid()%100_000, n)
	addrHere, addrThere := pairAddresses(n)
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "del", here).Run()
		_ = exec.Command("ip", "netns", "del", name).Run()
	})
	for _, line := range []string{
		"netns add " + name,
		"link add " + here + " type veth peer name " + there,
		"link set " + there + " netns " + name,
		"addr add " + addrHere + "/30 dev " + here,
		"link set " + here + " up",
		"-n " + name + " addr add " + addrThere + "/30 dev " + there,
		"-n " + name + " link set " + there + " up",
		"-n " + name + " link set lo up",
		"-n " + name + " route add default via " + addrHere,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Skipf("no network namespaces here: ip %s: %v %s", line, err, out)
		}
	}
	return name
}

// startWorker runs `weir bench worker` inside a namespace and returns its address.
func startWorker(t *testing.T, name string, n int) string {
	t.Helper()
	_, address := pairAddresses(n)
	self := weir(t, "bench", "worker", "--listen", address+":0")
	cmd := exec.Command("ip", append([]string{"netns", "exec", name}, self.Args...)...)
	cmd.Env, cmd.Dir = self.Env, self.Dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	silent := time.AfterFunc(testkit.Deadline, func() { _ = cmd.Process.Kill() }) // ends the wait
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "ready address=")
	if !silent.Stop() {
		t.Fatalf("the worker did not tell its address within %s", testkit.Deadline)
	}
	if err != nil || !ok {
		t.Fatalf("the worker said %q: %v", line, err)
	}
	return addr
}

// Two workers in namespaces of their own drive one broker: every record that either sent reaches every reader, wherever it reads.
func TestWorkersInNamespacesShareTheLoad(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	first, second := namespace(t, 1), namespace(t, 2)
	address, _ := pairAddresses(1)
	broker := serve(t, t.TempDir(), "--listen", address+":0")
	stdout, stderr, status := run(t, "", "bench", "--quick", "--warmup", "300ms", "--duration", "1s", "--acks", "all", "--fsync", "never",
		"--connections", "4", "--consumers", "2", "--schedule", "uniform", "--rate", "800", "--batch-records", "2", "--json",
		"--target", "remote="+broker.address, "--worker", startWorker(t, first, 1), "--worker", startWorker(t, second, 2))
	if status != 0 && status != benchInvalidStatus { // the host may be busy
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	var res bench.Results
	if err := json.Unmarshal([]byte(stdout), &res); err != nil {
		t.Fatal(err)
	}
	r := res.Points[0].Runs[0]
	if res.Faults != 0 || len(r.Errors) != 0 {
		t.Fatalf("truth %+v, errors %v", r.Truth, r.Errors)
	}
	if len(res.Workers) != 2 || res.Workers[0].Uncertainty <= 0 {
		t.Fatalf("workers %+v", res.Workers)
	}
	if r.Response == nil || r.Response.Count < 390 || r.Response.Count > 410 || r.EndToEnd == nil {
		t.Fatalf("%+v: want 400 requests in a second", r.Response)
	}
	if r.Truth.Checked < 800 {
		t.Fatalf("two readers checked %d batches", r.Truth.Checked)
	}
}
