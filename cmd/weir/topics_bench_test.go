package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BenchmarkTopics creates 10,000 topics of one partition over the wire and deletes them again: in one request, and each by a request of its own with all
// of them in flight over 8 connections. An op is both. ms/create and ms/delete go from the first byte sent to the last one of the answers, which
// tell of durable changes; cpu-ms/create and cpu-ms/delete are the broker's own CPU time, in steps of 10 ms; MiB is the broker's anonymous memory after it.
func BenchmarkTopics(b *testing.B) {
	const count, connections = 10_000, 8
	for _, shape := range []struct {
		name     string
		requests int
	}{{"one-request", 1}, {"in-flight", count}} {
		b.Run(shape.name, func(b *testing.B) {
			s := serve(b, b.TempDir())
			for b.Loop() {
				creates, deletes := make([]kmsg.Request, shape.requests), make([]kmsg.Request, shape.requests)
				for i := range creates {
					names := make([]string, count/shape.requests)
					for j := range names {
						names[j] = fmt.Sprintf("topic-%05d", i*len(names)+j)
					}
					creates[i], deletes[i] = createTopics(names), deleteTopics(names)
				}
				cpu := s.cpuSeconds()
				b.ReportMetric(float64(inFlight(b, s.address, connections, creates).Milliseconds()), "ms/create")
				b.ReportMetric((s.cpuSeconds()-cpu)*1000, "cpu-ms/create")
				b.ReportMetric(float64(s.residentBytes()>>20), "MiB")
				cpu = s.cpuSeconds()
				b.ReportMetric(float64(inFlight(b, s.address, connections, deletes).Milliseconds()), "ms/delete")
				b.ReportMetric((s.cpuSeconds()-cpu)*1000, "cpu-ms/delete")
			}
		})
	}
}

// BenchmarkDeleteTopicsWithRecords deletes 10,000 topics with a record each in one request. ms/delete goes to its answer, ms/renamed to the moment when the last
// folder of a partition has its name of deletion, after which nothing of the topics comes back; the broker's CPU time is up to then.
func BenchmarkDeleteTopicsWithRecords(b *testing.B) {
	const count = 10_000
	dir := b.TempDir()
	s := serve(b, dir, "--set", "fsync.policy=never", "--set", "log.segment.delete.delay.ms=3600000")
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%05d", i)
	}
	for b.Loop() {
		b.StopTimer()
		inFlight(b, s.address, 1, []kmsg.Request{createTopics(names)})
		recordInEach(b, s.address, names)
		if got := foldersOf(b, dir, "topic-", ""); got != count {
			b.Fatalf("%d folders of partitions, want %d", got, count)
		}
		b.StartTimer()
		cpu, begin := s.cpuSeconds(), time.Now()
		b.ReportMetric(float64(inFlight(b, s.address, 1, []kmsg.Request{deleteTopics(names)}).Milliseconds()), "ms/delete")
		for foldersOf(b, dir, "topic-", "-delete") > 0 {
			if time.Since(begin) > manyDeadline {
				b.Fatal("the folders keep their names")
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms/renamed")
		b.ReportMetric((s.cpuSeconds()-cpu)*1000, "cpu-ms/renamed")
	}
}

// recordInEach writes a record to partition 0 of each topic.
func recordInEach(tb testing.TB, address string, topics []string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), manyDeadline)
	defer cancel()
	client := manyClient(tb, address)
	defer client.Close()
	records := make([]*kgo.Record, len(topics))
	for i, topic := range topics {
		records[i] = &kgo.Record{Topic: topic, Value: []byte(topic)}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		tb.Fatal(err)
	}
}

// foldersOf counts the folders whose name begins with prefix and, unless suffix is empty, does not end with it.
func foldersOf(tb testing.TB, dir, prefix, suffix string) (count int) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && (suffix == "" || !strings.HasSuffix(e.Name(), suffix)) {
			count++
		}
	}
	return count
}

func createTopics(names []string) kmsg.Request {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.SetVersion(7)
	req.TimeoutMillis = 60_000
	for _, name := range names {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, t)
	}
	return req
}

func deleteTopics(names []string) kmsg.Request {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.SetVersion(6)
	req.TimeoutMillis = 60_000
	for _, name := range names {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// inFlight sends all requests without waiting for an answer, dealt out to so many connections, and returns how long it took until all were answered. It fails
// unless each answers, in its place, that all went well.
func inFlight(tb testing.TB, address string, connections int, requests []kmsg.Request) time.Duration {
	tb.Helper()
	connections = min(connections, len(requests))
	conns, frames := make([]net.Conn, connections), make([][]byte, connections)
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))
	for i, req := range requests {
		frames[i%connections] = append(frames[i%connections], formatter.AppendRequest(nil, req, int32(i))...)
	}
	for i := range conns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			tb.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(manyDeadline)); err != nil {
			tb.Fatal(err)
		}
		conns[i] = conn
	}
	answers := make([][]byte, len(requests))
	var wg sync.WaitGroup
	begin := time.Now()
	for c, conn := range conns {
		wg.Go(func() {
			if _, err := conn.Write(frames[c]); err != nil {
				tb.Error(err)
			}
		})
		wg.Go(func() {
			r := bufio.NewReaderSize(conn, 256<<10)
			for i := c; i < len(requests); i += connections {
				var size [4]byte
				_, err := io.ReadFull(r, size[:])
				if err == nil {
					answers[i] = make([]byte, binary.BigEndian.Uint32(size[:]))
					_, err = io.ReadFull(r, answers[i])
				}
				if err != nil {
					tb.Errorf("the answer to request %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	for i, answer := range answers {
		if tb.Failed() {
			tb.FailNow()
		}
		wentWell(tb, i, requests[i], answer)
	}
	return took
}

// wentWell fails unless the answer is that to the request of that number, and refuses nothing.
func wentWell(tb testing.TB, number int, req kmsg.Request, answer []byte) {
	tb.Helper()
	const header = 4 + 1 // the correlation id, no tags
	if got := int(binary.BigEndian.Uint32(answer)); got != number {
		tb.Fatalf("the answer in the place of request %d has the correlation id %d", number, got)
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(answer[header:]); err != nil {
		tb.Fatal(err)
	}
	asked, done := 0, 0
	count := func(code int16) {
		if code == 0 {
			done++
		}
	}
	switch resp := resp.(type) {
	case *kmsg.CreateTopicsResponse:
		asked = len(req.(*kmsg.CreateTopicsRequest).Topics)
		for i := range resp.Topics {
			count(resp.Topics[i].ErrorCode)
		}
	case *kmsg.DeleteTopicsResponse:
		asked = len(req.(*kmsg.DeleteTopicsRequest).Topics)
		for i := range resp.Topics {
			count(resp.Topics[i].ErrorCode)
		}
	}
	if done != asked || asked == 0 {
		tb.Fatalf("request %d: %d of %d topics done", number, done, asked)
	}
}
