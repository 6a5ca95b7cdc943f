package broker

import "sync"

// bufferKeepMax is the largest response buffer in bytes that goes back to the pool: larger ones are rare
// (a copied fetch, a huge metadata response) and must not pin memory.
const bufferKeepMax = 1 << 20

// bufferPool holds response buffers. A buffer belongs to whoever got it until it is handed to
// request.ReplyFrame, then to netpoll, which gives it back by the response's Release.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4<<10)
	return &b
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) > bufferKeepMax {
		return
	}
	*b = (*b)[:0]
	p.pool.Put(b)
}
