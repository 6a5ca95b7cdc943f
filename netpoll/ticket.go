package netpoll

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The states of a ticket. pending -> done by its holder; pending -> orphan by the loop, when the connection closes first.
const (
	ticketPending uint32 = iota
	ticketDone
	ticketOrphan
	ticketFree
)

// ticket is one place in the response order of a connection and, once it is done, the queued response itself.
// All fields but state are the holder's until state is ticketDone and the loop's from then on.
type ticket struct {
	state  atomic.Uint32
	conn   *conn
	next   *ticket // loop-owned at all times
	resp   Response
	memory int64 // bytes that resp takes in memory, charged to the budget
	total  int64 // bytes of resp, files included
	end    error // the connection ends here, because of it
}

// responseOverhead is what a queued response takes beside its bytes: ticket, parts, and the slack of its buffer. Without it a peer that
// pipelines tiny requests and reads nothing would hold ten times what the budget knows of.
const responseOverhead = 1 << 10

// Send implements Ticket.
func (t *ticket) Send(r Response) { t.SendIn(r, nil) }

// SendIn implements Ticket.
func (t *ticket) SendIn(r Response, b *Batch) {
	t.resp = r
	var bytes, files int64
	for i := range r.Parts {
		bytes += int64(len(r.Parts[i].Bytes))
		files += max(r.Parts[i].File.Len, 0)
	}
	t.memory, t.total = responseOverhead+bytes, bytes+files
	t.complete(b)
}

// Skip implements Ticket.
func (t *ticket) Skip() {
	t.resp, t.memory, t.total = Response{}, 0, 0
	t.complete(nil)
}

// Close implements Ticket.
func (t *ticket) Close(err error) {
	if err == nil {
		err = errClosedByHandler
	}
	t.end = err
	t.conn.ending.Store(true)
	t.Skip()
}

func (t *ticket) complete(b *Batch) {
	if state := t.state.Load(); state != ticketPending && state != ticketOrphan {
		panic("BUG: a ticket was completed twice")
	}
	c := t.conn // once done, the ticket is the loop's
	c.queuedBytes.Add(t.total)
	c.loop.srv.budget.charge(t.memory, false)
	if t.state.CompareAndSwap(ticketPending, ticketDone) {
		c.sock.notify(b)
		return
	}
	if !t.state.CompareAndSwap(ticketOrphan, ticketFree) {
		panic("BUG: a ticket was completed twice at the same time")
	}
	t.release()
}

// release drops the response, sent or not.
func (t *ticket) release() {
	t.conn.queuedBytes.Add(-t.total)
	t.conn.loop.srv.budget.charge(-t.memory, false)
	release := t.resp.Release
	t.resp, t.end = Response{}, nil
	if release != nil {
		release()
	}
}

// output is the ticket list of a connection, oldest first, with the position up to which it has been written.
// Loop-owned.
type output struct {
	head, tail *ticket
	count      int
	part       int   // index of the part of head that is being written
	off        int64 // bytes of that part that have been written: its Bytes, then its File
}

// chunk is what one system call can write next: iovs, or else a file range.
type chunk struct {
	iovs  []unix.Iovec
	bytes int
	file  FileRange
	more  bool // a file range of the same queue follows at once
}

func (o *output) push(t *ticket) {
	if o.tail == nil {
		o.head = t
	} else {
		o.tail.next = t
	}
	o.tail = t
	o.count++
}

// ready reports whether there is something to write or to retire: the oldest ticket is done, and not the end.
func (o *output) ready() bool {
	return o.head != nil && o.head.state.Load() == ticketDone && o.head.end == nil
}

// end is the error of Ticket.Close when the oldest ticket is such a one, else nil: all that was to be written has been.
func (o *output) end() error {
	if o.head == nil || o.head.state.Load() != ticketDone {
		return nil
	}
	return o.head.end
}

// gather describes the next write of at most limit bytes and cap(iovs) buffers. An empty chunk means that nothing can be
// written now.
func (o *output) gather(iovs []unix.Iovec, limit int) chunk {
	ch := chunk{iovs: iovs[:0]}
	part, off := o.part, o.off
	for t := o.head; t != nil && t.state.Load() == ticketDone && t.end == nil; t = t.next {
		for ; part < len(t.resp.Parts); part, off = part+1, 0 {
			p := &t.resp.Parts[part]
			if size := int64(len(p.Bytes)); off < size {
				if len(ch.iovs) == cap(iovs) || ch.bytes == limit {
					return ch
				}
				rest := p.Bytes[off:]
				rest = rest[:min(len(rest), limit-ch.bytes)]
				iov := unix.Iovec{Base: &rest[0]}
				iov.SetLen(len(rest))
				ch.iovs = append(ch.iovs, iov)
				ch.bytes += len(rest)
				off += int64(len(rest))
				if off < size {
					return ch
				}
			}
			if done := off - int64(len(p.Bytes)); done < p.File.Len {
				if ch.bytes > 0 {
					ch.more = true
					return ch
				}
				ch.file = FileRange{Fd: p.File.Fd, Pos: p.File.Pos + done, Len: min(p.File.Len-done, int64(limit))}
				return ch
			}
		}
		part, off = 0, 0
	}
	return ch
}

// advance accounts for n written bytes and retires the tickets that are finished, calling retire for each.
func (o *output) advance(n int64, retire func(*ticket)) {
	for o.ready() {
		t := o.head
		for o.part < len(t.resp.Parts) {
			p := &t.resp.Parts[o.part]
			left := int64(len(p.Bytes)) + max(p.File.Len, 0) - o.off
			if n < left {
				o.off += n
				return
			}
			n -= left
			o.part, o.off = o.part+1, 0
		}
		o.pop()
		retire(t)
	}
	if n != 0 {
		panic("BUG: more bytes were written than queued")
	}
}

func (o *output) pop() *ticket {
	t := o.head
	o.head, t.next = t.next, nil
	if o.head == nil {
		o.tail = nil
	}
	o.count--
	o.part, o.off = 0, 0
	return t
}
