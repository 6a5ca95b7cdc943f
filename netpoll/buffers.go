package netpoll

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/weirmq/weir/internal/invariants"
)

// Buffers come in classes, four per doubling, from bufferBytesMin to bufferBytesPooled; larger ones are not pooled.
const (
	bufferShiftMin    = 10
	bufferShiftPooled = 22
	bufferBytesMin    = 1 << bufferShiftMin
	bufferBytesPooled = 1 << bufferShiftPooled
	bufferClasses     = (bufferShiftPooled-bufferShiftMin)*4 + 1
)

// bufferPool keeps free buffers by class. They are plain memory without pointers; what is not used for two garbage
// collections goes back to the system.
type bufferPool struct {
	classes [bufferClasses]sync.Pool // of *byte, the first byte of a buffer of the class's size
}

// bufferClass returns the smallest class that holds n bytes, and its size.
func bufferClass(n int) (class, size int) {
	if n <= bufferBytesMin {
		return 0, bufferBytesMin
	}
	shift := bits.Len(uint(n-1)) - 1 // 1<<shift < n <= 2<<shift
	quarter := 1 << (shift - 2)
	steps := (n - 1<<shift + quarter - 1) / quarter
	return (shift-bufferShiftMin)*4 + steps, 1<<shift + steps*quarter
}

// get returns a buffer of at least n bytes with arbitrary contents; its length is its capacity.
func (p *bufferPool) get(n int) []byte {
	if n > bufferBytesPooled {
		return make([]byte, n)
	}
	class, size := bufferClass(n)
	if first, ok := p.classes[class].Get().(*byte); ok {
		return unsafe.Slice(first, size)
	}
	return make([]byte, size)
}

// put gives back a buffer of get. Nobody may use it any more.
func (p *bufferPool) put(b []byte) {
	b = b[:cap(b)]
	scribble(b)
	if len(b) > bufferBytesPooled {
		return
	}
	class, size := bufferClass(len(b))
	if size != len(b) {
		panic("BUG: a buffer of no class was returned to the pool")
	}
	p.classes[class].Put(unsafe.SliceData(b))
}

// scribble makes use of a returned buffer visible in builds with invariants.
func scribble(b []byte) {
	if !invariants.Enabled {
		return
	}
	for i := range b {
		b[i] = 0xDB
	}
}

// arena is the memory that a turn reads into: one chunk that is kept, more while the turn needs them.
// Owner: the loop, or in ImplGo the reader goroutine.
type arena struct {
	pool   *bufferPool
	chunk  []byte
	used   int
	spent  [][]byte // full chunks and buffers whose frames the handler may still use; freed by reset
	keep   bool     // keep one chunk between turns
	wanted int      // chunk size
}

// window returns free memory, at least arenaWindowMin bytes and at most limit.
func (a *arena) window(limit int) []byte {
	if len(a.chunk)-a.used < min(arenaWindowMin, limit) {
		if a.chunk != nil {
			a.spent = append(a.spent, a.chunk)
		}
		a.chunk, a.used = a.pool.get(a.wanted), 0
	}
	free := a.chunk[a.used:]
	return free[:min(limit, len(free))]
}

// commit keeps the first n bytes of the last window until reset.
func (a *arena) commit(n int) {
	a.used = min(len(a.chunk), (a.used+n+7)&^7)
}

// retire frees a buffer at the end of the turn.
func (a *arena) retire(b []byte) { a.spent = append(a.spent, b) }

// reset ends the turn: nobody uses its memory any more.
func (a *arena) reset() {
	for i, b := range a.spent {
		a.pool.put(b)
		a.spent[i] = nil
	}
	a.spent = a.spent[:0]
	scribble(a.chunk[:a.used])
	a.used = 0
	if a.chunk != nil && !a.keep {
		a.pool.put(a.chunk)
		a.chunk = nil
	}
}
