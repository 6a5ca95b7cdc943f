package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// FileKind is what a file in a data directory is, told by its name.
type FileKind string

// The kinds of files.
const (
	KindLog               FileKind = "log"
	KindOffsetIndex       FileKind = "index"
	KindTimeIndex         FileKind = "timeindex"
	KindTxnIndex          FileKind = "txnindex"
	KindSnapshot          FileKind = "snapshot"
	KindEpochCheckpoint   FileKind = "leader-epochs"
	KindOffsetCheckpoint  FileKind = "offset-checkpoint"
	KindMetaProperties    FileKind = "meta.properties"
	KindPartitionMetadata FileKind = "partition.metadata"
	KindCleanShutdown     FileKind = "clean-shutdown"
	KindUnknown           FileKind = "unknown"
)

// suffixes of files that are being written or removed; what is before them still tells the kind.
var transientSuffixes = [...]string{".deleted", ".cleaned", ".swap"}

// KindOf tells the kind of a file from its name.
func KindOf(name string) FileKind {
	name = filepath.Base(name)
	for _, s := range transientSuffixes {
		name = strings.TrimSuffix(name, s)
	}
	switch name {
	case leaderEpochCheckpointName:
		return KindEpochCheckpoint
	case recoveryPointCheckpointName, logStartCheckpointName, replicationOffsetCheckpointName, cleanerOffsetCheckpointName:
		return KindOffsetCheckpoint
	case metaPropertiesName:
		return KindMetaProperties
	case partitionMetadataName:
		return KindPartitionMetadata
	case cleanShutdownName:
		return KindCleanShutdown
	}
	if _, ok := offsetInName(name); !ok {
		return KindUnknown
	}
	switch filepath.Ext(name) {
	case ".log":
		return KindLog
	case ".index":
		return KindOffsetIndex
	case ".timeindex":
		return KindTimeIndex
	case txnIndexSuffix:
		return KindTxnIndex
	case snapshotSuffix:
		return KindSnapshot
	}
	return KindUnknown
}

// offsetInName reads the 20 digits that start the name of a segment's files.
func offsetInName(name string) (int64, bool) {
	digits, _, ok := strings.Cut(filepath.Base(name), ".")
	if !ok || len(digits) != 20 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	return offset, err == nil
}

// InspectItem is one thing found in a file: *BatchInfo, *RecordInfo, *IndexEntryInfo, *TimeIndexEntryInfo,
// *AbortedTxnInfo, *ProducerInfo, *EpochInfo, *OffsetInfo or *PropertyInfo. String is one line for people; the struct
// encodes to JSON for programs. It is valid during the call of Visit only.
type InspectItem interface {
	fmt.Stringer
	// Position is the item's first byte in its file; for a record that of its batch.
	Position() int64
}

// InspectOptions says how much to look at.
type InspectOptions struct {
	// Records opens every batch, checks each record and visits it. Default: false, headers and CRC.
	Records bool
	// RecordBytesMax limits one batch when opened. Default: 0, which means 20 times its size, at least 64 MiB.
	RecordBytesMax int
	// RecordsOf says of which logs Records holds whatever it is. Default: of none.
	RecordsOf func(path string) bool
	// Others inspects a file whose name is none of this package's; known is false where it is not the caller's either. Default: nothing.
	Others func(path string) (r FileReport, known bool, err error)
	// StartOffset skips log batches that end before it (they are still verified). Default: 0.
	StartOffset int64
	// Visit is called for each item in file order; an error ends the inspection and is returned, but a CorruptFileError, which is the
	// file's fault. Default: nothing.
	Visit func(path string, item InspectItem) error
}

// FileReport is the result for one file.
type FileReport struct {
	// Path and Kind name the file.
	Path string   `json:"path"`
	Kind FileKind `json:"kind"`
	// Bytes is its size, Items the number of batches or entries that are good.
	Bytes int64 `json:"bytes"`
	Items int64 `json:"items"`
	// Records counts the records that the batch headers claim; 0 for other files.
	Records int64 `json:"records,omitempty"`
	// Fault is the first fault, with position. Nil for a good file.
	Fault *CorruptFileError `json:"fault,omitempty"`
	// Warnings are oddities that a stop at a bad moment leaves and that a start repairs.
	Warnings []string `json:"warnings,omitempty"`
}

// Inspect verifies the file at path, or all files at and below a directory, in name order; a first segment of a partition that is missing has
// a report too. It never writes and needs no
// lock, so that it may run beside a broker; the tail of an active segment may then be seen half written. Faults are in
// the reports; err is only for what could not be read at all, and for Visit's own.
func Inspect(fsys vfs.FS, path string, o InspectOptions) (reports []FileReport, err error) {
	info, err := fsys.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if !info.Dir {
		r, err := inspectFile(fsys, path, o)
		return []FileReport{r}, err
	}
	return inspectDir(fsys, path, o, 0, &frontInspector{fs: fsys, dir: filepath.Dir(path)})
}

// inspectDepthMax is a log directory (0), its partitions (1), and one level to spare.
const inspectDepthMax = 2

func inspectDir(fsys vfs.FS, dir string, o InspectOptions, depth int, fronts *frontInspector) (reports []FileReport, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if err := fronts.fault(dir, names); err != nil {
		var fault *CorruptFileError
		if !errors.As(err, &fault) {
			return nil, err
		}
		reports = append(reports, FileReport{Path: fault.Path, Kind: KindLog, Fault: fault})
	}
	below := &frontInspector{fs: fsys, dir: dir}
	for _, name := range names {
		path := filepath.Join(dir, name)
		info, err := fsys.Stat(path)
		if err != nil {
			return reports, fmt.Errorf("inspect: %w", err)
		}
		switch {
		case info.Dir && depth < inspectDepthMax:
			sub, err := inspectDir(fsys, path, o, depth+1, below)
			reports = append(reports, sub...)
			if err != nil {
				return reports, err
			}
		case !info.Dir:
			r, err := inspectFile(fsys, path, o)
			if errors.Is(err, errUnknownFile) {
				continue
			}
			reports = append(reports, r)
			if err != nil {
				return reports, err
			}
		}
	}
	return reports, nil
}

var errUnknownFile = errors.New("got a name that is none of a data directory's files")

// inspector works on one file.
type inspector struct {
	fs   vfs.FS
	path string
	o    InspectOptions
	r    *FileReport
}

func inspectFile(fsys vfs.FS, path string, o InspectOptions) (FileReport, error) {
	r := FileReport{Path: path, Kind: KindOf(path)}
	in := inspector{fs: fsys, path: path, o: o, r: &r}
	var err error
	switch r.Kind {
	case KindLog:
		err = in.inspectLog()
	case KindOffsetIndex:
		err = in.inspectOffsetIndex()
	case KindTimeIndex:
		err = in.inspectTimeIndex()
	case KindUnknown:
		if o.Others != nil {
			if other, known, err := o.Others(path); known || err != nil {
				return other, err
			}
		}
		return r, fmt.Errorf("inspect %s: %w, want for example "+
			"00000000000000000000.log, .index, .timeindex, .txnindex, .snapshot or a checkpoint", path, errUnknownFile)
	default:
		err = in.inspectSmall()
	}
	var fault *CorruptFileError
	if errors.As(err, &fault) {
		r.Fault, err = fault, nil
	}
	if err != nil {
		err = fmt.Errorf("inspect: %w", err)
	}
	return r, err
}

func (in *inspector) visit(item InspectItem) error {
	in.r.Items++
	if in.o.Visit == nil {
		return nil
	}
	return in.o.Visit(in.path, item)
}

// inspectSmall handles the files that are read whole.
func (in *inspector) inspectSmall() error {
	bytesMax := int64(checkpointBytesMax)
	if in.r.Kind == KindSnapshot {
		bytesMax = snapshotBytesMax
	}
	data, err := readSmallFile(in.fs, in.path, bytesMax)
	if err != nil {
		return err
	}
	in.r.Bytes = int64(len(data))
	items, err := parseSmall(in.r.Kind, data, in.path)
	for _, item := range items {
		if verr := in.visit(item); verr != nil {
			return verr
		}
	}
	return err
}

// parseSmall gives the items of a file that is read whole; items before a fault may come with the error.
func parseSmall(kind FileKind, data []byte, path string) (items []InspectItem, err error) {
	switch kind {
	case KindTxnIndex:
		txns, err := parseTxnIndex(data, path)
		for i, t := range txns {
			items = append(items, &AbortedTxnInfo{Pos: int64(i) * txnIndexEntrySize, AbortedTxn: t})
		}
		return items, err
	case KindSnapshot:
		producers, err := parseSnapshot(data, path)
		for i, p := range producers {
			items = append(items, &ProducerInfo{Pos: snapshotHeadSize + int64(i)*snapshotEntrySize, snapshotEntry: p})
		}
		return items, err
	case KindEpochCheckpoint:
		epochs, err := parseEpochCheckpoint(data, path)
		for _, e := range epochs {
			items = append(items, &EpochInfo{Epoch: e.Epoch, StartOffset: e.StartOffset})
		}
		return items, err
	case KindOffsetCheckpoint:
		offsets, err := parseOffsetCheckpoint(data, path)
		for _, tp := range sortedPartitions(offsets) {
			items = append(items, &OffsetInfo{Topic: tp.Topic, Partition: tp.Partition, Offset: offsets[tp]})
		}
		return items, err
	case KindMetaProperties:
		m, err := parseMetaProperties(data, path)
		if err != nil {
			return nil, err
		}
		return []InspectItem{
			&PropertyInfo{Key: "cluster.id", Value: m.ClusterID},
			&PropertyInfo{Key: "node.id", Value: strconv.Itoa(int(m.NodeID))},
			&PropertyInfo{Key: "directory.id", Value: m.DirectoryID.String()},
		}, nil
	case KindPartitionMetadata:
		id, err := parsePartitionMetadata(data, path)
		if err != nil {
			return nil, err
		}
		return []InspectItem{&PropertyInfo{Key: "topic_id", Value: id.String()}}, nil
	default:
		epoch, err := parseCleanShutdown(data, path)
		if err != nil {
			return nil, err
		}
		return []InspectItem{&PropertyInfo{Key: "brokerEpoch", Value: strconv.FormatInt(epoch, 10)}}, nil
	}
}
