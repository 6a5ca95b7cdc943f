package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	killRounds = flag.Int("kill-rounds", 50, "kill -9 rounds of TestKillNineKeepsWhatWasAcknowledged")
	killSeed   = flag.Uint64("kill-seed", 0, "seed of the moments of the kills; 0 draws one")
)

// ledger holds what the broker acknowledged: partition -> offset -> value.
type ledger struct {
	mu struct {
		sync.Mutex
		acked map[int32]map[int64]string
	}
}

func (l *ledger) note(r *kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	byOffset := l.mu.acked[r.Partition]
	if byOffset == nil {
		byOffset = map[int64]string{}
		l.mu.acked[r.Partition] = byOffset
	}
	byOffset[r.Offset] = string(r.Value)
}

// TestKillNineKeepsWhatWasAcknowledged kills the broker in the middle of load, again and again, and reads back every
// acknowledged record at its offset.
func TestKillNineKeepsWhatWasAcknowledged(t *testing.T) {
	rounds, seed := *killRounds, *killSeed
	if testing.Short() {
		rounds = min(rounds, 5)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill-rounds=%d -kill-seed=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	l := &ledger{}
	l.mu.acked = map[int32]map[int64]string{}
	policies := []string{"commit", "interval", "never"}
	total := 0
	for round := range rounds {
		s := serve(t, dir, "--set", "num.partitions=3", "--set", "log.segment.bytes=1048576", "--set", "fsync.policy="+policies[round%3])
		stop := produceUntilStopped(t, s.address, round, l)
		time.Sleep(time.Duration(50+random.IntN(150)) * time.Millisecond)
		s.kill()
		stop()
		total += l.size()
		s = serve(t, dir)
		l.check(t, s.address)
		if round%2 == 0 {
			s.stop()
		} else {
			s.kill()
		}
		if t.Failed() {
			return
		}
		l.forget()
	}
	if total == 0 {
		t.Fatal("nothing was ever acknowledged: the test has proved nothing")
	}
	t.Logf("%d acknowledged records, none lost", total)
}

// size counts the records in the ledger.
func (l *ledger) size() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, byOffset := range l.mu.acked {
		n += len(byOffset)
	}
	return n
}

// produceUntilStopped writes records from two clients until the returned function is called; what is acknowledged goes into the ledger.
func produceUntilStopped(t *testing.T, address string, round int, l *ledger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for worker := range 2 {
		client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(500),
			kgo.ProducerBatchCompression([]kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[round%3]))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer client.Close()
			for n := 0; ctx.Err() == nil; n++ {
				value := fmt.Sprintf("round %d worker %d record %d", round, worker, n)
				client.Produce(ctx, &kgo.Record{Topic: "ledger", Value: []byte(value)}, func(r *kgo.Record, err error) {
					if err == nil {
						l.note(r)
					}
				})
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// check reads from the lowest acknowledged offset of each partition and holds the ledger against it.
func (l *ledger) check(t *testing.T, address string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	starts := map[int32]kgo.Offset{}
	left := 0
	for partition, byOffset := range l.mu.acked {
		lowest := int64(-1)
		for offset := range byOffset {
			if lowest < 0 || offset < lowest {
				lowest = offset
			}
		}
		if lowest >= 0 {
			starts[partition] = kgo.NewOffset().At(lowest)
			left += len(byOffset)
		}
	}
	if left == 0 {
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"ledger": starts}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	next := map[int32]int64{}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Errorf("%d acknowledged records were not read: %v", left, err)
			return
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want, ok := l.mu.acked[r.Partition][r.Offset]; ok {
				left--
				if string(r.Value) != want {
					t.Errorf("partition %d offset %d: got %q, acknowledged %q", r.Partition, r.Offset, r.Value, want)
				}
			}
			if at, seen := next[r.Partition]; seen && r.Offset != at {
				t.Errorf("partition %d: offset %d follows %d", r.Partition, r.Offset, at-1)
			}
			next[r.Partition] = r.Offset + 1
		})
	}
}

// forget drops all but the newest record of each partition: the rest was read back.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, byOffset := range l.mu.acked {
		newest := int64(-1)
		for offset := range byOffset {
			newest = max(newest, offset)
		}
		for offset := range byOffset {
			if offset != newest {
				delete(byOffset, offset)
			}
		}
	}
}
