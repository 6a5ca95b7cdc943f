package cluster

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// sampleRecords has one record of each kind.
func sampleRecords() []Record {
	return []Record{
		&ClusterRecord{ID: "cluster"},
		&TopicRecord{Name: "t", ID: TopicID{1, 2, 3}, Assignments: [][]int32{{1}, {1}, {2, 1}}, Configs: map[string]string{"a": "", "b": "c"}},
		&PartitionsRecord{Topic: TopicID{1}, Total: 300, Assignments: [][]int32{{0}}},
		&RemoveTopicRecord{Topic: TopicID{2}},
		&ForgetTopicRecord{Topic: TopicID{3}},
		&ConfigsRecord{Resource: Resource{ResourceBroker, "1"}, Version: 7, Configs: map[string]string{"k": "v"}},
		&ProducerIDsRecord{Node: 1, Count: 1000},
	}
}

func TestRecordsSurviveTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		for _, r := range rapid.SliceOfN(genRecord(), 0, 20).Draw(t, "records") {
			if checkLimits(r) == nil {
				records = append(records, r)
			}
		}
		b := appendRecords(nil, records)
		back, err := decodeRecords(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(appendRecords(nil, back), b) || len(back) != len(records) {
			t.Fatalf("%d records came back as %d others", len(records), len(back))
		}
	})
	back, err := decodeRecords(appendRecords(nil, sampleRecords()))
	if err != nil || !reflect.DeepEqual(back, sampleRecords()) {
		t.Errorf("samples came back as %v, %v", back, err)
	}
}

// TestRecordBytesAreFixed holds the encoding against bytes written down: the format may not drift.
func TestRecordBytesAreFixed(t *testing.T) {
	want := "\x01\x07" + // version, count
		"\x01\x09\x00\x07cluster" +
		"\x02\x23\x00\x01t\x01\x02\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x02\x01\x01\x01\x02\x02\x01\x02\x01a\x00\x01b\x01c" +
		"\x03\x17\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xac\x02\x01\x01\x01\x00" +
		"\x04\x11\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x05\x11\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x06\x0a\x00\x04\x011\x07\x01\x01k\x01v" +
		"\x07\x04\x00\x01\xe8\x07"
	if got := string(appendRecords(nil, sampleRecords())); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestDecodersRefuseEveryPrefixAndFlip(t *testing.T) {
	img := newImage()
	for _, r := range sampleRecords() {
		img, _ = Apply(img, r)
	}
	img = img.at(9, 2)
	records := appendRecords(nil, sampleRecords())
	file := appendSnapshot(nil, snapshot{image: img, voters: []uint64{2}})
	hard := appendHardState(nil, hardState{3, 2, 100})
	for _, c := range []struct {
		name   string
		good   []byte
		decode func([]byte) error
		flips  bool // a flipped bit must be seen
	}{
		{"records", records, func(b []byte) error { _, err := decodeRecords(b); return err }, false},
		{"snapshot", file, func(b []byte) error { _, err := decodeSnapshot(b); return err }, true},
		{"hard state", hard, func(b []byte) error { _, err := decodeHardState(b); return err }, true},
	} {
		if err := c.decode(c.good); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for n := range c.good {
			if err := c.decode(c.good[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: first %d of %d bytes: %v", c.name, n, len(c.good), err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.good), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: with a byte more: %v", c.name, err)
		}
		for bit := 0; c.flips && bit < 8*len(c.good); bit++ {
			bad := bytes.Clone(c.good)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := c.decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: bit %d flipped: %v", c.name, bit, err)
			}
		}
	}
}

// fuzzPartitionsMax keeps what a few bytes can ask for small: a million partitions take longer than the fuzzer's patience.
const fuzzPartitionsMax = 1000

func FuzzDecodeRecords(f *testing.F) {
	f.Add(appendRecords(nil, sampleRecords()))
	f.Add([]byte{recordsVersion, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(b)
		d.partitions = fuzzPartitionsMax
		records, err := d.records()
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		img := newImage()
		for _, r := range records {
			img, _ = Apply(img, r)
		}
		checkImage(t, img)
		again, err := decodeRecords(appendRecords(nil, records))
		if err != nil || !bytes.Equal(appendRecords(nil, again), appendRecords(nil, records)) {
			t.Fatalf("not a fixpoint: %v", err)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	img := newImage()
	for _, r := range sampleRecords() {
		img, _ = Apply(img, r)
	}
	f.Add(appendSnapshot(nil, snapshot{image: img.at(9, 2), voters: []uint64{2}})[snapshotHeaderBytes:])
	f.Fuzz(func(t *testing.T, body []byte) {
		d := newDecoder(body) // behind the CRC, which would hide the decoder from the fuzzer
		d.partitions = fuzzPartitionsMax
		s, err := d.snapshot()
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		checkImage(t, s.image)
		back, err := decodeSnapshot(appendSnapshot(nil, s))
		if err != nil || !back.image.Equal(s.image) {
			t.Fatalf("not a fixpoint: %v", err)
		}
	})
}

func FuzzDecodeHardState(f *testing.F) {
	f.Add(appendHardState(nil, hardState{3, 2, 100}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHardState(b)
		if err == nil && !bytes.Equal(appendHardState(nil, h), b) {
			t.Fatalf("%q was read as %+v", b, h)
		}
	})
}
