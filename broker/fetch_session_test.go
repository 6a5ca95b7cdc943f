package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
)

func TestFetchSessionsEviction(t *testing.T) {
	c := clock.NewFake(time.Unix(1_000_000, 0))
	s := newFetchSessions(c, 2)
	a, b := s.create(false, 1), s.create(false, 1)
	if a == nil || b == nil || a.id == b.id || a.id == 0 || b.id == 0 {
		t.Fatalf("two sessions: got %v, %v", a, b)
	}
	if s.create(false, 1) != nil {
		t.Error("a full cache of fresh sessions took a third")
	}
	c.Advance(sessionEvictionAge)
	if s.use(a.id) != a {
		t.Error("session a is gone")
	}
	if s.create(false, 1) != nil {
		t.Error("a session gave way at the age, not beyond it")
	}
	c.Advance(time.Second)
	d := s.create(true, 1)
	if d == nil || s.use(b.id) != nil || s.use(a.id) != a {
		t.Error("the session used longest ago did not give way")
	}
	if !b.closed {
		t.Error("the evicted session was not closed")
	}
	s.remove(d.id)
	s.remove(d.id)
	if s.count() != 1 {
		t.Errorf("%d sessions, want 1", s.count())
	}
	if newFetchSessions(c, 2).create(false, sessionPartitionsMax+1) != nil {
		t.Error("a session of too many partitions was made")
	}
	if newFetchSessions(c, 0).create(false, 1) != nil {
		t.Error("a cache of no slots made a session")
	}
}

// sessionClient drives a fetch session.
type sessionClient struct {
	*rawConn
	id, epoch int32
}

// fetch sends a fetch that names the given partitions of topic t at the given offsets, and returns "partition:values" of those
// in the response.
func (s *sessionClient) fetch(want map[int32]int64, forget ...int32) string {
	s.t.Helper()
	req := s.build(want, forget...)
	return s.result(req, s.send(req, fetchVersion))
}

func (s *sessionClient) build(want map[int32]int64, forget ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes = 0, 1<<20
	req.SessionID, req.SessionEpoch = s.id, s.epoch
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "t"
	for p := range int32(100) {
		if offset, ok := want[p]; ok {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, offset, 1<<20
			rt.Partitions = append(rt.Partitions, rp)
		}
	}
	if len(want) > 0 {
		req.Topics = append(req.Topics, rt)
	}
	if len(forget) > 0 {
		f := kmsg.NewFetchRequestForgottenTopic()
		f.Topic, f.Partitions = "t", forget
		req.ForgottenTopics = append(req.ForgottenTopics, f)
	}
	return req
}

func (s *sessionClient) result(req *kmsg.FetchRequest, correlationID int32) string {
	s.t.Helper()
	resp := s.receive(req, correlationID).(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 {
		return protocol.ErrorCode(resp.ErrorCode).String()
	}
	s.id = resp.SessionID
	s.epoch++
	var out []string
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				out = append(out, fmt.Sprintf("%d:%v", p.Partition, protocol.ErrorCode(p.ErrorCode)))
				continue
			}
			out = append(out, fmt.Sprintf("%d:%s", p.Partition, valuesOf(s.t, p.RecordBatches)))
		}
	}
	return strings.Join(out, " ")
}

func (tb *testBroker) produceTo(c *rawConn, partition int32, value string) {
	tb.t.Helper()
	req := produceRequest("t", acksAll, batchOf(value))
	req.Topics[0].Partitions[0].Partition = partition
	if p := c.request(req, produceVersion).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		tb.t.Fatalf("produce: %+v", p)
	}
}

func TestFetchSession(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 4, nil)
	w := tb.dial()
	s := &sessionClient{rawConn: tb.dial()}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("full fetch names all", s.fetch(map[int32]int64{0: 0, 1: 0, 2: 0}), "0: 1: 2:")
	if s.id == 0 {
		t.Fatal("no session")
	}
	check("nothing new", s.fetch(nil), "")
	tb.produceTo(w, 1, "a")
	check("one moved", s.fetch(nil), "1:a")
	check("still there until the offset moves", s.fetch(nil), "1:a")
	check("offset moved", s.fetch(map[int32]int64{1: 1}), "")
	tb.produceTo(w, 0, "b")
	tb.produceTo(w, 1, "c")
	check("two moved", s.fetch(nil), "0:b 1:c")
	check("moved on, added, forgotten", s.fetch(map[int32]int64{1: 2, 3: 0}, 0), "3:")
	tb.produceTo(w, 0, "d")
	check("forgotten is silent", s.fetch(nil), "")
	tb.produceTo(w, 3, "e")
	check("added speaks", s.fetch(nil), "3:e")
	check("errors repeat", s.fetch(map[int32]int64{2: 9, 3: 1}), "2:OFFSET_OUT_OF_RANGE")
	check("errors repeat", s.fetch(nil), "2:OFFSET_OUT_OF_RANGE")
	check("unknown partition", s.fetch(map[int32]int64{2: 0, 50: 0}), "2: 50:UNKNOWN_TOPIC_OR_PARTITION")
	check("and forgotten", s.fetch(nil, 50), "")

	// A request that waits, in a session, is woken by any partition of it.
	req := s.build(nil)
	req.MinBytes, req.MaxWaitMillis = 1, 600_000
	waiting := s.send(req, fetchVersion)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	tb.produceTo(w, 2, "f")
	check("woken", s.result(req, waiting), "2:f")

	// Errors of the session.
	wrong := *s
	wrong.epoch += 5
	check("wrong epoch", wrong.fetch(nil), "INVALID_FETCH_SESSION_EPOCH")
	wrong = *s
	wrong.id++
	check("wrong id", wrong.fetch(nil), "FETCH_SESSION_ID_NOT_FOUND")
	byID := s.build(nil)
	byID.SetVersion(13)
	if resp := s.request(byID, 13).(*kmsg.FetchResponse); protocol.ErrorCode(resp.ErrorCode) != protocol.ErrFetchSessionTopicIDError {
		t.Errorf("by id in a session by name: got %v", protocol.ErrorCode(resp.ErrorCode))
	}

	// A second request supersedes one that waits.
	first := s.build(map[int32]int64{2: 1})
	first.MinBytes, first.MaxWaitMillis = 1, 600_000
	waiting = s.send(first, fetchVersion)
	testkit.Eventually(t, "the fetch to park", func() bool { return tb.parked() == 1 })
	other := &sessionClient{rawConn: tb.dial(), id: s.id, epoch: s.epoch + 1}
	check("second request", other.fetch(nil), "")
	check("superseded", s.result(first, waiting), "")

	// Ending it: with the final epoch, or when nothing is left.
	old := s.id
	s.epoch = -1
	check("final fetch", s.fetch(map[int32]int64{2: 0}), "2:f")
	if s.id != 0 || tb.sessions.use(old) != nil {
		t.Error("the session outlived its final fetch")
	}
	s.epoch = 0
	s.fetch(map[int32]int64{2: 0})
	if tb.sessions.count() != 1 {
		t.Fatalf("%d sessions, want 1", tb.sessions.count())
	}
	s.fetch(nil, 2)
	if tb.sessions.count() != 0 || s.id != 0 {
		t.Error("a session without partitions is kept")
	}
	if n := tb.sessions.partitions.Load(); n != 0 {
		t.Errorf("%d partitions are counted without a session", n)
	}
}

// TestFetchSessionIsFair fetches more than fits one response: every partition gets its turn.
func TestFetchSessionIsFair(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 5, nil)
	w := tb.dial()
	s := &sessionClient{rawConn: tb.dial()}
	big := strings.Repeat("x", 10_000)
	want := map[int32]int64{}
	for p := range int32(5) {
		want[p] = 0
		for range 5 {
			tb.produceTo(w, p, big)
		}
	}
	seen := map[int32]int{}
	for range 5 {
		req := s.build(want)
		req.MaxBytes = 1
		resp := s.request(req, fetchVersion).(*kmsg.FetchResponse)
		s.id = resp.SessionID
		s.epoch++
		want = map[int32]int64{}
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if len(p.RecordBatches) > 0 {
					seen[p.Partition]++
					want[p.Partition] = 1
				}
			}
		}
	}
	for p := range int32(5) {
		if seen[p] != 1 {
			t.Errorf("partition %d was served %d times in 5 responses, want once", p, seen[p])
		}
	}
}

// TestFetchReadsFewPartitionsInVain: a reader that is behind on many partitions gets a full response without a read of each of the others, and
// all of them in turn.
func TestFetchReadsFewPartitionsInVain(t *testing.T) {
	const partitions, perResponse = 60, 2
	tb := startBroker(t, nil)
	tb.createTopic("t", partitions, nil)
	w := tb.dial()
	s := &sessionClient{rawConn: tb.dial()}
	value := strings.Repeat("x", 1000)
	want := map[int32]int64{}
	for p := range int32(partitions) {
		want[p] = 0
		tb.produceTo(w, p, value)
	}
	reads := func() (n int64) {
		for p := range int32(partitions) {
			ref, _ := tb.partition("t", p, noLeaderEpoch)
			n += ref.log.Stats().Reads
		}
		return n
	}
	seen := map[int32]bool{}
	for round := range partitions / perResponse {
		before := reads()
		req := s.build(want)
		req.MaxBytes = perResponse*1100 + 500
		resp := s.request(req, fetchVersion).(*kmsg.FetchResponse)
		s.id = resp.SessionID
		s.epoch++
		want = map[int32]int64{}
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if len(p.RecordBatches) > 0 {
					seen[p.Partition] = true
					want[p.Partition] = 1
				}
			}
		}
		if len(want) != perResponse {
			t.Fatalf("response %d has records of %d partitions, want %d", round, len(want), perResponse)
		}
		if got := reads() - before; got > perResponse+misfitsMax {
			t.Errorf("response %d read %d partitions, want %d and at most %d in vain", round, got, perResponse, misfitsMax)
		}
	}
	if len(seen) != partitions {
		t.Errorf("%d of %d partitions were served", len(seen), partitions)
	}
}
