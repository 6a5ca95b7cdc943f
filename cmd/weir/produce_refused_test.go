package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestProduceTellsOfAFullDisk fills the broker's disk: whoever writes is told of that, and not only that the time is up.
func TestProduceTellsOfAFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until `weir produce` gives up")
	}
	spaceModes(t, func(t *testing.T, settings ...string) {
		disk := newFaultDisk(t)
		s := serve(t, filepath.Join(disk.mount, "data"), settings...)
		must(t, "", "topic", "create", "orders", "--brokers", s.address)
		free := fill(t, disk.mount)
		said := ""
		eventually(t, func() bool { // the broker looks at the disk now and then, and the last block of a file has room
			_, stderr, status := run(t, strings.Repeat("x", 100_000), "produce", "orders", "--timeout", "3s", "--brokers", s.address)
			said = stderr
			return status == 1
		}, "a record is refused\n%s", s.log)
		for _, want := range []string{"writing to orders at " + s.address + ": no acknowledgement within 3s", "last answer was KAFKA_STORAGE_ERROR",
			"the disk of the partition's log directory is full", "free space there"} {
			if !strings.Contains(said, want) {
				t.Errorf("%q lacks %q", said, want)
			}
		}
		if strings.Count(said, "\n") != 1 {
			t.Errorf("more than a line:\n%s", said)
		}
		free()
		must(t, "", "produce", "orders", "again", "--timeout", "60s", "--brokers", s.address)
		s.stop()
	})
}

// cutConn is a broker that has answered already. Reads bring a few bytes at a time.
type cutConn struct {
	net.Conn
	answers *bytes.Reader
	each    int
}

func (c *cutConn) Read(b []byte) (int, error)  { return c.answers.Read(b[:min(c.each, len(b))]) }
func (c *cutConn) Write(b []byte) (int, error) { return len(b), nil }

// answer is a produce response for two partitions, as it comes from the network.
func answer(version int16, correlation uint32, text string, codes ...int16) []byte {
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	resp.ThrottleMillis = 250
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic = "orders"
	for i, code := range codes {
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode = int32(i), code
		if code != 0 {
			p.ErrorMessage = &text
		}
		topic.Partitions = append(topic.Partitions, p)
	}
	resp.Topics = append(resp.Topics, topic)
	out := binary.BigEndian.AppendUint32(make([]byte, 4), correlation)
	if resp.IsFlexible() {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// TestProduceAnswersAreReadAlong has requests and responses in pieces of every size: what was said last about a partition is known, of other
// requests' answers and of one too long to keep nothing is taken, and no byte is changed on the way.
func TestProduceAnswersAreReadAlong(t *testing.T) {
	storage := kerr.KafkaStorageError.Code
	for _, version := range []int16{3, 8, 9, 13} {
		for _, each := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("version %d by %d", version, each), func(t *testing.T) {
				var stream []byte
				for _, part := range [][]byte{
					answer(version, 1, "full", storage, storage, storage), // of another request
					answer(version, 2, "full", storage, 0, kerr.NotEnoughReplicas.Code),
					answer(version, 3, strings.Repeat("f", responseBytesMax), storage, storage, 0),
					answer(version, 4, "offline", 0, storage),
				} {
					stream = append(stream, part...)
				}
				said := &produceAnswers{}
				c := said.listen(&cutConn{answers: bytes.NewReader(stream), each: each})
				for correlation := range uint32(5) {
					var req kmsg.Request = kmsg.NewPtrProduceRequest()
					if correlation < 2 {
						req = kmsg.NewPtrMetadataRequest()
					} else {
						req.SetVersion(version)
					}
					frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("weir-cli")).AppendRequest(nil, req, int32(correlation))
					for len(frame) > 0 {
						n, err := c.Write(frame[:min(each, len(frame))])
						if err != nil {
							t.Fatal(err)
						}
						frame = frame[n:]
					}
				}
				read, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(read, stream) {
					t.Fatalf("%d bytes (%v) were read, which differ from the %d that came", len(read), err, len(stream))
				}
				want := map[int32]string{1: "KAFKA_STORAGE_ERROR offline", 2: "NOT_ENOUGH_REPLICAS full"}
				if version < 8 { // no texts yet, so that the third answer is short and counts
					want = map[int32]string{1: "KAFKA_STORAGE_ERROR "}
				}
				said.mu.Lock()
				defer said.mu.Unlock()
				got := map[int32]string{}
				for partition, r := range said.mu.refused {
					got[partition] = r.code.Message + " " + r.text
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || said.mu.throttle != 250*time.Millisecond {
					t.Errorf("remembered %v and a pause of %s, want %v and 250ms", got, said.mu.throttle, want)
				}
			})
		}
	}
}

// TestProduceSaysWhatToDo has words for each way in which the time can be up.
func TestProduceSaysWhatToDo(t *testing.T) {
	said := &produceAnswers{}
	why := func(partition int32) string { return said.why(partition, 9*time.Second, kgo.ErrRecordTimeout).Error() }
	expect := func(got string, want ...string) {
		t.Helper()
		for _, w := range append(want, "no acknowledgement within 9s") {
			if !strings.Contains(got, w) {
				t.Errorf("%q lacks %q", got, w)
			}
		}
	}
	expect(why(0), "no refusal", "timed out", "--timeout", "the broker's log")
	said.mu.throttle = time.Second
	expect(why(0), "slows producers down, by 1s", "free space")
	said.mu.refused = map[int32]refusal{
		0: {code: kerr.KafkaStorageError, text: "the disk is full"},
		1: {code: kerr.KafkaStorageError},
		2: {code: kerr.NotEnoughReplicas},
	}
	expect(why(0), "KAFKA_STORAGE_ERROR (the disk is full)", "free space")
	expect(why(1), "KAFKA_STORAGE_ERROR (Disk error when trying to access log file on the disk): a log directory of the broker has failed")
	expect(why(2), "NOT_ENOUGH_REPLICAS (", "--timeout")
	expect(why(3), "slows producers down")
}
