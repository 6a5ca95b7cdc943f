package vfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Whole makes everything durable that was written to a file system, whichever file it went to, with one call. Where many
// files are dirty that is several times cheaper than an fsync of each (BENCHMARKS.md).
type Whole interface {
	// Sync returns when all bytes and names of the file system that were written before the call are durable. Its error
	// also tells of write-backs that failed since the last call, or since OpenWhole, in any file; like that of an fsync it is
	// told once, and must be final.
	Sync() error
	io.Closer
}

// WholeFS is an FS that may offer a Whole.
type WholeFS interface {
	FS
	// OpenWhole gives the Whole of the file system that holds dir, or an error that matches errors.ErrUnsupported.
	OpenWhole(dir string) (Whole, error)
}

// OpenWhole opens the Whole of the file system that holds dir. The error matches errors.ErrUnsupported where there is none.
func OpenWhole(fsys FS, dir string) (Whole, error) {
	if w, ok := fsys.(WholeFS); ok {
		return w.OpenWhole(dir)
	}
	return nil, fmt.Errorf("sync of the whole file system of %s: %w", dir, errors.ErrUnsupported)
}

// osWhole is syncfs(2). The kernel keeps for each open descriptor which errors of the file system's write-back it has told
// (errseq), so the descriptor is opened once and kept: one opened for each call would be told of nothing that happened before.
type osWhole struct{ dir *osFile }

// OpenWhole implements WholeFS: on ext4, with a kernel that reports errors of syncfs (5.8). Other file systems were not examined.
func (osFS) OpenWhole(dir string) (Whole, error) {
	if !syncfsReports() {
		return nil, fmt.Errorf("syncfs of %s: %w: the kernel reports its errors since 5.8", dir, errors.ErrUnsupported)
	}
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	w := &osWhole{dir: f.(*osFile)}
	var st unix.Statfs_t
	err = retryEINTR(func() error { return unix.Fstatfs(w.dir.fd, &st) })
	switch {
	case err != nil:
		err = pathError("fstatfs", dir, err)
	case int64(st.Type) != unix.EXT4_SUPER_MAGIC:
		err = fmt.Errorf("syncfs of %s: %w: file system %s", dir, errors.ErrUnsupported, fsTypeName(int64(st.Type)))
	default:
		return w, nil
	}
	_ = f.Close()
	return nil, err
}

// Sync implements Whole. An ext4 without a journal writes the inodes after it has flushed the disk's cache for the data, so
// one more flush is needed to make the sizes durable; an fsync of a directory with nothing to write is just that.
func (w *osWhole) Sync() error {
	if err := retryEINTR(func() error { return unix.Syncfs(w.dir.fd) }); err != nil {
		return pathError("syncfs", w.dir.name, err)
	}
	return w.dir.Sync()
}

// Close implements Whole.
func (w *osWhole) Close() error { return w.dir.Close() }

// syncfsReports says whether the kernel is 5.8 or newer.
func syncfsReports() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	release := unix.ByteSliceToString(u.Release[:])
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	if err != nil {
		return false
	}
	b, err := strconv.Atoi(minor)
	return err == nil && (a > 5 || a == 5 && b >= 8)
}

// memWhole is Mem's.
type memWhole struct {
	fs  *Mem
	dir string
}

// OpenWhole implements WholeFS.
func (m *Mem) OpenWhole(dir string) (Whole, error) { return &memWhole{m, dir}, nil }

// Sync implements Whole.
func (w *memWhole) Sync() error {
	m := w.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(OpSyncFS, w.dir); err != nil {
		return err
	}
	for _, group := range m.mu.pending {
		for _, c := range group {
			c.apply(c.dir.durable)
		}
	}
	m.mu.pending = nil
	m.root.eachFile(map[*memNode]bool{}, func(n *memNode) { n.sync() })
	return nil
}

// Close implements Whole.
func (*memWhole) Close() error { return nil }

// errorWhole is ErrorFS's.
type errorWhole struct {
	Whole
	fs  *ErrorFS
	dir string
}

// OpenWhole implements WholeFS: what the file system inside offers, behind the rules for OpSyncFS.
func (e *ErrorFS) OpenWhole(dir string) (Whole, error) {
	w, err := OpenWhole(e.inner, dir)
	if err != nil {
		return nil, err
	}
	return &errorWhole{Whole: w, fs: e, dir: dir}, nil
}

// Sync implements Whole.
func (w *errorWhole) Sync() error { return w.fs.do(OpSyncFS, w.Whole.Sync, w.dir) }
