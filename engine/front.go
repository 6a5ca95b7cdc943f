package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// The first segment of a log has to reach down to its log start. The checkpoint of log starts has an entry for each log that starts above 0,
// durable before a segment below it goes: in an intact file no entry means 0. So a first segment above the log start was not left there by
// retention: the one before it is missing. Kafka's file leaves out a log start that the name of the first segment tells, see FORMATS.md.

// firstSegment is the smallest base offset of the segments among names, -1 without any. One that compaction is putting in place counts.
func firstSegment(names []string) int64 {
	first := int64(-1)
	for _, name := range names {
		if base, ok := parseSegmentName(strings.TrimSuffix(name, swapSuffix), logSuffix); ok && (first < 0 || base < first) {
			first = base
		}
	}
	return first
}

// frontFault names what is missing of the log in dir, whose first segment begins at first, above the log start.
func frontFault(dir string, names []string, first, logStart int64) error {
	path := dir
	if lost := lostSegment(names, logStart); lost >= 0 {
		path = filepath.Join(dir, segmentName(lost, logSuffix))
	}
	return corruptFile(path, 0, "first segment", "none: the log begins with "+segmentName(first, logSuffix),
		fmt.Sprintf("offsets %d to %d, from the log start on", logStart, first-1))
}

// lostSegment is the base offset of the missing segment that holds the log start, as far as the start or an index that is left tells; else -1.
func lostSegment(names []string, logStart int64) int64 {
	if logStart == 0 {
		return 0
	}
	lost := int64(-1)
	for _, name := range names {
		if !slices.Contains(segmentSuffixes[:], filepath.Ext(name)) {
			continue
		}
		if base, ok := offsetInName(name); ok && base <= logStart && base > lost {
			lost = base
		}
	}
	return lost
}

// checkFront decides about a first segment that begins above the log start. Above the recovery point the one before it is a file whose name had
// not reached the disk, or the whole log was being replaced: all records that are left go too.
func (l *Log) checkFront(o *opened, names []string) error {
	if len(o.segs) == 0 || o.segs[0].base <= o.logStart {
		return nil
	}
	c := recoveryCase{fault: faultGap, side: aboveRecoveryPoint}
	switch {
	case !l.dir.recoveryKnown:
		c.side = recoveryPointLost
	case l.start.recoveryPoint > o.logStart:
		c.side = belowRecoveryPoint
	}
	if decide(c) == actTruncate {
		return l.restartAtLogStart(o)
	}
	o.fault = frontFault(l.part.path, names, o.segs[0].base, o.logStart)
	o.segs = nil
	return nil
}

// guessStart gives a log the base of its first segment as its start, where the checkpoint of log starts is lost: without it nobody can tell what
// was deleted from what is missing. A first segment above the recovery point is a loss all the same.
func (d *logDir) guessStart(tp TopicPartition) {
	path := filepath.Join(d.path, tp.String())
	names, err := d.store.o.FS.List(path)
	if err != nil {
		return // whoever opens the log finds the same
	}
	sp := d.start[tp]
	first := firstSegment(names)
	if first <= 0 || sp.recoveryPoint > 0 && sp.recoveryPoint < first {
		return
	}
	d.store.log.Warn("log start not known, the first segment is taken for it", "partition", tp.String(), "path", path, "logStart", first,
		"missing", filepath.Join(d.path, logStartCheckpointName))
	sp.logStart = first
	d.start[tp] = sp
}

// frontInspector holds the first segments of a log directory's partitions against its checkpoints, as a start does.
type frontInspector struct {
	fs   vfs.FS
	dir  string
	read bool
	// Nil where a file is missing or damaged: then nothing is said, and of a damaged one its own report tells.
	starts, points map[TopicPartition]int64
}

// fault is what is wrong with the front of the partition in path, or nil. names were listed before.
func (in *frontInspector) fault(path string, names []string) error {
	tp, ok := parsePartitionDir(filepath.Base(path))
	if !ok {
		return nil
	}
	if !in.read {
		in.readCheckpoints()
	}
	if in.compare(tp, path, names) == nil {
		return nil
	}
	// A broker may be at work: its log starts are down before a segment goes, so they have to be read after the names.
	names, err := in.fs.List(path)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	in.readCheckpoints()
	return in.compare(tp, path, names)
}

func (in *frontInspector) compare(tp TopicPartition, path string, names []string) error {
	start, point, first := in.starts[tp], in.points[tp], firstSegment(names)
	switch {
	case in.starts == nil || in.points != nil && point <= start:
		return nil
	case first < 0 && point > start:
		return noSegments(path, point)
	case first > start:
		return frontFault(path, names, first, start)
	}
	return nil
}

// readCheckpoints reads the log starts first: when a log is replaced by one that starts lower, its recovery point is lowered before.
func (in *frontInspector) readCheckpoints() {
	in.read = true
	in.starts, _ = readOffsetCheckpoint(in.fs, filepath.Join(in.dir, logStartCheckpointName))
	in.points, _ = readOffsetCheckpoint(in.fs, filepath.Join(in.dir, recoveryPointCheckpointName))
}

// noSegments is the fault of a partition's directory that has lost all of its records.
func noSegments(path string, recoveryPoint int64) error {
	return corruptFile(path, 0, "segments", "none", fmt.Sprintf("records up to offset %d, as the recovery point says", recoveryPoint))
}
