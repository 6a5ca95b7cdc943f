package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/internal/testkit"
)

// newClient is a franz-go client of the broker.
func (tb *testBroker) newClient(opts ...kgo.Opt) *kgo.Client {
	tb.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(tb.Addr().String())}, opts...)...)
	if err != nil {
		tb.t.Fatal(err)
	}
	tb.t.Cleanup(client.Close)
	return client
}

// TestFranzGo produces with every codec and reads everything back, byte for byte, on both network implementations.
func TestFranzGo(t *testing.T) {
	for _, network := range []string{"epoll", "go"} {
		for _, policy := range []string{"commit", "never"} {
			t.Run(network+"/"+policy, func(t *testing.T) {
				tb := startBroker(t, map[string]string{"netpoll": network})
				roundTrip(t, tb, policy)
			})
		}
	}
}

func roundTrip(t *testing.T, tb *testBroker, policy string) {
	const partitions, each = 3, 4000
	tb.createTopic("t", partitions, map[string]string{"fsync.policy": policy, "segment.bytes": "1048576"})
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Deadline)
	defer cancel()
	for _, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		client := tb.newClient(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		var wg sync.WaitGroup
		for i := range each {
			wg.Add(1)
			r := &kgo.Record{Topic: "t", Partition: int32(i % partitions), Key: []byte(fmt.Sprint(i)), Value: valueOf(i),
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(i))}}}
			client.Produce(ctx, r, func(_ *kgo.Record, err error) {
				defer wg.Done()
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
		}
		wg.Wait()
	}
	from := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		from[p] = kgo.NewOffset().AtStart()
	}
	consumer := tb.newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": from}))
	next := make([]int64, partitions)
	for seen := 0; seen < 5*each; {
		fetches := consumer.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			t.Fatalf("fetch: %+v", errs)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next[r.Partition] {
				t.Fatalf("partition %d: got offset %d, want %d", r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition]++
			i := int(r.Offset)*partitions + int(r.Partition)
			if i >= each { // a later codec: the same records again
				var n int
				if _, err := fmt.Sscan(string(r.Key), &n); err != nil {
					t.Fatal(err)
				}
				i = n
			}
			if string(r.Key) != fmt.Sprint(i) || string(r.Value) != string(valueOf(i)) || string(r.Headers[0].Value) != string(r.Key) {
				t.Fatalf("partition %d offset %d: key %q, %d bytes of value", r.Partition, r.Offset, r.Key, len(r.Value))
			}
			seen++
		})
	}
}

func valueOf(i int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%d,", i), 1+i%200))
}

// TestManyReadersAndWriters has every reader see every record, with fetches that wait, and sessions.
func TestManyReadersAndWriters(t *testing.T) {
	const writers, readers, each = 4, 4, 100
	tb := startBroker(t, nil)
	tb.createTopic("t", 4, nil)
	var wg sync.WaitGroup
	for w := range writers {
		c := tb.dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				req := produceRequest("t", 1, batchOf(fmt.Sprintf("%d-%d", w, i)))
				req.Topics[0].Partitions[0].Partition = int32(i % 4)
				if p := c.request(req, produceVersion).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
					t.Errorf("produce: %+v", p)
				}
			}
		}()
	}
	for r := range readers {
		s := &sessionClient{rawConn: tb.dial()}
		if r%2 == 0 {
			s.epoch = -1 // no session
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			s.readAll(writers * each)
		}()
	}
	wg.Wait()
}

// readAll fetches until it has seen that many records of the four partitions of topic t.
func (s *sessionClient) readAll(records int) {
	next := map[int32]int64{0: 0, 1: 0, 2: 0, 3: 0}
	want := next
	seen := map[string]bool{}
	for len(seen) < records {
		req := s.build(want)
		req.MinBytes, req.MaxWaitMillis = 1, 60_000
		resp := s.request(req, fetchVersion).(*kmsg.FetchResponse)
		moved := map[int32]int64{}
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if p.ErrorCode != 0 {
					s.t.Errorf("fetch: %+v", p)
					return
				}
				if len(p.RecordBatches) == 0 {
					continue
				}
				for _, v := range strings.Fields(valuesOf(s.t, p.RecordBatches)) {
					if seen[v] {
						s.t.Errorf("record %s came twice", v)
						return
					}
					seen[v] = true
					next[p.Partition]++
				}
				moved[p.Partition] = next[p.Partition]
			}
		}
		if s.epoch == -1 {
			want = next
			continue
		}
		s.id, want = resp.SessionID, moved
		s.epoch++
	}
}
