package netpoll

// Batch lets several responses wake a sleeping loop once, when all of them are there. Without it the loop is woken by the first, and where the kernel
// runs it at once, on the processor of whoever is still sending, it sleeps again before the second: a wake-up, two switches and a turn for each.
//
// Responses given to Ticket.SendIn may stay unsent until Flush. The zero value is empty and ready for use, and is so again after Flush. A Batch belongs to
// one goroutine.
type Batch struct {
	loops []*epollLoop
}

// add notes a loop to be woken.
func (b *Batch) add(e *epollLoop) {
	for _, known := range b.loops {
		if known == e {
			return
		}
	}
	b.loops = append(b.loops, e)
}

// Flush wakes the loops.
func (b *Batch) Flush() {
	for i, e := range b.loops {
		e.wake()
		b.loops[i] = nil
	}
	b.loops = b.loops[:0]
}
