package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/internal/testkit"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// spaceStore is a store on a disk whose free space the test sets.
type spaceStore struct {
	*Store
	t    *testing.T
	mem  *vfs.Mem
	logs *bytes.Buffer // written on the test's goroutine only, as far as disk space is meant
}

func openSpaceStore(t *testing.T, limits DiskLimits) *spaceStore {
	t.Helper()
	s := &spaceStore{t: t, mem: vfs.NewMem(vfs.MemOptions{}), logs: &bytes.Buffer{}}
	o := testStoreOptions(s.mem)
	o.DiskLimits = func() DiskLimits { return limits }
	o.Logger = slog.New(slog.NewTextHandler(s.logs, nil))
	s.Store = openTestStore(t, o)
	return s
}

// free leaves so many bytes free and measures.
func (s *spaceStore) free(bytes int64) {
	s.t.Helper()
	testkit.Eventually(s.t, "idle workers", func() bool { return s.DirStats()[0].Queue.Jobs == 0 })
	u, err := s.mem.DiskUsage(testDir)
	must(s.t, err)
	s.mem.SetCapacity(u.TotalBytes - u.FreeBytes + bytes)
	s.checkDisks()
}

func (s *spaceStore) space() SpaceStats { return s.DirStats()[0].Space }

const mib = 1 << 20

// TestDiskSpaceStates: producers slow down, are refused and go on as space goes and comes; everything else goes on throughout.
func TestDiskSpaceStates(t *testing.T) {
	s := openSpaceStore(t, DiskLimits{ThrottleFree: 16 * mib, Reserve: 8 * mib, ThrottleMax: time.Second})
	defer closeTestStore(t, s.Store)
	l := createTestLog(t, s.Store, testTP, neverSync())
	sequenced := func(seq int32) error {
		_, err := l.Append(producerTestBatch(7, 0, seq, false), AppendOptions{})
		return err
	}
	must(t, sequenced(0))
	f := func(what string, free int64, delay time.Duration, st SpaceStats) {
		t.Helper()
		s.free(free)
		if got := l.Throttle(); got < delay-10*time.Millisecond || got > delay+10*time.Millisecond {
			t.Errorf("%s: throttle got %v, want %v", what, got, delay)
		}
		if got := s.space(); got.Throttled != st.Throttled || got.Refused != st.Refused {
			t.Errorf("%s: got %+v, want %+v", what, got, st)
		}
	}
	f("plenty", 64*mib, 0, SpaceStats{})
	f("at the mark", 16*mib, 0, SpaceStats{})
	f("half way", 12*mib, 500*time.Millisecond, SpaceStats{Throttled: true})
	must(t, sequenced(1))
	f("nearly at the reserve", 8*mib+1, time.Second, SpaceStats{Throttled: true})
	must(t, sequenced(2)) // the reserve may be touched by what was admitted above it
	f("in the reserve", 8*mib-1, time.Second, SpaceStats{Refused: true})

	wantErr(t, sequenced(3), ErrNoSpace)
	if err := sequenced(2); err != nil {
		t.Errorf("a repeat of what is written: %v", err)
	}
	if _, err := l.Append(testBatch(1, 10, 1), AppendOptions{Origin: OriginInternal}); err != nil {
		t.Errorf("the broker's own batch: %v", err)
	}
	if got := readAll(t, l, 0, ReadOptions{}); len(got) == 0 {
		t.Error("reads do not go on")
	}
	must(t, s.Checkpoint())
	if got := s.space().RefusedAppends; got != 1 {
		t.Errorf("refused appends: got %d, want 1", got)
	}

	f("a little above the reserve", 8*mib+1, time.Second, SpaceStats{Refused: true})
	f("above it", 10*mib, 750*time.Millisecond, SpaceStats{Throttled: true})
	must(t, sequenced(3))
	f("a little above the mark", 16*mib+1, 0, SpaceStats{Throttled: true})
	f("space", 20*mib, 0, SpaceStats{})
	for _, want := range []string{"producers are slowed down", "producers are refused", "records are taken", "run at full speed"} {
		if n := strings.Count(s.logs.String(), want); n != 1 {
			t.Errorf("log lines with %q: got %d, want 1\n%s", want, n, s.logs)
		}
	}
}

// TestReserveBetweenMeasurements: what is appended counts at once, so that nobody runs through the reserve before the next look at the disk.
func TestReserveBetweenMeasurements(t *testing.T) {
	s := openSpaceStore(t, DiskLimits{ThrottleFree: 4 * mib, Reserve: 2 * mib, ThrottleMax: time.Second})
	defer closeTestStore(t, s.Store)
	l := createTestLog(t, s.Store, testTP, neverSync())
	s.free(5 * mib)
	batch := testBatch(1, 100_000, 1)
	written, delay := 0, time.Duration(0)
	for {
		_, err := l.Append(bytes.Clone(batch), AppendOptions{})
		if err != nil {
			wantErr(t, err, ErrNoSpace)
			break
		}
		written += len(batch)
		if now := l.Throttle(); now < delay {
			t.Fatalf("the delay shrank from %v to %v", delay, now)
		} else {
			delay = now
		}
		if written > 4*mib {
			t.Fatal("the reserve was written to")
		}
	}
	if written < 3*mib-len(batch) || delay < 900*time.Millisecond {
		t.Errorf("refused after %d bytes with a delay of %v, want about %d and 1 s", written, delay, 3*mib)
	}
}

// TestDiskLimitsBySize: negative marks follow the size of the file system.
func TestDiskLimitsBySize(t *testing.T) {
	auto := DiskLimits{ThrottleFree: -1, Reserve: -1, ThrottleMax: 1}
	f := func(limits DiskLimits, total, mark, reserve int64) {
		t.Helper()
		v := limits.measured(vfs.Usage{TotalBytes: total, FreeBytes: total}, 0)
		if v.mark != mark || v.reserve != reserve {
			t.Errorf("%+v of %d bytes: got %d and %d, want %d and %d", limits, total, v.mark, v.reserve, mark, reserve)
		}
	}
	f(auto, 1000*mib, 50*mib, 10*mib)
	f(auto, 1<<44, 4<<30, 1<<30)
	f(DiskLimits{ThrottleFree: 7, Reserve: 9, ThrottleMax: 1}, 1<<40, 9, 9)
	f(DiskLimits{ThrottleFree: 7, Reserve: 3}, 1<<40, 3, 3) // no throttling
	f(DiskLimits{}, 1<<40, 0, 0)
}

// TestDeletionBeforeThrottling: where old segments may go early, they go before producers have to wait, oldest first; not those of
// compacted or unlimited topics, nor the active segment.
func TestDeletionBeforeThrottling(t *testing.T) {
	s := openSpaceStore(t, DiskLimits{UsedMax: 0.999, ThrottleFree: 4 * mib, Reserve: 1 * mib, ThrottleMax: time.Second})
	defer closeTestStore(t, s.Store)
	cfg := LogConfig{Fsync: ioqueue.PolicyNever, SegmentBytes: 600_000}
	deletable := createTestLog(t, s.Store, TopicPartition{"deletable", 0}, cfg)
	cfg.Cleanup = CleanupCompact
	compacted := createTestLog(t, s.Store, TopicPartition{"compacted", 0}, cfg)
	cfg.Cleanup = CleanupCompact | CleanupDelete
	both := createTestLog(t, s.Store, TopicPartition{"both", 0}, cfg)
	for range 20 {
		for _, l := range []*Log{deletable, compacted, both} {
			mustAppend(t, l, testBatch(1, 250_000, time.Now().UnixMilli()))
		}
	}
	s.free(2 * mib) // two MiB below the mark, far from 99.9 %
	if o := deletable.Offsets(); o.LogStart == 0 || o.LogStart > 12 {
		t.Errorf("log start after 2 MiB too much: %+v", o)
	}
	testkit.Eventually(t, "space", func() bool { s.checkDisks(); return !s.space().Throttled && !s.space().AboveUsedMax })
	if d := deletable.Throttle(); d != 0 {
		t.Errorf("still throttled: %v", d)
	}
	s.free(mib / 2) // in the reserve
	testkit.Eventually(t, "all that may go", func() bool { s.checkDisks(); return len(deletable.segments()) == 1 })
	if c, b := compacted.Offsets(), both.Offsets(); c.LogStart != 0 || b.LogStart != 0 {
		t.Errorf("compacted topics lost segments: %+v, %+v", c, b)
	}
	if o := deletable.Offsets(); o.LogStart >= o.LogEnd {
		t.Errorf("the active segment went: %+v", o)
	}
	if st := s.space(); st.DeletedSegments < 5 || st.DeletedBytes < 4*mib {
		t.Errorf("counters: %+v", st)
	}
}

// TestUnknownConfigurationDeletesNothing: until somebody names a log's configuration, the default one takes no records away.
func TestUnknownConfigurationDeletesNothing(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s := openTestStore(t, testStoreOptions(mem))
	keep := LogConfig{Fsync: ioqueue.PolicyNever, SegmentBytes: 1000, RetentionMs: -1, Cleanup: CleanupCompact}
	l := createTestLog(t, s, testTP, keep)
	for range 5 {
		mustAppend(t, l, testBatch(1, 500, 1)) // of 1970
	}
	closeTestStore(t, s)
	o := testStoreOptions(mem)
	o.Config = func(string) LogConfig { return LogConfig{RetentionMs: 1, RetentionBytes: 1} }
	o.DiskLimits = func() DiskLimits { return DiskLimits{UsedMax: 0.01} }
	s = openTestStore(t, o)
	mem.SetCapacity(10_000)
	s.RunRetention()
	if o := s.Log(testTP).Offsets(); o.LogStart != 0 || o.LogEnd != 5 {
		t.Fatalf("the default configuration took records of a log that nobody has named: %+v", o)
	}
	l = createTestLog(t, s, testTP, keep)
	s.RunRetention()
	if o := l.Offsets(); o.LogStart != 0 {
		t.Fatalf("its own configuration keeps all: %+v", o)
	}
	must(t, s.UpdateConfig(testTP, LogConfig{RetentionMs: 1}))
	s.RunRetention()
	if o := l.Offsets(); o.LogStart == 0 {
		t.Fatal("a configuration that deletes does nothing")
	}
	mem.SetCapacity(0)
	closeTestStore(t, s)
}

// TestFullDiskRefusesAnAbort: where the transaction index has no room, the marker is refused and the partition goes on.
func TestFullDiskRefusesAnAbort(t *testing.T) {
	for name, rule := range map[string]vfs.Rule{
		"index cannot be created": {Ops: vfs.OpCreate, Path: txnIndexSuffix, Err: syscall.ENOSPC},
		"index cannot be written": {Ops: vfs.OpWrite, Path: txnIndexSuffix, Err: syscall.ENOSPC, ShortBytes: 10},
		"log cannot be written":   {Ops: vfs.OpWrite, Path: logSuffix, Err: syscall.ENOSPC, ShortBytes: 10},
	} {
		for _, first := range []bool{true, false} {
			mem := vfs.NewMem(vfs.MemOptions{})
			fsys := vfs.NewErrorFS(mem, vfs.ErrorFSOptions{})
			s := openTestStore(t, testStoreOptions(fsys))
			l := createTestLog(t, s, testTP, neverSync())
			abort := func() error {
				marker := record.AppendEndTxnMarker(nil, record.EndTxnMarker{ProducerID: 9, CoordinatorEpoch: 1})
				_, err := l.Append(marker, AppendOptions{Origin: OriginInternal})
				return err
			}
			want := 1
			if !first && rule.Ops != vfs.OpCreate {
				mustAppend(t, l, producerTestBatch(9, 0, 0, true))
				must(t, abort())
				want = 2
			}
			mustAppend(t, l, producerTestBatch(9, 0, int32(want-1), true))
			before := l.Offsets()
			remove := fsys.Add(rule)
			if err := abort(); !errors.Is(err, ErrNoSpace) {
				t.Errorf("%s: got %v, want ErrNoSpace", name, err)
			}
			got := l.Offsets()
			got.Durable = before.Durable // may have risen: what was cut off is fsynced in the background
			if got != before || l.Err() != nil {
				t.Errorf("%s: offsets %+v, want %+v; error %v", name, got, before, l.Err())
			}
			if info, err := mem.Stat(l.part.join(segmentName(0, txnIndexSuffix))); err == nil && info.Size != int64((want-1)*txnIndexEntrySize) {
				t.Errorf("%s: index of %d bytes after the refusal, want that of %d entries", name, info.Size, want-1)
			}
			remove()
			testkit.Eventually(t, name+": the marker when there is space", func() bool { return abort() == nil })
			check := func(when string) {
				t.Helper()
				res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
				must(t, err)
				res.Release()
				if len(res.Aborted) != want {
					t.Errorf("%s, %s: %d aborted transactions, want %d", name, when, len(res.Aborted), want)
				}
				info, err := mem.Stat(l.part.join(segmentName(0, txnIndexSuffix)))
				if err != nil || info.Size != int64(want*txnIndexEntrySize) {
					t.Errorf("%s, %s: index of %d bytes, want %d; %v", name, when, info.Size, want*txnIndexEntrySize, err)
				}
			}
			check("at once")
			must(t, l.Sync())
			s.crash()
			s = openTestStore(t, testStoreOptions(mem.CrashClone(1, vfs.CrashLoseUnsynced)))
			l = createTestLog(t, s, testTP, neverSync())
			if got := l.Offsets().LastStable; got != l.Offsets().LogEnd {
				t.Errorf("%s: last stable offset after a crash: %d", name, got)
			}
			res, err := l.Read(0, ReadOptions{MaxBytes: 1 << 20, Isolation: ReadCommitted})
			must(t, err)
			res.Release()
			if len(res.Aborted) != want {
				t.Errorf("%s, after a crash: %d aborted transactions, want %d", name, len(res.Aborted), want)
			}
			closeTestStore(t, s)
		}
	}
}
