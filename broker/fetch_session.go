package broker

import (
	"container/list"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/protocol"
)

// Fetch sessions (KIP-227): the broker remembers what a consumer fetches, so that each request names only what has
// changed and each response only what has news. Beyond Kafka's, a session here also remembers which of its partitions
// can have news at all: a partition that was found at its end is watched on its log and not looked at again until
// the log moves. A poll costs in proportion to the partitions with news, not to all of them.

const (
	// The session epochs with a meaning of their own.
	sessionEpochInitial = 0  // a full fetch that wants a session
	sessionEpochFinal   = -1 // a full fetch without one

	// sessionEvictionAge is how long a session may rest before any newer one may take its slot (Kafka's
	// MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS).
	sessionEvictionAge = 120 * time.Second

	// sessionPartitionsMax bounds the partitions of all sessions together, and with that their memory, some 300 bytes each.
	// A client that would pass it fetches without a session.
	sessionPartitionsMax = 1 << 19
)

// fetchKey names a partition in a session: by topic name up to version 12, by topic id from 13 on.
type fetchKey struct {
	topic     string // empty by id
	id        cluster.TopicID
	partition int32
}

// fetchPartition is one partition of a fetch: what the client wants, and in a session what it was told last. It is
// guarded by fetchSession.mu; without a session it belongs to its delayedFetch.
type fetchPartition struct {
	key fetchKey

	offset           int64
	maxBytes         int32
	currentEpoch     int32
	lastFetchedEpoch int32

	// What the key stands for in image; looked up again when there is another image.
	image *cluster.Image
	ref   partitionRef
	code  protocol.ErrorCode

	session *fetchSession
	op      *fetchOp // without a session: whom to wake
	waiter  engine.Waiter
	watched bool // waiter was given to ref.log and not taken back; it may have fired since

	// In a session: what the last response said, and whether the partition is in session.ready.
	highWatermark int64
	logStart      int64
	queued        bool
	forgotten     bool // it has left the session, and perhaps not session.ready yet
	woken         bool // in session.news.woken; guarded by session.news
}

// wake is the waiter's callback. It runs on the goroutine that moved the log.
func (p *fetchPartition) wake(error) {
	s := p.session
	if s == nil {
		p.op.moved()
		return
	}
	s.news.Lock()
	if !p.woken {
		p.woken = true
		s.news.woken = append(s.news.woken, p)
	}
	op := s.news.op
	s.news.Unlock()
	if op != nil {
		op.moved()
	}
}

// unwatch takes the waiter back, if the log has it.
func (p *fetchPartition) unwatch() {
	if p.watched {
		p.ref.log.Unwatch(&p.waiter)
		p.watched = false
	}
}

// fetchSession is one client's session.
type fetchSession struct {
	id    int32
	byID  bool          // its partitions are named by topic id
	total *atomic.Int64 // partitions of all sessions

	// Guarded by fetchSessions.mu.
	entry    *list.Element
	lastUsed time.Time

	// mu guards the partitions and is held while they are looked at, never while a response is sent.
	mu     sync.Mutex
	closed bool
	epoch  int32 // that the next request must carry
	// isolated is the isolation of the last request: what the waiters watch.
	isolated engine.Isolation
	parts    map[fetchKey]*fetchPartition
	// ready holds the partitions that may have news, those served longest ago first.
	ready []*fetchPartition

	// news is a leaf lock: log waiters take it.
	news struct {
		sync.Mutex
		woken []*fetchPartition // to be added to ready
		op    *fetchOp          // the request that waits, if any
	}
}

// fetchSessions holds the sessions, at most max of them.
type fetchSessions struct {
	clock      clock.Clock
	max        int
	partitions atomic.Int64 // of all sessions

	mu struct {
		sync.Mutex
		byID map[int32]*fetchSession
		lru  *list.List // of *fetchSession, the one used longest ago first
	}
}

func newFetchSessions(c clock.Clock, limit int) *fetchSessions {
	s := &fetchSessions{clock: c, max: limit}
	s.mu.byID = make(map[int32]*fetchSession)
	s.mu.lru = list.New()
	return s
}

// create makes a session for that many partitions, or returns nil when the cache is full of sessions that were used recently.
// The one used longest ago gives way once it has rested for sessionEvictionAge.
func (s *fetchSessions) create(byID bool, partitions int) *fetchSession {
	if s.partitions.Load()+int64(partitions) > sessionPartitionsMax {
		return nil
	}
	now := s.clock.Now()
	s.mu.Lock()
	var evicted *fetchSession
	if len(s.mu.byID) >= s.max {
		oldest := s.mu.lru.Front()
		if oldest == nil || now.Sub(oldest.Value.(*fetchSession).lastUsed) <= sessionEvictionAge {
			s.mu.Unlock()
			return nil
		}
		evicted = oldest.Value.(*fetchSession)
		s.removeLocked(evicted)
	}
	session := &fetchSession{total: &s.partitions, byID: byID, epoch: 1, lastUsed: now, parts: make(map[fetchKey]*fetchPartition)}
	for session.id == 0 || s.mu.byID[session.id] != nil {
		session.id = rand.Int32N(math.MaxInt32-1) + 1
	}
	s.mu.byID[session.id] = session
	session.entry = s.mu.lru.PushBack(session)
	s.mu.Unlock()
	if evicted != nil {
		evicted.close()
	}
	return session
}

// use finds a session and marks it as used now; nil when there is none of that id.
func (s *fetchSessions) use(id int32) *fetchSession {
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.mu.byID[id]
	if session == nil {
		return nil
	}
	session.lastUsed = now
	s.mu.lru.MoveToBack(session.entry)
	return session
}

// remove ends the session of that id, if there is one.
func (s *fetchSessions) remove(id int32) {
	s.mu.Lock()
	session := s.mu.byID[id]
	if session != nil {
		s.removeLocked(session)
	}
	s.mu.Unlock()
	if session != nil {
		session.close()
	}
}

func (s *fetchSessions) removeLocked(session *fetchSession) {
	delete(s.mu.byID, session.id)
	s.mu.lru.Remove(session.entry)
}

// count is the number of sessions.
func (s *fetchSessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.byID)
}

// close takes every waiter of the session back, and completes its waiting request.
func (s *fetchSession) close() {
	s.mu.Lock()
	s.closed = true
	for _, p := range s.parts {
		p.unwatch()
	}
	s.total.Add(-int64(len(s.parts)))
	s.parts, s.ready = nil, nil
	s.mu.Unlock()
	s.supersede()
}

// supersede completes the session's waiting request: the client has sent another, or the session ends.
func (s *fetchSession) supersede() {
	s.news.Lock()
	op := s.news.op
	s.news.op = nil
	s.news.Unlock()
	if op != nil {
		op.expire()
	}
}

// update takes over what an incremental request changes and moves the epoch on. empty says that no partition is left.
func (s *fetchSession) update(req *protocol.FetchRequest, byID bool, isolated engine.Isolation) (code protocol.ErrorCode, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return protocol.ErrFetchSessionIDNotFound, false
	case s.epoch != req.SessionEpoch:
		return protocol.ErrInvalidFetchSessionEpoch, false
	case s.total.Load()+int64(partitionCount(req)) > sessionPartitionsMax:
		return protocol.ErrFetchSessionIDNotFound, false // the client makes a full fetch, which gets no session
	case s.byID != byID && (len(req.Topics) > 0 || len(req.Forgotten) > 0 || len(s.parts) > 0):
		return protocol.ErrFetchSessionTopicIDError, false
	}
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1
	}
	for i := range req.Forgotten {
		t := &req.Forgotten[i]
		for _, partition := range t.Partitions {
			s.forget(fetchKey{topic: t.Name, id: cluster.TopicID(t.ID), partition: partition})
		}
	}
	if s.isolated != isolated { // the waiters watch another offset
		s.isolated = isolated
		for _, p := range s.parts {
			s.queueLocked(p)
		}
	}
	s.setLocked(req)
	return protocol.ErrNone, len(s.parts) == 0
}

// partitionCount counts the partitions that a request names.
func partitionCount(req *protocol.FetchRequest) (n int) {
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	return n
}

// setLocked adds or changes the partitions that the request names and queues them.
func (s *fetchSession) setLocked(req *protocol.FetchRequest) {
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			key := fetchKey{topic: t.Name, id: cluster.TopicID(t.ID), partition: t.Partitions[j].Partition}
			p := s.parts[key]
			if p == nil {
				p = &fetchPartition{highWatermark: -1, logStart: -1, session: s}
				p.waiter.Wake = p.wake
				key.topic = strings.Clone(key.topic) // the frame's bytes do not last
				p.key = key
				s.parts[key] = p
				s.total.Add(1)
			}
			p.set(&t.Partitions[j])
			s.queueLocked(p)
		}
	}
}

// forget drops a partition. It stays in ready, if it is there, without being looked at.
func (s *fetchSession) forget(key fetchKey) {
	if p := s.parts[key]; p != nil {
		p.unwatch()
		p.forgotten = true
		delete(s.parts, key)
		s.total.Add(-1)
	}
}

func (s *fetchSession) queueLocked(p *fetchPartition) {
	if !p.queued {
		p.queued = true
		s.ready = append(s.ready, p)
	}
}

// readyCount is how many partitions the next look has to look at, or more.
func (s *fetchSession) readyCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news.Lock()
	defer s.news.Unlock()
	return len(s.ready) + len(s.news.woken)
}

// takeReadyLocked returns the partitions that may have news and clears the list; they stay marked as queued.
func (s *fetchSession) takeReadyLocked() []*fetchPartition {
	s.news.Lock()
	for i, p := range s.news.woken {
		p.woken = false
		s.news.woken[i] = nil
		s.queueLocked(p)
	}
	s.news.woken = s.news.woken[:0]
	s.news.Unlock()
	ready := s.ready
	s.ready = nil
	kept := ready[:0]
	for _, p := range ready {
		if !p.forgotten {
			kept = append(kept, p)
		}
	}
	return kept
}
