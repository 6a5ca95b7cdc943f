package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/weirmq/weir/vfs"
)

// cutsName is the file in a log directory of one byte: '0' when no cut of a partition's files may be in the page cache only, else '1'.
const cutsName = ".cuts"

// cutMark tells the next start whether the process was killed between cutting a file and having that fsynced. Such a cut has to be made durable before
// anything is appended: a power cut would give back what it took, behind or in place of what was appended since. Without one, and where nothing that is
// acknowledged has to be durable, a log can be used before what the killed process has left of it is.
//
// The mark is for a process that is killed, whose page cache stays, and so it is never fsynced. After a power cut either value will do: nothing is in
// the page cache only.
type cutMark struct {
	// left: the last process may have left such a cut.
	left bool

	mu   sync.Mutex
	path string
	fs   vfs.FS
	file vfs.File // nil when there is none, which the next start takes for '1'
	n    int      // cuts under way; one that fails stays
}

// openCutMark reads what the last process has left; clean says that it ended as it should. A cut that was left counts as one under way.
func openCutMark(fsys vfs.FS, dir string, clean bool) (*cutMark, error) {
	m := &cutMark{path: filepath.Join(dir, cutsName), fs: fsys, left: !clean}
	f, err := fsys.OpenReadWrite(m.path)
	switch {
	case isNotExist(err):
		if f, err = fsys.Create(m.path); err != nil {
			return m, m.lose(err)
		}
	case err != nil:
		return nil, err
	default:
		var b [1]byte
		if err := readFull(f, b[:], 0); err == nil && b[0] == '0' {
			m.left = false
		}
	}
	m.file = f
	if m.left {
		m.n = 1
	}
	if err := m.write(); err != nil {
		return m, m.lose(err)
	}
	return m, nil
}

// write puts down whether a cut is under way. The byte is written in place, which a full disk allows but where files are copied on write.
func (m *cutMark) write() error {
	b := []byte{'0'}
	if m.n > 0 {
		b[0] = '1'
	}
	_, err := m.file.WriteAt(b, 0)
	return err
}

// lose gives the file up, when it cannot be written: the next start then takes it for '1'. It returns nil if that is certain.
func (m *cutMark) lose(cause error) error {
	err := removeFile(m.fs, m.path)
	if m.file != nil {
		err = errors.Join(err, m.file.Close())
		m.file = nil
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", m.path, errors.Join(cause, err))
	}
	return nil
}

// begin comes before a cut.
func (m *cutMark) begin() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n++; m.n > 1 || m.file == nil {
		return nil
	}
	if err := m.write(); err != nil {
		return m.lose(err)
	}
	return nil
}

// end comes after the fsync of the cut.
func (m *cutMark) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n--; m.n > 0 || m.file == nil {
		return
	}
	_ = m.write() // '1' is on the safe side
}

// close is for the end of the directory's use.
func (m *cutMark) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != nil {
		_ = m.file.Close()
		m.file = nil
	}
}

// settleCuts says, after recovery, that what the last process has cut is durable now. It stays under way when a log could not be opened.
func (d *logDir) settleCuts() {
	if !d.cuts.left {
		return
	}
	for _, l := range d.store.logsOf(d) {
		if !l.loaded.Load() || l.failure.Load() != nil {
			return
		}
	}
	d.cuts.end()
}
