package engine

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/compression"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

func TestOffsetMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newOffsetMap(rapid.Int64Range(0, 200).Draw(t, "keys"), rapid.Int64Range(0, 3000).Draw(t, "bytes"))
		model := map[string]int64{}
		for i := range rapid.Int64Range(0, 300).Draw(t, "n") {
			key := fmt.Sprint(rapid.IntRange(0, 150).Draw(t, "key"))
			_, known := model[key]
			ok := m.put([]byte(key), i)
			if !ok && (known || len(model) < m.countMax) {
				t.Fatalf("key %s refused with %d of %d keys", key, len(model), m.countMax)
			}
			if ok {
				model[key] = i
			}
		}
		if m.count != len(model) || m.count > m.countMax {
			t.Fatalf("count %d, want %d, at most %d", m.count, len(model), m.countMax)
		}
		for i := range 160 {
			want, ok := model[fmt.Sprint(i)]
			if !ok {
				want = -1
			}
			if got := m.get([]byte(fmt.Sprint(i))); got != want {
				t.Fatalf("key %d: got %d, want %d", i, got, want)
			}
		}
	})
	if m := newOffsetMap(math.MaxInt32, 1<<20); len(m.slots) > 1<<20 {
		t.Fatalf("%d bytes, want at most 1 MiB", len(m.slots))
	}
	if m := newOffsetMap(10, 1<<30); len(m.slots) > 1000 {
		t.Fatalf("%d bytes for 10 keys", len(m.slots))
	}
}

// TestCleaningKeepsTheNewestOfEachKey is the main property, over random logs: what the log means is the same before and after,
// what stays is byte for byte what was written, at its offset; no key is left twice; producers are known as before.
func TestCleaningKeepsTheNewestOfEachKey(t *testing.T) {
	seed := testkit.Seed(t, 1)
	for round := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed+round), func(t *testing.T) { checkCleaning(t, seed+round) })
	}
}

func checkCleaning(t *testing.T, seed uint64) {
	r := testkit.Rand(seed)
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.cfg.DeleteRetentionMs = 1000
	l.cfg.MinCleanableRatio = -1
	c := l.cleaner(fake)
	if r.IntN(3) == 0 {
		c.o.DedupeBytesMax = 200 // a few keys: many passes
	}
	for range 4 {
		nowMs := fake.Now().UnixMilli()
		l.fillRandom(r, 40+r.IntN(60), nowMs)
		l.settle(nowMs)
		before, written := readLog(t, fs)
		producers := l.producers.snapshotEntries()
		l.cleanAll(c)
		after, batches := readLog(t, fs)
		if got, want := latest(after), latest(before); !maps.Equal(got, want) {
			t.Fatalf("newest values after cleaning: got %v, want %v", got, want)
		}
		if got, want := batches[len(batches)-1].NextOffset(), written[len(written)-1].NextOffset(); got != want {
			t.Fatalf("the cleaned log ends at offset %d, want %d: a swap must end where its sources end", got, want)
		}
		checkSurvivors(t, before, after)
		checkProducers(t, batches, producers, nowMs)
		if names, _ := fs.List("p"); slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, cleanedSuffix) }) {
			t.Fatalf("left over: %v", names)
		}
		for _, report := range inspectAll(t, fs, "p", InspectOptions{Records: true}) {
			if report.Fault != nil && !strings.HasSuffix(report.Path, deletedSuffix) {
				t.Fatal(report.Fault)
			}
		}
		fake.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
}

// checkSurvivors: each record left is one that was there, and no key is left twice.
func checkSurvivors(t *testing.T, before, after []seenRecord) {
	t.Helper()
	was := map[int64]seenRecord{}
	for _, r := range before {
		was[r.offset] = r
	}
	keys := map[string]int64{}
	for _, r := range after {
		if r != was[r.offset] {
			t.Fatalf("offset %d: got %+v, was %+v", r.offset, r, was[r.offset])
		}
		if !r.committed {
			t.Fatalf("record of an aborted transaction left: %+v", r)
		}
		if other, ok := keys[r.key]; ok {
			t.Fatalf("key %s left at offsets %d and %d", r.key, other, r.offset)
		}
		keys[r.key] = r.offset
	}
}

// checkProducers: a restart that has nothing but the log learns the same producers, and no open transaction.
func checkProducers(t *testing.T, batches []record.Batch, want []snapshotEntry, nowMs int64) {
	t.Helper()
	s := newProducerState(producerOptions{})
	for _, b := range batches {
		p, ok, err := producerBatchOf(b)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			s.update(p, nowMs)
		}
	}
	if len(s.ongoing) != 0 {
		t.Fatalf("open transactions after cleaning: %+v", s.ongoing)
	}
	for _, w := range want {
		e := s.entries[w.ProducerID]
		if e == nil || e.epoch != w.Epoch || e.lastSequence() != w.LastSequence {
			t.Fatalf("producer %d after cleaning: got %+v, want epoch %d, sequence %d", w.ProducerID, e, w.Epoch, w.LastSequence)
		}
	}
}

func (l *fakeLog) put(codec compression.Codec, nowMs int64, kv ...any) {
	b := record.NewBuilder(codec)
	b.SetBaseOffset(l.end)
	for i := 0; i < len(kv); i += 2 {
		var value []byte
		if kv[i+1] != nil {
			value = []byte(kv[i+1].(string))
		}
		b.Append(nowMs, []byte(kv[i].(string)), value)
	}
	l.append(b.Finish(nil))
}

func TestTombstonesLiveUntilTheirHorizon(t *testing.T) {
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.cfg.DeleteRetentionMs = 10_000
	c := l.cleaner(fake)
	now := func() int64 { return fake.Now().UnixMilli() }
	first := now()
	l.put(compression.Lz4, first, "a", "1", "b", "1")
	l.put(compression.Zstd, first, "a", nil, "c", "1")
	l.settle(now())
	count := func(key string) (n int) {
		seen, _ := readLog(t, fs)
		for _, r := range seen {
			if r.key == key {
				n++
				if r.timestamp != first {
					t.Errorf("key %s: timestamp %d, want %d", key, r.timestamp, first)
				}
			}
		}
		return n
	}
	horizon := func(offset int64) (int64, bool) {
		_, batches := readLog(t, fs)
		for _, b := range batches {
			if b.BaseOffset() <= offset && offset <= b.LastOffset() {
				return b.FirstTimestamp(), b.HasDeleteHorizon()
			}
		}
		return 0, false
	}
	if l.cleanAll(c) != 1 || count("a") != 1 {
		t.Fatalf("after the first cleaning: %d records of the deleted key, want the tombstone", count("a"))
	}
	if h, ok := horizon(2); !ok || h != first+10_000 {
		t.Fatalf("delete horizon: got %d, %v, want %d", h, ok, first+10_000)
	}
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{9 * time.Second, 1}, {time.Second, 0}} {
		fake.Advance(step.wait)
		l.put(compression.None, first, "c", fmt.Sprint(step.wait)) // the batch of the tombstone is written anew
		l.settle(now())
		l.cfg.MinCleanableRatio = -1
		if l.cleanAll(c) != 1 || count("a") != step.want {
			t.Fatalf("after another %v: %d records of the deleted key, want %d", step.wait, count("a"), step.want)
		}
		if step.want == 1 {
			if h, _ := horizon(2); h != first+10_000 {
				t.Fatalf("the horizon moved to %d", h)
			}
		}
	}
	if count("b") != 1 || count("c") != 1 {
		t.Fatal("living keys were lost")
	}
}

func TestMarkersLiveUntilTheirTransactionIsGone(t *testing.T) {
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.cfg.DeleteRetentionMs = 1000
	l.cfg.MinCleanableRatio = -1
	c := l.cleaner(fake)
	txn := func(id int64, key string, commit bool) {
		b := record.NewBuilder()
		b.SetBaseOffset(l.end)
		b.SetProducer(id, 0, 0)
		b.SetTransactional(true)
		b.Append(fake.Now().UnixMilli(), []byte(key), []byte(fmt.Sprint(id)))
		l.append(b.Finish(nil))
		l.append(buildMarker(l.end, id, 0, commit))
	}
	markers := func() (ids []int64) {
		_, batches := readLog(t, fs)
		for _, b := range batches {
			if b.IsControl() {
				ids = append(ids, b.ProducerID())
			}
		}
		return ids
	}
	again := func() {
		t.Helper()
		l.put(compression.None, 0, "other", fmt.Sprint(l.end))
		l.settle(0)
		if l.cleanAll(c) != 1 {
			t.Fatal("not cleaned")
		}
	}
	txn(1, "a", true)
	txn(2, "b", false)
	txn(3, "c", true)
	l.put(compression.None, 0, "a", "newer")
	l.settle(0)
	l.producers.clear() // all producers expired: their batches need not stay
	l.cleanAll(c)
	if got := markers(); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Fatalf("markers of producers %v left, want all: their data was there", got)
	}
	seen, _ := readLog(t, fs)
	if m := latest(seen); m["c"] != "3" || m["a"] != "newer" || len(m) != 2 {
		t.Fatalf("got %v", m)
	}
	again() // the data of 1 and 2 is gone: their markers get a horizon
	if got := markers(); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Fatalf("markers of producers %v left, want all until their horizon", got)
	}
	fake.Advance(2 * time.Second)
	again()
	if got := markers(); !slices.Equal(got, []int64{3}) {
		t.Fatalf("markers of producers %v left, want that of 3 only, whose data is alive", got)
	}
}

func TestCleanableRange(t *testing.T) {
	fake := testClock()
	nowMs := fake.Now().UnixMilli()
	build := func() (*fakeLog, *cleaner) {
		l := newFakeLog(t, vfs.NewMem(vfs.MemOptions{}))
		for i := range 6 {
			l.put(compression.None, nowMs-int64(6-i)*1000, "a", "1")
			l.must(l.Roll())
		}
		return l, l.cleaner(fake)
	}
	l, c := build()
	job, err := c.assess(l, nowMs)
	if err != nil || job == nil || job.firstDirty != 0 || job.end != 6 || job.ratio != 1 || job.forced {
		t.Fatalf("all dirty: got %+v, %v", job, err)
	}
	l.cfg.MinCompactionLagMs = 3500
	if job, err = c.assess(l, nowMs); err != nil || job == nil || job.end != 3 {
		t.Fatalf("min.compaction.lag.ms: got %+v, %v, want the end at offset 3", job, err)
	}
	l.cfg.MinCompactionLagMs = 0
	c.mu.dirty["."] = map[TopicPartition]int64{l.TopicPartition(): 4}
	if job, err = c.assess(l, nowMs); err != nil || job != nil {
		t.Fatalf("a third dirty: got %+v, %v, want nothing to do", job, err)
	}
	l.cfg.MinCleanableRatio = 0.3
	if job, err = c.assess(l, nowMs); err != nil || job == nil || job.firstDirty != 4 || job.ratio < 0.33 || job.ratio > 0.34 {
		t.Fatalf("a third dirty, min.cleanable.dirty.ratio=0.3: got %+v, %v", job, err)
	}
	l.cfg.MinCleanableRatio, l.cfg.MaxCompactionLagMs = 0.5, 1500
	if job, err = c.assess(l, nowMs); err != nil || job == nil || !job.forced {
		t.Fatalf("max.compaction.lag.ms: got %+v, %v, want a forced job", job, err)
	}
	l.cfg.MaxCompactionLagMs = 2500
	if job, err = c.assess(l, nowMs); err != nil || job != nil {
		t.Fatalf("max.compaction.lag.ms not over: got %+v, %v", job, err)
	}
	rolls := l.rolls
	l.put(compression.None, nowMs-5000, "b", "1")
	if job, err = c.assess(l, nowMs); err != nil || job == nil || l.rolls != rolls+1 || job.end != 7 || !job.forced {
		t.Fatalf("an old active segment: got %+v, %v, %d rolls", job, err, l.rolls-rolls)
	}
	c.mu.dirty["."][l.TopicPartition()] = 999 // of another history
	if job, err = c.assess(l, nowMs); err != nil || job == nil || job.firstDirty != 0 {
		t.Fatalf("checkpoint beyond the log: got %+v, %v, want everything dirty", job, err)
	}

	l, c = build() // an open transaction bounds the range
	b := record.NewBuilder()
	b.SetBaseOffset(l.end)
	b.SetProducer(1, 0, 0)
	b.SetTransactional(true)
	b.Append(nowMs, []byte("t"), []byte("1"))
	l.append(b.Finish(nil))
	l.must(l.Roll())
	l.put(compression.None, nowMs, "a", "2")
	l.must(l.Roll())
	if job, err = c.assess(l, nowMs); err != nil || job == nil || job.end != 6 {
		t.Fatalf("open transaction at offset 6: got %+v, %v", job, err)
	}
}

func TestCleanerMergesSegmentsAndLeavesCleanOnes(t *testing.T) {
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	for i := range 40 {
		l.put(compression.None, 0, fmt.Sprint("key-", i), strings.Repeat("x", 50))
		l.must(l.Roll())
	}
	l.settle(0)
	c := l.cleaner(fake)
	l.cleanAll(c)
	if n := len(l.segs); n > 8 || n < 2 {
		t.Fatalf("40 small segments became %d, want a few of up to %d bytes", n, l.cfg.SegmentBytes)
	}
	for _, s := range l.segs {
		if s.size.Load() > l.cfg.SegmentBytes {
			t.Fatalf("segment of %d bytes, want at most %d", s.size.Load(), l.cfg.SegmentBytes)
		}
	}
	// Nothing changes in full, clean segments: they are not replaced.
	replaced := c.stats.SegmentsReplaced.Load()
	full := slices.Clone(l.segs[:len(l.segs)-3])
	l.cfg.MinCleanableRatio = -1
	l.put(compression.None, 0, "new", "1")
	l.settle(0)
	if l.cleanAll(c) != 1 || c.stats.SegmentsReplaced.Load() > replaced+4 {
		t.Fatalf("%d segments replaced for one new key", c.stats.SegmentsReplaced.Load()-replaced)
	}
	if !slices.Equal(full, l.segs[:len(full)]) {
		t.Fatal("segments without any change were replaced")
	}
}

func TestCleaningStopsAndFails(t *testing.T) {
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.fillRandom(testkit.Rand(3), 50, 0)
	l.settle(0)
	c := l.cleaner(fake)
	l.beforeSwap = func() { l.segs[0] = nil } // retention took it
	if !c.cleanFilthiest() || len(c.retryAt) != 1 || c.stats.Failures.Load() != 0 {
		t.Fatalf("segments gone under the cleaner: %d failures, %d to retry", c.stats.Failures.Load(), len(c.retryAt))
	}

	fs = vfs.NewMem(vfs.MemOptions{})
	l = newFakeLog(t, fs)
	l.fillRandom(testkit.Rand(3), 50, 0)
	l.settle(0)
	c = l.cleaner(fake)
	if _, err := l.segs[1].file.WriteAt([]byte{0xff}, record.HeaderBytes+3); err != nil {
		t.Fatal(err)
	}
	if !c.cleanFilthiest() || l.err == nil || c.stats.Failures.Load() != 1 {
		t.Fatalf("rotten segment: got %v, want the log to hear of it", l.err)
	}
	if names, _ := fs.List("p"); slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, cleanedSuffix) }) {
		t.Fatalf("left over: %v", names)
	}
	l.err = nil
	if c.cleanFilthiest() {
		t.Fatal("tried again at once")
	}
	fake.Advance(cleanerRetryAfter)
	if !c.cleanFilthiest() {
		t.Fatal("never tried again")
	}

	l.err = nil
	fake.Advance(cleanerRetryAfter)
	close(c.quit)
	c.cleanFilthiest()
	if l.err != nil {
		t.Fatalf("stopped: got %v, want no error of the log", l.err)
	}
}

func TestThrottle(t *testing.T) {
	fake := testClock()
	quit := make(chan struct{})
	th := throttle{clock: fake, bytesPerSecond: 1000, quit: quit}
	if err := th.spend(5); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- th.spend(2000) }()
	testkit.Eventually(t, "the throttle to wait", func() bool { return fake.Pending() > 0 })
	fake.Advance(1900 * time.Millisecond)
	select {
	case <-done:
		t.Fatal("2,005 bytes at 1,000 a second went through in 1.9 s")
	default:
	}
	fake.Advance(200 * time.Millisecond)
	if err := testkit.Receive(t, "the throttle to end", done); err != nil {
		t.Fatal(err)
	}
	go func() { done <- th.spend(1 << 20) }()
	testkit.Eventually(t, "the throttle to wait", func() bool { return fake.Pending() > 0 })
	close(quit)
	if err := testkit.Receive(t, "the throttle to end", done); err != errCleaningStopped {
		t.Fatalf("got %v, want errCleaningStopped", err)
	}
}

func TestCleanerRuns(t *testing.T) {
	fake := testClock()
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.fillRandom(testkit.Rand(5), 50, 0)
	l.settle(0)
	c := l.cleaner(fake)
	c.start()
	testkit.Eventually(t, "the cleaner to wait", func() bool { return fake.Pending() > 0 })
	fake.Advance(c.o.Backoff)
	testkit.Eventually(t, "a cleaning", func() bool { return c.stats.Cleanings.Load() > 0 })
	c.poke()
	c.stop()
}

// TestCleanedSegmentEndsWhereItsSourcesEnd: recovery removes what a swap file's offsets cover, so that they must cover
// a last source of which no record is left.
func TestCleanedSegmentEndsWhereItsSourcesEnd(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.cfg.SegmentBytes = 200
	for _, key := range []string{"x", "y", "z", "y", "u", "v"} {
		l.put(compression.None, 0, key, fmt.Sprint(l.end))
		l.must(l.Roll())
	}
	if l.cleanAll(l.cleaner(testClock())) != 1 || len(l.segs) != 4 || l.segs[1].base != 2 {
		t.Fatalf("cleaned into %d segments, want 3 of two each", len(l.segs)-1)
	}
	if end, err := nextOffsetOf(fs, l.segs[0].path(), 0); err != nil || end != 2 {
		t.Fatalf("first segment ends at %d, %v, want 2, though the record at 1 is gone", end, err)
	}
}

// TestCleanerForgetsWhatIsCutOff: a log that is truncated, or deleted and created again, is dirty from there on.
func TestCleanerForgetsWhatIsCutOff(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	l := newFakeLog(t, fs)
	l.fillRandom(testkit.Rand(9), 30, 0)
	l.settle(0)
	c := l.cleaner(testClock())
	l.cleanAll(c)
	tp := l.TopicPartition()
	check := func(want int64) {
		t.Helper()
		m, err := readOffsetCheckpoint(fs, cleanerOffsetCheckpointName)
		if got, ok := m[tp]; err != nil || ok != (want >= 0) || (ok && got != want) {
			t.Fatalf("checkpoint: got %v, %v, want %d", m, err, want)
		}
		if got := c.firstDirty(l, 0, l.end); got != max(want, 0) {
			t.Fatalf("first dirty offset: got %d, want %d", got, want)
		}
	}
	check(l.end)
	for _, step := range []struct{ to, want int64 }{{1 << 40, l.end}, {7, 7}, {9, 7}, {-1, -1}, {-1, -1}} {
		if err := c.cutBack(".", tp, step.to); err != nil {
			t.Fatal(err)
		}
		check(step.want)
	}
	l.err = ErrClosed
	if err := c.advanceTo(l, 5); !errors.Is(err, errCleaningStopped) {
		t.Fatalf("a pass that ends after the deletion: got %v, want errCleaningStopped", err)
	}
	check(-1)
	if err := (*cleaner)(nil).cutBack(".", tp, -1); err != nil {
		t.Fatal(err)
	}
}
