package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strings"

	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/vfs"
)

// The kinds of files of the metadata, beside those of package engine.
const (
	KindQuorumState engine.FileKind = "quorum-state"
	KindImage       engine.FileKind = "metadata-image"
)

// Inspect is engine.Inspect for all of a data directory: it knows the files of the metadata too, and opens the entries of the metadata log, whose
// records it visits as *EntryInfo. The other items of its own are *QuorumStateInfo, *ImageInfo, *BrokerInfo, *TopicInfo and *RemovedTopicInfo.
// It holds one item in memory, whatever the size of the files; so it does not tell whether ids of topics are unique, as a start does. Where
// the log and quorum-state are inspected together, they and the newest snapshot have to fit together. Errors are those of engine.Inspect.
func Inspect(fsys vfs.FS, path string, o engine.InspectOptions) ([]engine.FileReport, error) {
	visit := o.Visit
	if visit == nil {
		visit = func(string, engine.InspectItem) error { return nil }
	}
	in := metadataInspector{fs: fsys, visit: visit}
	o.RecordsOf, o.Visit, o.Others = IsMetadataLog, in.item, in.file
	reports, err := engine.Inspect(fsys, path, o)
	if err == nil && o.StartOffset == 0 {
		in.fit(reports)
	}
	return reports, err
}

// IsMetadataLog says whether a file lies in the directory of the metadata log.
func IsMetadataLog(path string) bool {
	return filepath.Base(filepath.Dir(path)) == fmt.Sprintf("%s-%d", LogTopic, LogPartition)
}

// metadataInspector looks at the metadata's files, one after the other.
type metadataInspector struct {
	fs    vfs.FS
	visit func(path string, item engine.InspectItem) error
	// log is the directory of the segment that is being read, term that of its last batch.
	log  string
	term int32
	// first and end are the Raft indexes of the entries in the log's files, [first, end), logPath its last segment; 0 and "" without any.
	// start is where the log begins by the checkpoint, 0 without one.
	first, start, end uint64
	logPath           string
	// hard is nil without a quorum-state; snapshot is the index of the newest snapshot, 0 without one.
	hard     *hardState
	hardPath string
	snapshot uint64
}

// fit makes it a fault of a file, in reports, that log, snapshot and quorum-state are not of one history: a start refuses them (see recover.go).
func (in *metadataInspector) fit(reports []engine.FileReport) {
	if in.end == 0 || in.hard == nil {
		return
	}
	committed, at := max(in.snapshot, in.hard.commit), in.logPath
	what, got, want := "", uint64(0), ""
	switch {
	case max(in.first, in.start) > in.snapshot+1:
		what, got, want = "first entry of the log", max(in.first, in.start), fmt.Sprintf("at most %d, which follows the newest snapshot", in.snapshot+1)
	case in.end <= committed:
		what, got, want = "last entry of the log", in.end-1, fmt.Sprintf("at least %d, which was committed", committed)
	case uint64(in.term) > in.hard.term:
		what, got, want, at = "term", in.hard.term, fmt.Sprintf("at least %d, that of the log's last entry", in.term), in.hardPath
	default:
		return
	}
	for i := range reports {
		if reports[i].Path == at && reports[i].Fault == nil {
			reports[i].Fault = &engine.CorruptFileError{Path: at, What: what, Got: fmt.Sprint(got), Want: want}
		}
	}
}

// item takes what engine.Inspect has found.
func (in *metadataInspector) item(path string, item engine.InspectItem) error {
	if o, ok := item.(*engine.OffsetInfo); ok && o.Topic == LogTopic && filepath.Base(path) == "log-start-offset-checkpoint" {
		in.start = uint64(o.Offset) + 1
	}
	if !IsMetadataLog(path) {
		return in.visit(path, item)
	}
	switch item := item.(type) {
	case *engine.BatchInfo:
		if dir := filepath.Dir(path); dir != in.log {
			in.log, in.term = dir, 0
		}
		if item.LeaderEpoch < in.term {
			return &engine.CorruptFileError{Path: path, Pos: item.Pos + 12, What: "Raft term", Got: fmt.Sprint(item.LeaderEpoch),
				Want: fmt.Sprintf("at least %d, that of the entry before", in.term)}
		}
		in.term, in.logPath, in.end = item.LeaderEpoch, path, uint64(item.LastOffset)+2
		if in.first == 0 {
			in.first = uint64(item.BaseOffset) + 1
		}
	case *engine.RecordInfo:
		entry, err := entryInfo(item, uint64(in.term))
		if err != nil {
			return fileFault(err, path, item.Pos)
		}
		return in.visit(path, entry)
	}
	return in.visit(path, item)
}

// entryInfo decodes a record of the metadata log.
func entryInfo(r *engine.RecordInfo, term uint64) (*EntryInfo, error) {
	e := &EntryInfo{Pos: r.Pos, Index: uint64(r.Offset) + 1, Term: term, Timestamp: r.Timestamp}
	raw, err := parseEntry(e.Index, term, r.Value)
	if err == nil && len(raw.Data) > 0 {
		var records []Record
		records, err = decodeRecords(raw.Data)
		for _, record := range records {
			e.Changes = append(e.Changes, changeInfo(record))
		}
	}
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) {
			return nil, &CorruptError{Pos: -1, Reason: fmt.Sprintf("entry %d: byte %d of its value: %s", e.Index, c.Pos+1, c.Reason)}
		}
		return nil, &CorruptError{Pos: -1, Reason: fmt.Sprintf("entry %d: %v", e.Index, err)}
	}
	return e, nil
}

// fileFault gives a CorruptError engine.Inspect's type; pos stands in for a position that it does not tell. Other errors stay what they are.
func fileFault(err error, path string, pos int64) error {
	var c *CorruptError
	if !errors.As(err, &c) {
		return err
	}
	if c.Pos >= 0 {
		pos = c.Pos
	}
	return &engine.CorruptFileError{Path: path, Pos: pos, What: c.Reason}
}

// file inspects a file that package engine does not know.
func (in *metadataInspector) file(path string) (r engine.FileReport, known bool, err error) {
	name := filepath.Base(path)
	_, _, image := parseSnapshotName(name)
	switch {
	case name == hardStateFile:
		r, err = in.quorumState(path)
	case image:
		r, err = in.image(path)
	default:
		return r, false, nil
	}
	var fault *engine.CorruptFileError
	if errors.As(fileFault(err, path, 0), &fault) {
		r.Fault, err = fault, nil
	}
	if err != nil {
		err = fmt.Errorf("inspect %s: %w", path, err)
	}
	return r, true, err
}

func (in *metadataInspector) quorumState(path string) (engine.FileReport, error) {
	r := engine.FileReport{Path: path, Kind: KindQuorumState}
	b, err := readFile(in.fs, path, hardStateBytesMax)
	if err != nil {
		return r, err
	}
	r.Bytes = int64(len(b))
	h, err := decodeHardState(b)
	if err != nil {
		return r, err
	}
	r.Items, in.hard, in.hardPath = 1, &h, path
	return r, in.visit(path, &QuorumStateInfo{Term: h.term, VotedFor: int64(h.vote) - 1, Commit: h.commit})
}

// imageInspector walks over one snapshot.
type imageInspector struct {
	*decoder
	path  string
	visit func(path string, item engine.InspectItem) error
	r     *engine.FileReport
}

func (in *metadataInspector) image(path string) (r engine.FileReport, err error) {
	r = engine.FileReport{Path: path, Kind: KindImage}
	f, err := in.fs.Open(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r.Bytes, err = f.Size(); err != nil {
		return r, err
	}
	if err := checkImageHeader(f, r.Bytes); err != nil {
		return r, err
	}
	i := imageInspector{decoder: newFileDecoder(f, int64(snapshotHeaderBytes), r.Bytes), path: path, visit: in.visit, r: &r}
	if err := i.head(); err != nil {
		return r, err
	}
	in.snapshot, _, _ = parseSnapshotName(filepath.Base(path)) // the newest comes last
	for _, part := range []func() error{i.brokers, i.topics, i.removedTopics, i.finish} {
		if err := part(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// checkImageHeader checks what decodeSnapshot checks before it looks at the body.
func checkImageHeader(f vfs.File, size int64) error {
	head := make([]byte, min(size, int64(snapshotHeaderBytes)))
	if n, err := f.ReadAt(head, 0); n < len(head) {
		return fmt.Errorf("read the header: %w", err)
	}
	if len(head) < snapshotHeaderBytes || !strings.HasPrefix(string(head), snapshotMagic) {
		return &CorruptError{Pos: 0, Reason: fmt.Sprintf("%d bytes that do not begin with %q", size, snapshotMagic)}
	}
	body := size - int64(snapshotHeaderBytes)
	if length := binary.BigEndian.Uint64(head[len(snapshotMagic)+4:]); length != uint64(body) {
		return &CorruptError{Pos: int64(len(snapshotMagic)) + 4, Reason: fmt.Sprintf("the body has %d bytes, the header says %d", body, length)}
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(sum, io.NewSectionReader(f, int64(snapshotHeaderBytes), body)); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if got, want := sum.Sum32(), binary.BigEndian.Uint32(head[len(snapshotMagic):]); got != want {
		return &CorruptError{Pos: int64(len(snapshotMagic)), Reason: fmt.Sprintf("the CRC of the body is %08x, the header says %08x", got, want)}
	}
	return nil
}

// found visits an item, unless it could not be read whole.
func (i *imageInspector) found(item engine.InspectItem) error {
	if i.err != nil {
		return i.err
	}
	i.r.Items++
	return i.visit(i.path, item)
}

func (i *imageInspector) head() error {
	info := &ImageInfo{Pos: i.at()}
	for range i.count("voters", replicasMax, 1) {
		info.Voters = append(info.Voters, int64(i.uvarint("voter"))-1)
	}
	info.Index, info.Term = i.uvarint("index"), i.uvarint("term")
	info.ClusterID, info.NextProducerID = i.string("cluster id", nameBytesMax), int64(i.uvarint("next producer id"))
	if index, term, _ := parseSnapshotName(filepath.Base(i.path)); i.err == nil && (index != info.Index || term != info.Term) {
		return i.failf("it holds entry %d of term %d, its name says %d of term %d", info.Index, info.Term, index, term)
	}
	return i.found(info)
}

func (i *imageInspector) brokers() error {
	last := ""
	for n := range i.brokerCount() {
		pos := i.at()
		name, configs := i.broker(n == 0, last)
		if err := i.found(&BrokerInfo{Pos: pos, Name: name, Version: configs.Version, Configs: configs.Values}); err != nil {
			return err
		}
		last = name
	}
	return i.err
}

func (i *imageInspector) topics() error {
	last := ""
	for range i.topicCount() {
		pos := i.at()
		t := i.topicHead()
		info := &TopicInfo{Pos: pos, Name: t.Name, ID: t.ID.String(), Version: t.Configs.Version, Configs: t.Configs.Values}
		for range i.runCount() {
			length, p := i.run()
			if i.err != nil {
				return i.err
			}
			info.PartitionCount += length
			info.Runs = append(info.Runs, PartitionRun{Count: length, Leader: &p.Leader, LeaderEpoch: &p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR})
		}
		switch err := CheckTopicName(t.Name); {
		case i.err != nil:
		case err != nil:
			i.failf("%v", err)
		case t.Name <= last:
			i.failf("topic %q after %q: names must ascend", t.Name, last)
		case t.ID == (TopicID{}) || info.PartitionCount == 0:
			i.failf("topic %q has id %s and %d partitions", t.Name, t.ID, info.PartitionCount)
		}
		if err := i.found(info); err != nil {
			return err
		}
		last = t.Name
	}
	return i.err
}

func (i *imageInspector) removedTopics() error {
	for range i.removedCount() {
		pos := i.at()
		r := i.removed()
		if err := i.found(&RemovedTopicInfo{Pos: pos, Name: r.Name, ID: r.ID.String(), PartitionCount: r.PartitionCount}); err != nil {
			return err
		}
	}
	return i.err
}
