package record

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
)

// walkBatch is a batch of one record with a value of that many zeros.
func walkBatch(codec compression.Codec, valueBytes int) Batch {
	b := NewBuilder(codec)
	b.Append(1, nil, make([]byte, valueBytes))
	return Batch(b.Finish(nil))
}

func TestWalkSeesWhatRecordsSees(t *testing.T) {
	for _, codec := range allCodecs {
		for _, size := range []int{0, 100, walkedBytesShared - 100, walkedBytesShared, 5 << 20} {
			b, seen := walkBatch(codec, size), 0
			b.Walk(0, func(it *Iterator) {
				for it.Next() {
					seen++
					if got := it.Record().Value; len(got) != size || len(bytes.Trim(got, "\x00")) != 0 {
						t.Errorf("%v, %d bytes: got a value of %d bytes", codec, size, len(got))
					}
				}
				if it.Err() != nil {
					t.Errorf("%v, %d bytes: %v", codec, size, it.Err())
				}
			})
			if seen != 1 {
				t.Errorf("%v, %d bytes: %d records, want 1", codec, size, seen)
			}
			if codec == compression.None || size < 5<<20 {
				continue
			}
			b.Walk(4<<20, func(it *Iterator) {
				if it.Next() || !errors.Is(it.Err(), ErrTooLarge) {
					t.Errorf("%v, %d bytes with a limit below: got %v, want ErrTooLarge", codec, size, it.Err())
				}
			})
		}
	}
}

// TestLargeBatchesAreWalkedOneAtATime: whoever sends them, batches that grow to 64 MiB, and those that would grow beyond, take the memory of one.
func TestLargeBatchesAreWalkedOneAtATime(t *testing.T) {
	const walks, limit = 12, 64 << 20
	whole, bomb := walkBatch(compression.Zstd, 20<<20), walkBatch(compression.Gzip, 80<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var walked atomic.Int32
	var wg sync.WaitGroup
	for range walks {
		wg.Go(func() {
			whole.Walk(limit, func(it *Iterator) {
				if walked.Add(1) != 1 {
					t.Error("two large batches walked at the same time")
				}
				runtime.Gosched()
				if !it.Next() {
					t.Errorf("no record: %v", it.Err())
				}
				walked.Add(-1)
			})
			bomb.Walk(limit, func(it *Iterator) {
				if it.Next() || !errors.Is(it.Err(), ErrTooLarge) {
					t.Errorf("got %v, want ErrTooLarge", it.Err())
				}
			})
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 3*limit {
		t.Errorf("%d MiB allocated for %d walks, want the memory of one", got>>20, 2*walks)
	}
	dropLargeBuffer()
	if largeWalk.buffer != nil {
		t.Error("the buffer is kept for ever")
	}
}

// TestWalkBeyondTheSharedBuffer: a batch that is allowed to grow further does, and the shared buffer stays as it is.
func TestWalkBeyondTheSharedBuffer(t *testing.T) {
	const size = largeBufferBytes + 1<<20
	walkBatch(compression.Zstd, size).Walk(2*size, func(it *Iterator) {
		if !it.Next() || len(it.Record().Value) != size {
			t.Errorf("got %d bytes, %v; want %d", len(it.Record().Value), it.Err(), size)
		}
	})
	if got := cap(largeWalk.buffer); got > largeBufferBytes {
		t.Errorf("a buffer of %d bytes is kept, want at most %d", got, largeBufferBytes)
	}
}

func TestSmallBatchesAreWalkedBesideEachOther(t *testing.T) {
	b := walkBatch(compression.Lz4, 10_000)
	inside, leave := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			b.Walk(0, func(*Iterator) {
				inside <- true
				<-leave
			})
		})
	}
	for range 2 {
		testkit.Receive(t, "a walk", inside)
	}
	close(leave)
	wg.Wait()
}
