package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// iovMax is the kernel's limit of buffers per pwritev (UIO_MAXIOV).
const iovMax = 1024

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Open(name string) (File, error) {
	return openFile(name, unix.O_RDONLY)
}

func (osFS) OpenReadWrite(name string) (File, error) {
	return openFile(name, unix.O_RDWR)
}

func (osFS) Create(name string) (File, error) {
	return openFile(name, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
}

// openFile does not go through os.File: its finalizer and its poller are of
// no use for regular files, and the descriptor is needed bare for sendfile.
func openFile(name string, flags int) (File, error) {
	var fd int
	err := retryEINTR(func() (err error) {
		fd, err = unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
		return err
	})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &osFile{fd: fd, name: name}, nil
}

func (osFS) Remove(name string) error    { return os.Remove(name) }
func (osFS) RemoveAll(name string) error { return os.RemoveAll(name) }

// Rename does not go through os.Rename, which asks first what newName is: a partition's first append pays for each look-up.
func (osFS) Rename(oldName, newName string) error {
	if err := retryEINTR(func() error { return unix.Rename(oldName, newName) }); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

// MkdirAll tries the usual case first, a new directory in one that exists.
func (osFS) MkdirAll(dir string) error {
	if unix.Mkdir(dir, 0o755) == nil {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

func (osFS) SyncDir(dir string) error {
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Stat(name string) (FileInfo, error) {
	var st unix.Stat_t
	if err := retryEINTR(func() error { return unix.Stat(name, &st) }); err != nil {
		return FileInfo{}, pathError("stat", name, err)
	}
	return FileInfo{
		Name:           filepath.Base(name),
		Size:           st.Size,
		AllocatedBytes: st.Blocks * 512,
		ModTime:        time.Unix(st.Mtim.Unix()),
		Dir:            st.Mode&unix.S_IFMT == unix.S_IFDIR,
	}, nil
}

func (osFS) DiskUsage(dir string) (Usage, error) {
	var st unix.Statfs_t
	if err := retryEINTR(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return Usage{}, pathError("statfs", dir, err)
	}
	block := int64(st.Frsize)
	if block == 0 {
		block = int64(st.Bsize)
	}
	return Usage{
		TotalBytes:  int64(st.Blocks) * block,
		FreeBytes:   int64(st.Bavail) * block,
		TotalInodes: int64(st.Files),
		FreeInodes:  int64(st.Ffree),
		Type:        fsTypeName(int64(st.Type)),
	}, nil
}

func fsTypeName(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("%#x", magic)
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := openFile(name, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	// flock belongs to the open file description: a second open in this
	// process conflicts as well, and the kernel lets go when the process dies.
	err = retryEINTR(func() error {
		return unix.Flock(f.(*osFile).fd, unix.LOCK_EX|unix.LOCK_NB)
	})
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	return nil, pathError("flock", name, err)
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
