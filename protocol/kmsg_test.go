package protocol

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rounds is how many random messages of each version are tried, cutRounds how many of them at every length as well.
const (
	rounds    = 60
	cutRounds = 6
)

// pickCuts returns how many lengths of body to cut it at: all of them in the first rounds, else none.
func pickCuts(round int, body []byte) int {
	if round < cutRounds {
		return len(body)
	}
	return 0
}

// produceOf converts kmsg's request to ours.
func produceOf(k *kmsg.ProduceRequest) *ProduceRequest {
	p := &ProduceRequest{TransactionalID: orEmpty(k.TransactionID), Acks: k.Acks, TimeoutMs: k.TimeoutMillis}
	for _, t := range k.Topics {
		topic := ProduceTopic{Name: t.Topic, ID: t.TopicID}
		for _, part := range t.Partitions {
			topic.Partitions = append(topic.Partitions, ProducePartition{part.Partition, part.Records})
		}
		p.Topics = append(p.Topics, topic)
	}
	return p
}

// dropTags removes unknown tags, which we read over and never write.
func dropTags(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			*tags = kmsg.Tags{}
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				dropTags(f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			dropTags(v.Index(i))
		}
	default:
	}
}

func TestProduceRequestEqualsKmsg(t *testing.T) {
	rng := newRNG(t)
	var got ProduceRequest // reused, as the broker does
	for version := int16(produceMin); version <= produceMax; version++ {
		for round := range rounds {
			k := kmsg.NewPtrProduceRequest()
			fill(rng, reflect.ValueOf(k).Elem())
			k.Version = version
			if k.TransactionID != nil && *k.TransactionID == "" {
				k.TransactionID = nil // an empty id reads as null here
			}
			for i := range k.Topics {
				if version >= produceTopicIDs {
					k.Topics[i].Topic = ""
				} else {
					k.Topics[i].TopicID = [16]byte{}
				}
				for j := range k.Topics[i].Partitions {
					if rng.IntN(4) == 0 {
						k.Topics[i].Partitions[j].Records = nil
					}
				}
			}
			want := produceOf(k)
			body := k.AppendTo(nil)
			if err := got.Decode(body, version); err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if !sameProduce(&got, want) {
				t.Fatalf("version %d:\n got %+v\nwant %+v", version, got, want)
			}
			for n := range body[:pickCuts(round, body)] {
				if err := got.Decode(body[:n], version); !errors.Is(err, ErrMalformed) {
					t.Fatalf("version %d cut at %d of %d: %v", version, n, len(body), err)
				}
			}
			if err := got.Decode(append(bytes.Clone(body), 0), version); !errors.Is(err, ErrTrailing) || !errors.Is(err, ErrMalformed) {
				t.Fatalf("version %d with a byte more: %v", version, err)
			}
			dropTags(reflect.ValueOf(k).Elem())
			frame := want.AppendFrame([]byte("front"), version, 77, "client")
			if wantFrame := AppendRequest([]byte("front"), 77, "client", k); !bytes.Equal(frame, wantFrame) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, frame, wantFrame)
			}
			frame, cuts := want.AppendFrameCuts([]byte("front"), nil, version, 77, "client")
			var spans [][]byte
			for _, topic := range want.Topics {
				for _, part := range topic.Partitions {
					if len(part.Records) > 0 {
						spans = append(spans, part.Records)
					}
				}
			}
			if whole := weave(frame[len("front"):], cuts, spans); !bytes.Equal(whole, AppendRequest(nil, 77, "client", k)) {
				t.Fatalf("version %d: frame with records put in at %v differs", version, cuts)
			}
		}
	}
}

// weave puts the spans into the frame at the cuts.
func weave(frame []byte, cuts []int, spans [][]byte) (whole []byte) {
	at := 0
	for i, cut := range cuts {
		whole = append(append(whole, frame[at:cut]...), spans[i]...)
		at = cut
	}
	return append(whole, frame[at:]...)
}

func sameProduce(a, b *ProduceRequest) bool {
	if a.TransactionalID != b.TransactionalID || a.Acks != b.Acks || a.TimeoutMs != b.TimeoutMs || len(a.Topics) != len(b.Topics) {
		return false
	}
	for i, t := range a.Topics {
		u := b.Topics[i]
		if t.Name != u.Name || t.ID != u.ID || len(t.Partitions) != len(u.Partitions) {
			return false
		}
		for j, p := range t.Partitions {
			q := u.Partitions[j]
			if p.Partition != q.Partition || !bytes.Equal(p.Records, q.Records) || (p.Records == nil) != (q.Records == nil) {
				return false
			}
		}
	}
	return true
}

// randomProduceResponse returns a response as it would be decoded from the version.
func randomProduceResponse(rng *rand.Rand, version int16) *ProduceResponse {
	p := &ProduceResponse{ThrottleMs: rng.Int32()}
	for range rng.IntN(4) {
		topic := ProduceTopicResponse{Name: "t" + string(randomName(rng))}
		if version >= produceTopicIDs {
			topic = ProduceTopicResponse{ID: [16]byte(randomName(rng))}
		}
		for range rng.IntN(4) {
			part := ProducePartitionResponse{
				Partition: rng.Int32(), Error: ErrorCode(rng.IntN(100) - 1), BaseOffset: randomInt(rng, 64),
				LogAppendTimeMs: randomInt(rng, 64), LogStartOffset: -1,
			}
			if version >= produceLogStart {
				part.LogStartOffset = randomInt(rng, 64)
			}
			if version >= produceRecordErrors {
				part.ErrorMessage = string(randomName(rng)[:rng.IntN(16)])
				for range rng.IntN(3) {
					part.RecordErrors = append(part.RecordErrors, RecordError{rng.Int32(), string(randomName(rng)[:rng.IntN(16)])})
				}
			}
			if version >= produceLeaders && rng.IntN(2) == 0 {
				part.HasCurrentLeader, part.LeaderID, part.LeaderEpoch = true, rng.Int32(), rng.Int32()
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		p.Topics = append(p.Topics, topic)
	}
	if version >= produceLeaders {
		p.NodeEndpoints = randomNodes(rng)
	}
	return p
}

func randomName(rng *rand.Rand) []byte {
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return b
}

func randomNodes(rng *rand.Rand) (nodes []NodeEndpoint) {
	for range rng.IntN(4) {
		host := string(randomName(rng))
		for range rng.IntN(5) {
			host += host
		}
		nodes = append(nodes, NodeEndpoint{rng.Int32(), host, rng.Int32(), host[:rng.IntN(2)*rng.IntN(len(host))]})
	}
	return nodes
}

// kmsgProduceResponse converts ours to kmsg's.
func kmsgProduceResponse(p *ProduceResponse, version int16) *kmsg.ProduceResponse {
	k := kmsg.NewPtrProduceResponse()
	k.Version, k.ThrottleMillis = version, p.ThrottleMs
	for _, t := range p.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = t.Name, t.ID
		for _, q := range t.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode, part.BaseOffset = q.Partition, int16(q.Error), q.BaseOffset
			part.LogAppendTime, part.LogStartOffset, part.ErrorMessage = q.LogAppendTimeMs, q.LogStartOffset, orNil(q.ErrorMessage)
			for _, e := range q.RecordErrors {
				record := kmsg.NewProduceResponseTopicPartitionErrorRecord()
				record.RelativeOffset, record.ErrorMessage = e.Index, orNil(e.Message)
				part.ErrorRecords = append(part.ErrorRecords, record)
			}
			if q.HasCurrentLeader {
				part.CurrentLeader.LeaderID, part.CurrentLeader.LeaderEpoch = q.LeaderID, q.LeaderEpoch
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		k.Topics = append(k.Topics, topic)
	}
	for _, n := range p.NodeEndpoints {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = n.NodeID, n.Host, n.Port, orNil(n.Rack)
		k.Brokers = append(k.Brokers, b)
	}
	return k
}

func TestProduceResponseEqualsKmsg(t *testing.T) {
	rng := newRNG(t)
	var got ProduceResponse
	for version := int16(produceMin); version <= produceMax; version++ {
		for round := range rounds {
			p := randomProduceResponse(rng, version)
			frame := p.AppendFrame([]byte("front"), version, 9)
			if want := AppendResponse([]byte("front"), 9, kmsgProduceResponse(p, version)); !bytes.Equal(frame, want) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, frame, want)
			}
			checkResponse(t, round, frame[len("front"):], KeyProduce, version, func(body []byte) error { return got.Decode(body, version) })
			got.partitions, got.recordErrors = nil, nil
			if len(got.NodeEndpoints) == 0 {
				got.NodeEndpoints = nil
			}
			if !sameJSON(&got, p) {
				t.Fatalf("version %d:\n got %+v\nwant %+v", version, got, *p)
			}
		}
	}
}

// checkResponse parses the frame's header, decodes the body at every cut, which must fail, and whole, which must not.
func checkResponse(t *testing.T, round int, frame []byte, key, version int16, decode func([]byte) error) {
	t.Helper()
	correlation, body, err := ParseResponseHeader(frame[FrameLengthBytes:], key, version)
	if err != nil || correlation != 9 {
		t.Fatalf("key %d version %d: correlation %d, %v", key, version, correlation, err)
	}
	for n := range body[:pickCuts(round, body)] {
		if err := decode(body[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("key %d version %d cut at %d of %d: %v", key, version, n, len(body), err)
		}
	}
	if err := decode(append(bytes.Clone(body), 1)); !errors.Is(err, ErrTrailing) {
		t.Fatalf("key %d version %d with a byte more: %v", key, version, err)
	}
	if err := decode(body); err != nil {
		t.Fatalf("key %d version %d: %v", key, version, err)
	}
}

// fetchOf converts kmsg's request to ours, as the version would carry it.
func fetchOf(k *kmsg.FetchRequest) *FetchRequest {
	f := &FetchRequest{
		ClusterID: orEmpty(k.ClusterID), ReplicaID: k.ReplicaID, ReplicaEpoch: -1, MaxWaitMs: k.MaxWaitMillis, MinBytes: k.MinBytes,
		MaxBytes: k.MaxBytes, IsolationLevel: k.IsolationLevel, SessionID: k.SessionID, SessionEpoch: k.SessionEpoch, RackID: k.Rack,
	}
	if k.Version >= fetchReplicaState {
		f.ReplicaID, f.ReplicaEpoch = k.ReplicaState.ID, k.ReplicaState.Epoch
	}
	for _, t := range k.Topics {
		topic := FetchTopic{Name: t.Topic, ID: t.TopicID}
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions, FetchPartition{p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.LastFetchedEpoch,
				p.LogStartOffset, p.PartitionMaxBytes, p.ReplicaDirectoryID, p.HighWatermark})
		}
		f.Topics = append(f.Topics, topic)
	}
	for _, t := range k.ForgottenTopics {
		f.Forgotten = append(f.Forgotten, ForgottenTopic{t.Topic, t.TopicID, t.Partitions})
	}
	return f
}

// clampFetch resets what the version does not carry to the defaults.
func clampFetch(k *kmsg.FetchRequest) {
	version := k.Version
	if version < fetchSessions {
		k.SessionID, k.SessionEpoch, k.ForgottenTopics = 0, -1, nil
	}
	if version < fetchRack {
		k.Rack = ""
	}
	if version < fetchFlexible || k.ClusterID != nil && *k.ClusterID == "" {
		k.ClusterID = nil
	}
	if version < fetchReplicaState {
		k.ReplicaState.ID, k.ReplicaState.Epoch = -1, -1
		k.ReplicaState.UnknownTags = kmsg.Tags{}
	}
	for i := range k.Topics {
		t := &k.Topics[i]
		clampTopic(&t.Topic, &t.TopicID, version)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if version < fetchLeaderEpoch {
				p.CurrentLeaderEpoch = -1
			}
			if version < fetchFlexible {
				p.LastFetchedEpoch = -1
			}
			if version < fetchLogStart {
				p.LogStartOffset = -1
			}
			if version < fetchDirectoryID {
				p.ReplicaDirectoryID = [16]byte{}
			}
			if version < fetchHighWater {
				p.HighWatermark = math.MaxInt64
			}
		}
	}
	for i := range k.ForgottenTopics {
		clampTopic(&k.ForgottenTopics[i].Topic, &k.ForgottenTopics[i].TopicID, version)
	}
}

func clampTopic(name *string, id *[16]byte, version int16) {
	if version >= fetchTopicIDs {
		*name = ""
	} else {
		*id = [16]byte{}
	}
}

func TestFetchRequestEqualsKmsg(t *testing.T) {
	rng := newRNG(t)
	var got FetchRequest
	for version := int16(fetchMin); version <= fetchMax; version++ {
		for round := range rounds {
			k := kmsg.NewPtrFetchRequest()
			fill(rng, reflect.ValueOf(k).Elem())
			k.Version = version
			full := fetchOf(k) // with fields set that the version does not carry
			clampFetch(k)
			want := fetchOf(k)
			body := k.AppendTo(nil)
			if got := full.AppendFrame(nil, version, 77, "client"); !bytes.Equal(got, want.AppendFrame(nil, version, 77, "client")) {
				t.Fatalf("version %d: fields of other versions are sent: %x", version, got)
			}
			for n := range body[:pickCuts(round, body)] {
				if err := got.Decode(body[:n], version); !errors.Is(err, ErrMalformed) {
					t.Fatalf("version %d cut at %d of %d: %v", version, n, len(body), err)
				}
			}
			if err := got.Decode(append(bytes.Clone(body), 0), version); !errors.Is(err, ErrTrailing) {
				t.Fatalf("version %d with a byte more: %v", version, err)
			}
			if err := got.Decode(body, version); err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if !sameJSON(&got, want) {
				t.Fatalf("version %d:\n got %+v\nwant %+v", version, got, *want)
			}
			dropTags(reflect.ValueOf(k).Elem())
			frame := want.AppendFrame([]byte("front"), version, 77, "client")
			if wantFrame := AppendRequest([]byte("front"), 77, "client", k); !bytes.Equal(frame, wantFrame) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, frame, wantFrame)
			}
		}
	}
}

// randomFetchResponse returns a response as it would be decoded from the version, and the records of its partitions.
func randomFetchResponse(rng *rand.Rand, version int16) (f *FetchResponse, spans [][]byte) {
	f = &FetchResponse{ThrottleMs: rng.Int32()}
	if version >= fetchSessions {
		f.Error, f.SessionID = ErrorCode(rng.IntN(100)-1), rng.Int32()
	}
	for range rng.IntN(4) {
		topic := FetchTopicResponse{Name: "t" + string(randomName(rng)), ID: [16]byte(randomName(rng))}
		clampTopic(&topic.Name, &topic.ID, version)
		for range rng.IntN(4) {
			p := FetchPartitionResponse{
				Partition: rng.Int32(), Error: ErrorCode(rng.IntN(100) - 1), HighWatermark: randomInt(rng, 64),
				LastStable: randomInt(rng, 64), LogStart: -1, Records: randomBytes(rng, 400),
			}
			if rng.IntN(3) == 0 {
				p.Records = []byte{}
			}
			p.RecordsBytes = len(p.Records)
			if p.RecordsBytes > 0 {
				spans = append(spans, p.Records)
			}
			if version >= fetchLogStart {
				p.LogStart = randomInt(rng, 64)
			}
			if rng.IntN(2) == 0 {
				p.Aborted = []AbortedTransaction{}
				for range rng.IntN(3) {
					p.Aborted = append(p.Aborted, AbortedTransaction{randomInt(rng, 64), randomInt(rng, 64)})
				}
			}
			if version >= fetchRack {
				p.PreferredReadReplica = -1
				if rng.IntN(2) == 0 {
					p.HasPreferredReadReplica, p.PreferredReadReplica = true, rng.Int32()
				}
			}
			if version >= fetchFlexible && rng.IntN(2) == 0 {
				p.HasCurrentLeader, p.LeaderID, p.LeaderEpoch = true, rng.Int32(), rng.Int32()
			}
			if version >= fetchFlexible && rng.IntN(2) == 0 {
				p.HasDivergingEpoch, p.DivergingEpoch, p.DivergingEndOffset = true, rng.Int32(), rng.Int64()
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		f.Topics = append(f.Topics, topic)
	}
	if version >= fetchEndpoints {
		f.NodeEndpoints = randomNodes(rng)
	}
	return f, spans
}

// kmsgFetchResponse converts ours to kmsg's.
func kmsgFetchResponse(f *FetchResponse, version int16) *kmsg.FetchResponse {
	k := kmsg.NewPtrFetchResponse()
	k.Version, k.ThrottleMillis, k.ErrorCode, k.SessionID = version, f.ThrottleMs, int16(f.Error), f.SessionID
	for _, t := range f.Topics {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = t.Name, t.ID
		for _, p := range t.Partitions {
			part := kmsg.NewFetchResponseTopicPartition()
			part.Partition, part.ErrorCode, part.HighWatermark = p.Partition, int16(p.Error), p.HighWatermark
			part.LastStableOffset, part.LogStartOffset, part.RecordBatches = p.LastStable, p.LogStart, p.Records
			if p.Aborted != nil {
				part.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
			}
			for _, a := range p.Aborted {
				tx := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				tx.ProducerID, tx.FirstOffset = a.ProducerID, a.FirstOffset
				part.AbortedTransactions = append(part.AbortedTransactions, tx)
			}
			if p.HasPreferredReadReplica {
				part.PreferredReadReplica = p.PreferredReadReplica
			}
			if p.HasCurrentLeader {
				part.CurrentLeader.LeaderID, part.CurrentLeader.LeaderEpoch = p.LeaderID, p.LeaderEpoch
			}
			if p.HasDivergingEpoch {
				part.DivergingEpoch.Epoch, part.DivergingEpoch.EndOffset = p.DivergingEpoch, p.DivergingEndOffset
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		k.Topics = append(k.Topics, topic)
	}
	for _, n := range f.NodeEndpoints {
		b := kmsg.NewFetchResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = n.NodeID, n.Host, n.Port, orNil(n.Rack)
		k.Brokers = append(k.Brokers, b)
	}
	return k
}

func TestFetchResponseEqualsKmsg(t *testing.T) {
	rng := newRNG(t)
	var got FetchResponse
	for version := int16(fetchMin); version <= fetchMax; version++ {
		for round := range rounds {
			f, spans := randomFetchResponse(rng, version)
			frame, cuts := f.AppendFrame([]byte("front"), []int{-1}, version, 9)
			if len(cuts)-1 != len(spans) || cuts[0] != -1 {
				t.Fatalf("version %d: %d cuts for %d partitions with records", version, len(cuts)-1, len(spans))
			}
			whole := weave(frame[len("front"):], cuts[1:], spans)
			if want := AppendResponse(nil, 9, kmsgFetchResponse(f, version)); !bytes.Equal(whole, want) {
				t.Fatalf("version %d:\n got %x\nwant %x", version, whole, want)
			}
			checkResponse(t, round, whole, KeyFetch, version, func(body []byte) error { return got.Decode(body, version) })
			if !sameJSON(&got, f) {
				t.Fatalf("version %d:\n got %+v\nwant %+v", version, got, *f)
			}
		}
	}
}

// TestDecodeRequestEveryAPI walks and decodes random requests of every API that kmsg decodes, at every version.
func TestDecodeRequestEveryAPI(t *testing.T) {
	rng := newRNG(t)
	for _, api := range Supported() {
		if api.Key == KeyProduce || api.Key == KeyFetch {
			if _, ok := requestSchema(api.Key); ok {
				t.Errorf("key %d has a schema and a decoder of its own", api.Key)
			}
			continue
		}
		for version := api.ServedMin; version <= api.Max; version++ {
			for round := range rounds {
				k := kmsg.RequestForKey(api.Key)
				fill(rng, reflect.ValueOf(k).Elem())
				k.SetVersion(version)
				body := k.AppendTo(nil)
				got := kmsg.RequestForKey(api.Key)
				got.SetVersion(version)
				if err := DecodeRequest(got, body); err != nil {
					t.Fatalf("%s version %d: %v", kmsg.NameForKey(api.Key), version, err)
				}
				if again := got.AppendTo(nil); !bytes.Equal(again, body) {
					t.Fatalf("%s version %d:\n got %x\nwant %x", kmsg.NameForKey(api.Key), version, again, body)
				}
				for n := range body[:pickCuts(round, body)] {
					if err := DecodeRequest(got, body[:n]); !errors.Is(err, ErrMalformed) {
						t.Fatalf("%s version %d cut at %d of %d: %v", kmsg.NameForKey(api.Key), version, n, len(body), err)
					}
				}
				if err := DecodeRequest(got, append(bytes.Clone(body), 0)); !errors.Is(err, ErrTrailing) {
					t.Fatalf("%s version %d with a byte more: %v", kmsg.NameForKey(api.Key), version, err)
				}
			}
		}
	}
}
