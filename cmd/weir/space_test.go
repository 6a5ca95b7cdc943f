package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// throttles counts the throttle times that a client was told.
type throttles struct{ count atomic.Int64 }

// OnBrokerThrottle implements kgo.HookBrokerThrottle.
func (h *throttles) OnBrokerThrottle(kgo.BrokerMetadata, time.Duration, bool) { h.count.Add(1) }

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// takeSpace leaves so many bytes of a file system free.
func takeSpace(t *testing.T, mount string, leave int64) (free func()) {
	t.Helper()
	file, err := os.Create(filepath.Join(mount, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if n := freeBytes(t, mount) - leave; n > 0 {
		if err := unix.Fallocate(int(file.Fd()), 0, 0, n); err != nil {
			t.Skipf("this file system does not allocate: %v", err)
		}
	}
	return func() {
		if err := os.Remove(file.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSmallDiskFillsUp writes more than a small ext4 holds: producers are slowed down and then refused while there is still space, go on
// when there is more, and do without a pause for long where old segments may go.
func TestSmallDiskFillsUp(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some hundred megabytes")
	}
	const mark, reserve, size = 60 << 20, 40 << 20, 900 << 10
	disk := newCutDisk(t)
	s := serve(t, filepath.Join(disk.mount, "data"), "--set", "fsync.policy=never", "--set", "log.segment.bytes=2097152",
		"--set", fmt.Sprint("log.disk.throttle.free.bytes=", mark), "--set", fmt.Sprint("log.disk.reserve.bytes=", reserve),
		"--set", "log.disk.throttle.max.ms=50")
	must(t, "", "topic", "create", "stream", "-b", s.address)
	must(t, "", "topic", "create", "kept", "--set", "cleanup.policy=compact", "-b", s.address)
	must(t, "", "produce", "kept", "precious", "-k", "key", "-b", s.address)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	hook := &throttles{}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address), kgo.DefaultProduceTopic("stream"), kgo.WithHooks(hook), kgo.RecordRetries(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := make([]byte, size)
	acked := int64(0)
	produce := func() error {
		err := client.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr()
		if err == nil {
			acked++
		} else if !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatalf("got %v, want none or KAFKA_STORAGE_ERROR\n%s", err, s.log)
		}
		return err
	}
	release := takeSpace(t, disk.mount, mark-2<<20)
	awaitTrue(t, "the broker to see it", func() bool {
		time.Sleep(time.Millisecond)
		return strings.Contains(s.log.String(), "producers are slowed down")
	})
	for produce() == nil {
		if acked > 100 {
			t.Fatalf("100 records of %d bytes did not fill %d bytes", size, mark-reserve)
		}
	}
	if hook.count.Load() == 0 {
		t.Error("refused without having been slowed down")
	}
	if got := freeBytes(t, disk.mount); got < reserve-10<<20 {
		t.Errorf("%d bytes are left, want a reserve of about %d", got, reserve)
	}
	must(t, "", "topic", "create", "another", "-b", s.address)
	if got := must(t, "", "consume", "kept", "--from-beginning", "--until-end", "-b", s.address); got != "precious\n" {
		t.Errorf("reads on the full disk: %q", got)
	}
	release()
	awaitTrue(t, "records when there is space", func() bool { return produce() == nil })

	// With a watermark the topic goes round in the space there is.
	admin := kadm.NewClient(client)
	ratio := "0.5"
	if _, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.disk.used.max.ratio", Value: &ratio}}); err != nil {
		t.Fatal(err)
	}
	const around = 300
	awaitTrue(t, "more records than the disk holds", func() bool { _ = produce(); return acked >= around })
	starts, err := admin.ListStartOffsets(ctx, "stream")
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := starts.Lookup("stream", 0); at.Offset == 0 || at.Offset >= acked {
		t.Errorf("log start %d of %d records, want some gone and some there", at.Offset, acked)
	}
	if got := must(t, "", "consume", "kept", "--from-beginning", "--until-end", "-b", s.address); got != "precious\n" {
		t.Errorf("the compacted topic holds %q", got)
	}
	for _, want := range []string{"producers are slowed down", "producers are refused", "records are taken", "above its high-water mark"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %q\n%s", want, s.log)
		}
	}
	found := readTopic(t, s.address, "stream")
	if n := int64(len(found[0])); n == 0 || n > acked {
		t.Errorf("%d records can be read, of %d", n, acked)
	}
	s.stop()
}

func awaitTrue(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
