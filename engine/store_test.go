package engine

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/vfs"
)

func TestStoreIdentity(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := testStoreOptions(fsys)
	o.ClusterID = ""
	s := openTestStore(t, o)
	id := s.ClusterID()
	if len(id) != 22 {
		t.Fatalf("cluster id: %q", id)
	}
	_, err := OpenStore(o)
	wantErr(t, err, ErrLocked)
	closeTestStore(t, s)
	o.ClusterID = "another"
	_, err = OpenStore(o)
	wantErr(t, err, ErrForeignDirectory)
	o.ClusterID, o.NodeID = "", 5
	_, err = OpenStore(o)
	wantErr(t, err, ErrForeignDirectory)
	o.NodeID = 0
	s = openTestStore(t, o)
	if s.ClusterID() != id {
		t.Fatalf("cluster id changed: %q, %q", s.ClusterID(), id)
	}
	mustAppend(t, createTestLog(t, s, testTP, neverSync()), testBatch(1, 1, 1))
	closeTestStore(t, s)
	// A directory with partitions and without its identity is not formatted over.
	must(t, fsys.Remove(filepath.Join(testDir, metaPropertiesName)))
	_, err = OpenStore(o)
	wantErr(t, err, ErrForeignDirectory)
}

func TestCreateAndDeleteLogs(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	for _, name := range []string{"", ".", "..", "a/b", "a b", strings.Repeat("x", 250)} {
		_, err := s.CreateLog(TopicPartition{name, 0}, TopicID{1}, LogConfig{})
		wantErr(t, err, ErrInvalidConfig)
	}
	_, err := s.CreateLog(testTP, TopicID{1}, LogConfig{SegmentBytes: 1})
	wantErr(t, err, ErrInvalidConfig)
	l := createTestLog(t, s, testTP, LogConfig{})
	if names, _ := fsys.List(testDir); strings.Contains(fmt.Sprint(names), "t-0") {
		t.Fatal("a partition without records has a directory")
	}
	res := mustAppend(t, l, testBatch(1, 1, 1))
	waitDurable(t, l, res.EndOffset)
	if same := createTestLog(t, s, testTP, LogConfig{RetentionMs: 5}); same != l || l.Config().RetentionMs != 5 {
		t.Fatal("creating an existing log gives another one")
	}
	_, err = s.CreateLog(testTP, TopicID{2}, LogConfig{})
	wantErr(t, err, ErrExists)
	s.crash()
	s = openTestStore(t, testStoreOptions(fsys))
	_, err = s.CreateLog(testTP, TopicID{2}, LogConfig{})
	wantErr(t, err, ErrExists)
	if id := s.Log(testTP).TopicID(); id != (TopicID{1}) {
		t.Fatalf("topic id: %v", id)
	}
	must(t, s.DeleteLog(testTP))
	wantErr(t, s.DeleteLog(testTP), ErrUnknownLog)
	// A new partition of that name is empty, whatever happens to the power.
	l, err = s.CreateLog(testTP, TopicID{2}, LogConfig{})
	must(t, err)
	if o := l.Offsets(); o != (Offsets{}) {
		t.Fatalf("offsets of the new partition: %+v", o)
	}
	for seed := range uint64(20) {
		clone := fsys.CrashClone(seed, vfs.CrashRandom)
		s := openTestStore(t, testStoreOptions(clone))
		if s.Log(testTP) != nil {
			t.Fatal("a deleted partition is back after a crash")
		}
		l, err := s.CreateLog(testTP, TopicID{2}, LogConfig{})
		must(t, err)
		must(t, l.load2())
		testkit.Eventually(t, "a start to finish a deletion", func() bool {
			names, err := clone.List(testDir)
			return err == nil && !strings.Contains(fmt.Sprint(names), deleteSuffix)
		})
		closeTestStore(t, s)
	}
	closeTestStore(t, s)
}

// TestCleanStartOpensNothing: a start after a clean stop is proportional to the partitions' number, not to what is in them.
func TestCleanStartOpensNothing(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	for i := range int32(20) {
		l := createTestLog(t, s, TopicPartition{"t", i}, LogConfig{SegmentBytes: 500})
		for range 10 {
			mustAppend(t, l, testBatch(1, 100, 1))
		}
	}
	closeTestStore(t, s)
	fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
	s = openTestStore(t, testStoreOptions(fsys))
	if n := fsys.Count(vfs.OpOpen | vfs.OpList | vfs.OpStat); n > 15 {
		t.Fatalf("a clean start of 20 partitions made %d opens, lists and stats", n)
	}
	if n := len(s.Logs()); n != 20 {
		t.Fatalf("logs: got %d, want 20", n)
	}
	for _, l := range s.Logs() {
		if o := l.Offsets(); o.LogEnd != 10 || o.Durable != 10 {
			t.Fatalf("%s: %+v", l.TopicPartition(), o)
		}
	}
	closeTestStore(t, s)
}

func TestRetention(t *testing.T) {
	c := clock.NewFake(time.UnixMilli(1_000_000))
	fsys := vfs.NewMem(vfs.MemOptions{Clock: c})
	o := testStoreOptions(fsys)
	o.Clock = c
	s := openTestStore(t, o)
	cfg := LogConfig{SegmentBytes: 1000, Fsync: ioqueue.PolicyNever, RetentionMs: 60_000, FileDeleteDelayMs: 10_000}
	l := createTestLog(t, s, testTP, cfg)
	var batches [][]byte
	for i := range 30 {
		b := testBatch(1, 300, 1_000_000+int64(i)*1000)
		mustAppend(t, l, b)
		batches = append(batches, b)
	}
	segments := len(l.segments())
	s.RunRetention()
	if o := l.Offsets(); o.LogStart != 0 {
		t.Fatalf("young segments were deleted: %+v", o)
	}
	// Readers keep what they hold.
	held, err := l.Read(0, ReadOptions{MaxBytes: 1})
	must(t, err)
	held, err = l.Read(0, ReadOptions{MaxBytes: 1, MinOneBatch: true})
	must(t, err)
	c.Advance(75 * time.Second)
	s.RunRetention()
	start := l.Offsets().LogStart
	if start < 10 || start > 16 || len(l.segments()) >= segments {
		t.Fatalf("log start after 75 s: %d, %d segments", start, len(l.segments()))
	}
	_, err = l.Read(start-1, ReadOptions{MaxBytes: 1000})
	wantErr(t, err, ErrOffsetOutOfRange)
	if got := readAll(t, l, start, ReadOptions{}); !bytes.Equal(got, bytes.Join(batches[start:], nil)) {
		t.Fatal("what is left is not what was written")
	}
	count := func(suffix string) (n int) {
		names, err := fsys.List(l.Dir())
		must(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, suffix) {
				n++
			}
		}
		return n
	}
	if count(deletedSuffix) == 0 {
		t.Fatal("files went before file.delete.delay.ms")
	}
	c.Advance(11 * time.Second)
	testkit.Eventually(t, "deleted files to go", func() bool { return count(deletedSuffix) == 0 })
	if got, err := spanBytes(&held); err != nil || !bytes.Equal(got, batches[0]) {
		t.Fatalf("a reader lost its segment: %v", err)
	}
	// By size: the active segment and what makes up the bytes asked for stay.
	cfg.RetentionBytes, cfg.RetentionMs = 2500, -1
	must(t, s.UpdateConfig(testTP, cfg))
	s.RunRetention()
	if size := l.Size(); size < 2500 || size > 3600 {
		t.Fatalf("size after retention by size: %d", size)
	}
	// All of it is old: the active segment is rolled and goes too.
	cfg.RetentionBytes, cfg.RetentionMs = -1, 1000
	must(t, s.UpdateConfig(testTP, cfg))
	c.Advance(time.Hour)
	s.RunRetention()
	if o := l.Offsets(); o.LogStart != 30 || o.LogEnd != 30 {
		t.Fatalf("offsets when all is old: %+v", o)
	}
	for _, clean := range []bool{false, true} {
		if clean {
			closeTestStore(t, s)
		} else {
			s.crash()
		}
		s = openTestStore(t, o)
		l = createTestLog(t, s, testTP, cfg)
		if o := l.Offsets(); o.LogStart != 30 || o.LogEnd != 30 {
			t.Fatalf("offsets after reopening: %+v", o)
		}
	}
	closeTestStore(t, s)
}

func TestRolls(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	defer closeTestStore(t, s)
	segments := func(cfg LogConfig, topic string, n int, batch func(i int) []byte) int {
		cfg.Fsync = ioqueue.PolicyNever
		l := createTestLog(t, s, TopicPartition{topic, 0}, cfg)
		for i := range n {
			mustAppend(t, l, batch(i))
		}
		return len(l.segments())
	}
	same := func(int) []byte { return testBatch(1, 100, 1000) }
	hourly := func(i int) []byte { return testBatch(1, 100, int64(i)*3_600_000) }
	for _, c := range []struct {
		name  string
		cfg   LogConfig
		n     int
		batch func(int) []byte
		want  int
	}{
		{"bytes", LogConfig{SegmentBytes: 2 * int64(len(same(0)))}, 10, same, 5},
		{"time", LogConfig{SegmentMs: 3_600_000 * 4}, 20, hourly, 4},
		{"index", LogConfig{IndexIntervalBytes: -1, IndexSizeMax: 10 * 12}, 21, hourly, 3},
		{"nothing", LogConfig{}, 20, same, 1},
	} {
		if got := segments(c.cfg, c.name, c.n, c.batch); got != c.want {
			t.Errorf("roll by %s: got %d segments, want %d", c.name, got, c.want)
		}
	}
}

// TestFewOpenFiles: many partitions work under a small cap of open files.
func TestFewOpenFiles(t *testing.T) {
	dir := t.TempDir()
	o := testStoreOptions(vfs.OS())
	o.Dirs, o.OpenFilesMax = []string{dir}, 8
	s := openTestStore(t, o)
	for round := range 3 {
		for i := range int32(40) {
			l := createTestLog(t, s, TopicPartition{"t", i}, LogConfig{SegmentBytes: 500})
			if res := mustAppend(t, l, testBatch(1, 200, int64(round))); res.BaseOffset != int64(round) {
				t.Fatalf("offset: %+v", res)
			}
		}
	}
	for i := range int32(40) {
		l := s.Log(TopicPartition{"t", i})
		waitDurable(t, l, 3)
		checkBatches(t, readAll(t, l, 0, ReadOptions{}))
	}
	if n := s.pool.Stats().Open; n > 60 {
		t.Fatalf("%d files are open", n)
	}
	closeTestStore(t, s)
	s = openTestStore(t, o)
	for _, l := range s.Logs() {
		checkBatches(t, readAll(t, l, 0, ReadOptions{}))
	}
	closeTestStore(t, s)
}

// TestBackgroundCheckpoints: the store writes recovery points by itself.
func TestBackgroundCheckpoints(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := testStoreOptions(fsys)
	o.CheckpointInterval = time.Millisecond
	s := openTestStore(t, o)
	l := createTestLog(t, s, testTP, LogConfig{})
	mustAppend(t, l, testBatch(5, 10, 1))
	path := filepath.Join(testDir, recoveryPointCheckpointName)
	testkit.Eventually(t, "a recovery point of 5", func() bool {
		points, err := readOffsetCheckpoint(fsys, path)
		return err == nil && points[testTP] == 5
	})
	closeTestStore(t, s)
}

// TestDiskWatermark: above it the oldest segments of limited logs go at once; unlimited and compacted logs keep theirs.
func TestDiskWatermark(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	o := testStoreOptions(mem)
	o.DiskLimits = func() DiskLimits { return DiskLimits{UsedMax: 0.5} }
	s := openTestStore(t, o)
	cfg := LogConfig{Fsync: ioqueue.PolicyNever, SegmentBytes: 100_000}
	old := createTestLog(t, s, TopicPartition{"old", 0}, cfg)
	young := createTestLog(t, s, TopicPartition{"young", 0}, cfg)
	cfg.RetentionMs = -1
	kept := createTestLog(t, s, TopicPartition{"kept", 0}, cfg)
	now := time.Now().UnixMilli()
	for i := range 40 {
		mustAppend(t, old, testBatch(1, 50_000, now-1_000_000+int64(i)))
		mustAppend(t, young, testBatch(1, 50_000, now-1000+int64(i)))
		mustAppend(t, kept, testBatch(1, 50_000, now-9_000_000))
	}
	used := func() int64 {
		u, err := mem.DiskUsage(testDir)
		must(t, err)
		return u.TotalBytes - u.FreeBytes
	}
	s.RunRetention()
	if o := old.Offsets(); o.LogStart != 0 {
		t.Fatalf("segments went without need: %+v", o)
	}
	// Snapshots and indexes of the rolls are written in the background and take space too.
	testkit.Eventually(t, "idle workers", func() bool { return s.DirStats()[0].Queue.Jobs == 0 })
	total := used()
	mem.SetCapacity(2 * (total - 300_000)) // 300,000 bytes above half
	s.RunRetention()
	if o := old.Offsets(); o.LogStart == 0 {
		t.Fatal("nothing went from a full disk")
	}
	if y, k := young.Offsets(), kept.Offsets(); y.LogStart != 0 || k.LogStart != 0 {
		t.Fatalf("the wrong logs lost segments (%d of %d bytes used): %+v, %+v", used(), total, y, k)
	}
	testkit.Eventually(t, "space", func() bool { return used() <= total-300_000 })
	closeTestStore(t, s)
}

// TestRetentionLeavesIdleLogsUnopened: after a clean start it looks at names and times only.
func TestRetentionLeavesIdleLogsUnopened(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(fsys))
	for i := range int32(3) {
		l := createTestLog(t, s, TopicPartition{"t", i}, LogConfig{SegmentBytes: 1000})
		for range 5 {
			mustAppend(t, l, testBatch(1, 500, time.Now().UnixMilli()))
		}
	}
	closeTestStore(t, s)
	s = openTestStore(t, testStoreOptions(fsys))
	defer closeTestStore(t, s)
	for i := range int32(3) {
		cfg := LogConfig{}
		if i == 1 {
			cfg.RetentionBytes = 600
		}
		must(t, s.UpdateConfig(TopicPartition{"t", i}, cfg))
	}
	s.RunRetention()
	for i := range int32(3) {
		if l := s.Log(TopicPartition{"t", i}); l.loaded.Load() != (i == 1) {
			t.Errorf("partition %d: loaded %t", i, l.loaded.Load())
		}
	}
	if o := s.Log(TopicPartition{"t", 1}).Offsets(); o.LogStart == 0 {
		t.Error("retention by size did nothing")
	}
}
