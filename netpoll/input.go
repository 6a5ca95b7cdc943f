package netpoll

import "encoding/binary"

// Sizes of reads. A connection is read at most readBytesMax per turn, so that it cannot hold its loop. Connections that send
// frames of bigFrameBytes or more read into a buffer of their own instead of the arena, to save copying: only
// peekBytes of such a frame pass through the arena.
const (
	prefixBytes    = 4
	readBytesMax   = 256 << 10
	arenaWindowMin = 16 << 10
	peekBytes      = 16 << 10
	bigFrameBytes  = 128 << 10
	hintBytesMax   = 4 << 20
	// tightBytes is what a connection is read at first while there is little room: what is kept of it costs no more, and tells the frame's size.
	tightBytes = bufferBytesMin
)

// input holds what a connection has sent and what has not been handed out: at most one partial frame, and whole frames
// before it only while the connection is paused. Owner: the loop, or in ImplGo the reader goroutine.
type input struct {
	buf        []byte // from the pool and charged to the budget; nil while nothing waits
	start, end int    // buf[start:end] waits; bytes before start may still be in the handler's hands this turn
	frameMax   int    // largest frame with its prefix; set once
	over       bool   // buf is charged to the favoured connection's account
	favoured   bool   // what is read now is read as the favoured connection
	tight      bool   // there is little room: what is kept takes no more than its bytes
	taken      int    // bytes of the next buffer that are charged already
	hint       int    // size of the last frame if it was big, up to hintBytesMax: what the peer has proved to send
}

// waiting returns the bytes that have not been handed out.
func (in *input) waiting() []byte { return in.buf[in.start:in.end] }

// frameBytes is the size of the frame that data begins with, with its prefix; 0 if its prefix is not whole.
// It has been checked.
func frameBytes(data []byte) int {
	if len(data) < prefixBytes {
		return 0
	}
	return prefixBytes + int(binary.BigEndian.Uint32(data))
}

// wholeFrame reports whether a frame waits that can be delivered, or refused.
func (in *input) wholeFrame() bool {
	waiting := in.waiting()
	frame := frameBytes(waiting)
	return frame != 0 && (len(waiting) >= frame || frame > in.frameMax)
}

// room is the buffer size for a frame of which have bytes are here. Never more than four times what the peer has really
// sent (or has sent as its last frame), whatever it claims.
func (in *input) room(have, frame int) int {
	want := max(4*have, in.hint, bufferBytesMin)
	if frame > 0 {
		want = min(want, frame)
	}
	return max(want, have)
}

// keep copies data behind what waits. It has been read already, so it is charged whatever the budget says.
func (in *input) keep(data []byte, a *arena, b *budget) {
	if cap(in.buf)-in.end < len(data) {
		head := in.waiting()
		if len(head) < prefixBytes {
			head = data // only a guess when the prefix is split: the next growth knows better
		}
		have := in.end - in.start + len(data)
		size := in.room(have, frameBytes(head))
		if in.tight {
			size = have
		}
		in.grow(size, a, b)
	}
	in.end += copy(in.buf[in.end:], data)
}

// grow moves what waits to a buffer of at least size bytes. The old one may hold frames of this turn.
func (in *input) grow(size int, a *arena, b *budget) {
	next := a.pool.get(size)
	n := copy(next, in.waiting())
	b.charge(int64(cap(next)-in.taken), in.favoured) // before the old one's bytes are given back, which others may take
	in.taken = 0
	in.drop(a, b)
	in.buf, in.end, in.over = next, n, in.favoured
}

// drop forgets the buffer and all that waits in it. Its memory lives until the end of the turn.
func (in *input) drop(a *arena, b *budget) {
	if in.buf != nil {
		b.charge(-int64(cap(in.buf)), in.over)
		a.retire(in.buf)
	}
	in.buf, in.start, in.end = nil, 0, 0
}

// ask says what windows asks the budget for: how many bytes, and the size of the frame that they are for, 0 if that is not known or it is whole.
func (in *input) ask() (frame, need int) {
	switch {
	case in.buf == nil:
		return 0, tightBytes
	case in.wholeFrame():
		return 0, 0
	}
	frame = frameBytes(in.waiting())
	need = in.room(in.end-in.start+1, frame)
	if !in.over {
		need -= cap(in.buf) // which is given back
	}
	return frame, need
}

// windows says where to read next: own continues the partial frame, extra is arena memory for what follows it. ok is false if reading
// must wait for the budget: new memory is needed. Filling a buffer that is already charged never waits. No whole frame waits.
func (in *input) windows(c *conn, a *arena, b *budget, limit int) (own, extra []byte, ok bool) {
	if c.lingerEnd != 0 {
		return nil, a.window(min(limit, peekBytes)), true // to be thrown away
	}
	in.favoured = b.favours(c)
	if in.buf == nil {
		in.tight = !b.roomy(in.room(readBytesMax, 0))
		if in.tight {
			in.hint, limit = 0, min(limit, tightBytes)
			if !in.admitted(c, b, false) {
				return nil, nil, false
			}
		}
		if in.hint > 0 {
			limit = min(limit, peekBytes)
		}
		return nil, a.window(limit), true
	}
	have := in.end - in.start
	frame := frameBytes(in.waiting())
	if in.end == len(in.buf) || (in.start > 0 && len(in.buf)-in.start < max(frame, prefixBytes)) {
		if !in.admitted(c, b, true) {
			return nil, nil, false
		}
		in.grow(in.room(have+1, frame), a, b)
	}
	own = in.buf[in.end:]
	whole := frame > 0 && len(in.buf)-in.start >= frame
	if whole {
		own = own[:frame-have]
	}
	if len(own) >= limit {
		return own[:limit], nil, true
	}
	if whole && b.used.Load() < b.limit {
		extra = a.window(min(limit-len(own), peekBytes))
	}
	return own, extra, true
}

// admitted asks the budget, and with take takes the bytes for the buffer that has to grow.
func (in *input) admitted(c *conn, b *budget, take bool) bool {
	frame, need := in.ask()
	ok, taken := b.admit(c, frame, need, take)
	in.favoured = b.favours(c) && !taken
	if taken {
		in.taken = need
	}
	return ok
}

// repay moves what was charged to the favoured connection's account to that of all, before another has the favour.
func (in *input) repay(b *budget) {
	if in.buf != nil && in.over {
		in.over = false
		b.charge(int64(cap(in.buf)), false)
		b.charge(-int64(cap(in.buf)), true)
	}
}
