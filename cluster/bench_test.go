package cluster

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/vfs"
)

// BenchmarkPipelinedTopics has 10,000 creations in flight at once, on the disk of the temporary directory. One op is all of them.
func BenchmarkPipelinedTopics(b *testing.B) {
	const count = 10_000
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		so := storeOptions(vfs.OS())
		so.Dirs = []string{dir}
		store, err := engine.OpenStore(so)
		if err != nil {
			b.Fatal(err)
		}
		n, err := Start(Options{NodeID: 1, Store: store, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		done := make(chan error, count)
		for i := range count {
			id, err := n.newTopicID()
			if err != nil {
				b.Fatal(err)
			}
			n.Submit([]Record{&TopicRecord{Name: fmt.Sprintf("topic-%05d", i), ID: id, Assignments: n.ownAssignments(1)}},
				func(_ []Result, err error) { done <- err })
		}
		for range count {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if n.Image().TopicCount() != count {
			b.Fatalf("%d topics", n.Image().TopicCount())
		}
		n.Stop()
		if err := store.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10k")
}

// BenchmarkApplyTopic is the pure part of one creation in an image of 10,000 topics.
func BenchmarkApplyTopic(b *testing.B) {
	img := imageOf(b, 10_000)
	r := &TopicRecord{Name: "new.topic", ID: TopicID{15: 9}, Assignments: [][]int32{{1}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, res := Apply(img, r); res.Err != nil {
			b.Fatal(res.Err)
		}
	}
}

// BenchmarkTopicByName is what Produce and Fetch pay for each topic.
func BenchmarkTopicByName(b *testing.B) {
	for _, topics := range []int{10, 10_000} {
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			img := imageOf(b, topics)
			b.ReportAllocs()
			for b.Loop() {
				if img.Topic("topic-00007") == nil {
					b.Fatal("not there")
				}
			}
		})
	}
}

func imageOf(tb testing.TB, topics int) *Image {
	img := newImage()
	for i := range topics {
		var res Result
		r := &TopicRecord{Name: fmt.Sprintf("topic-%05d", i), ID: TopicID{1, byte(i), byte(i >> 8)}, Assignments: [][]int32{{1}}}
		if img, res = Apply(img, r); res.Err != nil {
			tb.Fatal(res.Err)
		}
	}
	return img
}
