package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// Names of the small files beside the segments. All are Kafka's, in name and content.
const (
	// Per log directory.
	recoveryPointCheckpointName     = "recovery-point-offset-checkpoint"
	logStartCheckpointName          = "log-start-offset-checkpoint"
	replicationOffsetCheckpointName = "replication-offset-checkpoint"
	cleanerOffsetCheckpointName     = "cleaner-offset-checkpoint"
	metaPropertiesName              = "meta.properties"
	cleanShutdownName               = ".kafka_cleanshutdown"
	// Per partition.
	leaderEpochCheckpointName = "leader-epoch-checkpoint"
	partitionMetadataName     = "partition.metadata"
)

// checkpointBytesMax bounds what is read of one of these files: at 300 bytes a line, 700,000 partitions.
const checkpointBytesMax = 256 << 20

// The offset checkpoints and the leader epoch checkpoint are lines of text: the version 0, the number of entries, then
// one entry a line, fields separated by one space: `topic partition offset`, or `epoch startOffset`.
// They are replaced whole (tmp, fsync, rename, fsync of the directory), so a crash leaves the old or the new file, and
// anything that does not parse is damage, reported with its position.
const checkpointVersion = 0

// readOffsetCheckpoint reads one of the `...-offset-checkpoint` files. A missing file matches fs.ErrNotExist; a damaged
// one is a CorruptFileError.
func readOffsetCheckpoint(fsys vfs.FS, path string) (map[TopicPartition]int64, error) {
	data, err := readSmallFile(fsys, path, checkpointBytesMax)
	if err != nil {
		return nil, err
	}
	return parseOffsetCheckpoint(data, path)
}

// writeOffsetCheckpoint replaces the file at path, durably; entries are sorted so that equal content gives equal bytes.
func writeOffsetCheckpoint(fsys vfs.FS, path string, offsets map[TopicPartition]int64) error {
	if err := vfs.WriteFileAtomic(fsys, path, appendOffsetCheckpoint(nil, offsets)); err != nil {
		return fmt.Errorf("write offset checkpoint: %w", err)
	}
	return nil
}

func appendOffsetCheckpoint(dst []byte, offsets map[TopicPartition]int64) []byte {
	keys := sortedPartitions(offsets)
	dst = appendCheckpointHead(dst, len(keys))
	for _, tp := range keys {
		dst = append(append(dst, tp.Topic...), ' ')
		dst = append(strconv.AppendInt(dst, int64(tp.Partition), 10), ' ')
		dst = append(strconv.AppendInt(dst, offsets[tp], 10), '\n')
	}
	return dst
}

// sortedPartitions lists the keys by topic, then partition.
func sortedPartitions(offsets map[TopicPartition]int64) []TopicPartition {
	keys := make([]TopicPartition, 0, len(offsets))
	for tp := range offsets {
		keys = append(keys, tp)
	}
	sort.Slice(keys, func(i, j int) bool {
		if keys[i].Topic != keys[j].Topic {
			return keys[i].Topic < keys[j].Topic
		}
		return keys[i].Partition < keys[j].Partition
	})
	return keys
}

func appendCheckpointHead(dst []byte, count int) []byte {
	dst = append(strconv.AppendInt(dst, checkpointVersion, 10), '\n')
	return append(strconv.AppendInt(dst, int64(count), 10), '\n')
}

func parseOffsetCheckpoint(data []byte, path string) (map[TopicPartition]int64, error) {
	r := lineReader{data: data, path: path}
	count, err := r.checkpointHead()
	if err != nil {
		return nil, err
	}
	offsets := make(map[TopicPartition]int64, count)
	for range count {
		f, err := r.fields(3, "topic partition offset")
		if err != nil {
			return nil, err
		}
		partition, err := r.number(f[1], "partition", 0, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		offset, err := r.number(f[2], "offset", 0, math.MaxInt64)
		if err != nil {
			return nil, err
		}
		tp := TopicPartition{Topic: f[0], Partition: int32(partition)}
		if _, ok := offsets[tp]; ok {
			return nil, corruptFile(path, r.lineStart, "entry", fmt.Sprintf("%s-%d a second time", tp.Topic, tp.Partition), "each partition once")
		}
		offsets[tp] = offset
	}
	return offsets, r.end()
}

// readEpochCheckpoint reads a leader-epoch-checkpoint. A missing file matches fs.ErrNotExist.
func readEpochCheckpoint(fsys vfs.FS, path string) ([]epochEntry, error) {
	data, err := readSmallFile(fsys, path, checkpointBytesMax)
	if err != nil {
		return nil, err
	}
	return parseEpochCheckpoint(data, path)
}

func appendEpochCheckpoint(dst []byte, entries []epochEntry) []byte {
	dst = appendCheckpointHead(dst, len(entries))
	for _, e := range entries {
		dst = append(strconv.AppendInt(dst, int64(e.Epoch), 10), ' ')
		dst = append(strconv.AppendInt(dst, e.StartOffset, 10), '\n')
	}
	return dst
}

func parseEpochCheckpoint(data []byte, path string) ([]epochEntry, error) {
	r := lineReader{data: data, path: path}
	count, err := r.checkpointHead()
	if err != nil {
		return nil, err
	}
	entries := make([]epochEntry, 0, count)
	for i := range count {
		f, err := r.fields(2, "epoch startOffset")
		if err != nil {
			return nil, err
		}
		epochMin, startMin := int64(0), int64(0)
		if i > 0 {
			epochMin, startMin = int64(entries[i-1].Epoch)+1, entries[i-1].StartOffset+1
		}
		epoch, err := r.number(f[0], "epoch", epochMin, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		start, err := r.number(f[1], "start offset", startMin, math.MaxInt64-1)
		if err != nil {
			return nil, err
		}
		entries = append(entries, epochEntry{Epoch: int32(epoch), StartOffset: start})
	}
	return entries, r.end()
}

// lineReader walks the lines of a small text file and reports faults with the position of their line.
type lineReader struct {
	data      []byte
	path      string
	pos       int   // next byte
	lineStart int64 // of the line read last
}

// line gives the next line without its end; ok is false at the end of the file. Kafka ends its last line with a line feed too, but reads
// files that lack it, and so does this.
func (r *lineReader) line() (s string, ok bool) {
	r.lineStart = int64(r.pos)
	if r.pos >= len(r.data) {
		return "", false
	}
	rest := r.data[r.pos:]
	for i, c := range rest {
		if c == '\n' {
			r.pos += i + 1
			return strings.TrimSuffix(string(rest[:i]), "\r"), true
		}
	}
	r.pos = len(r.data)
	return string(rest), true
}

// checkpointHead reads version and entry count. The count is bounded by the bytes that follow: an entry has at least 4.
func (r *lineReader) checkpointHead() (int, error) {
	s, ok := r.line()
	if !ok {
		return 0, corruptFile(r.path, 0, "version line", "an empty file", checkpointVersion)
	}
	if s != strconv.Itoa(checkpointVersion) {
		return 0, corruptFile(r.path, r.lineStart, "version", strconv.Quote(clip(s)), checkpointVersion)
	}
	s, ok = r.line()
	if !ok {
		return 0, corruptFile(r.path, r.lineStart, "entry count line", "end of file", "a number")
	}
	n, err := r.number(s, "entry count", 0, int64(len(r.data)-r.pos+1)/4)
	return int(n), err
}

func (r *lineReader) fields(want int, what string) ([]string, error) {
	s, ok := r.line()
	if !ok {
		return nil, corruptFile(r.path, r.lineStart, "entry line", "end of file", what)
	}
	f := strings.Fields(s)
	if len(f) != want {
		return nil, corruptFile(r.path, r.lineStart, "entry line", strconv.Quote(clip(s)), what)
	}
	return f, nil
}

func (r *lineReader) number(s, what string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, corruptFile(r.path, r.lineStart, what, strconv.Quote(clip(s)), "a number")
	}
	if n < least || n > most {
		return 0, corruptFile(r.path, r.lineStart, what, n, fmt.Sprintf("%d to %d", least, most))
	}
	return n, nil
}

// end checks that only empty lines follow.
func (r *lineReader) end() error {
	for {
		s, ok := r.line()
		if !ok {
			return nil
		}
		if strings.TrimSpace(s) != "" {
			return corruptFile(r.path, r.lineStart, "after the last entry", strconv.Quote(clip(s)), "end of file")
		}
	}
}

// clip shortens a damaged line for an error message.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// readSmallFile reads a whole file of at most bytesMax bytes. A missing file matches fs.ErrNotExist.
func readSmallFile(fsys vfs.FS, path string, bytesMax int64) (data []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	if size > bytesMax {
		return nil, corruptFile(path, 0, "file size in bytes", size, fmt.Sprintf("at most %d", bytesMax))
	}
	data = make([]byte, size)
	if err := readFull(f, data, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// readFull fills p from pos on; a file that ends before that is io.ErrUnexpectedEOF.
func readFull(f io.ReaderAt, p []byte, pos int64) error {
	n, err := f.ReadAt(p, pos)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// removeFile removes a file; a missing one is fine.
func removeFile(fsys vfs.FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// removeFileDurably removes a file and syncs its directory; a missing file is fine.
func removeFileDurably(fsys vfs.FS, path string) error {
	err := fsys.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
