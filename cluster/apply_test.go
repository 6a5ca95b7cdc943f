package cluster

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// genRecord draws records that often meet each other: few names, few ids.
func genRecord() *rapid.Generator[Record] {
	id := rapid.Custom(func(t *rapid.T) TopicID { return TopicID{0: byte(rapid.IntRange(0, 12).Draw(t, "id"))} })
	names := rapid.SampledFrom([]string{"a", "b", "a.b", "a_b", "c", "..", "", "x/y", LogTopic, strings.Repeat("n", 250)})
	assignments := rapid.SliceOfN(rapid.SliceOfNDistinct(rapid.Int32Range(0, 5), 1, 3, rapid.ID[int32]), 0, 6)
	configs := rapid.MapOfN(rapid.SampledFrom([]string{"k1", "k2", "k3"}), rapid.StringN(0, 5, 20), 0, 3)
	return rapid.Custom(func(t *rapid.T) Record {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return &ClusterRecord{ID: rapid.StringN(0, 4, 16).Draw(t, "cluster")}
		case 1, 2, 3:
			return &TopicRecord{Name: names.Draw(t, "name"), ID: id.Draw(t, "id"), Assignments: assignments.Draw(t, "partitions"),
				Configs: configs.Draw(t, "configs")}
		case 4:
			return &PartitionsRecord{Topic: id.Draw(t, "id"), Total: rapid.Int32Range(0, 9).Draw(t, "total"),
				Assignments: assignments.Draw(t, "partitions")}
		case 5, 6:
			return &RemoveTopicRecord{Topic: id.Draw(t, "id")}
		case 7:
			return &ForgetTopicRecord{Topic: id.Draw(t, "id")}
		case 8:
			res := Resource{ResourceTopic, names.Draw(t, "name")}
			if rapid.Bool().Draw(t, "broker") {
				res = Resource{ResourceBroker, rapid.SampledFrom([]string{"", "1"}).Draw(t, "broker")}
			}
			return &ConfigsRecord{Resource: res, Version: rapid.Uint64Range(0, 2).Draw(t, "version"), Configs: configs.Draw(t, "configs")}
		default:
			return &ProducerIDsRecord{Node: 1, Count: rapid.Int32Range(1, producerIDsMax).Draw(t, "count")}
		}
	})
}

// checkImage holds an image against the rules that tie its parts together.
func checkImage(t rapid.TB, i *Image) {
	t.Helper()
	partitions, last, similar := 0, "", map[string]string{}
	for topic := range i.Topics() {
		if CheckTopicName(topic.Name) != nil || topic.Name <= last || len(topic.Partitions) == 0 {
			t.Fatalf("topic %q after %q with %d partitions", topic.Name, last, len(topic.Partitions))
		}
		last = topic.Name
		if i.Topic(topic.Name) != topic || i.TopicByID(topic.ID) != topic {
			t.Fatalf("topic %q is not found by its name and id", topic.Name)
		}
		if _, dead := i.RemovedTopic(topic.ID); dead {
			t.Fatalf("topic %q is removed", topic.Name)
		}
		if s, ok := similarName(topic.Name); ok {
			if other, clash := similar[s]; clash {
				t.Fatalf("topics %q and %q collide", topic.Name, other)
			}
			similar[s] = topic.Name
		}
		partitions += len(topic.Partitions)
	}
	if partitions != i.PartitionCount() || i.topics.count != i.topicIDs.count {
		t.Fatalf("%d partitions, says %d; %d names, %d ids", partitions, i.PartitionCount(), i.topics.count, i.topicIDs.count)
	}
	if got := maps.Collect(i.similar.all()); !maps.Equal(got, similar) {
		t.Fatalf("similar names: %v, want %v", got, similar)
	}
}

func TestApplyIsPureAndKeepsTheImageWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := newImage()
		everUsed := map[TopicID]bool{}
		for n, r := range rapid.SliceOfN(genRecord(), 0, 60).Draw(t, "records") {
			if checkLimits(r) != nil {
				continue
			}
			before := appendImage(nil, img)
			next, res := Apply(img, r)
			if !bytes.Equal(before, appendImage(nil, img)) {
				t.Fatalf("record %d (%#v) changed the old image", n, r)
			}
			if res.Err != nil && next != img {
				t.Fatalf("record %d (%#v) was refused (%v), but the image changed", n, r, res.Err)
			}
			if res.Err == nil && bytes.Equal(before, appendImage(nil, next)) {
				t.Fatalf("record %d (%#v) was accepted and changed nothing", n, r)
			}
			if again, res2 := Apply(img, r); !again.Equal(next) || fmt.Sprint(res.Err) != fmt.Sprint(res2.Err) {
				t.Fatalf("record %d (%#v) does not give the same twice", n, r)
			}
			if c, ok := r.(*TopicRecord); ok && res.Err == nil {
				if everUsed[c.ID] && img.topicIDs.count > 0 && img.TopicByID(c.ID) != nil {
					t.Fatalf("topic id %s was given twice", c.ID)
				}
				everUsed[c.ID] = true
			}
			checkImage(t, next)
			img = next.at(uint64(n)+1, 1)
		}
		back, err := decodeSnapshot(appendSnapshot(nil, snapshot{image: img, voters: []uint64{2}}))
		if err != nil {
			t.Fatal(err)
		}
		if !back.image.Equal(img) || !slices.Equal(back.voters, []uint64{2}) {
			t.Fatal("the snapshot's image is another")
		}
		checkImage(t, back.image)
	})
}

// TestApplyDecides has one case for each reason to accept or refuse.
func TestApplyDecides(t *testing.T) {
	one, two, three := TopicID{0: 1}, TopicID{0: 2}, TopicID{0: 3}
	own := [][]int32{{1}}
	base := newImage()
	for _, r := range []Record{
		&ClusterRecord{ID: "c"},
		&TopicRecord{Name: "have.it", ID: one, Assignments: [][]int32{{1}, {1}}},
		&TopicRecord{Name: "gone", ID: two, Assignments: own},
		&RemoveTopicRecord{Topic: two},
		&ConfigsRecord{Resource: Resource{ResourceBroker, "1"}, Configs: map[string]string{"a": "b"}},
	} {
		var res Result
		if base, res = Apply(base, r); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	f := func(want error, r Record) {
		t.Helper()
		_, res := Apply(base, r)
		if want == nil && res.Err != nil {
			t.Errorf("%T: %v", r, res.Err)
		}
		if want != nil {
			wantErr(t, fmt.Sprintf("%T", r), res.Err, want)
		}
	}
	f(ErrConflict, &ClusterRecord{ID: "d"})
	f(nil, &TopicRecord{Name: "new", ID: three, Assignments: own})
	f(nil, &TopicRecord{Name: "gone", ID: three, Assignments: own})
	f(ErrTopicExists, &TopicRecord{Name: "have.it", ID: three, Assignments: own})
	f(ErrInvalidTopicName, &TopicRecord{Name: "have_it", ID: three, Assignments: own})
	f(ErrInvalidTopicName, &TopicRecord{Name: "no/way", ID: three, Assignments: own})
	f(ErrInvalidTopicName, &TopicRecord{Name: LogTopic, ID: three, Assignments: own})
	f(ErrConflict, &TopicRecord{Name: "new", ID: one, Assignments: own})
	f(ErrConflict, &TopicRecord{Name: "new", ID: two, Assignments: own})
	f(ErrConflict, &TopicRecord{Name: "new", Assignments: own})
	f(ErrConflict, &TopicRecord{Name: "new", ID: logTopicID, Assignments: own})
	f(ErrInvalidPartitions, &TopicRecord{Name: "new", ID: three})
	f(ErrLimit, &TopicRecord{Name: "new", ID: three, Assignments: make([][]int32, partitionsMax-1)})
	f(nil, &PartitionsRecord{Topic: one, Total: 3, Assignments: own})
	f(ErrConflict, &PartitionsRecord{Topic: one, Total: 4, Assignments: own})
	f(ErrInvalidPartitions, &PartitionsRecord{Topic: one, Total: 2, Assignments: nil})
	f(ErrUnknownTopicID, &PartitionsRecord{Topic: two, Total: 2, Assignments: own})
	f(nil, &RemoveTopicRecord{Topic: one})
	f(ErrUnknownTopicID, &RemoveTopicRecord{Topic: two})
	f(nil, &ForgetTopicRecord{Topic: two})
	f(ErrUnknownTopicID, &ForgetTopicRecord{Topic: one})
	f(nil, &ConfigsRecord{Resource: Resource{ResourceTopic, "have.it"}})
	f(ErrConflict, &ConfigsRecord{Resource: Resource{ResourceTopic, "have.it"}, Version: 1})
	f(ErrUnknownTopic, &ConfigsRecord{Resource: Resource{ResourceTopic, "gone"}})
	f(nil, &ConfigsRecord{Resource: Resource{ResourceBroker, ""}})
	f(nil, &ConfigsRecord{Resource: Resource{ResourceBroker, "1"}, Version: 1})
	f(ErrConflict, &ConfigsRecord{Resource: Resource{ResourceBroker, "1"}})

	full := *base
	full.nextProducerID = producerIDEnd - 5
	if _, res := Apply(&full, &ProducerIDsRecord{Count: 5}); res.Err != nil || res.ProducerID != producerIDEnd-5 {
		t.Errorf("the last block: %v %v", res.ProducerID, res.Err)
	}
	_, res := Apply(&full, &ProducerIDsRecord{Count: 6})
	wantErr(t, "past the last block", res.Err, ErrLimit)
}

func TestCheckTopicName(t *testing.T) {
	for name, legal := range map[string]bool{
		"a": true, "A-z_0.9": true, "...": true, "-": true, strings.Repeat("x", 249): true, "__consumer_offsets": true,
		"": false, ".": false, "..": false, "a/b": false, "a b": false, "ä": false, "a\n": false, "a\x00": false, strings.Repeat("x", 250): false,
	} {
		if err := CheckTopicName(name); (err == nil) != legal {
			t.Errorf("%q: %v", name, err)
		}
	}
}
