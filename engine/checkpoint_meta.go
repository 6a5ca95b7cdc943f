package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// metaBytesMax bounds the files below; a whole one has about 100 bytes.
const metaBytesMax = 1 << 20

// MetaProperties identifies a log directory: Kafka's meta.properties, version 1. It is written once, when the
// directory is formatted, and refuses a directory of another cluster or node.
type MetaProperties struct {
	// ClusterID is the cluster's id as text, usually 22 characters of base64.
	ClusterID string
	// NodeID is the owner, 0 to 2^31-1.
	NodeID int32
	// DirectoryID tells this directory from all others; zero when the file has none.
	DirectoryID TopicID
}

// ReadMetaProperties reads dir/meta.properties. A missing file matches fs.ErrNotExist (an unformatted directory); a
// damaged one is a CorruptFileError.
func ReadMetaProperties(fsys vfs.FS, dir string) (MetaProperties, error) {
	path := filepath.Join(dir, metaPropertiesName)
	data, err := readSmallFile(fsys, path, metaBytesMax)
	if err != nil {
		return MetaProperties{}, err
	}
	return parseMetaProperties(data, path)
}

// WriteMetaProperties writes dir/meta.properties, atomically and durably.
func WriteMetaProperties(fsys vfs.FS, dir string, m MetaProperties) error {
	b := []byte("version=1\n")
	b = append(b, "cluster.id="+escapeProperty(m.ClusterID)+"\n"...)
	b = append(b, "node.id="+strconv.Itoa(int(m.NodeID))+"\n"...)
	if m.DirectoryID != (TopicID{}) {
		b = append(b, "directory.id="+m.DirectoryID.String()+"\n"...)
	}
	if err := vfs.WriteFileAtomic(fsys, filepath.Join(dir, metaPropertiesName), b); err != nil {
		return fmt.Errorf("write %s: %w", metaPropertiesName, err)
	}
	return nil
}

func parseMetaProperties(data []byte, path string) (MetaProperties, error) {
	var m MetaProperties
	seen := map[string]bool{}
	r := lineReader{data: data, path: path}
	for {
		s, ok := r.line()
		if !ok {
			break
		}
		s = strings.TrimSpace(s)
		if s == "" || s[0] == '#' || s[0] == '!' {
			continue
		}
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return m, corruptFile(path, r.lineStart, "line", strconv.Quote(clip(s)), "key=value")
		}
		key, value = strings.TrimSpace(key), unescapeProperty(strings.TrimSpace(value))
		seen[key] = true
		switch key {
		case "version":
			if value != "1" {
				return m, corruptFile(path, r.lineStart, "version", strconv.Quote(clip(value)), "1, the only format that this release knows")
			}
		case "cluster.id":
			m.ClusterID = value
		case "node.id":
			n, err := r.number(value, "node.id", 0, math.MaxInt32)
			if err != nil {
				return m, err
			}
			m.NodeID = int32(n)
		case "directory.id":
			id, err := ParseTopicID(value)
			if err != nil {
				return m, corruptFile(path, r.lineStart, "directory.id", strconv.Quote(clip(value)), "a UUID in base64")
			}
			m.DirectoryID = id
		}
	}
	for _, key := range []string{"version", "cluster.id", "node.id"} {
		if !seen[key] {
			return m, corruptFile(path, int64(len(data)), key, "nothing", "a value")
		}
	}
	return m, nil
}

// escapeProperty writes a value so that Java's Properties reads it back.
func escapeProperty(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`).Replace(s)
}

func unescapeProperty(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			switch c = s[i]; c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			}
		}
		out.WriteByte(c)
	}
	return out.String()
}

// readPartitionMetadata reads the topic id from dir/partition.metadata, dir being a partition's. A missing file matches
// fs.ErrNotExist; a damaged one is a CorruptFileError and must not be replaced, as it may belong to another topic.
func readPartitionMetadata(fsys vfs.FS, dir string) (TopicID, error) {
	path := filepath.Join(dir, partitionMetadataName)
	data, err := readSmallFile(fsys, path, metaBytesMax)
	if err != nil {
		return TopicID{}, err
	}
	return parsePartitionMetadata(data, path)
}

// writePartitionMetadata writes dir/partition.metadata, atomically and durably.
func writePartitionMetadata(fsys vfs.FS, dir string, id TopicID) error {
	if err := vfs.WriteFileAtomic(fsys, filepath.Join(dir, partitionMetadataName), encodePartitionMetadata(id)); err != nil {
		return fmt.Errorf("write %s: %w", partitionMetadataName, err)
	}
	return nil
}

func encodePartitionMetadata(id TopicID) []byte {
	return []byte("version: 0\ntopic_id: " + id.String())
}

func parsePartitionMetadata(data []byte, path string) (id TopicID, err error) {
	r := lineReader{data: data, path: path}
	for _, want := range []string{"version", "topic_id"} {
		s, ok := r.line()
		key, value, cut := strings.Cut(s, ":")
		if !ok || !cut || strings.TrimSpace(key) != want {
			return id, corruptFile(path, r.lineStart, "line", strconv.Quote(clip(s)), want+": value")
		}
		value = strings.TrimSpace(value)
		switch want {
		case "version":
			if value != "0" {
				return id, corruptFile(path, r.lineStart, "version", strconv.Quote(clip(value)), 0)
			}
		case "topic_id":
			if id, err = ParseTopicID(value); err != nil || id == (TopicID{}) {
				return TopicID{}, corruptFile(path, r.lineStart, "topic_id", strconv.Quote(clip(value)), "a UUID in base64, not zero")
			}
		}
	}
	return id, r.end()
}

// cleanShutdownMark is the content of .kafka_cleanshutdown.
type cleanShutdownMark struct {
	Version     int    `json:"version"`
	BrokerEpoch *int64 `json:"brokerEpoch"`
}

// writeCleanShutdown leaves the mark in a log directory, after everything else was flushed. brokerEpoch is -1 where
// there is no controller to give one.
func writeCleanShutdown(fsys vfs.FS, dir string, brokerEpoch int64) error {
	data, err := json.Marshal(cleanShutdownMark{BrokerEpoch: &brokerEpoch})
	if err == nil {
		err = vfs.WriteFileAtomic(fsys, filepath.Join(dir, cleanShutdownName), data)
	}
	if err != nil {
		return fmt.Errorf("write clean-shutdown mark: %w", err)
	}
	return nil
}

// readCleanShutdown says whether the log directory was closed cleanly, and the broker epoch in the mark. A damaged mark
// is a CorruptFileError with clean false: the directory is then recovered as after a crash.
func readCleanShutdown(fsys vfs.FS, dir string) (brokerEpoch int64, clean bool, err error) {
	path := filepath.Join(dir, cleanShutdownName)
	data, err := readSmallFile(fsys, path, metaBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, false, nil
	}
	if err != nil {
		return -1, false, err
	}
	brokerEpoch, err = parseCleanShutdown(data, path)
	return brokerEpoch, err == nil, err
}

func parseCleanShutdown(data []byte, path string) (brokerEpoch int64, err error) {
	var m cleanShutdownMark
	if err := json.Unmarshal(data, &m); err != nil || m.Version != 0 || m.BrokerEpoch == nil {
		return -1, corruptFile(path, 0, "content", strconv.Quote(clip(string(data))), `{"version":0,"brokerEpoch":N}`)
	}
	return *m.BrokerEpoch, nil
}

// removeCleanShutdown removes the mark, durably: called when loading starts, so that a crash from then on is seen.
func removeCleanShutdown(fsys vfs.FS, dir string) error {
	return removeFileDurably(fsys, filepath.Join(dir, cleanShutdownName))
}
