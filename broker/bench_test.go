package broker

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/weirmq/weir/protocol"
)

// pipeline sends the same frame again and again with depth requests in flight, and reads the responses.
func pipeline(b *testing.B, tb *testBroker, frame []byte, depth int) {
	b.Helper()
	conn, err := net.Dial("tcp", tb.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	slots := make(chan struct{}, depth)
	failed := make(chan error, 1)
	go func() {
		for range b.N {
			slots <- struct{}{}
			if _, err := conn.Write(frame); err != nil {
				failed <- err
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for range b.N {
		if _, err := io.ReadFull(conn, buf[:4]); err != nil {
			b.Fatal(err)
		}
		size := int(binary.BigEndian.Uint32(buf))
		for size > 0 {
			n, err := conn.Read(buf[:min(size, len(buf))])
			if err != nil {
				b.Fatal(err)
			}
			size -= n
		}
		<-slots
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}

// BenchmarkProduce is a produce request of one batch, answered, client included.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{100, 16 << 10} {
		for _, depth := range []int{1, 32} {
			for _, policy := range []string{"never", "commit"} {
				b.Run(fmt.Sprintf("bytes=%d/inflight=%d/%s", size, depth, policy), func(b *testing.B) {
					tb := startBroker(b, map[string]string{"fsync.policy": policy})
					tb.createTopic("t", 1, nil)
					req := produceRequest("t", acksAll, batchOf(string(make([]byte, size))))
					req.SetVersion(produceVersion)
					frame := protocol.AppendRequest(nil, 1, "bench", req)
					b.SetBytes(int64(size))
					b.ReportAllocs()
					b.ResetTimer()
					pipeline(b, tb, frame, depth)
				})
			}
		}
	}
}

// BenchmarkFetchSpan is a fetch of one span of the given size: below copySpanBytes it is copied, from there on sent by sendfile.
func BenchmarkFetchSpan(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 8 << 10, copySpanBytes - 200, copySpanBytes, 32 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			tb := startBroker(b, nil)
			tb.createTopic("t", 1, nil)
			tb.dial().mustProduce("t", batchOf(string(make([]byte, size))))
			req := fetchRequest("t", 0, 0)
			req.SetVersion(fetchVersion)
			frame := protocol.AppendRequest(nil, 1, "bench", req)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			pipeline(b, tb, frame, 1)
		})
	}
}
