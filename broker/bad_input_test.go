package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

// header is a request frame's header, with the length in front that total says.
func header(total int32, key, version int16, clientID string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(total))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 7)
	b = binary.BigEndian.AppendUint16(b, uint16(len(clientID)))
	return append(b, clientID...)
}

// framed puts the length in front of a header without one and a body.
func framed(key, version int16, body []byte) []byte {
	b := append(header(0, key, version, "c"), body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// TestBadFramesCloseTheConnection sends bytes that cannot be answered: the connection closes, another one works on, and the
// log says why.
func TestBadFramesCloseTheConnection(t *testing.T) {
	tb := startBroker(t, map[string]string{"socket.request.max.bytes": "1048576"})
	tb.createTopic("t", 1, nil)
	bystander := tb.dial()
	bystander.mustProduce("t", batchOf("before"))
	produce := produceRequest("t", 1, batchOf("a"))
	produce.SetVersion(9)
	whole := protocol.AppendRequest(nil, 1, "c", produce)
	hugeArray := []byte{0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff} // produce v3: 2^31-1 topics
	for name, sent := range map[string][]byte{
		"negative length":           {0xff, 0xff, 0xff, 0xff, 1, 2, 3},
		"zero length":               {0, 0, 0, 0},
		"huge length":               {0x7f, 0xff, 0xff, 0xff, 0, 0},
		"over the limit":            header(1048577, 18, 0, "c"),
		"header cut short":          {0, 0, 0, 5, 0, 3, 0, 1, 0},
		"client id beyond frame":    {0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff},
		"unknown key":               framed(999, 0, nil),
		"negative key":              framed(-5, 0, nil),
		"key of a later issue":      framed(int16(kmsg.JoinGroup), 5, nil),
		"version above":             framed(protocol.KeyFetch, 99, nil),
		"version below":             framed(protocol.KeyFetch, 3, nil),
		"negative version":          framed(protocol.KeyListOffsets, -1, nil),
		"empty body":                framed(protocol.KeyListOffsets, 5, nil),
		"trailing bytes":            framed(protocol.KeyInitProducerID, 0, []byte{0xff, 0xff, 0, 0, 0, 0, 9, 9, 9}),
		"array beyond frame":        framed(protocol.KeyProduce, 3, hugeArray),
		"array beyond frame, kmsg":  framed(protocol.KeyListOffsets, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}),
		"array beyond frame, fetch": framed(protocol.KeyFetch, 4, append(bytes.Repeat([]byte{0}, 17), 0x7f, 0xff, 0xff, 0xff)),
		"negative array":            framed(protocol.KeyProduce, 3, []byte{0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x80, 0, 0, 0}),
		"records cut short":         framed(protocol.KeyProduce, 9, whole[len(whole)-20:]),
		"HTTP":                      []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"TLS":                       {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := tb.dial()
			c.t = t
			c.write(sent)
			c.expectClosed()
			bystander.mustProduce("t", batchOf("bystander"))
		})
	}
	tb.ok()
}

// TestBadFrameKeepsTheAnswersBeforeIt pipelines good requests (one of a loop, one of a worker, one that waits for its time), a bad
// one, and a good one behind it: the good ones before it are answered, the one behind it is not served.
func TestBadFrameKeepsTheAnswersBeforeIt(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	wait := fetchRequest("t", 0, 0)
	wait.MaxWaitMillis = 50
	good := []kmsg.Request{kmsg.NewPtrApiVersionsRequest(), listRequest("t", 0, -1), wait}
	behind := produceRequest("t", 0, batchOf("never"))
	behind.SetVersion(produceVersion)
	for name, bad := range map[string][]byte{
		"unknown key":                  framed(999, 0, nil),
		"version above":                framed(protocol.KeyFetch, 99, nil),
		"malformed, served on a loop":  framed(protocol.KeyFetch, 4, []byte{1, 2, 3}),
		"malformed, served on workers": framed(protocol.KeyListOffsets, 5, nil),
		"header cut short":             {0, 0, 0, 5, 0, 3, 0, 1, 0},
		"refused length":               {0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustPartition(t, tb, "t")
			before := p.Offsets().LogEnd
			c := tb.dial()
			c.t = t
			var sent []byte
			for i, req := range good {
				req.SetVersion([]int16{3, 5, fetchVersion}[i])
				sent = append(sent, protocol.AppendRequest(nil, int32(i), "c", req)...)
			}
			sent = append(sent, bad...)
			c.write(append(sent, protocol.AppendRequest(nil, 9, "c", behind)...))
			for i, req := range good {
				c.receive(req, int32(i))
			}
			c.expectClosed()
			// The loop goes on while a worker decodes: what is behind may be served by then, but is not answered.
			if end := p.Offsets().LogEnd; end != before && name != "malformed, served on workers" {
				t.Errorf("log end %d: a request behind a bad one was served", end)
			}
		})
	}
	tb.ok()
}

func TestBadInputIsLoggedOnOneLine(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	b := append(header(0, protocol.KeyListOffsets, 5, "evil\nlevel=ERROR msg=forged"), 1, 2, 3)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.write(b)
	c.expectClosed()
	testkit.Eventually(t, "the log line", func() bool { return strings.Contains(tb.logs.String(), "closing connection") })
	for line := range strings.Lines(tb.logs.String()) {
		if strings.HasPrefix(line, "level=ERROR") {
			t.Errorf("a client id forged a log line: %q", line)
		}
		if strings.Contains(line, "closing connection") && (!strings.Contains(line, "ListOffsets") || !strings.Contains(line, "version=5")) {
			t.Errorf("the log line lacks API or version: %q", line)
		}
	}
}

// TestTruncatedFrames cuts a good request at every byte and closes: nothing happens, to nobody.
func TestTruncatedFrames(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	req := produceRequest("t", 1, batchOf("a"))
	req.SetVersion(produceVersion)
	frame := protocol.AppendRequest(nil, 1, "c", req)
	for n := range frame {
		conn, err := net.Dial("tcp", tb.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame[:n]); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	tb.ok()
	if end := mustPartition(t, tb, "t").Offsets().LogEnd; end != 0 {
		t.Errorf("log end %d after truncated requests, want 0", end)
	}
}

// TestFlippedBits sends a good produce and a good fetch request with each bit flipped in turn. Some become other good requests;
// the broker stays up and answers or closes.
func TestFlippedBits(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	produce := produceRequest("t", 1, batchOf("a"))
	produce.SetVersion(9)
	fetch := fetchRequest("t", 0, 0)
	fetch.SetVersion(12)
	for _, frame := range [][]byte{protocol.AppendRequest(nil, 1, "c", produce), protocol.AppendRequest(nil, 1, "c", fetch)} {
		for bit := 32; bit < 8*len(frame); bit += 3 {
			bad := bytes.Clone(frame)
			bad[bit/8] ^= 1 << (bit % 8)
			conn, err := net.Dial("tcp", tb.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(bad); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	tb.ok()
}

// TestClaimedLengthsAllocateNothing claims lengths without sending the bytes: memory grows by what was sent.
func TestClaimedLengthsAllocateNothing(t *testing.T) {
	tb := startBroker(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 50 {
		c := tb.dial()
		c.write(header(100<<20, protocol.KeyProduce, 9, "c"))
	}
	for range 50 {
		c := tb.dial()
		c.write(framed(protocol.KeyListOffsets, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}))
		c.expectClosed()
	}
	tb.ok()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB allocated for claims of 5 GiB", grown>>20)
	}
}

// TestDecompressionBomb produces a batch of some kilobytes that opens to a gigabyte. It is opaque to the broker unless the topic is
// compacted, where it is refused within bounds.
func TestDecompressionBomb(t *testing.T) {
	tb := startBroker(t, map[string]string{"message.max.bytes": "8388608"})
	tb.createTopic("t", 1, nil)
	tb.createTopic("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	bomb := bombBatch(t)
	c := tb.dial()
	if p := c.produce("t", acksAll, bytes.Clone(bomb)); p.ErrorCode != 0 {
		t.Errorf("a topic that need not open batches: %v", protocol.ErrorCode(p.ErrorCode))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := c.produce("compacted", acksAll, bytes.Clone(bomb))
	runtime.ReadMemStats(&after)
	if p.ErrorCode == 0 {
		t.Error("a compacted topic took a bomb")
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 512<<20 {
		t.Errorf("refusing the bomb allocated %d MiB", grown>>20)
	}
	tb.ok()
}

// bombBatch is a batch whose compressed records are 256 MiB of zeros.
func bombBatch(t *testing.T) record.Batch {
	t.Helper()
	packed, err := compression.Append(nil, make([]byte, 256<<20), compression.Zstd, 0)
	if err != nil {
		t.Fatal(err)
	}
	head := record.Batch(batchOf("a")[:record.HeaderBytes])
	b := record.Batch(append(bytes.Clone(head), packed...))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[22] |= byte(compression.Zstd)
	fixCRC(b)
	return b
}

// TestIllegalTopicNames asks for names that are no names, by every API that takes one: an error, and no path is touched.
func TestIllegalTopicNames(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", strings.Repeat("a", 250), "a b", "ä", "a\x00b", "\n"} {
		p := c.produce(name, 1, batchOf("a"))
		wantCode(t, fmt.Sprintf("produce to %q", name), p.ErrorCode, protocol.ErrUnknownTopicOrPartition)
		wantCode(t, fmt.Sprintf("fetch of %q", name), c.fetch(name, 0).ErrorCode, protocol.ErrUnknownTopicOrPartition)
		wantCode(t, fmt.Sprintf("offsets of %q", name), c.list(listRequest(name, 0, -1), 11).ErrorCode, protocol.ErrUnknownTopicOrPartition)
	}
}

// TestSlowSender sends a request a byte at a time; others are served meanwhile, and it is served at the end.
func TestSlowSender(t *testing.T) {
	tb := startBroker(t, map[string]string{"num.network.threads": "1"})
	tb.createTopic("t", 1, nil)
	slow, fast := tb.dial(), tb.dial()
	req := produceRequest("t", 1, batchOf("slow"))
	req.SetVersion(produceVersion)
	for _, b := range protocol.AppendRequest(nil, 1, "c", req) {
		slow.write([]byte{b})
		fast.mustProduce("t", batchOf("fast"))
	}
	if p := slow.receive(req, 1).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("the slow request: %+v", p)
	}
}

// TestReaderThatNeverReads asks for far more than it takes: its answers are bounded, and others are served.
func TestReaderThatNeverReads(t *testing.T) {
	tb := startBroker(t, map[string]string{"num.network.threads": "1"})
	tb.createTopic("t", 1, nil)
	fast := tb.dial()
	for range 20 {
		fast.mustProduce("t", batchOf(string(make([]byte, 500_000))))
	}
	greedy := tb.dial()
	req := fetchRequest("t", 0, 0)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
	req.SetVersion(fetchVersion)
	frame := protocol.AppendRequest(nil, 1, "c", req)
	if err := greedy.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // 10 GB, if it were read
		if _, err := greedy.conn.Write(frame); err != nil {
			break // the broker has stopped reading
		}
	}
	for range 20 {
		fast.mustProduce("t", batchOf("x"))
	}
	tb.ok()
}
