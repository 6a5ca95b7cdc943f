package record

import (
	"errors"
	"sync"
	"time"
)

// walkedBytesShared is the decompressed size up to which batches are walked beside each other. What a client sent may grow to 64 MiB and more
// (DecompressedBytesMax), so that of larger ones there is only one at a time in memory, whoever sent them.
const walkedBytesShared = 1 << 20

// largeBufferKept is for how long the buffer of large batches is kept after the last one. The garbage collector would let go of it sooner, and then
// what is not collected yet of such buffers is many times one.
const largeBufferKept = 10 * time.Second

// largeBufferBytes is its size. What grows beyond it, of a batch of over 3 MiB where max.message.bytes allows that, has one of its own.
const largeBufferBytes = 64 << 20

var (
	walkBuffers sync.Pool // of *[]byte
	largeWalk   struct {
		sync.Mutex
		buffer []byte
		drop   *time.Timer
	}
)

// Walk calls f with an iterator over the records, as Records gives it, for batches that somebody else has made: the memory for what is decompressed is
// shared, and bounded for the whole process. f must not keep a record, nor walk another batch. It waits while another batch of more than 1 MiB is
// walked, if this is one too.
func (b Batch) Walk(limit int, f func(it *Iterator)) {
	if limit <= 0 {
		limit = DecompressedBytesMax(len(b))
	}
	buf, _ := walkBuffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	it := b.Records(*buf, min(limit, walkedBytesShared))
	if limit <= walkedBytesShared || !errors.Is(it.Err(), ErrTooLarge) {
		f(&it)
		if used := it.Buffer(); cap(used) > cap(*buf) && cap(used) <= 2*walkedBytesShared {
			*buf = used[:0]
		}
		walkBuffers.Put(buf)
		return
	}
	walkBuffers.Put(buf)
	b.walkLarge(limit, f)
}

func (b Batch) walkLarge(limit int, f func(it *Iterator)) {
	largeWalk.Lock()
	defer largeWalk.Unlock()
	if size := min(limit, largeBufferBytes); cap(largeWalk.buffer) < size {
		// As large as it may become: a buffer that grows would leave as much garbage behind. Memory that is not touched takes none.
		largeWalk.buffer = make([]byte, 0, size)
	}
	it := b.Records(largeWalk.buffer, limit)
	f(&it)
	if largeWalk.drop == nil {
		largeWalk.drop = time.AfterFunc(largeBufferKept, dropLargeBuffer)
	} else {
		largeWalk.drop.Reset(largeBufferKept)
	}
}

func dropLargeBuffer() {
	largeWalk.Lock()
	defer largeWalk.Unlock()
	largeWalk.buffer = nil
}
