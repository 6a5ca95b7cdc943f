package broker

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/vfs"
)

// shrinkingFS is a disk of 1 TB that has as many bytes free as the test says.
type shrinkingFS struct {
	vfs.FS
	free atomic.Int64
}

func (fs *shrinkingFS) DiskUsage(string) (vfs.Usage, error) {
	return vfs.Usage{TotalBytes: 1e12, FreeBytes: fs.free.Load()}, nil
}

// TestProducersOnAFullDisk: the response says how long to wait and the connection is not read meanwhile; in the reserve producers are
// refused and everything else goes on; marks change while the broker runs.
func TestProducersOnAFullDisk(t *testing.T) {
	fs := &shrinkingFS{FS: vfs.OS()}
	fs.free.Store(1e11)
	tb := startBrokerIn(t, t.TempDir(), map[string]string{
		"log.disk.throttle.free.bytes": "20000000000", "log.disk.reserve.bytes": "10000000000", "log.disk.throttle.max.ms": "400",
	}, Options{FS: fs, MetricsAddr: "127.0.0.1:0"})
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	produce := func() (*kmsg.ProduceResponse, kmsg.ProduceResponseTopicPartition) {
		t.Helper()
		resp := c.request(produceRequest("t", acksLeader, batchOf("v")), produceVersion).(*kmsg.ProduceResponse)
		return resp, resp.Topics[0].Partitions[0]
	}
	resp, p := produce()
	if wantCode(t, "with space", p.ErrorCode, protocol.ErrNone); resp.ThrottleMillis != 0 {
		t.Errorf("throttled by %d ms with space", resp.ThrottleMillis)
	}

	fs.free.Store(15e9)
	var began time.Time
	testkit.Eventually(t, "throttling", func() bool {
		began = time.Now()
		resp, p = produce()
		wantCode(t, "nearly full", p.ErrorCode, protocol.ErrNone)
		return resp.ThrottleMillis > 0
	})
	if resp.ThrottleMillis < 190 || resp.ThrottleMillis > 210 {
		t.Errorf("half way between the marks: throttled by %d ms, want about 200", resp.ThrottleMillis)
	}
	produce()
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("the next request was served after %v: the connection is not muted", took)
	}

	fs.free.Store(9e9)
	testkit.Eventually(t, "refusal", func() bool { resp, p = produce(); return p.ErrorCode != 0 })
	wantCode(t, "in the reserve", p.ErrorCode, protocol.ErrKafkaStorageError)
	if resp.ThrottleMillis != 400 || !strings.Contains(deref(p.ErrorMessage), "full") {
		t.Errorf("in the reserve: throttled by %d ms, message %q; want 400 and a word of the full disk", resp.ThrottleMillis, deref(p.ErrorMessage))
	}
	tb.createTopic("more", 1, nil)
	if got := valuesOf(t, tb.dial().fetch("t", 0).RecordBatches); !strings.HasPrefix(got, "v v") {
		t.Errorf("reads in the reserve: %q", got)
	}
	silent := tb.dial()
	silent.send(produceRequest("t", acksNone, batchOf("v")), produceVersion)
	silent.expectClosed()
	metrics := tb.metrics()
	for _, want := range []string{"weir_dir_disk_refused{", "weir_dir_disk_used_ratio{", "weir_produce_throttled_seconds_total", "weir_cleaner_cleanings_total"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, "weir_produce_throttled_seconds_total 0\n") || strings.Contains(metrics, "weir_produce_throttled_requests_total 0\n") {
		t.Error("nothing was counted as throttled")
	}

	tb.alterBroker("log.disk.reserve.bytes", "1000000000")
	tb.alterBroker("log.disk.throttle.free.bytes", "0")
	testkit.Eventually(t, "records with a smaller reserve", func() bool { resp, p = produce(); return p.ErrorCode == 0 && resp.ThrottleMillis == 0 })
	tb.alterBroker("log.disk.reserve.bytes", "9500000000")
	testkit.Eventually(t, "refusal again", func() bool { _, p = produce(); return p.ErrorCode != 0 })
	fs.free.Store(1e11)
	testkit.Eventually(t, "records when there is space", func() bool { _, p = produce(); return p.ErrorCode == 0 })
}

// metrics reads /metrics.
func (tb *testBroker) metrics() string {
	tb.t.Helper()
	resp, err := http.Get("http://" + tb.MetricsAddr() + "/metrics")
	if err != nil {
		tb.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.t.Fatalf("metrics: status %d, %v", resp.StatusCode, err)
	}
	return string(text)
}

// alterBroker sets a dynamic default of all brokers through the admin API.
func (tb *testBroker) alterBroker(key, value string) {
	tb.t.Helper()
	tb.alter(cluster.ResourceBroker, "", key, value)
}

// alter sets one key through the admin API, or gives it back its default for "-".
func (tb *testBroker) alter(kind cluster.ResourceType, name, key, value string) {
	tb.t.Helper()
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
	if value == "-" {
		change = kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key}
	}
	admin := kadm.NewClient(tb.newClient())
	var results kadm.AlterConfigsResponses
	var err error
	if kind == cluster.ResourceTopic {
		results, err = admin.AlterTopicConfigs(tb.t.Context(), []kadm.AlterConfig{change}, name)
	} else {
		results, err = admin.AlterBrokerConfigs(tb.t.Context(), []kadm.AlterConfig{change})
	}
	if err == nil {
		for _, result := range results {
			if result.Err != nil {
				err = result.Err
			}
		}
	}
	if err != nil {
		tb.t.Fatalf("setting %s=%s: %v", key, value, err)
	}
}
