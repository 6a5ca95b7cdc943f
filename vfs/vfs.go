package vfs

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// FS is a file system. Names are slash-separated paths. Errors wrap the
// system's error number, so that errors.Is works with fs.ErrNotExist,
// syscall.ENOSPC, syscall.EIO and the like.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Create makes a file, or cuts an existing one to length zero, and opens
	// it for reading and writing (mode 0644). The name is durable after SyncDir of its directory.
	Create(name string) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// RemoveAll deletes name and all below it. It is no error when there is
	// nothing.
	RemoveAll(name string) error
	// Rename moves a file or directory, replacing an existing file with a
	// file, an empty directory with a directory.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its missing parents (mode 0755). Each is
	// durable after SyncDir of its parent.
	MkdirAll(dir string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// List returns the names of the entries of dir, sorted.
	List(dir string) ([]string, error)
	// Stat describes name.
	Stat(name string) (FileInfo, error)
	// DiskUsage describes the file system that holds dir.
	DiskUsage(dir string) (Usage, error)
	// OpenFileSystem opens the file system that holds dir, to sync it whole. It
	// fails with errors.ErrUnsupported where SyncAll could not be believed.
	OpenFileSystem(dir string) (FileSystem, error)
	// Lock takes an exclusive lock on the file name, creating it if needed,
	// and fails with ErrLocked at once when another process (or another
	// caller in this one) holds it. Closing the result lets go; so does the
	// end of the process. The file stays.
	Lock(name string) (io.Closer, error)
}

// File is an open file. All methods are safe for concurrent use, except that
// none may run together with Close.
type File interface {
	// ReadAt reads as io.ReaderAt says: fewer bytes than asked only with an
	// error, io.EOF at the end of the file.
	io.ReaderAt
	// WriteAt writes all of p at off; fewer bytes only with an error.
	io.WriterAt
	// Writev writes all buffers, one after the other, at off, as few system
	// calls as the kernel allows. It returns the number of bytes written;
	// fewer than all only with an error. The buffers are not kept.
	Writev(bufs [][]byte, off int64) (int, error)
	// Size returns the length in bytes.
	Size() (int64, error)
	// Truncate sets the length; space preallocated beyond it is given back.
	Truncate(size int64) error
	// Datasync makes the written bytes and the size durable. After an error
	// it must not be called again in the hope of success: the kernel has
	// dropped the dirty pages.
	Datasync() error
	// Sync is Datasync that also makes times and the like durable.
	Sync() error
	// WriteBack asks the kernel to start writing [off, off+n) to the disk. It
	// is a hint, promises nothing about durability and may block on a busy
	// disk.
	WriteBack(off, n int64) error
	// WriteOut has the kernel write [off, off+n) to the disk and waits for it. It
	// flushes neither metadata nor the disk's cache and is no fsync. Its error is one
	// that no later fsync may report any more, and to be treated like one of Datasync.
	WriteOut(off, n int64) error
	// Preallocate reserves space for [off, off+n) without changing the size.
	// A file system that cannot is no error.
	Preallocate(off, n int64) error
	// Fd returns the descriptor for sendfile, false when there is none. It is
	// valid until Close.
	Fd() (uintptr, bool)
	// Name returns the name the file was opened by.
	Name() string
	// Close closes the file. It does not make anything durable.
	Close() error
}

// FileSystem is the whole of what lies on a disk beside a directory, also what
// others have there. Its methods are safe for concurrent use, except that none
// may run together with Close.
type FileSystem interface {
	// Holds says whether the file or directory name, links followed, lies on it.
	Holds(name string) (bool, error)
	// SyncAll makes durable whatever has happened on the file system before the
	// call: bytes, sizes, names. It fails when anything at all could not be
	// written since the FileSystem was opened, and then says nothing about which
	// file; as with File.Datasync, it must not be called again.
	SyncAll() error
	// Close gives the handle back. It does not make anything durable.
	Close() error
}

// FileInfo describes a file or directory.
type FileInfo struct {
	// Name is the last element of the path.
	Name string
	// Size is the length in bytes.
	Size int64
	// AllocatedBytes is the space taken on disk; preallocation counts.
	AllocatedBytes int64
	// ModTime is when the contents last changed.
	ModTime time.Time
	// Dir says that this is a directory.
	Dir bool
}

// Usage describes the space of a file system.
type Usage struct {
	// TotalBytes is the size of the file system.
	TotalBytes int64
	// FreeBytes is what this process may still use.
	FreeBytes int64
	// TotalInodes and FreeInodes count files; zero where the file system has
	// no such limit.
	TotalInodes, FreeInodes int64
	// Type names the file system ("ext4", "tmpfs", "0x..." if unknown).
	Type string
}

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
var ErrLocked = errors.New("vfs: lock is held by another process")

// tmpSuffix marks the unfinished file of WriteFileAtomic. One that is found
// after a crash may be deleted.
const tmpSuffix = ".tmp"

// WriteFileAtomic replaces the contents of name: after a crash at any moment
// the old contents or the new are there, whole. When it has returned without
// an error the new contents are durable. It writes name+".tmp", syncs it,
// renames it and syncs the directory. Two writers of one name must exclude
// each other.
func WriteFileAtomic(fs FS, name string, data []byte) error {
	if err := stageFile(fs, name, data, File.Sync); err != nil {
		return err
	}
	if err := CommitFile(fs, name); err != nil {
		return err
	}
	if err := fs.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// StageFile is WriteFileAtomic up to its first sync, for callers that replace
// many files and sync them together: they stage them all, make all that
// durable, call CommitFile for each, and make that durable. A crash leaves of
// each file the old contents or the new, whole.
func StageFile(fs FS, name string, data []byte) error {
	return stageFile(fs, name, data, func(File) error { return nil })
}

// CommitFile puts what StageFile wrote in the place of name. The contents must
// be durable by then; the name is when its directory has been synced.
func CommitFile(fs FS, name string) error {
	if err := fs.Rename(name+tmpSuffix, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func stageFile(fs FS, name string, data []byte, sync func(File) error) error {
	tmp := name + tmpSuffix
	if err := writeFile(fs, tmp, data, sync); err != nil {
		// The rest of a failed attempt only takes space, which may be what
		// is missing.
		_ = fs.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func writeFile(fs FS, name string, data []byte, sync func(File) error) (err error) {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return sync(f)
}

// ReadFile returns the contents of name. A file larger than sizeMax bytes is
// an error, so that a damaged directory cannot exhaust the memory.
func ReadFile(fs FS, name string, sizeMax int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > sizeMax {
		return nil, fmt.Errorf("read %s: size %d bytes, allowed are %d", name, size, sizeMax)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}
