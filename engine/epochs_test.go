package engine

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirmq/weir/vfs"
)

func TestEpochEndOffsetFor(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	c, err := openEpochCache(fs, "e")
	if err != nil {
		t.Fatal(err)
	}
	if e, end := c.endOffsetFor(0, 99); e != -1 || end != -1 {
		t.Fatalf("empty: got %d, %d, want -1, -1", e, end)
	}
	c.assign(2, 10)
	c.assign(4, 20)
	c.assign(4, 25) // the same epoch goes on
	c.assign(7, 30)
	for _, x := range []struct {
		epoch, wantEpoch int32
		wantEnd          int64
	}{{-1, -1, -1}, {0, 0, 10}, {1, 1, 10}, {2, 2, 20}, {3, 2, 20}, {4, 4, 30}, {5, 4, 30}, {6, 4, 30}, {7, 7, 99}, {8, -1, -1}} {
		if e, end := c.endOffsetFor(x.epoch, 99); e != x.wantEpoch || end != x.wantEnd {
			t.Errorf("epoch %d: got %d, %d, want %d, %d", x.epoch, e, end, x.wantEpoch, x.wantEnd)
		}
	}
	for _, x := range []struct {
		offset int64
		want   int32
	}{{9, -1}, {10, 2}, {29, 4}, {30, 7}, {1000, 7}} {
		if got := c.epochAt(x.offset); got != x.want {
			t.Errorf("epoch at offset %d: got %d, want %d", x.offset, got, x.want)
		}
	}
}

func TestEpochTruncation(t *testing.T) {
	start := []epochEntry{{2, 10}, {4, 20}, {7, 30}}
	for _, x := range []struct {
		name string
		do   func(*epochCache) bool
		want []epochEntry
	}{
		{"end above all", func(c *epochCache) bool { return !c.truncateFromEnd(31) }, start},
		{"end at a start", func(c *epochCache) bool { return c.truncateFromEnd(30) }, start[:2]},
		{"end below all", func(c *epochCache) bool { return c.truncateFromEnd(0) }, nil},
		{"start below all", func(c *epochCache) bool { return !c.truncateFromStart(5) }, start},
		{"start at the first", func(c *epochCache) bool { return !c.truncateFromStart(10) }, start},
		{"start inside", func(c *epochCache) bool { return c.truncateFromStart(22) }, []epochEntry{{4, 22}, {7, 30}}},
		{"start above all", func(c *epochCache) bool { return c.truncateFromStart(50) }, []epochEntry{{7, 50}}},
		{"older epoch assigned", func(c *epochCache) bool { return c.assign(4, 40) }, []epochEntry{{2, 10}, {4, 40}}},
		{"older offset assigned", func(c *epochCache) bool { return c.assign(9, 15) }, []epochEntry{{2, 10}, {9, 15}}},
		{"unknown epoch", func(c *epochCache) bool { return !c.assign(-1, 99) }, start},
	} {
		c := &epochCache{}
		for _, e := range start {
			c.assign(e.Epoch, e.StartOffset)
		}
		if !x.do(c) {
			t.Errorf("%s: wrong word on whether it changed", x.name)
		}
		if !slices.Equal(c.load(), x.want) {
			t.Errorf("%s: got %v, want %v", x.name, c.load(), x.want)
		}
	}
}

// TestEpochCacheFile runs random changes and flushes; a crash gives the list of a flush that returned, or a later one.
func TestEpochCacheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem(vfs.MemOptions{})
		c, err := openEpochCache(fs, "e")
		if err != nil {
			t.Fatal(err)
		}
		var flushed []epochEntry
		t.Repeat(map[string]func(*rapid.T){
			"assign": func(t *rapid.T) {
				c.assign(int32(rapid.IntRange(0, 9).Draw(t, "epoch")), rapid.Int64Range(0, 99).Draw(t, "start"))
			},
			"truncateFromEnd":   func(t *rapid.T) { c.truncateFromEnd(rapid.Int64Range(0, 99).Draw(t, "end")) },
			"truncateFromStart": func(t *rapid.T) { c.truncateFromStart(rapid.Int64Range(0, 99).Draw(t, "start")) },
			"flush": func(t *rapid.T) {
				if err := c.flush(); err != nil {
					t.Fatal(err)
				}
				flushed = c.load()
			},
			"crash": func(t *rapid.T) {
				fs = fs.CrashClone(rapid.Uint64().Draw(t, "seed"), vfs.CrashRandom)
				if c, err = openEpochCache(fs, "e"); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(c.load(), flushed) {
					t.Fatalf("after a crash: got %v, want %v", c.load(), flushed)
				}
			},
			"": func(t *rapid.T) {
				l := c.load()
				for i := 1; i < len(l); i++ {
					if l[i].Epoch <= l[i-1].Epoch || l[i].StartOffset <= l[i-1].StartOffset {
						t.Fatalf("not ascending: %v", l)
					}
				}
				if c.dirty() && slices.Equal(l, flushed) && len(l) == 0 && len(flushed) == 0 {
					t.Fatal("empty list is dirty against an empty file")
				}
			},
		})
	})
}

func TestEpochCheckpointDamaged(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	if err := vfs.WriteFileAtomic(fs, "e", []byte("0\n2\n1 0\n1 5\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := openEpochCache(fs, "e"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
}

// TestFirstEpochIsOnDiskBelowTheRecoveryPoint: recovery reads batches from its point on only, or from the newest snapshot of the producers below it, which
// a roll writes. The epoch of those before must be in the file by then; the first epoch of a log is not written when it begins, as later ones are.
func TestFirstEpochIsOnDiskBelowTheRecoveryPoint(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	l := createTestLog(t, s, testTP, neverSync())
	for seq := range int32(3) {
		if seq == 2 {
			must(t, l.Roll())
		}
		if _, err := l.Append(producerTestBatch(7, 0, seq, false), AppendOptions{LeaderEpoch: 3}); err != nil {
			t.Fatal(err)
		}
	}
	must(t, l.Sync())
	awaitRest(t, s)
	must(t, s.Checkpoint())
	disk := mem.CrashClone(1, vfs.CrashLoseUnsynced)
	s.crash()
	s = openTestStore(t, testStoreOptions(disk))
	defer s.crash()
	l = s.Log(testTP)
	must(t, l.load())
	if got, want := l.epochs.load(), []epochEntry{{Epoch: 3, StartOffset: 0}}; !slices.Equal(got, want) {
		t.Errorf("leader epochs after a power cut: got %v, want %v", got, want)
	}
}
