package broker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
)

// fetchOf asks for the partitions 0, 1, ... of a topic, whether they exist or not; sessionEpoch 0 asks for a session.
func fetchOf(topic string, partitions int, sessionEpoch int32) *kmsg.FetchRequest {
	req := fetchRequest(topic, 0, 0)
	req.SessionEpoch = sessionEpoch
	for i := 1; i < partitions; i++ {
		p := req.Topics[0].Partitions[0]
		p.Partition = int32(i)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
	}
	return req
}

// holdWorkers keeps every worker busy until the function that it returns is called.
func holdWorkers(tb *testBroker) (release func()) {
	tb.t.Helper()
	held, gate := make(chan struct{}, tb.workers.count), make(chan struct{})
	for range tb.workers.count {
		j := job{h: handler{handle: func(*request, []byte) error { held <- struct{}{}; <-gate; return nil }}, r: &request{}}
		if err := tb.workers.submit(&connState{}, j); err != nil {
			tb.t.Fatal(err)
		}
	}
	for range tb.workers.count {
		<-held
	}
	release = sync.OnceFunc(func() { close(gate) })
	tb.t.Cleanup(release) // or a failed test could not stop its broker
	return release
}

// TestLongRequestsGoToAWorker names more partitions than a loop may look at: the connection waits for a worker, the loop's others
// are served meanwhile.
func TestLongRequestsGoToAWorker(t *testing.T) {
	const many = loopPartitionsMax + 2 // partition 0 of a session has no news
	tb := startBroker(t, map[string]string{"num.network.threads": "1"})
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	session := c.request(fetchOf("t", many, 0), fetchVersion).(*kmsg.FetchResponse)
	if session.SessionID == 0 || len(session.Topics[0].Partitions) != many {
		t.Fatalf("session %d of %d partitions, want one of %d", session.SessionID, len(session.Topics[0].Partitions), many)
	}
	again := fetchOf("t", many, 1) // names nothing: the session's partitions have errors, which each answer tells again
	again.SessionID, again.Topics = session.SessionID, nil
	for name, req := range map[string]kmsg.Request{
		"produce":              produceRequest("t", acksLeader, make([][]byte, many)...),
		"fetch":                fetchOf("t", many, -1),
		"fetch with a session": again,
	} {
		t.Run(name, func(t *testing.T) {
			release := holdWorkers(tb)
			c := tb.dial()
			c.t = t
			id := c.send(req, 11)
			waits := func() (found bool) {
				tb.dispatcher.mu.Lock()
				defer tb.dispatcher.mu.Unlock()
				for state := range tb.dispatcher.mu.conns {
					found = found || state.busy.Load()
				}
				return found
			}
			testkit.Eventually(t, "the request waits for a worker", waits)
			tb.ok()
			release()
			rows := 0
			switch resp := c.receive(req, id).(type) {
			case *kmsg.ProduceResponse:
				rows = len(resp.Topics[0].Partitions)
			case *kmsg.FetchResponse:
				rows = len(resp.Topics[0].Partitions)
			}
			if want := many; rows != want && rows != want-1 {
				t.Errorf("answer of %d partitions, want %d", rows, want)
			}
		})
	}
}

// TestLongFetchAnswersAPartitionOnce names one partition again and again.
func TestLongFetchAnswersAPartitionOnce(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a"))
	c.mustProduce("t", batchOf("b"))
	req := fetchOf("t", loopPartitionsMax+1, -1)
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].Partition = 0
	}
	req.Topics[0].Partitions[loopPartitionsMax].FetchOffset = 1 // the last mention is in force
	parts := c.request(req, fetchVersion).(*kmsg.FetchResponse).Topics[0].Partitions
	if len(parts) != 1 {
		t.Fatalf("%d answers, want one", len(parts))
	}
	if got := valuesOf(t, parts[0].RecordBatches); got != "b" {
		t.Errorf("got %q, want b", got)
	}
}

// TestRepeatedResourcesAreRefused asks for more than once for what is dear to answer.
func TestRepeatedResourcesAreRefused(t *testing.T) {
	tb := startBroker(t, nil)
	tb.createTopic("t", 1, nil)
	c := tb.dial()
	c.mustProduce("t", batchOf("a", "b"))

	describe := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range []string{"t", "t", "other"} {
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, name
		describe.Resources = append(describe.Resources, resource)
	}
	rows := c.request(describe, 4).(*kmsg.DescribeConfigsResponse).Resources
	for i, want := range []protocol.ErrorCode{protocol.ErrInvalidRequest, protocol.ErrInvalidRequest, protocol.ErrUnknownTopicOrPartition} {
		wantCode(t, "DescribeConfigs of "+rows[i].ResourceName, rows[i].ErrorCode, want)
		if len(rows[i].Configs) > 0 {
			t.Errorf("row %d has %d keys beside its error", i, len(rows[i].Configs))
		}
	}

	remove := kmsg.NewPtrDeleteRecordsRequest()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = "t"
	for _, number := range []int32{0, 0, 1} {
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = number, 2
		topic.Partitions = append(topic.Partitions, p)
	}
	remove.Topics = append(remove.Topics, topic)
	removed := c.request(remove, 2).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions
	for i, want := range []protocol.ErrorCode{protocol.ErrInvalidRequest, protocol.ErrInvalidRequest, protocol.ErrUnknownTopicOrPartition} {
		wantCode(t, "DeleteRecords", removed[i].ErrorCode, want)
	}
	if start := mustPartition(t, tb, "t").Offsets().LogStart; start != 0 {
		t.Errorf("log start %d after a request that was refused, want 0", start)
	}
}

// TestLongJobsRunFewAtATime queues long jobs on more connections than workers: one runs, a short job is served beside it, and all are
// served in the end, also when the workers are stopped meanwhile.
func TestLongJobsRunFewAtATime(t *testing.T) {
	w := newWorkers(4, 1<<20)
	w.longMax = 1
	w.start()
	var running, most, served atomic.Int32
	gate := make(chan struct{})
	long := func(*request, []byte) error {
		most.Store(max(most.Load(), running.Add(1))) // alone, or most is wrong and the test fails as it should
		<-gate
		running.Add(-1)
		served.Add(1)
		return nil
	}
	const jobs = 8
	dropped := &connState{}
	for i := range jobs + 1 {
		state := &connState{}
		if i == jobs {
			state = dropped
		}
		if err := w.submit(state, job{h: handler{handle: long}, r: &request{state: state, ticket: &testTicket{}}, long: true}); err != nil {
			t.Fatal(err)
		}
	}
	short := make(chan struct{})
	if err := testJob(w, &connState{}, 1, func() { close(short) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-short:
	case <-time.After(testkit.Deadline):
		t.Fatal("long jobs have taken every worker")
	}
	w.drop(dropped) // its connection has closed
	time.AfterFunc(time.Millisecond, func() { close(gate) })
	w.stop()
	if served.Load() != jobs || most.Load() != 1 {
		t.Errorf("%d jobs served, %d at a time; want %d, one at a time", served.Load(), most.Load(), jobs)
	}
}
