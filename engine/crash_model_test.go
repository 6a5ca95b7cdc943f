package engine

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// presence says whether a topic exists.
type presence uint8

const (
	present  presence = iota
	deleting          // DeleteLog is under way
	absent
)

// logKind is what a script does with a log.
type logKind uint8

const (
	kindPlain     logKind = iota // truncated, replaced, deleted from the front
	kindTxn                      // transactions of a second producer
	kindCompacted                // cleaned
	kindRetained                 // cut by retention.bytes
	logKinds
)

// wantLog is what a log must hold after a crash, and the immutable part of a model.
type wantLog struct {
	tp    TopicPartition
	id    TopicID
	kind  logKind
	cfg   LogConfig
	state presence
	// history is every batch, stamped, from the first offset on; the last may be in flight. originals are the same as the producer sent them.
	history, originals [][]byte
	end                int64
	// written is the end of what Append has returned for: kill -9 must keep it.
	written int64
	// durable is what a power cut must keep.
	durable int64
	// startLo and startHi bound the log start: they differ while it is being moved.
	startLo, startHi int64
}

// expectation is all models at the moment of a crash.
type expectation struct {
	logs   []wantLog
	killed bool
	// full: the disk was full once, so that a topic's id may be missing.
	full  bool
	trace []string
}

func (e *expectation) ends() string {
	var s []string
	for _, w := range e.logs {
		s = append(s, fmt.Sprintf("%s: %d to %d", w.tp, w.startLo, w.end))
	}
	return strings.Join(s, ", ")
}

// crashLog is a log of a script and its model. The model's fields are guarded by crashRun.mu.
type crashLog struct {
	wantLog
	log *Log
	// durableCap bounds what has to survive while a truncation is under way.
	durableCap int64
	// cleaned: compaction may have rewritten what lies below.
	cleaned int64
	epoch   int32
	seq     int32 // of producer 7
	txnSeq  int32 // of producer 8
	inTxn   bool
}

// expectLocked gives the models as of now; r.mu is held until the disk is cloned, so that no operation begins or ends in between.
func (r *crashRun) expectLocked(killed bool) expectation {
	e := expectation{killed: killed, full: r.full, trace: r.trace[:len(r.trace):len(r.trace)]}
	for _, m := range r.logs {
		w := m.wantLog
		w.history, w.originals = w.history[:len(w.history):len(w.history)], w.originals[:len(w.originals):len(w.originals)]
		if m.log != nil && m.log.loaded.Load() {
			w.durable = m.log.off.load().Durable
		}
		w.durable = min(w.durable, m.durableCap)
		e.logs = append(e.logs, w)
	}
	return e
}

// verifyRecovered opens a store on a crashed disk and compares its logs with what had to survive. It returns what has to survive from
// then on. With probe it also appends, and then the result is of no use.
func verifyRecovered(fsys vfs.FS, seed uint64, dirs []string, want expectation, probe bool) (got expectation, err error) {
	for _, dir := range dirs {
		if err := inspectFronts(fsys, dir); err != nil {
			return got, fmt.Errorf("a dump finds: %w", err)
		}
	}
	s, err := OpenStore(crashStoreOptions(fsys, seed, dirs))
	if err != nil {
		return got, fmt.Errorf("open: %w", err)
	}
	defer s.crash()
	got = expectation{trace: want.trace, full: want.full}
	for _, w := range want.logs {
		next, l, err := verifyLog(s, w, want)
		if err == nil && probe && l != nil {
			err = probeRecovered(l, next)
		}
		if err != nil {
			return got, fmt.Errorf("%s (kind %d, segment.bytes %d, index.interval %d, fsync %v): %w", w.tp, w.kind, w.cfg.SegmentBytes, w.cfg.IndexIntervalBytes,
				w.cfg.Fsync, err)
		}
		got.logs = append(got.logs, next)
	}
	return got, nil
}

// inspectFronts does of Inspect what tells that a log's first segment is missing: no crash takes it.
func inspectFronts(fsys vfs.FS, dir string) error {
	in := frontInspector{fs: fsys, dir: dir}
	partitions, err := fsys.List(dir)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range partitions {
		if _, ok := parsePartitionDir(name); !ok {
			continue
		}
		path := filepath.Join(dir, name)
		names, err := fsys.List(path)
		if err != nil {
			return err
		}
		if err := in.fault(path, names); err != nil {
			return err
		}
	}
	return nil
}

// verifyLog compares one log. The result is what must survive the next crash; the log is nil where the topic is gone.
func verifyLog(s *Store, w wantLog, want expectation) (wantLog, *Log, error) {
	l := s.Log(w.tp)
	if w.state == absent || (w.state == deleting && l == nil) {
		if l != nil {
			return w, nil, fmt.Errorf("the topic is there again after it was deleted")
		}
		w.state, w.history, w.originals = absent, nil, nil
		w.end, w.written, w.durable, w.startLo, w.startHi = 0, 0, 0, 0, 0
		return w, nil, nil
	}
	if l != nil && w.durable > 0 && w.state == present {
		if err := l.load(); err == nil && l.TopicID() != w.id && (l.TopicID() != TopicID{} || !want.full) {
			return w, nil, fmt.Errorf("topic id: got %s, want %s", l.TopicID(), w.id)
		}
	}
	l, err := s.CreateLog(w.tp, w.id, w.cfg)
	if err != nil {
		return w, nil, fmt.Errorf("create log: %w", err)
	}
	if err := l.load(); err != nil {
		return w, nil, fmt.Errorf("load: %w", err)
	}
	if err := l.Err(); err != nil {
		return w, nil, fmt.Errorf("log failed: %w", err)
	}
	if err := compareLog(l, w, want.killed); err != nil {
		return w, nil, err
	}
	off := l.Offsets()
	keep := 0
	for keep < len(w.history) && record.Batch(w.history[keep]).NextOffset() <= off.LogEnd {
		keep++
	}
	if off.LogEnd == off.LogStart && (keep == 0 || record.Batch(w.history[keep-1]).NextOffset() != off.LogEnd) {
		keep = 0 // begun anew at the log start
	}
	w.state, w.history, w.originals = present, w.history[:keep:keep], w.originals[:keep:keep]
	w.end, w.written, w.durable, w.startLo, w.startHi = off.LogEnd, off.LogEnd, off.Durable, off.LogStart, off.LogStart
	return w, l, nil
}

// compareLog checks the recovered log: a prefix of the history, not shorter than what was durable, and its offsets.
func compareLog(l *Log, w wantLog, killed bool) error {
	off := l.Offsets()
	least := w.durable
	if killed {
		least = max(least, w.written)
	}
	switch {
	case off.LogEnd < least:
		return fmt.Errorf("log ends at %d, want at least %d (durable %d, written %d, killed %t)", off.LogEnd, least, w.durable, w.written, killed)
	case off.LogEnd > max(w.end, w.startHi):
		return fmt.Errorf("log ends at %d, want at most %d", off.LogEnd, w.end)
	case off.LogStart < min(w.startLo, w.startHi) || off.LogStart > max(w.startHi, w.startLo):
		return fmt.Errorf("log starts at %d, want %d to %d", off.LogStart, w.startLo, w.startHi)
	case off.Durable != off.LogEnd && l.cfg.Load().Fsync == ioqueue.PolicyCommit || off.HighWatermark != off.LogEnd:
		return fmt.Errorf("recovered offsets %+v: durable and high watermark are not the log end", off)
	}
	got, err := tryReadAll(l, off.LogStart, ReadOptions{Isolation: ReadAll})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if w.kind == kindCompacted {
		return compareCompacted(got, w, off)
	}
	if err := compareBytes(got, w, off); err != nil {
		return err
	}
	if w.kind == kindTxn {
		return compareTransactions(l, w, off)
	}
	return nil
}

func compareBytes(got []byte, w wantLog, off Offsets) error {
	var wanted []byte
	for _, b := range w.history {
		if rb := record.Batch(b); rb.NextOffset() > off.LogStart && rb.NextOffset() <= off.LogEnd {
			wanted = append(wanted, b...)
		}
	}
	if bytes.Equal(got, wanted) {
		return nil
	}
	at := 0
	for at < len(got) && at < len(wanted) && got[at] == wanted[at] {
		at++
	}
	return fmt.Errorf("records %d to %d: got %d bytes, want %d bytes, different from byte %d on: got %x, want %x",
		off.LogStart, off.LogEnd, len(got), len(wanted), at, got[at:min(len(got), at+20)], wanted[at:min(len(wanted), at+20)])
}

// keyedRecords gives the records of batches by offset, as "key=value".
func keyedRecords(batches [][]byte) (map[int64]string, error) {
	out := map[int64]string{}
	for _, data := range batches {
		for rest := data; len(rest) > 0; {
			b, next, err := record.Next(rest)
			if err != nil {
				return nil, err
			}
			it := b.Records(nil, 0)
			for it.Next() {
				out[it.Offset()] = string(it.Record().Key) + "=" + string(it.Record().Value)
			}
			if it.Err() != nil {
				return nil, it.Err()
			}
			rest = next
		}
	}
	return out, nil
}

// compareCompacted: every record is one that was written, and one that is missing has a newer one of its key.
func compareCompacted(data []byte, w wantLog, off Offsets) error {
	got, err := keyedRecords([][]byte{data})
	if err != nil {
		return err
	}
	wanted, err := keyedRecords(w.history)
	if err != nil {
		return err
	}
	newest := map[string]int64{}
	for offset, kv := range got {
		if wanted[offset] != kv {
			return fmt.Errorf("record at %d: got %.20q, want %.20q", offset, kv, wanted[offset])
		}
		key, _, _ := strings.Cut(kv, "=")
		newest[key] = max(newest[key], offset)
	}
	for offset, kv := range wanted {
		key, _, _ := strings.Cut(kv, "=")
		if _, ok := got[offset]; !ok && offset >= off.LogStart && offset < off.LogEnd && newest[key] <= offset {
			return fmt.Errorf("record at %d, %.20q, is missing, and no newer one of its key is there (newest %d)", offset, kv, newest[key])
		}
	}
	return nil
}

// transactionsOf gives the aborted transactions of producer 8 in batches, and the first offset of the open one, -1 for none.
func transactionsOf(history [][]byte) (aborted []AbortedTxn, open int64) {
	open = -1
	for _, data := range history {
		b := record.Batch(data)
		switch {
		case b.ProducerID() != 8:
		case !b.IsControl():
			if open < 0 {
				open = b.BaseOffset()
			}
		default:
			it := b.Records(nil, 0)
			if it.Next() {
				if kind, _, _ := record.ParseEndTxnMarker(it.Record()); kind == record.ControlAbort && open >= 0 {
					aborted = append(aborted, AbortedTxn{ProducerID: 8, FirstOffset: open, LastOffset: b.LastOffset()})
				}
			}
			open = -1
		}
	}
	return aborted, open
}

// compareTransactions checks what consumers of committed records are told.
func compareTransactions(l *Log, w wantLog, off Offsets) error {
	end := slices.IndexFunc(w.history, func(b []byte) bool { return record.Batch(b).NextOffset() > off.LogEnd })
	if end < 0 {
		end = len(w.history)
	}
	want, open := transactionsOf(w.history[:end])
	got, err := l.abortedIn(off.LogStart, off.LogEnd)
	if err != nil {
		return fmt.Errorf("aborted transactions: %w", err)
	}
	for i := range got {
		got[i].LastStableOffset = 0
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("aborted transactions: got %+v, want %+v", got, want)
	}
	stable := off.LogEnd
	if open >= 0 {
		stable = open
	}
	if off.LastStable != stable {
		return fmt.Errorf("last stable offset: got %d, want %d", off.LastStable, stable)
	}
	return nil
}

// probeRecovered checks what is derived from the records: epochs, producers, and that the log goes on.
func probeRecovered(l *Log, w wantLog) error {
	off := l.Offsets()
	if len(w.history) == 0 || off.LogEnd == off.LogStart {
		return nil
	}
	epoch := record.Batch(w.history[len(w.history)-1]).PartitionLeaderEpoch()
	if got := l.LeaderEpoch(); got != epoch {
		return fmt.Errorf("leader epoch: got %d, want %d", got, epoch)
	}
	at := len(w.history) - 1
	for at >= 0 && record.Batch(w.history[at]).ProducerID() != 7 {
		at--
	}
	if at < 0 || record.Batch(w.history[at]).NextOffset() <= off.LogStart {
		return nil
	}
	last := record.Batch(w.history[at])
	res, err := l.Append(bytes.Clone(w.originals[at]), AppendOptions{LeaderEpoch: epoch})
	if err != nil || !res.Duplicate || res.BaseOffset != last.BaseOffset() {
		return fmt.Errorf("repeat of the last batch at %d: got %+v, %v", last.BaseOffset(), res, err)
	}
	b := record.NewBuilder()
	b.SetProducer(7, 0, last.LastSequence()+1)
	b.Append(5, []byte("k"), []byte("after"))
	next := b.Finish(nil)
	if res, err = l.Append(next, AppendOptions{LeaderEpoch: epoch}); err != nil || res.BaseOffset != off.LogEnd {
		return fmt.Errorf("append after recovery: got %+v, %v, want offset %d", res, err, off.LogEnd)
	}
	got, err := tryReadAll(l, off.LogEnd, ReadOptions{Isolation: ReadAll})
	if err != nil || !bytes.Equal(got, next) {
		return fmt.Errorf("read after recovery: %d bytes, %v", len(got), err)
	}
	return nil
}

// noCapYet is durableCap outside a truncation.
const noCapYet = math.MaxInt64
