package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// TestConcurrentUse runs appenders, readers at the tail and at random, searches by time, rolls, retention, checkpoints,
// configuration changes and (in half of the runs) truncations against one log. What is read is whole and in order, and
// nothing takes the log offline. It is worth most under -race.
func TestConcurrentUse(t *testing.T) {
	for _, truncate := range []bool{false, true} {
		t.Run(fmt.Sprintf("truncate %t", truncate), func(t *testing.T) { concurrentUse(t, truncate) })
	}
}

func concurrentUse(t *testing.T, truncate bool) {
	o := testStoreOptions(vfs.OS())
	o.Dirs, o.OpenFilesMax = []string{t.TempDir()}, 6
	s := openTestStore(t, o)
	cfg := LogConfig{SegmentBytes: 8000, IndexIntervalBytes: 500, FileDeleteDelayMs: -1, RetentionBytes: 60_000, RetentionMs: -1}
	l := createTestLog(t, s, testTP, cfg)
	var appending, helping sync.WaitGroup
	var done atomic.Bool
	for g := range 3 {
		appending.Go(func() {
			rng := testkit.Rand(uint64(g))
			for range 250 {
				res, err := l.Append(testBatch(1+rng.IntN(4), rng.IntN(300), int64(rng.IntN(10_000))), AppendOptions{})
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				if rng.IntN(10) > 0 {
					continue
				}
				woken := make(chan error, 1)
				if l.Watch(&Waiter{Offset: res.EndOffset, Wake: func(err error) { woken <- err }}) {
					if err := testkit.Receive(t, "an acknowledgement", woken); err != nil && !(truncate && errors.Is(err, ErrOffsetOutOfRange)) {
						t.Errorf("waiter: %v", err)
					}
				}
			}
		})
	}
	loop := func(name string, f func() error) {
		helping.Go(func() {
			for !done.Load() && !t.Failed() {
				if err := f(); err != nil && !errors.Is(err, ErrOffsetOutOfRange) {
					t.Errorf("%s: %v", name, err)
				}
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	for g := range 3 {
		rng := testkit.Rand(uint64(100 + g))
		loop("read", func() error { return readSome(l, rng.Int64N(1<<40), rng.IntN(2) == 0, truncate) })
	}
	rng := testkit.Rand(7)
	loop("time", func() error { _, err := l.OffsetForTimestamp(int64(rng.IntN(11_000)), ReadUncommitted); return err })
	loop("max time", func() error { _, err := l.MaxTimestampOffset(); return err })
	loop("roll", l.Roll)
	loop("checkpoint", s.Checkpoint)
	loop("retention", func() error { s.RunRetention(); return nil })
	loop("config", func() error {
		cfg := cfg
		cfg.Fsync = ioqueue.Policy(time.Now().UnixNano() / 1000 % 3)
		return s.UpdateConfig(testTP, cfg)
	})
	if truncate {
		trng := testkit.Rand(9)
		loop("truncate", func() error {
			off := l.Offsets()
			return l.TruncateTo(max(off.LogStart, off.LogEnd-int64(trng.IntN(20))))
		})
	}
	appending.Wait()
	done.Store(true)
	helping.Wait()
	must(t, l.Err())
	checkBatches(t, readAll(t, l, l.Offsets().LogStart, ReadOptions{Isolation: ReadAll}))
	want := l.Offsets()
	closeTestStore(t, s)
	s = openTestStore(t, o)
	if got := s.Log(testTP).Offsets(); got.LogStart != want.LogStart || got.LogEnd != want.LogEnd {
		t.Errorf("offsets after reopening: got %+v, want %+v", got, want)
	}
	closeTestStore(t, s)
}

// readSome reads once, near the tail or anywhere, and checks what it got. A span of what is being truncated may hold newer bytes.
func readSome(l *Log, random int64, tail, truncate bool) error {
	o := l.Offsets()
	if o.HighWatermark == o.LogStart {
		return nil
	}
	offset := o.LogStart + random%(o.HighWatermark-o.LogStart)
	if tail {
		offset = o.HighWatermark - 1
	}
	res, err := l.Read(offset, ReadOptions{MaxBytes: 5000, MinOneBatch: true})
	if err != nil {
		return err
	}
	data, err := spanBytes(&res)
	if truncate {
		return nil
	}
	for rest := data; err == nil && len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err == nil {
			err = b.CheckCRC()
		}
	}
	return err
}
