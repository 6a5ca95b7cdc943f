package broker

import (
	"sync"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/netpoll"
)

// bufferKeepMax is the largest response buffer in bytes that goes back to the pool: larger ones are rare
// (a fetch copied from a file without descriptor, a huge metadata response) and must not pin memory.
const bufferKeepMax = 1 << 20

// outFrame is one response frame on its way out: the encoded bytes, and for Fetch the record bytes that go
// between them. It belongs to whoever got it from the pool until it is handed to request.send, then to
// netpoll, which gives it back by calling release.
type outFrame struct {
	pool *framePool

	buf    []byte         // the frame, length bytes first
	copied []byte         // record bytes copied out of small spans
	cuts   []int          // where in buf record bytes belong
	spans  []engine.Span  // record bytes, each with one reference held
	parts  []netpoll.Part // what netpoll writes

	release func() // f.free, bound once so that sending allocates nothing
}

// framePool recycles outFrames.
type framePool struct{ pool sync.Pool }

func (p *framePool) get() *outFrame {
	if f, ok := p.pool.Get().(*outFrame); ok {
		return f
	}
	f := &outFrame{pool: p, buf: make([]byte, 0, 1<<10)}
	f.release = f.free
	return f
}

// free drops the span references and returns the frame to the pool.
func (f *outFrame) free() {
	for i := range f.spans {
		f.spans[i].File.Release()
		f.spans[i] = engine.Span{}
	}
	clear(f.parts)
	f.spans, f.parts, f.cuts = f.spans[:0], f.parts[:0], f.cuts[:0]
	if cap(f.buf) > bufferKeepMax || cap(f.copied) > bufferKeepMax {
		return
	}
	f.buf, f.copied = f.buf[:0], f.copied[:0]
	f.pool.pool.Put(f)
}
