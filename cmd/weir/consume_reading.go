package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// refusedPause is how long to wait after an answer that had errors only: the broker gives the next one at once.
	refusedPause = 100 * time.Millisecond
	// refusedGap is how far two errors of a partition may be apart and belong together. A partition that has nothing new is silent, too.
	refusedGap = 2 * time.Second
)

// reading is the part of a run of `weir consume` that reads. The client tries again for ever whatever may pass, and a partition that is damaged or
// whose disk has failed does not: so errors come here, and end the command when they last for --timeout.
type reading struct {
	flags *consumeFlags
	topic string
	// next is where each partition is read on, where that is known.
	next map[int32]int64
	// ends are the offsets at which --until-end stops, of the partitions that are not there yet.
	ends map[int32]int64
	// atEnd are those that reached it with the last answer.
	atEnd []int32
	// refused are the partitions whose last answer was an error.
	refused map[int32]*refusedPartition
	// progress is when records came last that were wanted, or the beginning.
	progress time.Time
	advanced bool // they came with the last answer
	printed  int
}

// refusedPartition is a row of errors without a record between them.
type refusedPartition struct {
	err         error // the last one
	first, last time.Time
}

func newReading(f *consumeFlags, topic string, starts map[int32]kgo.Offset, ends map[int32]int64) *reading {
	r := &reading{flags: f, topic: topic, next: map[int32]int64{}, ends: ends, refused: map[int32]*refusedPartition{}, progress: time.Now()}
	for p, start := range starts {
		if at := start.EpochOffset().Offset; at >= 0 {
			r.next[p] = at
		}
	}
	return r
}

// run reads until there are --count records, the ends are reached, or ctx ends.
func (r *reading) run(ctx context.Context, client *kgo.Client, out *bufio.Writer, print func(*bufio.Writer, *kgo.Record)) error {
	for ctx.Err() == nil {
		if r.flags.untilEnd && len(r.ends) == 0 {
			return nil
		}
		fetches := r.fetch(ctx, client)
		done := r.print(fetches, out, print)
		if len(r.atEnd) > 0 {
			client.PauseFetchPartitions(map[string][]int32{r.topic: r.atEnd})
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("writing records: %w", err)
		}
		if done || ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		if r.advanced {
			r.progress = now // not earlier: whoever reads the output may have been slow
		}
		if err := r.note(fetches.Errors(), now); err != nil {
			return err
		}
		if err := r.overdue(now); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 && len(r.refused) > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(refusedPause):
			}
		}
	}
	return nil
}

// fetch waits for records or errors; with --until-end not longer than --timeout allows.
func (r *reading) fetch(ctx context.Context, client *kgo.Client) kgo.Fetches {
	if r.flags.untilEnd {
		limited, cancel := context.WithDeadline(ctx, r.progress.Add(r.flags.client.timeout))
		defer cancel()
		ctx = limited
	}
	return client.PollFetches(ctx)
}

// note remembers errors that may pass. One that does not is returned.
func (r *reading) note(failures []kgo.FetchError, now time.Time) error {
	for _, failure := range failures {
		if errors.Is(failure.Err, context.DeadlineExceeded) || errors.Is(failure.Err, context.Canceled) {
			continue // fetch's own: the time to wait is up, or the command is to stop
		}
		if !kerr.IsRetriable(failure.Err) {
			return r.failed(failure.Partition, failure.Err)
		}
		refused := r.refused[failure.Partition]
		if refused == nil || now.Sub(refused.last) > refusedGap {
			refused = &refusedPartition{first: now}
			r.refused[failure.Partition] = refused
		}
		refused.err, refused.last = failure.Err, now
	}
	return nil
}

// print prints the records and says whether they are all that is wanted.
func (r *reading) print(fetches kgo.Fetches, out *bufio.Writer, print func(*bufio.Writer, *kgo.Record)) (done bool) {
	r.advanced, r.atEnd = false, nil
	for records := fetches.RecordIter(); !records.Done(); {
		record := records.Next()
		end, toGo := r.ends[record.Partition]
		if r.flags.untilEnd && !toGo {
			continue // written since
		}
		r.advanced = true
		r.next[record.Partition] = record.Offset + 1
		delete(r.refused, record.Partition)
		if !record.Attrs.IsControl() { // the end of a transaction, which is no record but may be the last of its log
			print(out, record)
			r.printed++
		}
		if r.flags.count > 0 && r.printed >= r.flags.count {
			return true
		}
		if toGo && record.Offset+1 >= end {
			delete(r.ends, record.Partition)
			r.atEnd = append(r.atEnd, record.Partition)
		}
	}
	return false
}

// overdue is the error that ends the command: nothing has come for --timeout that should have. With --until-end the other partitions are read to
// their ends first; without it that would be never, so that a partition's errors count from its first one.
func (r *reading) overdue(now time.Time) error {
	timeout := r.flags.client.timeout
	for _, p := range slices.Sorted(maps.Keys(r.refused)) {
		refused := r.refused[p]
		since := refused.first
		if r.flags.untilEnd {
			since = r.progress
		}
		if now.Sub(since) < timeout || now.Sub(refused.last) > refusedGap {
			continue
		}
		code := (*kerr.Error)(nil)
		if !errors.As(refused.err, &code) {
			return r.failed(p, refused.err)
		}
		return r.failed(p, fmt.Errorf("nothing came within %s; the broker's last answer was %s (%s): %s",
			timeout, code.Message, strings.TrimSuffix(code.Description, "."), r.advice(code)))
	}
	if !r.flags.untilEnd || now.Sub(r.progress) < timeout || len(r.ends) == 0 {
		return nil
	}
	p := slices.Min(slices.Collect(maps.Keys(r.ends)))
	return r.failed(p, fmt.Errorf("nothing came within %s, and no refusal, though the partition ends at offset %d: wait longer with --timeout, "+
		"or look into the broker's log", timeout, r.ends[p]))
}

func (r *reading) advice(code *kerr.Error) string {
	if code.Code == kerr.KafkaStorageError.Code || code.Code == kerr.CorruptMessage.Code {
		return fmt.Sprintf("the partition is damaged there, or its log directory has failed; "+
			"`weir topic describe %s` and the broker's log say which and why", r.topic)
	}
	return "wait longer with --timeout, or look into the broker's log"
}

// failed names what was read.
func (r *reading) failed(partition int32, err error) error {
	if partition < 0 { // the client's way to say that it is the topic
		return fmt.Errorf("reading topic %s at %s: %w", r.topic, r.flags.client.brokers, err)
	}
	from := ""
	if r.flags.fromBeginning {
		from = " from its start on"
	}
	if at, ok := r.next[partition]; ok {
		from = fmt.Sprintf(" from offset %d on", at)
	}
	return fmt.Errorf("reading partition %d of topic %s%s at %s: %w", partition, r.topic, from, r.flags.client.brokers, err)
}
