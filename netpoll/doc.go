// Package netpoll moves length-prefixed frames between TCP connections and a Handler. It knows no Kafka:
// a frame is a 4-byte big-endian length followed by that many bytes.
//
// Place in the path: socket -> netpoll (frame) -> broker.OnFrame -> ... -> Ticket.Send -> netpoll (writev, sendfile) -> socket.
//
// # Two implementations, one interface
//
// ImplEpoll runs Options.Loops event loops, each with its own epoll instance, a slab for reads and an eventfd for
// wake-ups. ImplGo gives every connection a reader and a writer goroutine on Go's own poller; it is the baseline
// that the loops have to beat, and the place where TLS will live. Framing, ordering, limits and time-outs are
// the same code for both, and so are the tests.
//
// # A turn
//
// A turn of a loop is: take the ready connections -> for each, one bounded read, then OnFrame for every whole frame ->
// OnTurn once -> write what is ready, one coalesced writev (or header + sendfile) per connection. Frames stay valid
// until OnTurn has returned; a handler that wants them longer copies them. Reads are level-triggered and budgeted,
// so one busy connection cannot hold a loop: what is left is read in the next turn.
//
// Nothing in a loop waits: a file range that is not in the page cache is read by another goroutine before it is sent.
//
// # Order
//
// Every frame comes with a Ticket. Tickets may be completed in any order, at any time, by any goroutine;
// responses leave in the order of the frames. A completion never writes to the socket from the calling goroutine. A frame that makes
// no sense, or whose length is refused, ends the connection at its own place: the answers before it are still written.
//
// # Memory
//
// An idle connection owns no buffer. A partial frame is collected in a pooled buffer that grows with the bytes that
// have arrived, never by the length that the peer claims. Partial frames and queued response bytes are charged to
// Options.BufferBudget; when it is spent, connections stop being read, except one, which may finish its frame so that
// the server cannot lock up. Large frames cannot spend what is left for small ones, and their time runs while they wait.
// A connection whose queued output exceeds Options.OutputBytesMax is not read either.
//
// # Goroutines and locks
//
// One acceptor (owner: Server), Options.Loops loop goroutines (ImplEpoll), or two goroutines per connection (ImplGo); one short-lived
// goroutine for each connection that waits for a cold file range. Server.Stop waits for all of them.
// Connection state is owned by its loop; in ImplGo a loop is a mutex, so OnFrame and OnTurn of one loop number
// never run at the same time in either implementation. Handler callbacks run with no other lock held. Leaf locks, never held
// across a callback: the loop's list of posted functions, the budget's waiters, the acceptor's counts.
//
// # Files
//
// server.go starts and stops; accept.go is the acceptor; loop.go, conn.go, input.go, ticket.go and deadlines.go are the state machine
// that both implementations share, without system calls; epoll.go and goimpl.go run it; cold.go, budget.go, buffers.go and
// sys.go serve them. Tests make any system call fail or fall short (kernel.fault in sys.go).
package netpoll
