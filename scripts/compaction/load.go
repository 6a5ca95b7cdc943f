package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// heldBackMs keeps the cleaner off the topic while it is written: a week.
	heldBackMs = "604800000"
	// batchBytes bounds the producer's batches.
	batchBytes = 64 << 10
)

// load is the data of one run: the same for the same options.
type load struct {
	o      options
	b      *broker
	client *kgo.Client
	admin  *kadm.Client
	// last is, by key, the number of the last record written with it plus 1; 0 for none.
	last    []int64
	written int64
}

// newLoad connects and creates the topic.
func newLoad(o options, b *broker) (*load, error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		"snappy": kgo.SnappyCompression()}
	codec, known := codecs[o.codec]
	if !known {
		return nil, fmt.Errorf("--codec %q: want none, lz4, zstd or snappy", o.codec)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.address), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return nil, err
	}
	return &load{o: o, b: b, client: client, admin: kadm.NewClient(client), last: make([]int64, o.keys)}, nil
}

func (l *load) close() { l.client.Close() }

func alter(values map[string]string) (out []kadm.AlterConfig) {
	for name, value := range values {
		out = append(out, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	return out
}

// setUp sets the broker's dynamic configuration and creates the topic. Kafka takes connections before it answers that.
func (l *load) setUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if len(l.b.dynamic) > 0 {
		answers, err := l.admin.AlterBrokerConfigs(ctx, alter(l.b.dynamic))
		for _, a := range answers {
			if err == nil && a.Err != nil {
				err = fmt.Errorf("%w: %s", a.Err, a.ErrMessage)
			}
		}
		if err != nil {
			return fmt.Errorf("setting %v: %w", l.b.dynamic, err)
		}
	}
	configs := map[string]*string{}
	for _, c := range alter(map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": heldBackMs,
		"segment.bytes": strconv.Itoa(l.o.segmentBytes), "file.delete.delay.ms": "60000", "compression.type": "producer"}) {
		configs[c.Name] = c.Value
	}
	if _, err := l.admin.CreateTopic(ctx, 1, 1, configs, topic); err != nil {
		return fmt.Errorf("creating the topic: %w", err)
	}
	return nil
}

// write fills the topic, in the order of the records' numbers.
func (l *load) write(ctx context.Context) error {
	if err := l.setUp(ctx); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var failed atomic.Pointer[error]
	total := int64(l.o.gib * (1 << 30) / float64(l.o.valueBytes))
	for n := range total {
		k := random.IntN(l.o.keys)
		value := make([]byte, max(l.o.valueBytes, 8))
		binary.BigEndian.PutUint64(value, uint64(n))
		copy(value[8:8+(len(value)-8)/2], noise[random.IntN(len(noise)-len(value)):])
		l.client.Produce(ctx, &kgo.Record{Key: fmt.Appendf(nil, "key-%08d", k), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
		if failed.Load() != nil {
			break
		}
		l.last[k] = n + 1
		l.written++
	}
	if err := l.client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("writing: %w", *err)
	}
	return nil
}

// release lets the cleaner begin.
func (l *load) release(ctx context.Context) error {
	answers, err := l.admin.AlterTopicConfigs(ctx, alter(map[string]string{"min.compaction.lag.ms": "0"}), topic)
	if err == nil {
		err = answers[0].Err
	}
	if err != nil {
		return fmt.Errorf("setting min.compaction.lag.ms: %w", err)
	}
	return nil
}

// check reads the topic and holds the last value of each key against what was written. It returns how many records are left.
func (l *load) check(ctx context.Context) (left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ends, err := l.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, err
	}
	end, _ := ends.Lookup(topic, 0)
	if end.Offset != l.written {
		return 0, fmt.Errorf("%w: the log ends at %d after %d records", errWrong, end.Offset, l.written)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(l.b.address),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	found := make([]int64, l.o.keys)
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, fmt.Errorf("reading from %d on: %w", next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			k, kerr := strconv.Atoi(strings.TrimPrefix(string(r.Key), "key-"))
			if kerr != nil || k < 0 || k >= len(found) || r.Offset < next || len(r.Value) < 8 {
				err = fmt.Errorf("%w: key %q at offset %d", errWrong, r.Key, r.Offset)
				return
			}
			left++
			next, found[k] = r.Offset+1, int64(binary.BigEndian.Uint64(r.Value))+1
		})
		if err != nil {
			return 0, err
		}
	}
	for k, n := range l.last {
		if found[k] != n {
			return 0, fmt.Errorf("%w: key %d ends with record %d, written last was %d", errWrong, k, found[k]-1, n-1)
		}
	}
	return left, nil
}

// sealed lists the base of the newest segment and the bytes of those before it.
func sealed(dir string) (border, bytes int64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return 0, 0, err
	}
	if len(names) < 2 {
		return 0, 0, fmt.Errorf("%s has %d segments, want some that are sealed", dir, len(names))
	}
	slices.Sort(names)
	newest := filepath.Base(names[len(names)-1])
	if border, err = strconv.ParseInt(strings.TrimSuffix(newest, ".log"), 10, 64); err != nil {
		return 0, 0, err
	}
	bytes, err = sizeBelow(dir, border)
	return border, bytes, err
}

// sizeBelow sums the segments with a base below border.
func sizeBelow(dir string, border int64) (bytes int64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		base, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(name), ".log"), 10, 64)
		if err != nil {
			return 0, err
		}
		if base >= border {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		bytes += info.Size()
	}
	return bytes, nil
}
