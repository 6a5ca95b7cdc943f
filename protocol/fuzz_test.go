package protocol

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzRequestFrame parses arbitrary frames as the broker does: header, then the body by key and version.
func FuzzRequestFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, api := range Supported() {
		for _, v := range []int16{api.ServedMin, api.Max} {
			k := kmsg.RequestForKey(api.Key)
			fill(rng, reflect.ValueOf(k).Elem())
			k.SetVersion(v)
			f.Add(AppendRequest(nil, 7, "client", k)[FrameLengthBytes:])
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err != nil {
			return
		}
		switch h.Key {
		case KeyProduce:
			var p ProduceRequest
			_ = p.Decode(h.Body, h.Version)
		case KeyFetch:
			var r FetchRequest
			_ = r.Decode(h.Body, h.Version)
		default:
			if k := kmsg.RequestForKey(h.Key); k != nil {
				k.SetVersion(h.Version)
				_ = DecodeRequest(k, h.Body)
			}
		}
	})
}

// FuzzProduceRequest checks that what decodes survives a round trip, and that kmsg reads the same bytes too.
func FuzzProduceRequest(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for v := int16(produceMin); v <= produceMax; v++ {
		k := kmsg.NewPtrProduceRequest()
		fill(rng, reflect.ValueOf(k).Elem())
		k.Version = v
		f.Add(v, k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var p, again ProduceRequest
		if p.Decode(body, version) != nil {
			return
		}
		k := kmsg.ProduceRequest{Version: version}
		if err := k.ReadFrom(body); err != nil || !sameProduce(&p, produceOf(&k)) {
			t.Fatalf("version %d: kmsg reads %+v (%v), we %+v", version, k, err, p)
		}
		h, err := ParseRequestHeader(p.AppendFrame(nil, version, 1, "")[FrameLengthBytes:])
		if err != nil || again.Decode(h.Body, version) != nil || !sameProduce(&p, &again) {
			t.Fatalf("version %d: %+v comes back as %+v, %v", version, p, again, err)
		}
	})
}

// FuzzFetchRequest does the same for Fetch.
func FuzzFetchRequest(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 3))
	for v := int16(fetchMin); v <= fetchMax; v++ {
		k := kmsg.NewPtrFetchRequest()
		fill(rng, reflect.ValueOf(k).Elem())
		k.Version = v
		f.Add(v, k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var r, again FetchRequest
		if r.Decode(body, version) != nil {
			return
		}
		first := r.AppendFrame(nil, version, 1, "")
		h, err := ParseRequestHeader(first[FrameLengthBytes:])
		if err != nil || again.Decode(h.Body, version) != nil || !bytes.Equal(first, again.AppendFrame(nil, version, 1, "")) {
			t.Fatalf("version %d: %+v comes back as %+v, %v", version, r, again, err)
		}
	})
}

// FuzzResponses feeds arbitrary bodies to the client's decoders.
func FuzzResponses(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 4))
	for v := int16(fetchMin); v <= fetchMax; v++ {
		r, _ := randomFetchResponse(rng, v)
		f.Add(v, kmsgFetchResponse(r, v).AppendTo(nil))
		f.Add(v, randomProduceResponse(rng, min(v, produceMax)).AppendTo(nil, min(v, produceMax)))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		var p ProduceResponse
		var r FetchResponse
		_, _ = p.Decode(body, version), r.Decode(body, version)
	})
}
