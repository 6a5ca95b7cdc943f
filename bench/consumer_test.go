package bench

import (
	"slices"
	"testing"

	"github.com/weirmq/weir/protocol"
)

// TestFetchNamesWhatMoved: within a session a fetch names the partitions that records came from, once each, and without one it names all.
func TestFetchNamesWhatMoved(t *testing.T) {
	c := &consumer{r: &run{spec: &Spec{}, topic: "t"}, parts: make([]fetchPartition, 5)}
	for i := range c.parts {
		c.parts[i] = fetchPartition{id: int32(10 + i), offset: int64(i)}
	}
	check := func(what string, want ...int32) {
		t.Helper()
		var req protocol.FetchRequest
		if err := req.Decode(c.request()[4+2+2+4+2+len(clientID):], fetchVersion); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got []int32
		for i := range req.Topics {
			for _, p := range req.Topics[i].Partitions {
				got = append(got, p.Partition)
				if offset := c.parts[p.Partition-10].offset; p.FetchOffset != offset {
					t.Errorf("%s: partition %d from offset %d, want %d", what, p.Partition, p.FetchOffset, offset)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: partitions %v, want %v", what, got, want)
		}
	}
	move := func(part int) {
		c.parts[part].offset += 100
		c.mark(&c.parts[part])
	}
	check("without a session", 10, 11, 12, 13, 14)
	check("without a session, the second", 11, 12, 13, 14, 10)
	c.session, c.epoch = 7, 1
	check("nothing has moved")
	move(3)
	move(1)
	move(3)
	check("two have moved", 13, 11)
	check("they are told")
	move(2)
	c.newSession()
	check("a session anew", 13, 14, 10, 11, 12)
	c.session, c.epoch = 8, 1
	check("that told all")
	move(2)
	check("the one that had moved moves again", 12)
}
