package broker

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/vfs"
)

// stopMetadata has the metadata's loop stand still, after it has made a topic of its own, until release is called.
func (tb *testBroker) stopMetadata() (release func()) {
	tb.t.Helper()
	entered, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	tb.node.OnChange(func(cluster.Change) {
		once.Do(func() { close(entered); <-released })
	})
	tb.node.SubmitTopics([]cluster.NewTopic{{Name: "stop", Partitions: 1, ReplicationFactor: 1}}, func([]cluster.TopicResult, error) {})
	testkit.Closed(tb.t, "the loop", entered)
	release = sync.OnceFunc(func() { close(released) })
	tb.t.Cleanup(release)
	return release
}

// held is how many requests wait for the metadata's log, and how many bytes the broker counts for what is not answered.
func (tb *testBroker) held() (requests int, bytes int64) {
	w := tb.workers
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.held, w.mu.backlogBytes
}

func (tb *testBroker) awaitHeld(want int) {
	tb.t.Helper()
	testkit.Eventually(tb.t, fmt.Sprint(want, " requests that wait for the log"), func() bool { got, _ := tb.held(); return got == want })
}

const createVersion, deleteVersion = 7, 6

func TestPipelinedTopicsShareTheLog(t *testing.T) {
	const count = 300
	tb := startBroker(t, nil)
	c := tb.dial()
	var mu sync.Mutex
	var groups [][]string // guarded by mu
	release := tb.stopMetadata()
	tb.node.OnChange(func(change cluster.Change) {
		var names []string
		for _, topic := range slices.Concat(change.Created, change.Removed) {
			names = append(names, topic.Name)
		}
		mu.Lock()
		defer mu.Unlock()
		groups = append(groups, names)
	})
	name := func(i int) string { return fmt.Sprintf("topic-%03d", i/2) } // each twice
	var requests []kmsg.Request
	var ids []int32
	for i := range count {
		requests = append(requests, createTopicsRequest(name(i)))
		ids = append(ids, c.send(requests[i], createVersion))
	}
	tb.awaitHeld(count)
	release()
	for i := range count {
		row := c.receive(requests[i], ids[i]).(*kmsg.CreateTopicsResponse).Topics[0]
		want := protocol.ErrNone
		if i%2 == 1 {
			want = protocol.ErrTopicAlreadyExists
		}
		wantCode(t, fmt.Sprint("creation ", i), row.ErrorCode, want)
		if topic := tb.node.Image().Topic(name(i)); row.Topic != name(i) || want == protocol.ErrNone && (topic == nil || topic.ID != row.TopicID) {
			t.Fatalf("creation %d: got %+v, the image has %v", i, row, topic)
		}
	}
	mu.Lock()
	if len(groups) != 1 || len(groups[0]) != count/2 {
		t.Errorf("%d groups for %d requests in flight, want 1", len(groups), count)
	}
	mu.Unlock()

	for i := range count {
		requests[i] = deleteTopicsRequest(deleteVersion, []string{name(i)})
		ids[i] = c.send(requests[i], deleteVersion)
	}
	for i := range count {
		row := c.receive(requests[i], ids[i]).(*kmsg.DeleteTopicsResponse).Topics[0]
		want := protocol.ErrNone
		if i%2 == 1 {
			want = protocol.ErrUnknownTopicOrPartition
		}
		wantCode(t, fmt.Sprint("deletion ", i), row.ErrorCode, want)
	}
	testkit.Eventually(t, "no request and no byte to be counted any more", func() bool { // the last is given back after its answer
		requests, bytes := tb.held()
		return requests == 0 && bytes == 0
	})
}

// What is behind a creation on its connection sees the topic, as if the creation had been answered first.
func TestRequestsBehindAChangeWaitForIt(t *testing.T) {
	tb := startBroker(t, map[string]string{"auto.create.topics.enable": "false"})
	c := tb.dial()
	release := tb.stopMetadata()
	create, again := createTopicsRequest("a"), createTopicsRequest("a")
	again.ValidateOnly = true
	metadata, produce := metadataRequest(false, "a"), produceRequest("a", acksAll, batchOf("x"))
	remove, behind := deleteTopicsRequest(deleteVersion, []string{"a"}), createTopicsRequest("a")
	first := c.send(create, createVersion)
	second := c.send(again, createVersion)
	third := c.send(metadata, 12)
	fourth := c.send(produce, produceVersion)
	fifth := c.send(remove, deleteVersion)
	sixth := c.send(behind, createVersion)
	other := tb.dial()
	otherCreate, otherMetadata := createTopicsRequest("b"), metadataRequest(false, "b")
	otherFirst, otherSecond := other.send(otherCreate, createVersion), other.send(otherMetadata, 12)
	tb.awaitHeld(2)
	tb.ok() // another connection, and a while for what must not be served
	if n, _ := tb.held(); n != 2 {
		t.Errorf("%d requests wait for the log, want the first of each connection", n)
	}
	release()
	wantCode(t, "another create", other.receive(otherCreate, otherFirst).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "metadata behind it", other.receive(otherMetadata, otherSecond).(*kmsg.MetadataResponse).Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "create", c.receive(create, first).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "validate only", c.receive(again, second).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, protocol.ErrTopicAlreadyExists)
	wantCode(t, "metadata", c.receive(metadata, third).(*kmsg.MetadataResponse).Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "produce", c.receive(produce, fourth).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "delete", c.receive(remove, fifth).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode, protocol.ErrNone)
	wantCode(t, "create again", c.receive(behind, sixth).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, protocol.ErrNone)
}

func TestChangeTimesOutAndTheConnectionGoesOn(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	release := tb.stopMetadata()
	create := createTopicsRequest("late")
	create.TimeoutMillis = 20
	resp := c.request(create, createVersion).(*kmsg.CreateTopicsResponse)
	wantCode(t, "late", resp.Topics[0].ErrorCode, protocol.ErrRequestTimedOut)
	if deref(resp.Topics[0].ErrorMessage) == "" {
		t.Error("a timeout without a message")
	}
	if resp := c.request(metadataRequest(false, "late"), 12).(*kmsg.MetadataResponse); protocol.ErrorCode(resp.Topics[0].ErrorCode) != protocol.ErrUnknownTopicOrPartition {
		t.Errorf("the next request: got %+v", resp.Topics[0])
	}
	release()
	testkit.Eventually(t, "the late topic", func() bool { return tb.node.Image().Topic("late") != nil })
	tb.awaitHeld(0)
}

func TestConnectionClosesBeforeItsChangesAreMade(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	release := tb.stopMetadata()
	for i := range 5 {
		c.send(createTopicsRequest(fmt.Sprint("t", i)), createVersion)
	}
	c.send(metadataRequest(false, "t0"), 12)
	tb.awaitHeld(5)
	if err := c.conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset: after a half close the answers would be waited for
		t.Fatal(err)
	}
	c.conn.Close()
	tb.dispatcherEmpty()
	release()
	tb.awaitHeld(0)
	if _, bytes := tb.held(); bytes != 0 {
		t.Errorf("%d bytes are counted for a connection that has closed", bytes)
	}
	if tb.node.Image().Topic("t4") == nil {
		t.Error("the last topic was not created")
	}
}

// dispatcherEmpty waits until no connection is open.
func (tb *testBroker) dispatcherEmpty() {
	tb.t.Helper()
	testkit.Eventually(tb.t, "the end of the connections", func() bool {
		tb.dispatcher.mu.Lock()
		defer tb.dispatcher.mu.Unlock()
		return len(tb.dispatcher.mu.conns) == 0
	})
}

func TestStopAnswersWhatWaitsForTheLog(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	release := tb.stopMetadata()
	var requests []kmsg.Request
	var ids []int32
	for i := range 20 {
		requests = append(requests, createTopicsRequest(fmt.Sprint("t", i)))
		ids = append(ids, c.send(requests[i], createVersion))
	}
	tb.awaitHeld(20)
	stopped := make(chan struct{})
	go func() { tb.stop(); close(stopped) }()
	testkit.Eventually(t, "the beginning of the stop", tb.stopping.Load)
	release()
	for i := range requests {
		wantCode(t, fmt.Sprint("creation ", i), c.receive(requests[i], ids[i]).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode, protocol.ErrNone)
	}
	testkit.Closed(t, "the stop", stopped)
}

// The rows of a topic's configuration are kept between requests; they must follow the broker's, and not be mixed up with a topic's own.
func TestCreatedTopicsTellTheConfigurationInForce(t *testing.T) {
	tb := startBroker(t, nil)
	c := tb.dial()
	value := func(name string, own string) (string, Source) {
		t.Helper()
		req := createTopicsRequest(name)
		if own != "" {
			config := kmsg.NewCreateTopicsRequestTopicConfig()
			config.Name, config.Value = "retention.ms", &own
			req.Topics[0].Configs = append(req.Topics[0].Configs, config)
		}
		row := c.request(req, createVersion).(*kmsg.CreateTopicsResponse).Topics[0]
		for _, config := range row.Configs {
			if config.Name == "retention.ms" {
				return deref(config.Value), Source(config.Source)
			}
		}
		t.Fatalf("%s: got %+v, no retention.ms in it", name, row)
		return "", 0
	}
	f := func(name, own, want string, source Source) {
		t.Helper()
		if got, from := value(name, own); got != want || from != source {
			t.Errorf("%s: got %s from %d, want %s from %d", name, got, from, want, source)
		}
	}
	f("a", "", "604800000", SourceDefault)
	f("b", "5000", "5000", SourceTopic)
	f("c", "", "604800000", SourceDefault)
	change := cluster.ConfigChange{Resource: cluster.Resource{Type: cluster.ResourceBroker, Name: ""},
		Alterations: []cluster.Alteration{{Key: "log.retention.ms", Op: cluster.AlterSet, Value: "7000"}}}
	if errs, err := tb.node.AlterConfigs(t.Context(), []cluster.ConfigChange{change}, false); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	f("d", "", "7000", SourceDynamicBroker)
}

// More topics than one lot holds are deleted, among them one of more partitions than a lot; a name that is used again at once gets its new log.
func TestManyTopicsAreDeletedInLots(t *testing.T) {
	fsys := vfs.NewErrorFS(vfs.OS(), vfs.ErrorFSOptions{})
	tb := startBrokerIn(t, t.TempDir(), nil, Options{FS: fsys})
	deleting := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(deleting) })
	t.Cleanup(goOn)
	fsys.Add(vfs.Rule{Ops: vfs.OpRename, Path: "-delete", Hook: func(vfs.Op, string) { <-deleting }})
	c := tb.dial()
	names := []string{"wide"}
	tb.createTopic("wide", deleteLot+10, nil)
	for i := range 2*deleteLot + 10 {
		names = append(names, fmt.Sprintf("t-%04d", i))
	}
	for _, row := range c.request(createTopicsRequest(names[1:]...), createVersion).(*kmsg.CreateTopicsResponse).Topics {
		wantCode(t, row.Topic, row.ErrorCode, protocol.ErrNone)
	}
	again := names[deleteLot+5]
	for _, name := range []string{"wide", names[1], again, names[len(names)-1]} {
		c.mustProduce(name, batchOf("old"))
	}
	for i, row := range c.request(deleteTopicsRequest(deleteVersion, names), deleteVersion).(*kmsg.DeleteTopicsResponse).Topics {
		wantCode(t, names[i], row.ErrorCode, protocol.ErrNone)
	}
	created := c.request(createTopicsRequest(again), createVersion).(*kmsg.CreateTopicsResponse).Topics[0]
	wantCode(t, "the name again", created.ErrorCode, protocol.ErrNone)
	wantCode(t, "produce beside the old log", c.produce(again, acksAll, batchOf("early")).ErrorCode, protocol.ErrKafkaStorageError)
	goOn()
	testkit.Eventually(t, "the end of the deletions", func() bool {
		for range tb.node.Image().Removed() {
			return false
		}
		return true
	})
	for _, log := range tb.store.Logs() {
		if tp := log.TopicPartition(); tp.Topic != cluster.LogTopic && (tp.Topic != again || cluster.TopicID(log.TopicID()) != created.TopicID) {
			t.Errorf("%s is left", tp)
		}
	}
	c.mustProduce(again, batchOf("new"))
	if got := valuesOf(t, c.fetch(again, 0).RecordBatches); got != "new" {
		t.Errorf("the new topic: got %q", got)
	}
}
