package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/ioqueue"
	"github.com/weirmq/weir/record"
)

// The types of log records: the first byte of the value. Part of the format; 1 is kept for changes of the voters.
const (
	entryRecords = 0
	entryEmpty   = 2
)

const (
	batchBytesTarget = 1 << 20 // a batch is closed at this size
	readBytes        = 4 << 20 // of one read at start
)

// entryLog is the durable sequence of Raft entries. Used by the node's loop only, but for trim.
type entryLog interface {
	// first and end bound the entries that are there, as Raft indexes: [first, end).
	first() uint64
	end() uint64
	// load returns the entries from index on, all of them durable.
	load(from uint64) ([]*raftpb.Entry, error)
	// append makes the entries durable behind the others and returns the bytes that they took. Entries at or above the first
	// one's index are replaced. After ErrNoSpace nothing was appended; any other error is final.
	append(entries []*raftpb.Entry) (int64, error)
	// trim frees the entries below index. Safe beside the loop.
	trim(index uint64) error
	// locate names the file and the byte position of the batch that holds an entry, to be told to people: what it can tell of one that
	// is not there is the directory, and -1.
	locate(index uint64) (path string, pos int64)
	// otherPartition names a partition of clients' that lies beside the log, "" when there is none.
	otherPartition() string
}

// LogConfig is the configuration of the metadata log. The store must be opened with it for LogTopic, so that no retention rule
// ever touches the log: only snapshots trim it.
func LogConfig() engine.LogConfig {
	return engine.LogConfig{
		SegmentBytes:    64 << 20,
		RetentionBytes:  -1,
		RetentionMs:     -1,
		MessageBytesMax: entryBytesMax + batchBytesTarget + 1<<10,
		Cleanup:         engine.CleanupDelete,
		Fsync:           ioqueue.PolicyCommit,
	}.EnsureDefaults()
}

// logTopicID is the id of the metadata topic, Kafka's own for it.
var logTopicID = TopicID{15: 1}

// engineLog keeps the entries in an engine log: offset = index - 1, leader epoch = term.
type engineLog struct {
	store   *engine.Store
	log     *engine.Log
	clock   clock.Clock
	builder *record.Builder
	value   []byte
	batches []byte
	durable chan error
}

func openEngineLog(store *engine.Store, c clock.Clock) (*engineLog, error) {
	tp := engine.TopicPartition{Topic: LogTopic, Partition: LogPartition}
	log, err := store.CreateLog(tp, logTopicID, LogConfig())
	// What a crash left in the page cache is acted upon from now on, so it must be on disk.
	if err == nil {
		err = log.Err()
	}
	if err == nil {
		err = log.Sync()
	}
	switch {
	case errors.Is(err, engine.ErrExists): // by another id than a metadata log ever had
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Join(store.Log(tp).Dir(), "partition.metadata"), err)
	case errors.Is(err, engine.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	case err != nil:
		return nil, fmt.Errorf("cluster: open %s: %w", tp, err)
	}
	return &engineLog{store: store, log: log, clock: c, builder: record.NewBuilder(), durable: make(chan error, 1)}, nil
}

func (l *engineLog) first() uint64 { return uint64(l.log.Offsets().LogStart) + 1 }
func (l *engineLog) end() uint64   { return uint64(l.log.Offsets().LogEnd) + 1 }

func (l *engineLog) load(from uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	var buf []byte
	for offset, end := int64(from)-1, l.log.Offsets().LogEnd; offset < end; {
		res, err := l.log.Read(offset, engine.ReadOptions{MaxBytes: readBytes, MinOneBatch: true, Isolation: engine.ReadAll})
		if err == nil && len(res.Spans) == 0 {
			err = errors.New("nothing to read")
		}
		if err != nil {
			res.Release()
			return nil, fmt.Errorf("%w: %s: read at offset %d of %d: %w", ErrCorrupt, l.log.Dir(), offset, end, err)
		}
		for _, span := range res.Spans {
			if buf, err = readSpan(buf, span); err == nil {
				entries, err = l.parse(entries, buf, span, from)
			}
			if err != nil {
				break
			}
		}
		res.Release()
		if err != nil {
			return nil, err
		}
		offset = res.NextOffset
	}
	for i, e := range entries {
		if want := from + uint64(i); e.GetIndex() != want {
			path, pos := l.locate(want)
			return nil, &CorruptError{Path: path, Pos: pos, Index: want, Reason: fmt.Sprintf("found entry %d in its place", e.GetIndex())}
		}
	}
	return entries, nil
}

// readSpan returns the bytes of a span, in the place of buf's.
func readSpan(buf []byte, s engine.Span) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(s.Len))[:s.Len]
	if n, err := s.File.ReadAt(buf, s.Pos); n < len(buf) {
		return buf, fmt.Errorf("%w: %s: read %d bytes at byte %d: got %d: %w", ErrCorrupt, s.File.Name(), s.Len, s.Pos, n, err)
	}
	return buf, nil
}

func (l *engineLog) locate(index uint64) (path string, pos int64) {
	res, err := l.log.Read(int64(index)-1, engine.ReadOptions{MaxBytes: 1, MinOneBatch: true, Isolation: engine.ReadAll})
	defer res.Release()
	if err != nil || len(res.Spans) == 0 {
		return l.log.Dir(), -1
	}
	return res.Spans[0].File.Name(), res.Spans[0].Pos
}

// parse appends the entries of the batches of a span, whose bytes are b, from index from on.
func (l *engineLog) parse(entries []*raftpb.Entry, b []byte, span engine.Span, from uint64) ([]*raftpb.Entry, error) {
	for len(b) > 0 {
		pos := span.Pos + span.Len - int64(len(b)) // of the batch
		bad := func(index uint64, format string, args ...any) error {
			return &CorruptError{Path: span.File.Name(), Pos: pos, Index: index, Reason: fmt.Sprintf(format, args...)}
		}
		batch, rest, err := record.Next(b)
		if err != nil {
			return nil, bad(0, "batch: %v", err)
		}
		if got, want := batch.ComputeCRC(), batch.CRC(); got != want {
			pos += record.PosCRC
			return nil, bad(uint64(batch.BaseOffset())+1, "batch crc: got %08x, want %08x", got, want)
		}
		it := batch.Records(nil, 0)
		for it.Next() {
			index := uint64(it.Offset()) + 1
			if index < from {
				continue
			}
			e, err := parseEntry(index, uint64(batch.PartitionLeaderEpoch()), it.Record().Value)
			if err != nil {
				return nil, bad(index, "%v", err)
			}
			entries = append(entries, e)
		}
		if err := it.Err(); err != nil {
			return nil, bad(uint64(batch.BaseOffset())+1, "%v", err)
		}
		b = rest
	}
	return entries, nil
}

// parseEntry makes an entry of a log record's value, which is copied.
func parseEntry(index, term uint64, value []byte) (*raftpb.Entry, error) {
	e := &raftpb.Entry{Index: new(index), Term: new(term), Type: raftpb.EntryNormal.Enum()}
	switch {
	case len(value) == 0:
		return nil, errors.New("empty value")
	case value[0] == entryEmpty && len(value) == 1:
		return e, nil
	case value[0] == entryRecords && len(value) > 1:
		e.Data = append([]byte(nil), value[1:]...)
		return e, nil
	default:
		return nil, fmt.Errorf("entry of type %d with %d bytes: written by a newer version?", value[0], len(value)-1)
	}
}

func (l *engineLog) append(entries []*raftpb.Entry) (int64, error) {
	if first := entries[0].GetIndex(); first < l.end() {
		if err := l.log.TruncateTo(int64(first) - 1); err != nil {
			return 0, fmt.Errorf("%w: drop the entries from %d on: %w", ErrFailed, first, err)
		}
	}
	var bytes int64
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].GetTerm() == entries[0].GetTerm() {
			n++
		}
		took, err := l.appendTerm(entries[:n])
		if err != nil {
			return 0, err
		}
		bytes += took
		entries = entries[n:]
	}
	return bytes, l.awaitDurable()
}

// appendTerm appends entries of one term.
func (l *engineLog) appendTerm(entries []*raftpb.Entry) (int64, error) {
	now := l.clock.Now().UnixMilli()
	l.batches = l.batches[:0]
	for i, e := range entries {
		if e.GetType() != raftpb.EntryNormal {
			return 0, fmt.Errorf("%w: entry %d has type %s", ErrFailed, e.GetIndex(), e.GetType())
		}
		l.value = l.value[:0]
		if len(e.Data) == 0 {
			l.value = append(l.value, entryEmpty)
		} else {
			l.value = append(append(l.value, entryRecords), e.Data...)
		}
		l.builder.Append(now, nil, l.value)
		if l.builder.Bytes() >= batchBytesTarget || i == len(entries)-1 {
			l.batches = l.builder.Finish(l.batches)
		}
	}
	first := int64(entries[0].GetIndex()) - 1
	res, err := l.log.Append(l.batches, engine.AppendOptions{LeaderEpoch: int32(entries[0].GetTerm()), Origin: engine.OriginInternal})
	switch {
	case errors.Is(err, engine.ErrNoSpace):
		return 0, fmt.Errorf("%w: %w", ErrNoSpace, err)
	case err != nil:
		return 0, fmt.Errorf("%w: append %d entries: %w", ErrFailed, len(entries), err)
	case res.BaseOffset != first:
		return 0, fmt.Errorf("%w: entry %d went to offset %d, not %d", ErrFailed, first+1, res.BaseOffset, first)
	}
	return int64(len(l.batches)), nil
}

// awaitDurable returns when everything appended is on disk.
func (l *engineLog) awaitDurable() error {
	w := &engine.Waiter{For: engine.WaitDurable, Offset: l.log.Offsets().LogEnd, Wake: func(err error) { l.durable <- err }}
	var err error
	if l.log.Watch(w) {
		err = <-l.durable
	} else {
		err = l.log.Err()
	}
	if err == nil && l.log.Offsets().Durable < w.Offset {
		err = fmt.Errorf("durable offset is %d, not %d", l.log.Offsets().Durable, w.Offset)
	}
	if err != nil {
		return fmt.Errorf("%w: make entries durable: %w", ErrFailed, err)
	}
	return nil
}

func (l *engineLog) trim(index uint64) error {
	_, err := l.log.DeleteRecords(int64(index) - 1)
	return err
}

func (l *engineLog) otherPartition() string {
	for _, other := range l.store.Logs() {
		if tp := other.TopicPartition(); tp.Topic != LogTopic {
			return tp.String()
		}
	}
	return ""
}
