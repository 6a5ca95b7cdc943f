package engine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/record"
	"github.com/weirmq/weir/vfs"
)

// A producer snapshot `<end offset, 20 digits>.snapshot` holds the producer state as of that offset (exclusive), in
// Kafka's format, big-endian:
//
//	version int16 = 1 | CRC-32C uint32 of all that follows | count int32 | count entries of:
//	producer id int64 | epoch int16 | last sequence int32 | last offset int64 | offset delta int32 | timestamp int64 |
//	coordinator epoch int32 | first offset of the open transaction int64, -1 for none
//
// Only the last batch of a producer is kept. A snapshot is derived data: a damaged one is passed over for an older one
// and a longer replay of the log.
const (
	snapshotSuffix     = ".snapshot"
	snapshotVersion    = 1
	snapshotHeadSize   = 2 + 4 + 4
	snapshotCRCStart   = 2 + 4
	snapshotEntrySize  = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotBytesMax   = 1 << 30
	noBatchOffset      = int64(-1)
	noCoordinatorEpoch = int32(-1)
)

// producerBatchOf extracts what the producer state needs. ok is false for batches that do not concern it: without
// producer id, and control batches other than transaction markers. err is set for a marker that cannot be read; it
// matches record.ErrCorrupt or record.ErrInvalid. The CRC is taken as checked.
func producerBatchOf(b record.Batch) (p producerBatch, ok bool, err error) {
	if b.ProducerID() < 0 {
		return p, false, nil
	}
	p = producerBatch{
		ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(),
		BaseSequence: b.BaseSequence(), LastSequence: b.LastSequence(),
		BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(),
		MaxTimestampMs: b.MaxTimestamp(), Transactional: b.IsTransactional(),
	}
	if !b.IsControl() {
		return p, true, nil
	}
	if b.RecordCount() == 0 {
		// Compaction leaves an empty control batch when nothing of the transaction is left: it ends nothing any more.
		return p, false, nil
	}
	it := b.Records(nil, 0)
	if !it.Next() {
		return p, false, fmt.Errorf("control batch at offset %d: %w", b.BaseOffset(), it.Err())
	}
	t, coordinatorEpoch, err := record.ParseEndTxnMarker(it.Record())
	if err != nil {
		return p, false, fmt.Errorf("control batch at offset %d: %w", b.BaseOffset(), err)
	}
	if t != record.ControlCommit && t != record.ControlAbort {
		return p, false, nil
	}
	p.Marker, p.Commit, p.CoordinatorEpoch = true, t == record.ControlCommit, coordinatorEpoch
	return p, true, nil
}

// snapshotEntry is one producer as a snapshot has it.
type snapshotEntry struct {
	ProducerID       int64 `json:"producerId"`
	Epoch            int16 `json:"producerEpoch"`
	LastSequence     int32 `json:"lastSequence"`
	LastOffset       int64 `json:"lastOffset"`
	OffsetDelta      int32 `json:"offsetDelta"`
	TimestampMs      int64 `json:"timestamp"`
	CoordinatorEpoch int32 `json:"coordinatorEpoch"`
	TxnFirstOffset   int64 `json:"currentTxnFirstOffset"`
}

// appendSnapshot appends the file's content to dst.
func appendSnapshot(dst []byte, entries []snapshotEntry) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = be.AppendUint16(dst, snapshotVersion)
	dst = be.AppendUint32(dst, 0)
	dst = be.AppendUint32(dst, uint32(len(entries)))
	for _, e := range entries {
		dst = be.AppendUint64(dst, uint64(e.ProducerID))
		dst = be.AppendUint16(dst, uint16(e.Epoch))
		dst = be.AppendUint32(dst, uint32(e.LastSequence))
		dst = be.AppendUint64(dst, uint64(e.LastOffset))
		dst = be.AppendUint32(dst, uint32(e.OffsetDelta))
		dst = be.AppendUint64(dst, uint64(e.TimestampMs))
		dst = be.AppendUint32(dst, uint32(e.CoordinatorEpoch))
		dst = be.AppendUint64(dst, uint64(e.TxnFirstOffset))
	}
	be.PutUint32(dst[start+2:], snapshotCRC(dst[start:]))
	return dst
}

// snapshotCRC is the CRC-32C of everything behind the CRC field.
func snapshotCRC(data []byte) uint32 {
	return crc32.Checksum(data[snapshotCRCStart:], crc32.MakeTable(crc32.Castagnoli))
}

// parseSnapshot decodes and verifies a whole snapshot; path only serves error messages.
func parseSnapshot(data []byte, path string) ([]snapshotEntry, error) {
	be := binary.BigEndian
	if len(data) < snapshotHeadSize {
		return nil, corruptFile(path, int64(len(data)), "file size in bytes", len(data), fmt.Sprintf("at least %d", snapshotHeadSize))
	}
	if v := be.Uint16(data); v != snapshotVersion {
		return nil, corruptFile(path, 0, "version", v, snapshotVersion)
	}
	want := be.Uint32(data[2:])
	if crc := snapshotCRC(data); crc != want {
		return nil, corruptFile(path, 2, "crc", crc, want)
	}
	count := int64(int32(be.Uint32(data[6:])))
	if size := int64(len(data)); count < 0 || size != snapshotHeadSize+count*snapshotEntrySize {
		return nil, corruptFile(path, 6, "entry count", count, fmt.Sprintf("as many as fill the %d bytes of the file", size))
	}
	entries := make([]snapshotEntry, count)
	seen := make(map[int64]struct{}, count)
	for i := range entries {
		pos := snapshotHeadSize + i*snapshotEntrySize
		d := data[pos : pos+snapshotEntrySize]
		e := snapshotEntry{
			ProducerID: int64(be.Uint64(d)), Epoch: int16(be.Uint16(d[8:])), LastSequence: int32(be.Uint32(d[10:])),
			LastOffset: int64(be.Uint64(d[14:])), OffsetDelta: int32(be.Uint32(d[22:])), TimestampMs: int64(be.Uint64(d[26:])),
			CoordinatorEpoch: int32(be.Uint32(d[34:])), TxnFirstOffset: int64(be.Uint64(d[38:])),
		}
		if _, ok := seen[e.ProducerID]; ok || e.ProducerID < 0 {
			return nil, corruptFile(path, int64(pos), "producer id", e.ProducerID, "0 or more, each once")
		}
		if e.OffsetDelta < 0 || e.LastOffset < -1 || (e.LastOffset >= 0 && int64(e.OffsetDelta) > e.LastOffset) {
			return nil, corruptFile(path, int64(pos)+14, "last offset, offset delta",
				fmt.Sprint(e.LastOffset, e.OffsetDelta), "0 <= delta <= offset")
		}
		seen[e.ProducerID] = struct{}{}
		entries[i] = e
	}
	return entries, nil
}

// snapshotEntries lists the state as a snapshot stores it, by producer id.
func (s *producerState) snapshotEntries() []snapshotEntry {
	out := make([]snapshotEntry, 0, len(s.entries))
	for _, e := range s.entries {
		se := snapshotEntry{
			ProducerID: e.id, Epoch: e.epoch, LastSequence: noSequence, LastOffset: noBatchOffset, TimestampMs: e.timestampMs,
			CoordinatorEpoch: e.coordinatorEpoch, TxnFirstOffset: e.txnFirstOffset,
		}
		if e.count > 0 {
			last := e.batches[e.count-1]
			se.LastSequence, se.LastOffset, se.OffsetDelta = last.lastSequence, last.lastOffset, last.offsetDelta
		}
		out = append(out, se)
	}
	slices.SortFunc(out, func(a, b snapshotEntry) int { return int(min(1, max(-1, a.ProducerID-b.ProducerID))) })
	return out
}

// restore replaces the state with a snapshot's.
func (s *producerState) restore(entries []snapshotEntry, nowMs int64) {
	s.clear()
	for _, se := range entries {
		e := s.insert(se.ProducerID)
		e.epoch, e.coordinatorEpoch, e.txnFirstOffset = se.Epoch, se.CoordinatorEpoch, max(se.TxnFirstOffset, noTxnOffset)
		// The time of expiry restarts: record timestamps may be any age, and a producer forgotten too early loses its
		// protection against duplicates.
		e.timestampMs, e.seenMs = se.TimestampMs, nowMs
		if se.LastOffset >= 0 {
			e.addBatch(batchMeta{
				lastSequence: se.LastSequence, offsetDelta: se.OffsetDelta, lastOffset: se.LastOffset, timestampMs: se.TimestampMs,
			})
		}
		if e.txnFirstOffset >= 0 {
			s.ongoing = insertTxn(s.ongoing, openTxn{producerID: e.id, first: e.txnFirstOffset, last: noTxnOffset})
		}
	}
}

// pendingSnapshot is a snapshot that is encoded but not written yet.
type pendingSnapshot struct {
	offset     int64
	generation uint64
	data       []byte
}

// prepareSnapshot encodes the state as of endOffset, the exclusive end of what update has seen. Under the log's lock; it waits for no file.
func (s *producerState) prepareSnapshot(endOffset int64) pendingSnapshot {
	return pendingSnapshot{offset: endOffset, generation: s.snapshots.generation.Load(), data: appendSnapshot(nil, s.snapshotEntries())}
}

// writeSnapshot writes it, atomically and durably, unless the log was truncated since (then it does nothing). Not under
// the log's lock: it waits for an fsync.
func (s *producerState) writeSnapshot(p pendingSnapshot) error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	if p.generation != s.snapshots.generation.Load() {
		return nil
	}
	if err := vfs.WriteFileAtomic(s.opts.FS, s.snapshotPath(p.offset), p.data); err != nil {
		return fmt.Errorf("write producer snapshot: %w", err)
	}
	s.noteSnapshotLocked(p)
	return nil
}

func (s *producerState) noteSnapshotLocked(p pendingSnapshot) {
	if i, found := slices.BinarySearch(s.snapshots.offsets, p.offset); !found {
		s.snapshots.offsets = slices.Insert(s.snapshots.offsets, i, p.offset)
	}
}

// stageSnapshot writes it beside its file; nil when the log was truncated since. Nobody else writes snapshots until done.
func (s *producerState) stageSnapshot(p pendingSnapshot) (*stagedFile, error) {
	s.snapshots.Lock()
	if p.generation != s.snapshots.generation.Load() {
		s.snapshots.Unlock()
		return nil, nil
	}
	path := s.snapshotPath(p.offset)
	if err := vfs.StageFile(s.opts.FS, path, p.data); err != nil {
		s.snapshots.Unlock()
		return nil, fmt.Errorf("write producer snapshot: %w", err)
	}
	return &stagedFile{path: path, done: func(replaced bool) {
		defer s.snapshots.Unlock()
		if replaced {
			s.noteSnapshotLocked(p)
			s.snapshots.staged, s.snapshots.stagedIn = p.offset, p.generation
		}
	}}, nil
}

// isStaged says that stageSnapshot has put this snapshot in place.
func (s *producerState) isStaged(p pendingSnapshot) bool {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	return s.snapshots.staged == p.offset && s.snapshots.stagedIn == p.generation
}

func (s *producerState) snapshotPath(offset int64) string {
	return filepath.Join(s.opts.Dir, snapshotName(offset))
}

func snapshotName(offset int64) string { return fmt.Sprintf("%020d%s", offset, snapshotSuffix) }

// parseSnapshotName gives the offset in a file name; ok is false for other files.
func parseSnapshotName(name string) (offset int64, ok bool) {
	digits, ok := strings.CutSuffix(name, snapshotSuffix)
	if !ok || len(digits) != 20 || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	return offset, err == nil && offset >= 0
}

// noteFiles tells the state which files the partition's directory holds, so that reload need not list it.
func (s *producerState) noteFiles(names []string) {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	s.noteFilesLocked(names)
}

func (s *producerState) noteFilesLocked(names []string) {
	s.snapshots.listed, s.snapshots.offsets = true, nil
	for _, name := range names {
		if offset, ok := parseSnapshotName(filepath.Base(name)); ok {
			s.snapshots.offsets = append(s.snapshots.offsets, offset)
		}
	}
	slices.Sort(s.snapshots.offsets)
}

// reload makes the state that of a log whose records are [logStart, logEnd): snapshots above logEnd are removed (they
// belong to a history that was truncated), the newest good one is loaded, and the caller then passes every batch from
// replayFrom to logEnd through update. Damaged snapshots are logged and passed over; with none left, replayFrom is
// logStart. Used at opening and after each truncation.
func (s *producerState) reload(logStart, logEnd, nowMs int64) (replayFrom int64, err error) {
	s.clear()
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	s.snapshots.generation.Add(1)
	if !s.snapshots.listed {
		names, err := s.opts.FS.List(s.opts.Dir)
		if err != nil {
			return 0, fmt.Errorf("list producer snapshots in %s: %w", s.opts.Dir, err)
		}
		s.noteFilesLocked(names)
	}
	if err := s.removeSnapshotsLocked(func(o int64) bool { return o > logEnd }, true); err != nil {
		return 0, err
	}
	offsets := s.snapshots.offsets
	for i := len(offsets) - 1; i >= 0 && offsets[i] >= logStart; i-- {
		entries, err := s.readSnapshot(offsets[i])
		if err != nil {
			s.opts.Logger.Warn("producer snapshot passed over, a longer part of the log is replayed instead",
				"path", s.snapshotPath(offsets[i]), "error", err)
			continue
		}
		s.restore(entries, nowMs)
		return offsets[i], nil
	}
	return logStart, nil
}

// stateBefore gives a state of its own, that of the newest good snapshot from offset least to most, and the snapshot's offset; without one an
// empty state, and least. Beside appends.
func (s *producerState) stateBefore(least, most, nowMs int64) (*producerState, int64) {
	state := newProducerState(s.opts)
	s.snapshots.Lock()
	offsets := slices.Clone(s.snapshots.offsets)
	s.snapshots.Unlock()
	for i := len(offsets) - 1; i >= 0 && offsets[i] >= least; i-- {
		if offsets[i] > most {
			continue
		}
		if entries, err := s.readSnapshot(offsets[i]); err == nil { // who replays the log has told of a damaged one
			state.restore(entries, nowMs)
			return state, offsets[i]
		}
	}
	return state, least
}

func (s *producerState) readSnapshot(offset int64) ([]snapshotEntry, error) {
	path := s.snapshotPath(offset)
	data, err := readSmallFile(s.opts.FS, path, snapshotBytesMax)
	if err != nil {
		return nil, err
	}
	return parseSnapshot(data, path)
}

// removeSnapshotsBefore removes snapshots below offset (the log's start), without waiting for the disk.
func (s *producerState) removeSnapshotsBefore(offset int64) error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	return s.removeSnapshotsLocked(func(o int64) bool { return o < offset }, false)
}

// removeStraySnapshots keeps the snapshots at the given segment base offsets and the newest one, and removes the rest.
func (s *producerState) removeStraySnapshots(segmentBases []int64) error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	offsets := s.snapshots.offsets
	return s.removeSnapshotsLocked(func(o int64) bool {
		return o != offsets[len(offsets)-1] && !slices.Contains(segmentBases, o)
	}, false)
}

// removeAllSnapshots removes every snapshot, durably, when the whole log is replaced.
func (s *producerState) removeAllSnapshots() error {
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	s.snapshots.generation.Add(1)
	return s.removeSnapshotsLocked(func(int64) bool { return true }, true)
}

func (s *producerState) removeSnapshotsLocked(drop func(offset int64) bool, durably bool) error {
	var kept []int64
	removed := false
	for _, o := range s.snapshots.offsets {
		if !drop(o) {
			kept = append(kept, o)
			continue
		}
		if err := removeFile(s.opts.FS, s.snapshotPath(o)); err != nil {
			return err
		}
		removed = true
	}
	s.snapshots.offsets = kept
	if removed && durably {
		// A name that comes back after a power cut would pair an old state with new records.
		if err := s.opts.FS.SyncDir(s.opts.Dir); err != nil {
			return fmt.Errorf("sync %s after removing producer snapshots: %w", s.opts.Dir, syncError(err))
		}
	}
	return nil
}
