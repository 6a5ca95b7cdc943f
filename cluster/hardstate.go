package cluster

import (
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"

	"github.com/weirmq/weir/vfs"
)

// hardStateFile is the name of the file of Raft's hard state: five lines, the last one the CRC32C of those before.
//
//	weir quorum-state 1
//	term 3
//	vote 2
//	commit 1041
//	crc 9f3a01c2
const hardStateFile = "quorum-state"

const hardStateBytesMax = 1 << 10

// hardState is what Raft must remember about itself: it writes it before it votes or leads. Commit is a lower bound, the entries
// that were known to be committed when the file was written: a log that ends before it has lost entries.
type hardState struct {
	term, vote, commit uint64
}

func appendHardState(dst []byte, h hardState) []byte {
	text := fmt.Sprintf("weir quorum-state 1\nterm %d\nvote %d\ncommit %d\n", h.term, h.vote, h.commit)
	crc := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(dst, "%scrc %08x\n", text, crc)
}

// decodeHardState reads the bytes of the file. Only what appendHardState writes is accepted.
func decodeHardState(b []byte) (hardState, error) {
	var h hardState
	var version uint64
	lines, pos := strings.SplitAfter(string(b), "\n"), int64(0)
	for i, field := range []struct {
		format string
		value  *uint64
	}{{"weir quorum-state %d\n", &version}, {"term %d\n", &h.term}, {"vote %d\n", &h.vote}, {"commit %d\n", &h.commit}} {
		line := lines[min(i, len(lines)-1)]
		if _, err := fmt.Sscanf(line, field.format, field.value); err != nil || line != fmt.Sprintf(field.format, *field.value) || version != 1 {
			return hardState{}, &CorruptError{Pos: pos, Reason: fmt.Sprintf("line %d of %d bytes: got %.60q, want %q", i+1, len(b), line, field.format)}
		}
		pos += int64(len(line))
	}
	if want := string(appendHardState(nil, h)[pos:]); want != string(b[pos:]) {
		return hardState{}, &CorruptError{Pos: pos, Reason: fmt.Sprintf("got %.60q after the fields, which have %q", b[pos:], want)}
	}
	return h, nil
}

// readHardState reads the file in dir; found is false when there is none.
func readHardState(fsys vfs.FS, dir string) (h hardState, found bool, err error) {
	path := filepath.Join(dir, hardStateFile)
	b, err := readFile(fsys, path, hardStateBytesMax)
	if isNotExist(err) {
		return hardState{}, false, nil
	}
	if err != nil {
		return hardState{}, false, err
	}
	h, err = decodeHardState(b)
	return h, true, atPath(err, path)
}

// writeHardState makes h durable in dir.
func writeHardState(fsys vfs.FS, dir string, h hardState) error {
	return vfs.WriteFileAtomic(fsys, filepath.Join(dir, hardStateFile), appendHardState(nil, h))
}
