package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/internal/testkit"
)

var background = context.Background()

func TestNodeLeadsAtOnceAndNamesTheCluster(t *testing.T) {
	n := startFake(t, testOptions(t, newMem(t)), newFakeLog())
	if !n.IsLeader() || n.Image().ClusterID() != testClusterID || n.Image().Index() != 2 || n.Image().Term() != 1 {
		t.Errorf("leader %v, cluster %q, index %d, term %d", n.IsLeader(), n.Image().ClusterID(), n.Image().Index(), n.Image().Term())
	}
}

func TestTopicsAreCreatedGrownConfiguredAndDeleted(t *testing.T) {
	log, mem := newFakeLog(), newMem(t)
	n := startFake(t, testOptions(t, mem), log)
	var changes []Change
	n.OnChange(func(c Change) { changes = append(changes, c) })
	topic := mustCreate(t, n, "a")[0]
	if topic.ID == (TopicID{}) || len(topic.Partitions) != 1 || topic.Partitions[0].Leader != 1 || n.Image().Topic("a") != topic {
		t.Errorf("topic %+v", topic)
	}
	parts, err := n.CreatePartitions(background, []NewPartitions{{Name: "a", Total: 4}, {Name: "a", Total: 4}, {Name: "b", Total: 2}}, false)
	if err != nil || parts[0].Err != nil || len(parts[0].Topic.Partitions) != 4 {
		t.Fatalf("%v %+v", err, parts)
	}
	wantErr(t, "the same again", parts[1].Err, ErrInvalidPartitions)
	wantErr(t, "unknown", parts[2].Err, ErrUnknownTopic)
	errs, err := n.AlterConfigs(background, []ConfigChange{
		{Resource: Resource{ResourceTopic, "a"}, Alterations: []Alteration{{Key: "x", Value: "1"}}},
		{Resource: Resource{ResourceTopic, "a"}, Alterations: []Alteration{{Key: "y", Value: "2"}}},
		{Resource: Resource{ResourceBroker, "2"}, Alterations: []Alteration{{Key: "y", Value: "2"}}},
	}, false)
	if err != nil || errs[0] != nil || errs[1] != nil {
		t.Fatal(err, errs)
	}
	wantErr(t, "another broker", errs[2], ErrUnknownBroker)
	if v := n.Image().Topic("a").Configs.Values; len(v) != 2 || v["x"] != "1" || v["y"] != "2" {
		t.Errorf("two changes of one topic in one call: %v", v)
	}
	deleted, err := n.DeleteTopics(background, []string{"a", "nope"}, []TopicID{topic.ID, {9}})
	if err != nil || deleted[0].Err != nil || deleted[0].Topic.Name != "a" {
		t.Fatal(err, deleted)
	}
	wantErr(t, "unknown name", deleted[1].Err, ErrUnknownTopic)
	wantErr(t, "deleted already", deleted[2].Err, ErrUnknownTopicID)
	wantErr(t, "unknown id", deleted[3].Err, ErrUnknownTopicID)
	if _, ok := n.Image().RemovedTopic(topic.ID); !ok || n.Image().TopicCount() != 0 {
		t.Error("the deleted topic is not among the removed ones")
	}
	if again := mustCreate(t, n, "a")[0]; again.ID == topic.ID {
		t.Error("the id came back")
	}
	if err := n.ForgetTopics(background, []TopicID{topic.ID, {7}}); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	created, removed := 0, 0
	for i, c := range changes {
		if i > 0 && c.Old != changes[i-1].New {
			t.Error("a change does not begin where the last one ended")
		}
		created, removed = created+len(c.Created), removed+len(c.Removed)
	}
	if created != 2 || removed != 1 {
		t.Errorf("listeners saw %d created, %d removed", created, removed)
	}
	want := n.Image()
	n = startFake(t, testOptions(t, mem), log)
	got := n.Image()
	if got.Term() != 2 || got.Index() != want.Index()+1 || !got.at(0, 0).Equal(want.at(0, 0)) {
		t.Errorf("after a restart: term %d, index %d after %d, equal %v", got.Term(), got.Index(), want.Index(), got.at(0, 0).Equal(want.at(0, 0)))
	}
}

func TestCreateTopicsChecks(t *testing.T) {
	o := testOptions(t, newMem(t))
	o.PartitionsMax = 10
	o.PartitionsDefault = 3
	o.CheckConfigs = func(r Resource, values map[string]string) error {
		if values["bad"] != "" {
			return errors.New("bad is bad")
		}
		return nil
	}
	n := startFake(t, o, newFakeLog())
	mustCreate(t, n, "x.y")
	f := func(want error, topic NewTopic) {
		t.Helper()
		for _, validateOnly := range []bool{true, false} {
			before := n.Image().TopicCount()
			res, err := n.CreateTopics(background, []NewTopic{topic}, validateOnly)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				if res[0].Err != nil || res[0].Topic == nil || res[0].Topic.Name != topic.Name {
					t.Errorf("%+v: %+v", topic, res[0])
				}
			} else {
				wantErr(t, fmt.Sprintf("%+v", topic), res[0].Err, want)
			}
			if created := n.Image().TopicCount() != before; created != (want == nil && !validateOnly) {
				t.Errorf("%+v, validateOnly %v: created %v", topic, validateOnly, created)
			}
		}
	}
	f(ErrInvalidTopicName, NewTopic{Name: "a/b", Partitions: 1, ReplicationFactor: 1})
	f(ErrInvalidTopicName, NewTopic{Name: strings.Repeat("n", 5000), Partitions: 1, ReplicationFactor: 1})
	f(ErrInvalidTopicName, NewTopic{Name: "x_y", Partitions: 1, ReplicationFactor: 1})
	f(ErrTopicExists, NewTopic{Name: "x.y", Partitions: 1, ReplicationFactor: 1})
	f(ErrInvalidPartitions, NewTopic{Name: "a", Partitions: 0, ReplicationFactor: 1})
	f(ErrInvalidPartitions, NewTopic{Name: "a", Partitions: -2, ReplicationFactor: 1})
	f(ErrLimit, NewTopic{Name: "a", Partitions: 11, ReplicationFactor: 1})
	f(ErrLimit, NewTopic{Name: "a", Partitions: 10, ReplicationFactor: 1})
	f(ErrInvalidReplicationFactor, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 2})
	f(ErrInvalidReplicationFactor, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 0})
	f(ErrInvalidReplicationFactor, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: -2})
	f(ErrInvalidConfig, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"bad": "1"}})
	f(ErrInvalidConfig, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"big": strings.Repeat("v", configBytesMax)}})
	f(ErrInvalidRequest, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: -1, Assignments: map[int32][]int32{0: {1}}})
	f(ErrInvalidAssignment, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{1: {1}}})
	f(ErrInvalidAssignment, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{-1: {1}}})
	f(ErrInvalidAssignment, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{0: {2}}})
	f(ErrInvalidAssignment, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{0: {1, 1}}})
	f(ErrInvalidAssignment, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{0: {}}})
	f(nil, NewTopic{Name: "assigned", Partitions: -1, ReplicationFactor: -1, Assignments: map[int32][]int32{0: {1}, 1: {1}}})
	f(nil, NewTopic{Name: "defaults", Partitions: -1, ReplicationFactor: -1, Configs: map[string]string{"good": "1"}})
	if got := len(n.Image().Topic("defaults").Partitions); got != 3 {
		t.Errorf("default partitions: %d", got)
	}
}

func TestAlterConfigsOperations(t *testing.T) {
	o := testOptions(t, newMem(t))
	o.ListConfig = func(rt ResourceType, key string) (bool, string) { return key == "list", "delete" }
	n := startFake(t, o, newFakeLog())
	mustCreate(t, n, "a")
	f := func(want error, values string, replace bool, alterations ...Alteration) {
		t.Helper()
		errs, err := n.AlterConfigs(background, []ConfigChange{{Resource{ResourceTopic, "a"}, replace, alterations}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if want != nil || errs[0] != nil {
			wantErr(t, fmt.Sprint(alterations), errs[0], want)
		}
		if got := fmt.Sprint(n.Image().Topic("a").Configs.Values); got != values {
			t.Errorf("%v: values %s, want %s", alterations, got, values)
		}
	}
	f(nil, "map[k:1]", false, Alteration{"k", AlterSet, "1"})
	f(nil, "map[k:1 list:delete,compact]", false, Alteration{"list", AlterAppend, "compact,delete"})
	f(nil, "map[k:1 list:compact]", false, Alteration{"list", AlterSubtract, "delete, other"})
	f(ErrInvalidConfig, "map[k:1 list:compact]", false, Alteration{"k", AlterAppend, "2"})
	f(ErrInvalidRequest, "map[k:1 list:compact]", false, Alteration{"k", AlterOp(9), "2"})
	f(ErrInvalidRequest, "map[k:1 list:compact]", false, Alteration{"k", AlterSet, "2"}, Alteration{"k", AlterDelete, ""})
	f(nil, "map[list:compact]", false, Alteration{"k", AlterDelete, ""})
	f(nil, "map[new:2]", true, Alteration{"new", AlterSet, "2"})
	f(nil, "map[]", true)
}

func TestConcurrentProposalsAreDecidedInLogOrder(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	const callers = 50
	var mu sync.Mutex
	var wg sync.WaitGroup
	created, grown, ids := 0, 0, map[int64]bool{}
	for range callers {
		wg.Go(func() {
			res, err := n.CreateTopics(background, []NewTopic{{Name: "one", Partitions: 1, ReplicationFactor: 1}}, false)
			first, err2 := n.AllocateProducerIDs(background, 10)
			parts, err3 := n.CreatePartitions(background, []NewPartitions{{Name: "one", Total: 5}}, false)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || err2 != nil || err3 != nil {
				t.Error(err, err2, err3)
				return
			}
			if res[0].Err == nil {
				created++
			} else if !errors.Is(res[0].Err, ErrTopicExists) {
				t.Error(res[0].Err)
			}
			if parts[0].Err == nil {
				grown++
			}
			if ids[first] || first%10 != 0 {
				t.Errorf("block at %d again", first)
			}
			ids[first] = true
		})
	}
	wg.Wait()
	if created != 1 || grown != 1 || len(ids) != callers || n.Image().NextProducerID() != 10*callers {
		t.Errorf("created %d times, grown %d times, %d blocks", created, grown, len(ids))
	}
}

func TestProposalsShareAppends(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	before := log.appends
	log.hold = make(chan struct{})
	const count = 1000
	done := make(chan error, count)
	for i := range count {
		n.Submit([]Record{&TopicRecord{Name: fmt.Sprint("t", i), ID: TopicID{1, byte(i), byte(i >> 8)}, Assignments: [][]int32{{1}}}},
			func(_ []Result, err error) { done <- err })
	}
	close(log.hold)
	for range count {
		if err := testkit.Receive(t, "a proposal", done); err != nil {
			t.Fatal(err)
		}
	}
	if appends := log.appends - before; appends > 2 {
		t.Errorf("%d proposals took %d appends, want at most 2: one that had begun and one for the rest", count, appends)
	}
}

// What is in flight at the same time cannot pass the limit together: every proposal found room in the image that it saw.
func TestConcurrentCreationsKeepThePartitionLimit(t *testing.T) {
	log, o := newFakeLog(), testOptions(t, newMem(t))
	o.PartitionsMax = 5
	n := startFake(t, o, log)
	log.hold = make(chan struct{})
	type outcome struct {
		results []TopicResult
		err     error
	}
	outcomes := make(chan outcome, 20)
	for i := range 20 {
		n.SubmitTopics([]NewTopic{{Name: fmt.Sprint("t", i), Partitions: 2, ReplicationFactor: 1}},
			func(results []TopicResult, err error) { outcomes <- outcome{results, err} })
	}
	close(log.hold)
	created := 0
	for range 20 {
		switch o := <-outcomes; {
		case o.err != nil:
			t.Fatal(o.err)
		case o.results[0].Err == nil:
			created++
		default:
			wantErr(t, "beyond the limit", o.results[0].Err, ErrLimit)
		}
	}
	if got := n.Image().PartitionCount(); created != 2 || got != 4 {
		t.Errorf("%d topics created, %d partitions, want 2 and 4 of 5", created, got)
	}
	results, err := n.CreateTopics(t.Context(), []NewTopic{{Name: "last", Partitions: 1, ReplicationFactor: 1}}, false)
	if err != nil || results[0].Err != nil {
		t.Errorf("the last partition: %v, %v", results, err)
	}
}

func TestSubmittedTopicsAreDecidedInOrder(t *testing.T) {
	n := startFake(t, testOptions(t, newMem(t)), newFakeLog())
	var got []error
	done := make(chan struct{})
	for i := range 3 {
		n.SubmitTopics([]NewTopic{{Name: "same", Partitions: 1, ReplicationFactor: 1}, {Name: "b/d"}}, func(results []TopicResult, err error) {
			if err != nil {
				t.Error(err)
			}
			wantErr(t, "a bad name", results[1].Err, ErrInvalidTopicName)
			if got = append(got, results[0].Err); i == 2 {
				close(done)
			}
		})
	}
	<-done
	if got[0] != nil {
		t.Errorf("the first: %v", got[0])
	}
	wantErr(t, "the second", got[1], ErrTopicExists)
	wantErr(t, "the third", got[2], ErrTopicExists)
	var refused []TopicResult
	n.SubmitTopics([]NewTopic{{Name: "b/d"}}, func(results []TopicResult, err error) { refused = results })
	if len(refused) != 1 {
		t.Fatal("nothing was to be proposed, and done was not called at once")
	}
	wantErr(t, "a bad name alone", refused[0].Err, ErrInvalidTopicName)
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	mustCreate(t, n, "before")
	log.set(func() { log.noSpace = true })
	for range 3 {
		_, err := n.CreateTopics(background, []NewTopic{{Name: "full", Partitions: 1, ReplicationFactor: 1}}, false)
		wantErr(t, "create on a full disk", err, ErrNoSpace)
	}
	if n.Err() != nil || n.Image().Topic("before") == nil || n.Image().Topic("full") != nil {
		t.Errorf("after a full disk: %v", n.Err())
	}
	log.set(func() { log.noSpace = false })
	mustCreate(t, n, "full", "after")
	if !n.IsLeader() {
		t.Error("does not lead")
	}
}

func TestFullDiskAtStartStillServesTheImage(t *testing.T) {
	log, mem := newFakeLog(), newMem(t)
	n := startFake(t, testOptions(t, mem), log)
	mustCreate(t, n, "before")
	n.Stop()
	log.set(func() { log.noSpace = true })
	n = startFake(t, testOptions(t, mem), log)
	if n.Image().Topic("before") == nil || n.IsLeader() {
		t.Errorf("topics %d, leader %v", n.Image().TopicCount(), n.IsLeader())
	}
	log.set(func() { log.noSpace = false })
	mustCreate(t, n, "after")
}

func TestBrokenLogEndsChangesForGood(t *testing.T) {
	log, mem := newFakeLog(), newMem(t)
	n := startFake(t, testOptions(t, mem), log)
	mustCreate(t, n, "before")
	log.set(func() { log.broken = errors.New("input/output error") })
	_, err := n.AllocateProducerIDs(background, 1)
	wantErr(t, "the first", err, ErrFailed)
	log.set(func() { log.broken = nil })
	_, err = n.AllocateProducerIDs(background, 1)
	wantErr(t, "a later one", err, ErrFailed)
	wantErr(t, "Err", n.Err(), ErrFailed)
	if n.Image().Topic("before") == nil || n.IsLeader() {
		t.Error("the image is gone, or the node leads")
	}
}

func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	log.hold, log.entered = make(chan struct{}), make(chan struct{}, 100)
	done := make(chan error, 2)
	submit := func() {
		n.Submit([]Record{&ProducerIDsRecord{Count: 1}}, func(_ []Result, err error) { done <- err })
	}
	submit()
	testkit.Closed(t, "the first append to begin", log.entered)
	submit() // waits in the queue, and has woken the loop
	log.set(func() { log.broken = errors.New("input/output error") })
	close(log.hold)
	for range 2 {
		wantErr(t, "a proposal", testkit.Receive(t, "a proposal", done), ErrFailed)
	}
	n.Stop()
	if again := len(log.entered); again > 0 {
		t.Errorf("%d appends after the one that failed", again)
	}
}

func TestMoreWaitsThanOneGroupHolds(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	log.hold = make(chan struct{})
	const count = 40 // of 200 KiB each: two groups at least
	done := make(chan error, count)
	for i := range count {
		r := &TopicRecord{Name: fmt.Sprint("t", i), ID: TopicID{1, byte(i)}, Assignments: [][]int32{{1}}, Configs: map[string]string{"k": strings.Repeat("v", 200<<10)}}
		n.Submit([]Record{r}, func(_ []Result, err error) { done <- err })
	}
	close(log.hold)
	for range count {
		if err := testkit.Receive(t, "a proposal", done); err != nil {
			t.Fatal(err)
		}
	}
	if n.Image().TopicCount() != count {
		t.Errorf("%d topics", n.Image().TopicCount())
	}
}

func TestStopFailsWhatWaits(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	log.hold = make(chan struct{})
	done := make(chan error, 20)
	for range 20 {
		n.Submit([]Record{&ProducerIDsRecord{Count: 1}}, func(_ []Result, err error) { done <- err })
	}
	stopped := make(chan struct{})
	go func() { n.Stop(); close(stopped) }()
	close(log.hold)
	testkit.Closed(t, "Stop", stopped)
	for range 20 {
		if err := testkit.Receive(t, "a proposal", done); err != nil && !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	}
	_, err := n.AllocateProducerIDs(background, 1)
	wantErr(t, "after Stop", err, ErrStopped)
	n.Stop()
}

func TestProposeEndsWithItsContext(t *testing.T) {
	log := newFakeLog()
	n := startFake(t, testOptions(t, newMem(t)), log)
	log.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := n.AllocateProducerIDs(ctx, 1)
	wantErr(t, "cancelled", err, context.Canceled)
	_, err = n.CreateTopics(ctx, []NewTopic{{Name: "a", Partitions: 1, ReplicationFactor: 1}}, false)
	wantErr(t, "cancelled", err, context.Canceled)
	close(log.hold)
}

func TestSubmitRefusesWhatThePaperCannotHold(t *testing.T) {
	o := testOptions(t, newMem(t))
	o.QueueMax = 2
	log := newFakeLog()
	n := startFake(t, o, log)
	submit := func(want error, records ...Record) {
		t.Helper()
		_, err := n.Propose(background, records)
		wantErr(t, "propose", err, want)
	}
	submit(ErrLimit)
	submit(ErrLimit, make([]Record, entryRecordsMax+1)...)
	submit(ErrInvalidRequest, &TopicRecord{Name: strings.Repeat("n", nameBytesMax+1)})
	submit(ErrInvalidAssignment, &TopicRecord{Name: "a", Assignments: [][]int32{{-1}}})
	submit(ErrInvalidRequest, &ProducerIDsRecord{Count: 0})
	submit(ErrInvalidRequest, &ConfigsRecord{Resource: Resource{Type: 9}})
	log.hold = make(chan struct{})
	results := make(chan error, 10)
	for range 10 { // one may be with the loop, two in the queue
		n.Submit([]Record{&ProducerIDsRecord{Count: 1}}, func(_ []Result, err error) { results <- err })
	}
	wantErr(t, "a full queue", testkit.Receive(t, "a refusal", results), ErrBusy)
	close(log.hold)
}

func TestManyTopicsInOneRequest(t *testing.T) {
	n := startFake(t, testOptions(t, newMem(t)), newFakeLog())
	var names []string
	for i := range 2500 {
		names = append(names, fmt.Sprintf("topic-%d", i))
	}
	topics := mustCreate(t, n, names...)
	for i, topic := range topics {
		if topic.Name != names[i] {
			t.Fatalf("result %d is of %q, want %q", i, topic.Name, names[i])
		}
	}
	deleted, err := n.DeleteTopics(background, names, nil)
	if err != nil || n.Image().TopicCount() != 0 {
		t.Fatal(err, len(deleted), n.Image().TopicCount())
	}
}
