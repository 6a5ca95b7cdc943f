package cluster

import (
	"context"
	"errors"
	"sync/atomic"
)

// conflictsMax is how often a typed proposal is decided anew because somebody else was faster.
const conflictsMax = 100

// batch turns the items of one request into entries and gathers the results by item.
type batch struct {
	node    *Node
	results []TopicResult
	items   []int // of the records
	records []Record

	open   atomic.Int32 // entries without an outcome, and one more while start submits
	failed atomic.Pointer[error]
}

func newBatch(n *Node, items int) *batch {
	return &batch{node: n, results: make([]TopicResult, items)}
}

// refuse settles an item that needs no record.
func (b *batch) refuse(item int, err error) { b.results[item] = TopicResult{Err: err} }

// add asks for a record on behalf of an item.
func (b *batch) add(item int, r Record) {
	if err := checkLimits(r); err != nil {
		b.refuse(item, err)
		return
	}
	b.items = append(b.items, item)
	b.records = append(b.records, r)
}

func (b *batch) settle(i int, res Result) {
	b.results[b.items[i]] = TopicResult{Topic: res.Topic, Err: res.Err}
}

// run is start for a caller that waits. With validateOnly it applies the records to the present image and throws the outcome away.
func (b *batch) run(ctx context.Context, validateOnly bool) ([]TopicResult, error) {
	if !validateOnly {
		return await(ctx, b.start)
	}
	img := b.node.Image()
	for i, r := range b.records {
		var res Result
		img, res = Apply(img, r)
		b.settle(i, res)
	}
	return b.results, nil
}

// start proposes the records, all of them before any is decided, and calls done once with the results by item: on the node's loop, or before it
// returns. done must be short.
func (b *batch) start(done func([]TopicResult, error)) {
	ended := func() {
		if b.open.Add(-1) > 0 {
			return
		}
		if err := b.failed.Load(); err != nil {
			done(nil, *err)
			return
		}
		done(b.results, nil)
	}
	b.open.Store(1)
	for next := 0; next < len(b.records); {
		start, end := next, b.entryEnd(next)
		b.open.Add(1)
		b.node.Submit(b.records[start:end], func(results []Result, err error) {
			if err != nil {
				b.failed.Store(&err)
			}
			for i, res := range results {
				b.settle(start+i, res)
			}
			ended()
		})
		next = end
	}
	ended()
}

// entryEnd returns the end of the entry that begins with record start.
func (b *batch) entryEnd(start int) int {
	partitions, bytes, end := 0, 0, start
	for end < len(b.records) && end-start < entryRecordsTarget {
		r := b.records[end]
		partitions += addedPartitions(r)
		bytes += configBytes(r)
		if end > start && (partitions > entryPartitionsTarget || bytes > entryConfigsTarget) {
			break
		}
		end++
	}
	return end
}

func configBytes(r Record) (bytes int) {
	if t, ok := r.(*TopicRecord); ok {
		for k, v := range t.Configs {
			bytes += len(k) + len(v)
		}
	}
	return bytes
}

// decide works out a record for each of so many items, proposes all of them, and returns the results by item. Items that somebody else
// was faster to change are worked out anew. With validateOnly nothing is changed.
func (n *Node) decide(ctx context.Context, items int, validateOnly bool, record func(item int) (Record, error)) ([]TopicResult, error) {
	results := make([]TopicResult, items)
	open := make([]int, items)
	for i := range open {
		open[i] = i
	}
	for round := 0; round < conflictsMax && len(open) > 0; round++ {
		b := newBatch(n, len(open))
		for i, item := range open {
			if r, err := record(item); err != nil {
				b.refuse(i, err)
			} else {
				b.add(i, r)
			}
		}
		outcome, err := b.run(ctx, validateOnly)
		if err != nil {
			return nil, err
		}
		var again []int
		for i, item := range open {
			results[item] = outcome[i]
			if errors.Is(outcome[i].Err, ErrConflict) {
				again = append(again, item)
			}
		}
		open = again
	}
	return results, nil
}
