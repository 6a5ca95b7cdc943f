package broker

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
)

// TestLogDirTags: the tags tell what the log says, from the first flexible version on.
func TestLogDirTags(t *testing.T) {
	tb := startBrokerIn(t, t.TempDir(), nil, Options{MetricsAddr: "127.0.0.1:0"})
	tb.createTopic("lazy", 1, map[string]string{"fsync.policy": "never"})
	tb.createTopic("safe", 1, map[string]string{"fsync.policy": "commit"})
	c := tb.dial()
	for range 3 {
		c.mustProduce("lazy", batchOf("a", "b"))
		c.mustProduce("safe", batchOf("a", "b"))
	}
	log := mustPartition(t, tb, "lazy")
	if _, err := log.DeleteRecords(2); err != nil {
		t.Fatal(err)
	}
	for version := int16(1); version <= 5; version++ {
		resp := c.request(kmsg.NewPtrDescribeLogDirsRequest(), version).(*kmsg.DescribeLogDirsResponse)
		dir := &resp.Dirs[0]
		p50, p99, ok := ReadSyncLatency(&dir.UnknownTags)
		if ok != (version >= 2) || ok && (p50 <= 0 || p99 < p50) {
			t.Errorf("version %d: latency %d, %d, %t", version, p50, p99, ok)
		}
		for _, topic := range dir.Topics {
			got, ok := ReadLogDurability(&topic.Partitions[0].UnknownTags)
			want := LogDurability{LogStart: 2, HighWatermark: 6, Durable: 0, LogEnd: 6, UnsyncedBytes: log.Size()}
			if topic.Topic == "safe" {
				want = LogDurability{HighWatermark: 6, Durable: 6, LogEnd: 6, Syncs: got.Syncs, SyncedAppends: 3}
				if ok && (got.Syncs < 1 || got.Syncs > 3) {
					t.Errorf("version %d: %d fsyncs of three appends", version, got.Syncs)
				}
			}
			if ok != (version >= 2) || ok && got != want {
				t.Errorf("version %d, %s: got %+v, %t, want %+v", version, topic.Topic, got, ok, want)
			}
		}
	}
	testkit.Eventually(t, "the metrics of fsyncs", func() bool {
		text := tb.metrics()
		return strings.Contains(text, `weir_log_fsync_appends_total{partition="0",topic="safe"} 3`) &&
			strings.Contains(text, `weir_durable_offset{partition="0",topic="safe"} 6`) &&
			strings.Contains(text, `weir_durable_offset{partition="0",topic="lazy"} 0`) &&
			strings.Contains(text, `weir_log_unsynced_bytes{partition="0",topic="safe"} 0`) &&
			strings.Contains(text, "weir_fsync_seconds_bucket{") && strings.Contains(text, "weir_fsync_group_appends_bucket{")
	})
}

// TestLogDirTagsAreSkipped reads the response as clients do that know no tags: franz-go's admin client, and a reader that follows the
// protocol's rules byte by byte, as Kafka's generated readers do.
func TestLogDirTagsAreSkipped(t *testing.T) {
	tb := startBroker(t, map[string]string{"fsync.policy": "commit"})
	tb.createTopic("t", 2, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("v"))
	dirs, err := kadm.NewClient(tb.newClient()).DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	dirs.Each(func(dir kadm.DescribedLogDir) {
		if dir.Err == nil {
			seen += len(dir.Topics["t"])
		}
	})
	if seen != 2 {
		t.Errorf("the admin client sees %d partitions, want 2", seen)
	}
	const version = 4
	req := kmsg.NewPtrDescribeLogDirsRequest()
	id := c.send(req, version)
	got, body, err := protocol.ParseResponseHeader(c.frame(), req.Key(), version)
	if err != nil || got != id {
		t.Fatalf("header: correlation id %d, %v", got, err)
	}
	r := &plainReader{t: t, b: body}
	r.skip(4 + 2) // throttle time, error
	for range r.array() {
		r.skip(2)
		r.text()
		for range r.array() {
			if topic := r.text(); topic != "t" {
				t.Errorf("topic %q", topic)
			}
			for range r.array() {
				r.skip(4 + 8 + 8 + 1)
				if n := r.tags(); n != 7 {
					t.Errorf("%d tags of a partition, want 7", n)
				}
			}
			r.tags()
		}
		r.skip(8 + 8)
		if n := r.tags(); n != 4 {
			t.Errorf("%d tags of a directory, want 4", n)
		}
	}
	r.tags()
	if len(r.b) != 0 {
		t.Errorf("%d bytes are left", len(r.b))
	}
}

// plainReader reads flexible messages by KIP-482's rules and ignores tagged fields.
type plainReader struct {
	t *testing.T
	b []byte
}

func (r *plainReader) skip(n int) {
	if n > len(r.b) {
		r.t.Fatalf("%d bytes wanted, %d left", n, len(r.b))
	}
	r.b = r.b[n:]
}

func (r *plainReader) uvarint() (n int) {
	for shift := 0; ; shift += 7 {
		if len(r.b) == 0 || shift > 28 {
			r.t.Fatal("no varint")
		}
		c := r.b[0]
		r.b = r.b[1:]
		n |= int(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
}

func (r *plainReader) array() int { return r.uvarint() - 1 }

func (r *plainReader) text() string {
	n := r.uvarint() - 1
	whole := r.b
	r.skip(n)
	return string(whole[:n])
}

func (r *plainReader) tags() int {
	n, last := r.uvarint(), -1
	for range n {
		tag := r.uvarint()
		if tag <= last {
			r.t.Fatalf("tag %d after %d", tag, last)
		}
		last = tag
		r.skip(r.uvarint())
	}
	return n
}
