package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// This file is the second engine: franz-go clients, which show what an application sees. A record is the unit: it carries a
// stamp as its key, and the client makes the batches with its own defaults.

// kgoBufferOpen bounds the records that an open-loop client may hold: memory only.
const kgoBufferOpen = 1 << 20

// kgoValues is the number of different values that a client cycles through.
const kgoValues = 256

// kgoProducer is one producing client.
type kgoProducer struct {
	r          *run
	index      int
	partitions []int32
	client     *kgo.Client
	rec        *recorder
	cnt        *counters
	values     [][]byte
	turn       int
	waiting    atomic.Int64 // records in the client
}

// kgoOptions are common to both sides.
func (r *run) kgoOptions() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(r.target.Addr()), kgo.ClientID(clientID)}
}

// openProducers makes the producing clients, each with its share of the partitions.
func (r *run) openProducers(context.Context) error {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	acks := map[Acks]kgo.Acks{0: kgo.NoAck(), 1: kgo.LeaderAck(), -1: kgo.AllISRAcks()}
	r.sent = newSentLedger(r.total, len(r.parts))
	values, err := kgoValuesOf(r.spec)
	if err != nil {
		return err
	}
	for i := r.base; i < r.base+r.producerCount(); i++ {
		p := &kgoProducer{r: r, index: i, values: values}
		p.rec, p.cnt = r.worker()
		for id := range r.parts {
			if len(r.parts) <= r.total && id == i%len(r.parts) || len(r.parts) > r.total && id%r.total == i {
				p.partitions = append(p.partitions, int32(id))
			}
		}
		buffered := kgoBufferOpen
		if r.spec.Rate.Kind == RateMax {
			buffered = max(r.spec.InFlight*r.spec.Records, 1)
		}
		opts := append(r.kgoOptions(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(acks[r.spec.Acks]),
			kgo.ProducerBatchCompression(codecs[r.spec.Codec]), kgo.MaxBufferedRecords(buffered), kgo.RecordDeliveryTimeout(r.spec.Drain))
		if r.spec.Acks != -1 {
			opts = append(opts, kgo.DisableIdempotentWrite())
		}
		if p.client, err = kgo.NewClient(opts...); err != nil {
			return fmt.Errorf("franz-go: %w", err)
		}
		r.closers = append(r.closers, p.client.Close)
		r.producers = append(r.producers, p)
	}
	return nil
}

// kgoValuesOf makes the values, with their checks.
func kgoValuesOf(spec *Spec) ([][]byte, error) {
	src, err := newPayloadSource(spec.Payload, spec.Seed)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, kgoValues)
	for i := range values {
		values[i] = make([]byte, spec.ValueBytes)
		src.fill(values[i][checkBytes:])
		binary.LittleEndian.PutUint32(values[i], valueCheck(0, values[i]))
	}
	return values, nil
}

func (p *kgoProducer) congestion() string { return "as the client has it" }

func (p *kgoProducer) run(ctx context.Context, pc pace) error {
	if pc.schedule != nil && p.r.spec.Conns <= preciseConnsMax {
		defer preciseThread()()
	}
	for ctx.Err() == nil {
		now := p.r.clock.now()
		intended := now
		if pc.schedule != nil {
			if intended = pc.schedule.Next(); intended >= p.r.stopAt.Load() {
				break
			}
			for wait := intended - now; wait > 0 && ctx.Err() == nil; wait = intended - now {
				preciseSleep(time.Duration(min(wait, int64(50*time.Millisecond))))
				now = p.r.clock.now()
			}
		} else if now >= p.r.stopAt.Load() || pc.quota != nil && pc.quota.Add(-1) < 0 {
			break
		}
		p.produce(ctx, intended, now, pc.schedule != nil)
	}
	flush, cancel := context.WithTimeout(ctx, p.r.spec.Drain)
	defer cancel()
	if err := p.client.Flush(flush); err != nil && ctx.Err() == nil {
		return fmt.Errorf("franz-go client %d: %d records without an answer: %w", p.index, p.waiting.Load(), err)
	}
	return nil
}

// produce hands one record to the client. Slip is until then; what the client does later is part of the service.
func (p *kgoProducer) produce(ctx context.Context, intended, now int64, open bool) {
	partition := p.partitions[p.turn%len(p.partitions)]
	value := p.values[p.turn%len(p.values)]
	p.turn++
	next := &p.r.sent.next[p.index][partition]
	s := stamp{run: p.r.id, producer: uint32(p.index), seq: *next, intended: intended}
	*next++
	key := make([]byte, stampBytes)
	s.put(key)
	p.cnt.sent.Add(1)
	p.waiting.Add(1)
	if open && p.r.measured(intended) {
		p.rec.record(metricSlip, now-intended)
		p.rec.record(metricLag, now-intended)
	}
	p.client.Produce(ctx, &kgo.Record{Topic: p.r.topic, Partition: partition, Key: key, Value: value}, func(_ *kgo.Record, err error) {
		done := p.r.clock.now()
		p.waiting.Add(-1)
		if err != nil {
			p.cnt.failed.Add(1)
			p.r.sent.fail(p.index, partition, s.seq)
			if !errors.Is(err, context.Canceled) {
				p.r.noteError(fmt.Errorf("produce to %s-%d: %w", p.r.topic, partition, err))
			}
			return
		}
		p.cnt.acked.Add(1)
		p.cnt.ackedBytes.Add(p.r.unitBytes)
		if p.r.measured(intended) {
			p.rec.record(metricResponse, done-intended)
			p.rec.record(metricService, done-now)
		}
	})
}

// kgoConsumer is one reading client: all partitions, from the first offset.
type kgoConsumer struct {
	r      *run
	name   string
	client *kgo.Client
	rec    *recorder
	cnt    *counters
	led    *ledger
	next   []int64
	goal   []int64
}

// openReader makes one reading client.
func (r *run) openReader(_ context.Context, name string, goal []int64) error {
	c := &kgoConsumer{r: r, name: name, goal: goal, next: make([]int64, len(r.parts)), led: newLedger(r.id, len(r.parts), r.total)}
	c.rec, c.cnt = r.worker()
	offsets := map[int32]kgo.Offset{}
	for id := range r.parts {
		offsets[int32(id)] = kgo.NewOffset().At(0)
		c.led.only = append(c.led.only, int32(id))
	}
	client, err := kgo.NewClient(append(r.kgoOptions(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: offsets}),
		kgo.FetchMaxBytes(int32(r.spec.FetchBytes)), kgo.FetchMaxPartitionBytes(int32(r.spec.FetchBytes)), kgo.FetchMaxWait(r.spec.FetchWait),
		kgo.FetchMinBytes(int32(r.spec.FetchMin)))...)
	if err != nil {
		return fmt.Errorf("franz-go: %w", err)
	}
	c.client = client
	r.closers = append(r.closers, client.Close)
	r.ledgers = append(r.ledgers, c.led)
	r.consumers = append(r.consumers, c)
	return nil
}

func (c *kgoConsumer) congestion() string { return "as the client has it" }

func (c *kgoConsumer) run(ctx context.Context) error {
	for ctx.Err() == nil && !c.drained() {
		poll, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := c.client.PollFetches(poll)
		cancel()
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				return fmt.Errorf("%s: fetch of %s-%d: %w", c.name, e.Topic, e.Partition, e.Err)
			}
		}
		now := c.r.clock.now()
		fetches.EachRecord(func(rec *kgo.Record) { c.see(rec, now) })
		c.cnt.fetches.Add(1)
		c.checkGoal()
	}
	return nil
}

func (c *kgoConsumer) see(rec *kgo.Record, now int64) {
	t := &c.led.truth
	if rec.Offset != c.next[rec.Partition] {
		t.fault(&t.OffsetGap, "partition %d: record at offset %d, want %d", rec.Partition, rec.Offset, c.next[rec.Partition])
	}
	c.next[rec.Partition] = rec.Offset + 1
	var s stamp
	ok := len(rec.Key) == stampBytes && len(rec.Value) >= checkBytes
	if ok {
		if s, ok = readStamp(rec.Key); ok && c.r.spec.Verify == VerifyFull {
			ok = binary.LittleEndian.Uint32(rec.Value) == valueCheck(0, rec.Value)
			t.Records++
		}
	}
	if !ok {
		t.fault(&t.Corrupt, "partition %d offset %d: stamp or value with a wrong checksum", rec.Partition, rec.Offset)
		return
	}
	c.led.see(rec.Partition, rec.Offset, &s)
	c.cnt.fetchedOnWire.Add(int64(len(rec.Value)))
	if c.goal != nil {
		c.cnt.catchRead.Add(1)
		c.cnt.catchBytes.Add(c.r.unitBytes)
		return
	}
	c.cnt.read.Add(1)
	c.cnt.readBytes.Add(c.r.unitBytes)
	if c.r.measured(s.intended) {
		c.rec.record(metricEndToEnd, now-s.intended)
	}
}

func (c *kgoConsumer) checkGoal() {
	if c.goal == nil {
		return
	}
	for p, end := range c.goal {
		if c.next[p] < end {
			return
		}
	}
	c.goal = nil
	c.r.caughtUp(c.r.clock.now())
}

// drained reports whether every partition has been read to the end that the run announced.
func (c *kgoConsumer) drained() bool {
	ends := c.r.drainTo.Load()
	if ends == nil {
		return false
	}
	for p, end := range *ends {
		if c.next[p] < end {
			return false
		}
	}
	return true
}
