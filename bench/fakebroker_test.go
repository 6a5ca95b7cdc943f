package bench

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/record"
)

// fakeBroker is a broker in the test's process, just good enough for the generator, that can be told to misbehave.
type fakeBroker struct {
	t    *testing.T
	ln   net.Listener
	port int32
	wg   sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	topics map[string][]*fakePartition

	produced atomic.Int64
	// onProduce is called with the number of the request before it is handled: it may sleep. store changes what is kept: it gets the batch and
	// the partition's list.
	onProduce func(n int64)
	store     func(n int64, p *fakePartition, batch []byte) (code int16)
	// beforeAnswer is called before a Produce is answered, with the size of its frame and with what the connection has sent behind it, in bytes.
	beforeAnswer func(frame, behind int)
	// refuse decides about a new topic: its error code.
	refuse func(partitions int32, conf map[string]string) (code int16)
}

type fakePartition struct {
	batches [][]byte
	end     int64
}

// append stamps a copy of the batch with the next offset and keeps it.
func (p *fakePartition) append(batch []byte) {
	b := record.Batch(append([]byte(nil), batch...))
	b.SetBaseOffset(p.end)
	p.end += int64(b.LastOffsetDelta()) + 1
	p.batches = append(p.batches, b)
}

func startFake(t *testing.T) *fakeBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{t: t, ln: ln, port: int32(ln.Addr().(*net.TCPAddr).Port), topics: map[string][]*fakePartition{}, conns: map[net.Conn]bool{}}
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.mu.Unlock()
			f.wg.Add(1)
			go func() {
				defer f.wg.Done()
				defer c.Close()
				f.serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		f.closeAll()
		f.wg.Wait()
	})
	return f
}

// closeAll closes the connections that there are.
func (f *fakeBroker) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

func (f *fakeBroker) target(name string) *AddressTarget {
	return &AddressTarget{name: name, addr: f.ln.Addr().String(), pid: 1 << 30} // no such process: no broker cost
}

func (f *fakeBroker) serve(c net.Conn) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
		idLen := int(binary.BigEndian.Uint16(frame[8:]))
		if key == int16(kmsg.ApiVersions) {
			if _, err := c.Write(fakeVersions(frame[4:8], version)); err != nil {
				return
			}
			continue
		}
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if req.IsFlexible() {
			f.t.Errorf("flexible %s v%d", kmsg.NameForKey(key), version)
			return
		}
		if err := req.ReadFrom(frame[10+idLen:]); err != nil {
			f.t.Errorf("%s v%d: %v", kmsg.NameForKey(key), version, err)
			return
		}
		resp := f.handle(req)
		if resp == nil {
			continue
		}
		if f.beforeAnswer != nil && key == int16(kmsg.Produce) {
			f.beforeAnswer(4+len(frame), f.unread(c))
		}
		resp.SetVersion(version)
		out := append([]byte{0, 0, 0, 0}, frame[4:8]...)
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// unread is how many bytes the kernel holds of c.
func (f *fakeBroker) unread(c net.Conn) (n int) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	}
	if err != nil {
		f.t.Error(err)
	}
	return n
}

// fakeVersions offers the non-flexible versions, so that one decoder serves every client.
func fakeVersions(correlation []byte, version int16) []byte {
	r := kmsg.NewPtrApiVersionsResponse()
	if version > 0 {
		r.ErrorCode = 35
	}
	for _, v := range [][3]int16{{0, 3, 7}, {1, 4, 11}, {2, 1, 4}, {3, 4, 8}, {18, 0, 0}, {19, 2, 4}, {20, 1, 3}, {32, 1, 1}} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = v[0], v[1], v[2]
		r.ApiKeys = append(r.ApiKeys, k)
	}
	out := r.AppendTo(append([]byte{0, 0, 0, 0}, correlation...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

func (f *fakeBroker) handle(req kmsg.Request) kmsg.Response {
	switch q := req.(type) {
	case *kmsg.MetadataRequest:
		return f.metadata(q)
	case *kmsg.CreateTopicsRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		r := kmsg.NewPtrCreateTopicsResponse()
		for _, t := range q.Topics {
			parts := make([]*fakePartition, t.NumPartitions)
			for i := range parts {
				parts[i] = &fakePartition{}
			}
			f.topics[t.Topic] = parts
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic = t.Topic
			if f.refuse != nil {
				conf := map[string]string{}
				for _, c := range t.Configs {
					conf[c.Name] = *c.Value
				}
				rt.ErrorCode = f.refuse(t.NumPartitions, conf)
			}
			r.Topics = append(r.Topics, rt)
		}
		return r
	case *kmsg.CreatePartitionsRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		r := kmsg.NewPtrCreatePartitionsResponse()
		for _, t := range q.Topics {
			rt := kmsg.NewCreatePartitionsResponseTopic()
			rt.Topic = t.Topic
			if f.refuse != nil {
				rt.ErrorCode = f.refuse(t.Count-int32(len(f.topics[t.Topic])), nil)
			}
			for len(f.topics[t.Topic]) < int(t.Count) {
				f.topics[t.Topic] = append(f.topics[t.Topic], &fakePartition{})
			}
			r.Topics = append(r.Topics, rt)
		}
		return r
	case *kmsg.DeleteTopicsRequest:
		return kmsg.NewPtrDeleteTopicsResponse()
	case *kmsg.DescribeConfigsRequest:
		return kmsg.NewPtrDescribeConfigsResponse()
	case *kmsg.ListOffsetsRequest:
		return f.listOffsets(q)
	case *kmsg.ProduceRequest:
		return f.produce(q)
	case *kmsg.FetchRequest:
		return f.fetch(q)
	}
	f.t.Errorf("unexpected request %s", kmsg.NameForKey(req.Key()))
	return nil
}

func (f *fakeBroker) metadata(q *kmsg.MetadataRequest) kmsg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := kmsg.NewPtrMetadataResponse()
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "127.0.0.1", f.port
	r.Brokers = append(r.Brokers, b)
	for _, t := range q.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic = t.Topic
		for i := range f.topics[*t.Topic] {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.Replicas = int32(i), 1, []int32{1}
			rt.Partitions = append(rt.Partitions, p)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

func (f *fakeBroker) listOffsets(q *kmsg.ListOffsetsRequest) kmsg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := kmsg.NewPtrListOffsetsResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Offset = p.Partition, f.topics[t.Topic][p.Partition].end
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

func (f *fakeBroker) produce(q *kmsg.ProduceRequest) kmsg.Response {
	n := f.produced.Add(1)
	if f.onProduce != nil {
		f.onProduce(n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := kmsg.NewPtrProduceResponse()
	for _, t := range q.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition = p.Partition
			part := f.topics[t.Topic][p.Partition]
			if err := record.Batch(p.Records).CheckCRC(); err != nil {
				f.t.Errorf("request %d: %v", n, err)
			}
			if f.store != nil {
				rp.ErrorCode = f.store(n, part, p.Records)
			} else {
				part.append(p.Records)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	if q.Acks == 0 {
		return nil
	}
	return r
}

func (f *fakeBroker) fetch(q *kmsg.FetchRequest) kmsg.Response {
	r := kmsg.NewPtrFetchResponse()
	deadline := time.Now().Add(time.Duration(min(q.MaxWaitMillis, 50)) * time.Millisecond)
	for {
		if any := f.fetchOnce(q, r); any || time.Now().After(deadline) {
			return r
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fakeBroker) fetchOnce(q *kmsg.FetchRequest, r *kmsg.FetchResponse) (any bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Topics = nil
	for _, t := range q.Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.RecordBatches = p.Partition, []byte{}
			for _, b := range f.topics[t.Topic][p.Partition].batches {
				if record.Batch(b).LastOffset() < p.FetchOffset {
					continue
				}
				if len(rp.RecordBatches) > 256<<10 {
					rp.RecordBatches = append(rp.RecordBatches, b[:len(b)/2]...) // a batch that is cut off
					break
				}
				rp.RecordBatches = append(rp.RecordBatches, b...)
				any = true
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return any
}
