package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// The snapshot file: header, then a body that the CRC covers. Part of the format.
const (
	snapshotMagic       = "WEIRIMG1"
	snapshotHeaderBytes = len(snapshotMagic) + 4 + 8 // magic, CRC32C of the body, length of the body
	snapshotSuffix      = ".image"
	snapshotBytesMax    = 1 << 30 // more is taken for garbage
)

// snapshot is the image after one entry, and the voters that were in force there.
type snapshot struct {
	image  *Image
	voters []uint64 // Raft ids
	path   string   // the file it was read from
}

// snapshotName is the file's name: it sorts by index, and tells both without being opened.
func snapshotName(index, term uint64) string {
	return fmt.Sprintf("%020d-%010d%s", index, term, snapshotSuffix)
}

// parseSnapshotName is the inverse of snapshotName; ok is false for any other file.
func parseSnapshotName(name string) (index, term uint64, ok bool) {
	stem, found := strings.CutSuffix(name, snapshotSuffix)
	if !found || len(stem) != 20+1+10 || stem[20] != '-' {
		return 0, 0, false
	}
	index, err := strconv.ParseUint(stem[:20], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	term, err = strconv.ParseUint(stem[21:], 10, 64)
	return index, term, err == nil
}

// appendSnapshot appends the bytes of the file.
func appendSnapshot(dst []byte, s snapshot) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, snapshotHeaderBytes)...)
	copy(dst[start:], snapshotMagic)
	dst = binary.AppendUvarint(dst, uint64(len(s.voters)))
	for _, id := range s.voters {
		dst = binary.AppendUvarint(dst, id)
	}
	dst = appendImage(dst, s.image)
	header, body := dst[start+len(snapshotMagic):], dst[start+snapshotHeaderBytes:]
	binary.BigEndian.PutUint32(header, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	binary.BigEndian.PutUint64(header[4:], uint64(len(body)))
	return dst
}

// decodeSnapshot reads the bytes of the file, which may be anything. b is not kept.
func decodeSnapshot(b []byte) (snapshot, error) {
	head := newDecoder(b)
	if len(b) < snapshotHeaderBytes || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return snapshot{}, head.failf("%d bytes that do not begin with %q", len(b), snapshotMagic)
	}
	body := b[snapshotHeaderBytes:]
	if length := binary.BigEndian.Uint64(b[len(snapshotMagic)+4:]); length != uint64(len(body)) {
		head.pos = len(snapshotMagic) + 4
		return snapshot{}, head.failf("the body has %d bytes, the header says %d", len(body), length)
	}
	want := binary.BigEndian.Uint32(b[len(snapshotMagic):])
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != want {
		head.pos = len(snapshotMagic)
		return snapshot{}, head.failf("the CRC of the body is %08x, the header says %08x", got, want)
	}
	d := newDecoder(b)
	d.pos = snapshotHeaderBytes
	return d.snapshot()
}

// snapshot reads the body.
func (d *decoder) snapshot() (snapshot, error) {
	s := snapshot{voters: make([]uint64, d.count("voters", replicasMax, 1))}
	for i := range s.voters {
		s.voters[i] = d.uvarint("voter")
	}
	s.image = d.image()
	return s, d.finish()
}

// writeSnapshot makes s durable in dir and returns its name.
func writeSnapshot(fsys vfs.FS, dir string, s snapshot) (string, error) {
	name := snapshotName(s.image.index, s.image.term)
	return name, vfs.WriteFileAtomic(fsys, filepath.Join(dir, name), appendSnapshot(nil, s))
}

// readSnapshot reads the newest snapshot of dir; nil when there is none. A newest one that cannot be read is an error: the log
// before it may be gone, so neither an older one nor an empty image could take its place.
func readSnapshot(fsys vfs.FS, dir string) (*snapshot, error) {
	names, err := snapshotNames(fsys, dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	path := filepath.Join(dir, names[len(names)-1])
	b, err := readFile(fsys, path, snapshotBytesMax)
	if err != nil {
		return nil, err
	}
	s, err := decodeSnapshot(b)
	if err != nil {
		return nil, atPath(err, path)
	}
	if index, term, _ := parseSnapshotName(filepath.Base(path)); index != s.image.index || term != s.image.term {
		return nil, &CorruptError{Path: path, Pos: -1, Reason: fmt.Sprintf("it holds entry %d of term %d", s.image.index, s.image.term)}
	}
	s.path = path
	return &s, nil
}

// removeSnapshots removes the snapshots that are older than keep, a name.
func removeSnapshots(fsys vfs.FS, dir, keep string) error {
	names, err := snapshotNames(fsys, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name >= keep {
			break
		}
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// snapshotNames lists the snapshots of dir, oldest first.
func snapshotNames(fsys vfs.FS, dir string) ([]string, error) {
	all, err := fsys.List(dir)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cluster: list %s: %w", dir, err)
	}
	var names []string
	for _, name := range all {
		if _, _, ok := parseSnapshotName(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// readFile returns the bytes of a file, at most most.
func readFile(fsys vfs.FS, path string, most int64) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cluster: open %s: %w", path, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("cluster: size of %s: %w", path, err)
	}
	if size > most {
		return nil, &CorruptError{Path: path, Pos: -1, Reason: fmt.Sprintf("it has %d bytes, at most %d", size, most)}
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("cluster: read %s: %d of %d bytes: %w", path, n, len(b), err)
	}
	return b, nil
}

// atPath names the file in a CorruptError that does not yet.
func atPath(err error, path string) error {
	if c, ok := err.(*CorruptError); ok && c.Path == "" {
		c.Path = path
	}
	return err
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
