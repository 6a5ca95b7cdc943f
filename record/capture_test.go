package record

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// captureBroker is the least that a producer needs of a broker: it answers ApiVersions, Metadata and Produce, and
// keeps the record bytes it was sent. It knows one topic with one partition.
type captureBroker struct {
	listener net.Listener
	conns    sync.WaitGroup
	mu       struct {
		sync.Mutex
		batches [][]byte
	}
}

// captureTopic is the topic of the captured batches.
const captureTopic = "golden"

// startCaptureBroker listens on addr and serves until the test ends.
func startCaptureBroker(t *testing.T, addr string) *captureBroker {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &captureBroker{listener: l}
	b.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.serve(t, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.conns.Wait()
	})
	return b
}

// taken returns the record bytes received so far.
func (b *captureBroker) taken() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.batches
}

// serve answers one connection until it ends.
func (b *captureBroker) serve(t *testing.T, c net.Conn) {
	defer func() { _ = c.Close() }()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		resp, err := b.answer(frame)
		if err != nil {
			t.Errorf("capture: %v", err)
			return
		}
		out := append([]byte{0, 0, 0, 0}, frame[4:8]...)
		if resp.IsFlexible() && resp.Key() != 18 {
			out = append(out, 0)
		}
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// answer decodes a request and makes the response.
func (b *captureBroker) answer(frame []byte) (kmsg.Response, error) {
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	req := kmsg.RequestForKey(key)
	if req == nil {
		return nil, errors.New("unknown api key")
	}
	req.SetVersion(version)
	body := frame[10:]
	if n := int16(binary.BigEndian.Uint16(frame[8:])); n > 0 {
		body = body[n:]
	}
	if req.IsFlexible() {
		body = body[1:] // no tags
	}
	if key != 18 {
		if err := req.ReadFrom(body); err != nil {
			return nil, err
		}
	}
	resp := req.ResponseKind()
	switch r := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		for _, k := range [][3]int16{{0, 0, 12}, {3, 0, 12}, {18, 0, 3}, {22, 0, 4}} {
			r.ApiKeys = append(r.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k[0], MinVersion: k[1], MaxVersion: k[2]})
		}
	case *kmsg.MetadataResponse:
		b.metadata(r)
	case *kmsg.InitProducerIDResponse:
		r.ProducerID, r.ProducerEpoch = 4000, 2
	case *kmsg.ProduceResponse:
		b.produce(req.(*kmsg.ProduceRequest), r)
	default:
		return nil, errors.New("unexpected " + kmsg.NameForKey(key))
	}
	return resp, nil
}

// metadata describes the one topic.
func (b *captureBroker) metadata(r *kmsg.MetadataResponse) {
	addr := b.listener.Addr().(*net.TCPAddr)
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID, broker.Host, broker.Port = 1, addr.IP.String(), int32(addr.Port)
	partition := kmsg.NewMetadataResponseTopicPartition()
	partition.Leader, partition.Replicas, partition.ISR = 1, []int32{1}, []int32{1}
	topic := kmsg.NewMetadataResponseTopic()
	topic.Topic, topic.TopicID = kmsg.StringPtr(captureTopic), [16]byte{1}
	topic.Partitions = append(topic.Partitions, partition)
	r.Brokers, r.Topics, r.ControllerID = append(r.Brokers, broker), append(r.Topics, topic), 1
	r.ClusterID = kmsg.StringPtr("capture")
}

// produce keeps the records and says that they were written.
func (b *captureBroker) produce(req *kmsg.ProduceRequest, r *kmsg.ProduceResponse) {
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition = p.Partition
			topic.Partitions = append(topic.Partitions, part)
			b.mu.Lock()
			b.mu.batches = append(b.mu.batches, p.Records)
			b.mu.Unlock()
		}
		r.Topics = append(r.Topics, topic)
	}
}
