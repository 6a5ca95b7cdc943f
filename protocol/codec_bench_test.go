package protocol

import "testing"

func BenchmarkProduceRequestDecode(b *testing.B) {
	req := &ProduceRequest{Acks: -1, TimeoutMs: 1000, Topics: []ProduceTopic{{Name: "topic-name"}}}
	for i := range 10 {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, ProducePartition{int32(i), make([]byte, 1000)})
	}
	frame := req.AppendFrame(nil, 12, 1, "client")[FrameLengthBytes:]
	var got ProduceRequest
	b.ReportAllocs()
	for b.Loop() {
		h, err := ParseRequestHeader(frame)
		if err != nil || got.Decode(h.Body, h.Version) != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProduceResponseAppend(b *testing.B) {
	resp := &ProduceResponse{Topics: []ProduceTopicResponse{{Name: "topic-name", Partitions: make([]ProducePartitionResponse, 10)}}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = resp.AppendFrame(buf[:0], 12, 1)
	}
}

func BenchmarkFetchRequestDecode(b *testing.B) {
	req := &FetchRequest{ReplicaID: -1, ReplicaEpoch: -1, Topics: []FetchTopic{{ID: [16]byte{1}}}}
	for i := range 10 {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, NewFetchPartition(int32(i), 1000, 1<<20))
	}
	frame := req.AppendFrame(nil, 17, 1, "client")[FrameLengthBytes:]
	var got FetchRequest
	b.ReportAllocs()
	for b.Loop() {
		h, err := ParseRequestHeader(frame)
		if err != nil || got.Decode(h.Body, h.Version) != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFetchResponseAppend(b *testing.B) {
	resp := &FetchResponse{Topics: []FetchTopicResponse{{ID: [16]byte{1}, Partitions: make([]FetchPartitionResponse, 10)}}}
	for i := range resp.Topics[0].Partitions {
		resp.Topics[0].Partitions[i].RecordsBytes = 1 << 20
	}
	var buf []byte
	var cuts []int
	b.ReportAllocs()
	for b.Loop() {
		buf, cuts = resp.AppendFrame(buf[:0], cuts[:0], 17, 1)
	}
}
