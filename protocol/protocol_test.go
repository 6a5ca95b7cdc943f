package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestErrorCodesAreKafkas(t *testing.T) {
	renamed := map[string]string{"NOT_LEADER_FOR_PARTITION": "NOT_LEADER_OR_FOLLOWER"}
	for code := -1; code < len(errorNames)-1; code++ {
		e := ErrorCode(code)
		if code == 0 {
			if e.String() != "NONE" || e.Err() != nil || e.Retriable() {
				t.Errorf("code 0: %s, %v", e, e.Err())
			}
			continue
		}
		want := kerr.TypedErrorForCode(int16(code))
		if want == nil {
			t.Errorf("code %d (%s) is unknown to kerr", code, e)
			continue
		}
		name := want.Message
		if n, ok := renamed[name]; ok {
			name = n
		}
		if e.String() != name || !errors.Is(e.Err(), e) || !e.Known() {
			t.Errorf("code %d is %s, want %s", code, e, name)
		}
		// Kafka made CONCURRENT_TRANSACTIONS retriable after kerr's table was drawn up.
		if e.Retriable() != (want.Retriable || e == ErrConcurrentTransactions) {
			t.Errorf("%s: retriable %t", e, e.Retriable())
		}
	}
	beyond := ErrorCode(len(errorNames) - 1)
	if kerr.TypedErrorForCode(int16(beyond)) != nil && kerr.TypedErrorForCode(int16(beyond)) != kerr.UnknownServerError {
		t.Errorf("kerr knows code %d (%v), the table does not", beyond, kerr.ErrorForCode(int16(beyond)))
	}
	if beyond.Known() || beyond.Retriable() || ErrorCode(-2).Known() || !strings.HasPrefix(beyond.String(), "ERROR_") {
		t.Errorf("%s is known", beyond)
	}
	if ErrNotLeaderOrFollower != 6 || ErrUnsupportedVersion != 35 || ErrInvalidRecord != 87 || ErrUnknownTopicID != 100 {
		t.Error("constants do not have Kafka's values")
	}
}

func TestSupported(t *testing.T) {
	all := Supported()
	if !slices.IsSortedFunc(all, func(a, b VersionRange) int { return int(a.Key) - int(b.Key) }) {
		t.Error("not sorted by key")
	}
	for _, api := range all {
		k := kmsg.RequestForKey(api.Key)
		if k == nil || k.MaxVersion() < api.Max {
			t.Errorf("key %d: kmsg does not know version %d", api.Key, api.Max)
			continue
		}
		resp := k.ResponseKind()
		for v := int16(0); v <= api.Max; v++ {
			k.SetVersion(v)
			resp.SetVersion(v)
			if want := v >= api.FlexibleFrom; k.IsFlexible() != want || resp.IsFlexible() != want {
				t.Errorf("%s version %d: flexible %t, kmsg says %t and %t", kmsg.NameForKey(api.Key), v, want, k.IsFlexible(), resp.IsFlexible())
			}
		}
		got, ok := SupportedRange(api.Key)
		if !ok || got != api || !api.Serves(api.Max) || api.Serves(api.Max+1) || api.Serves(api.ServedMin-1) {
			t.Errorf("key %d: range %+v", api.Key, got)
		}
		if _, own := requestSchema(api.Key); !own && api.Key != KeyProduce && api.Key != KeyFetch {
			t.Errorf("key %d has no decoder", api.Key)
		}
	}
	if r, _ := SupportedRange(KeyProduce); r.Min != 0 || r.Max != 13 || r.Serves(2) || !r.Serves(3) {
		t.Errorf("Produce is advertised from 0 and served from 3, have %+v", r)
	}
	for _, key := range []int16{-1, -32768, 4, 7, 127, 128, 32767} {
		if _, ok := SupportedRange(key); ok {
			t.Errorf("key %d is served", key)
		}
	}
	all[0].Max = 99
	if r, _ := SupportedRange(KeyProduce); r.Max == 99 {
		t.Error("Supported hands out the table itself")
	}
}

func TestRequestHeader(t *testing.T) {
	for _, api := range Supported() {
		for v := api.Min; v <= api.Max; v++ {
			for _, client := range []string{"", "c", strings.Repeat("x", 300)} {
				k := kmsg.RequestForKey(api.Key)
				k.SetVersion(v)
				frame := AppendRequestHeader(nil, api.Key, v, -77, client)
				want := kmsg.NewRequestFormatter(kmsg.FormatterClientID(client)).AppendRequest(nil, k, -77)
				if !bytes.HasPrefix(want[4:], frame[4:]) {
					t.Fatalf("key %d version %d: header %x, kmsg's frame %x", api.Key, v, frame, want)
				}
				frame = append(frame, "body"...)
				h, err := ParseRequestHeader(frame[FrameLengthBytes:])
				if err != nil || h.Key != api.Key || h.Version != v || h.CorrelationID != -77 || h.ClientID != client || string(h.Body) != "body" {
					t.Fatalf("key %d version %d: %+v, %v", api.Key, v, h, err)
				}
				for n := FrameLengthBytes; n < len(frame)-len("body"); n++ {
					if h, err := ParseRequestHeader(frame[FrameLengthBytes:n]); !errors.Is(err, ErrMalformed) {
						t.Fatalf("key %d version %d, header cut at %d: %+v, %v", api.Key, v, n, h, err)
					}
				}
			}
		}
	}
	// A null client id, and tagged fields in the header.
	h, err := ParseRequestHeader([]byte{0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff, 1, 9, 2, 'a', 'b', 'X'})
	if err != nil || h.ClientID != "" || string(h.Body) != "X" {
		t.Errorf("null client id and a tag: %+v, %v", h, err)
	}
	// Unknown keys and versions: the first eight bytes are enough.
	for _, kv := range [][2]int16{{18, 6}, {18, 99}, {18, -1}, {1, 3}, {500, 0}, {-1, 0}} {
		frame := binary.BigEndian.AppendUint16(nil, uint16(kv[0]))
		frame = binary.BigEndian.AppendUint16(frame, uint16(kv[1]))
		h, err := ParseRequestHeader(append(frame, 0, 0, 0, 7, 0xff))
		if err != nil || h.Key != kv[0] || h.Version != kv[1] || h.CorrelationID != 7 || h.ClientID != "" || len(h.Body) != 1 {
			t.Errorf("key %d version %d: %+v, %v", kv[0], kv[1], h, err)
		}
	}
}

func TestResponseHeader(t *testing.T) {
	for _, api := range Supported() {
		for v := api.ServedMin; v <= api.Max; v++ {
			want := []byte{0, 0, 0, 0, 0, 0, 0, 9}
			if v >= api.FlexibleFrom && api.Key != KeyApiVersions {
				want = append(want, 0)
			}
			got := AppendResponseHeader([]byte("f"), api.Key, v, 9)
			if !bytes.Equal(got[1:], want) {
				t.Errorf("key %d version %d: %x, want %x", api.Key, v, got[1:], want)
			}
			correlation, body, err := ParseResponseHeader(append(got[5:], 'b'), api.Key, v)
			if err != nil || correlation != 9 || string(body) != "b" {
				t.Errorf("key %d version %d: %d %q %v", api.Key, v, correlation, body, err)
			}
		}
	}
	if got := AppendResponseHeader(nil, KeyApiVersions, 99, 1); len(got) != 8 {
		t.Errorf("ApiVersions 99: %x", got)
	}
	frame := FinishFrame(AppendResponseHeader(nil, KeyProduce, 3, 1), 1000)
	if n := binary.BigEndian.Uint32(frame); n != 1004 {
		t.Errorf("frame length %d, want 1004", n)
	}
	if _, _, err := ParseResponseHeader([]byte{1, 2}, KeyProduce, 3); !errors.Is(err, ErrMalformed) {
		t.Errorf("short response header: %v", err)
	}
}

func TestUnservedVersions(t *testing.T) {
	var p ProduceRequest
	var f FetchRequest
	var pr ProduceResponse
	var fr FetchResponse
	for _, v := range []int16{-1, 0, 1, 2, 14, 99} {
		if !errors.Is(p.Decode(nil, v), ErrUnservedAPI) || !errors.Is(pr.Decode(nil, v), ErrUnservedAPI) {
			t.Errorf("Produce %d", v)
		}
	}
	for _, v := range []int16{-1, 0, 3, 19} {
		if !errors.Is(f.Decode(nil, v), ErrUnservedAPI) || !errors.Is(fr.Decode(nil, v), ErrUnservedAPI) {
			t.Errorf("Fetch %d", v)
		}
	}
	for _, k := range []kmsg.Request{kmsg.NewPtrProduceRequest(), kmsg.NewPtrFetchRequest(), kmsg.NewPtrLeaderAndISRRequest(),
		&kmsg.MetadataRequest{Version: 14}, &kmsg.CreateTopicsRequest{Version: 1}} {
		if err := DecodeRequest(k, nil); !errors.Is(err, ErrUnservedAPI) {
			t.Errorf("key %d version %d: %v", k.Key(), k.GetVersion(), err)
		}
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLyingLengthsAllocateNothing overwrites every place of valid messages with huge lengths, plain and compact.
func TestLyingLengthsAllocateNothing(t *testing.T) {
	rng := newRNG(t)
	lies := [][]byte{
		{0x7f, 0xff, 0xff, 0xff}, {0x00, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0x7f},
	}
	check := func(key, version int16, body []byte) {
		t.Helper()
		var p ProduceRequest
		var f FetchRequest
		var pr ProduceResponse
		var fr FetchResponse
		for at := range body {
			lie := lies[at%len(lies)]
			bad := bytes.Clone(body)
			copy(bad[at:], lie)
			got := allocated(func() {
				switch key {
				case KeyProduce:
					_, _ = p.Decode(bad, version), pr.Decode(bad, version)
				case KeyFetch:
					_, _ = f.Decode(bad, version), fr.Decode(bad, version)
				default:
					k := kmsg.RequestForKey(key)
					k.SetVersion(version)
					_ = DecodeRequest(k, bad)
				}
			})
			if most := uint64(64<<10 + 64*len(body)); got > most {
				t.Fatalf("key %d version %d, %x at byte %d of %d: %d bytes allocated, want at most %d", key, version, lie, at, len(body), got, most)
			}
		}
	}
	for _, api := range Supported() {
		for version := api.ServedMin; version <= api.Max; version++ {
			k := kmsg.RequestForKey(api.Key)
			fill(rng, reflect.ValueOf(k).Elem())
			k.SetVersion(version)
			check(api.Key, version, k.AppendTo(nil))
		}
	}
	for version := int16(fetchMin); version <= fetchMax; version++ {
		f, _ := randomFetchResponse(rng, version)
		check(KeyFetch, version, kmsgFetchResponse(f, version).AppendTo(nil))
	}
	for version := int16(produceMin); version <= produceMax; version++ {
		check(KeyProduce, version, randomProduceResponse(rng, version).AppendTo(nil, version))
	}
}

// TestHugeBodies holds the dearest bodies of the allowed size to account: arrays of the smallest elements.
func TestHugeBodies(t *testing.T) {
	body := binary.BigEndian.AppendUint32(nil, RequestBytesMax/2-2)
	body = append(body, make([]byte, RequestBytesMax-4)...) // so many empty names
	k := &kmsg.MetadataRequest{Version: 0}
	var err error
	got := allocated(func() { err = DecodeRequest(k, body) })
	if err != nil {
		t.Fatal(err)
	}
	if most := uint64(64 * len(body)); got > most {
		t.Errorf("%d bytes allocated for %d, want at most %d", got, len(body), most)
	}
	if err := DecodeRequest(k, make([]byte, RequestBytesMax+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("body beyond the limit: %v", err)
	}
	// Tagged fields, which kmsg keeps in maps: one more than allowed.
	body = append([]byte{1, 0, 0}, binary.AppendUvarint(nil, tagsMax+1)...)
	for i := range tagsMax + 1 {
		body = append(binary.AppendUvarint(body, uint64(i)), 0)
	}
	if err := DecodeRequest(&kmsg.MetadataRequest{Version: 11}, body); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d tags: %v", tagsMax+1, err)
	}
}

func TestNoAllocationInSteadyState(t *testing.T) {
	produced := []ProducePartition{{1, make([]byte, 500)}, {2, make([]byte, 500)}}
	req := &ProduceRequest{Acks: -1, Topics: []ProduceTopic{{"topic", [16]byte{1}, produced}}}
	outcome := []ProducePartitionResponse{{Partition: 1, BaseOffset: 5, LogAppendTimeMs: -1}}
	resp := &ProduceResponse{Topics: []ProduceTopicResponse{{Name: "topic", Partitions: outcome}}}
	wanted := []FetchPartition{NewFetchPartition(1, 2, 3)}
	fetch := &FetchRequest{ReplicaID: -1, ReplicaEpoch: -1, Topics: []FetchTopic{{Name: "topic", Partitions: wanted}}}
	found := []FetchPartitionResponse{{Partition: 1, RecordsBytes: 5}}
	fetched := &FetchResponse{Topics: []FetchTopicResponse{{Name: "topic", Partitions: found}}}
	for _, v := range [][2]int16{{3, 4}, {9, 12}, {13, 18}} {
		var buf []byte
		var cuts []int
		var p ProduceRequest
		var f FetchRequest
		var pr ProduceResponse
		var fr FetchResponse
		step := func() {
			buf = req.AppendFrame(buf[:0], v[0], 1, "client")
			h, err := ParseRequestHeader(buf[FrameLengthBytes:])
			if err = errors.Join(err, p.Decode(h.Body, h.Version)); err != nil {
				t.Fatal(err)
			}
			buf = resp.AppendFrame(buf[:0], v[0], 1)
			_, body, err := ParseResponseHeader(buf[FrameLengthBytes:], KeyProduce, v[0])
			if err = errors.Join(err, pr.Decode(body, v[0])); err != nil {
				t.Fatal(err)
			}
			buf = fetch.AppendFrame(buf[:0], v[1], 1, "client")
			h, err = ParseRequestHeader(buf[FrameLengthBytes:])
			if err = errors.Join(err, f.Decode(h.Body, h.Version)); err != nil {
				t.Fatal(err)
			}
			buf, cuts = fetched.AppendFrame(buf[:0], cuts[:0], v[1], 1)
			end := len(buf) // room for the records, and the rest moved behind them
			buf = append(buf, "12345"...)
			copy(buf[cuts[0]+5:], buf[cuts[0]:end])
			_, body, err = ParseResponseHeader(buf[FrameLengthBytes:], KeyFetch, v[1])
			if err = errors.Join(err, fr.Decode(body, v[1])); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("Produce %d and Fetch %d: %v allocations, want 0", v[0], v[1], n)
		}
		if p.Topics[0].Partitions[1].Partition != 2 || fr.Topics[0].Partitions[0].RecordsBytes != 5 {
			t.Fatal("decoded something else")
		}
	}
}

// TestProducePartitionsMax takes as many partitions as allowed, and refuses more before it makes room for them.
func TestProducePartitionsMax(t *testing.T) {
	body := func(topics, partitions int) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 1}, uint32(topics))
		for range topics {
			b = binary.BigEndian.AppendUint32(append(b, 0, 0), uint32(partitions))
			b = append(b, make([]byte, 8*partitions)...)
		}
		return b
	}
	var p ProduceRequest
	if err := p.Decode(body(1, ProducePartitionsMax), 3); err != nil {
		t.Errorf("%d partitions: %v", ProducePartitionsMax, err)
	}
	two := body(2, ProducePartitionsMax/2+1)
	if err := p.Decode(two, 3); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d partitions: got %v, want ErrMalformed", ProducePartitionsMax+2, err)
	}
	many := append(binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0, 1, 0, 0, 0, 1}, ProducePartitionsMax+1), make([]byte, 6*(ProducePartitionsMax+1))...)
	if got := allocated(func() { _ = p.Decode(many, 3) }); got > 1<<16 {
		t.Errorf("%d topics: %d bytes allocated before the refusal", ProducePartitionsMax+1, got)
	}
}
