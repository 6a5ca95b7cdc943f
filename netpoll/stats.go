package netpoll

import "sync/atomic"

// Stats are counters of a server since its start, and gauges of now.
type Stats struct {
	Connections   int64 // open now
	Accepted      int64 // connections given to a loop
	Refused       int64 // connections closed at once: limits, or no file descriptor left
	AcceptErrors  int64 // failed accepts
	Closed        int64
	BytesIn       int64 // bytes received, length prefixes included
	BytesOut      int64 // files included
	FileBytesOut  int64 // the part of BytesOut that went by sendfile
	FramesIn      int64
	FramesOut     int64
	Reads         int64 // system calls that read data from sockets
	Writes        int64 // system calls that wrote bytes from memory, one for each coalesced group of responses
	Sendfiles     int64 // system calls that sent from files
	ColdReads     int64 // file ranges that were not in memory and were read by another goroutine first (ImplEpoll)
	Turns         int64 // turns with at least one frame
	Wakeups       int64 // wake-ups of a sleeping loop by other goroutines (ImplEpoll)
	BufferBytes   int64 // bytes charged to Options.BufferBudget now
	BudgetPauses  int64 // times that reading a connection paused because the budget was spent
	OutputPauses  int64 // times that reading a connection paused because of its queued output or its unanswered frames
	IdleCloses    int64
	FrameTimeouts int64
}

// counters are the part of Stats that loops count, each its own.
type counters struct {
	closed, bytesIn, bytesOut, fileBytesOut, framesIn, framesOut atomic.Int64
	reads, writes, sendfiles, coldReads, turns, wakeups          atomic.Int64
	budgetPauses, outputPauses, idleCloses, frameTimeouts        atomic.Int64
}

// Stats returns the counters. They are read one by one, so they may be off against each other by what happens meanwhile.
func (s *Server) Stats() Stats {
	st := Stats{
		Accepted:     s.accept.accepted.Load(),
		Refused:      s.accept.refused.Load(),
		AcceptErrors: s.accept.failed.Load(),
		BufferBytes:  s.budget.bytes(),
	}
	for _, l := range s.loops {
		c := &l.stats
		st.Connections += l.connCount.Load()
		st.Closed += c.closed.Load()
		st.BytesIn += c.bytesIn.Load()
		st.BytesOut += c.bytesOut.Load()
		st.FileBytesOut += c.fileBytesOut.Load()
		st.FramesIn += c.framesIn.Load()
		st.FramesOut += c.framesOut.Load()
		st.Reads += c.reads.Load()
		st.Writes += c.writes.Load()
		st.Sendfiles += c.sendfiles.Load()
		st.ColdReads += c.coldReads.Load()
		st.Turns += c.turns.Load()
		st.Wakeups += c.wakeups.Load()
		st.BudgetPauses += c.budgetPauses.Load()
		st.OutputPauses += c.outputPauses.Load()
		st.IdleCloses += c.idleCloses.Load()
		st.FrameTimeouts += c.frameTimeouts.Load()
	}
	return st
}
