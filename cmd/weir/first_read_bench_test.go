package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/record"
)

var (
	firstReadGiB   = flag.Float64("first-read-gib", 2, "GiB of log of BenchmarkFirstReadAfterARestart")
	firstReadBatch = flag.Int("first-read-batch", 64<<10, "bytes of a batch of BenchmarkFirstReadAfterARestart")
)

// BenchmarkFirstReadAfterARestart reads a log of old records twice after a clean restart, over one connection, a fetch of 1 MiB at a time: the first
// time the broker checks every batch before it is served, the second time it does not. cached: the files are in the page cache; dropped: they
// are not. cpu-s/GB is the broker's CPU time for a GB of log.
func BenchmarkFirstReadAfterARestart(b *testing.B) {
	dir, total := b.TempDir(), int64(*firstReadGiB*(1<<30))
	s := serve(b, dir, "--set", "fsync.policy=never")
	must(b, "", "topic", "create", "old", "--brokers", s.address)
	fillOld(b, s.address, total)
	s.stop()
	for _, cached := range []bool{true, false} {
		b.Run(map[bool]string{true: "cached", false: "dropped"}[cached], func(b *testing.B) {
			for b.Loop() {
				s := serve(b, dir)
				for _, which := range []string{"first", "second"} {
					oldFiles(b, dir, cached)
					cpu, begin := s.cpuSeconds(), time.Now()
					bytes := readOld(b, s.address)
					if bytes < total {
						b.Fatalf("%d bytes were read of %d", bytes, total)
					}
					b.ReportMetric(float64(bytes)/1e6/time.Since(begin).Seconds(), which+"-MB/s")
					b.ReportMetric((s.cpuSeconds()-cpu)/(float64(bytes)/1e9), which+"-cpu-s/GB")
				}
				s.stop()
			}
		})
	}
}

// oldFiles brings the log into the page cache, or out of it.
func oldFiles(b *testing.B, dir string, cached bool) {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "old-0", "*.log"))
	if err != nil || len(paths) == 0 {
		b.Fatalf("no segments, %v", err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if cached {
			_, err = io.Copy(io.Discard, struct{ io.Reader }{f})
		} else if err = f.Sync(); err == nil {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

// call sends a request and reads the response into buf, which is returned without its correlation id.
func call(b *testing.B, conn net.Conn, buf []byte, req kmsg.Request) []byte {
	b.Helper()
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
	if _, err := conn.Write(frame); err != nil {
		b.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		b.Fatal(err)
	}
	if n := int(binary.BigEndian.Uint32(size[:])); n > cap(buf) {
		buf = make([]byte, n)
	} else {
		buf = buf[:n]
	}
	if _, err := io.ReadFull(conn, buf); err != nil {
		b.Fatal(err)
	}
	return buf[4:]
}

// fillOld writes batches to topic old.
func fillOld(b *testing.B, address string, total int64) {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	builder := record.NewBuilder()
	value := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for builder.Bytes() < *firstReadBatch {
		builder.Append(1, nil, value)
	}
	batch := builder.Finish(nil)
	req := kmsg.NewProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 7, 1, 10_000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "old", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	for written := int64(0); written < total; written += int64(len(batch)) {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = req.Version
		if err := resp.ReadFrom(call(b, conn, nil, &req)); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			b.Fatalf("produce: %v, %+v", err, resp.Topics)
		}
	}
}

// readOld reads topic old to its end and returns the bytes of its batches.
func readOld(b *testing.B, address string) (total int64) {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	// In version 4, behind one topic and one partition: error code, high watermark, last stable offset, aborted transactions, records.
	const head = 4 + 4 + 2 + len("old") + 4 + 4
	buf := make([]byte, 2<<20)
	for offset := int64(0); ; {
		req := kmsg.NewFetchRequest()
		req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 4, -1, 1000, 1, 1<<20
		req.Topics = []kmsg.FetchRequestTopic{{Topic: "old", Partitions: []kmsg.FetchRequestTopicPartition{{FetchOffset: offset, PartitionMaxBytes: 1 << 20}}}}
		p := call(b, conn, buf, &req)[head:]
		code, end, records := binary.BigEndian.Uint16(p), int64(binary.BigEndian.Uint64(p[2:])), p[2+8+8+4+4:]
		if code != 0 || len(records) == 0 && offset < end {
			b.Fatalf("fetch at %d of %d: error %d, %d bytes", offset, end, code, len(records))
		}
		total += int64(len(records))
		for len(records) > 0 {
			batch, rest, err := record.Next(records)
			if err != nil {
				b.Fatal(err)
			}
			offset, records = batch.NextOffset(), rest
		}
		if offset >= end {
			return total
		}
	}
}
