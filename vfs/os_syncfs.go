package vfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// syncfsSince is the first Linux whose syncfs tells everything. Since 5.8 it reports that a page of any file could not be written back, to every
// descriptor that was open at the time, once; since 5.17 also that the file system could not write its journal or its metadata.
var syncfsSince = [2]int{5, 17}

// osFileSystem is a descriptor of a directory. The kernel counts write-back errors per file system, and the descriptor holds the count that it has
// seen: one opened later would miss what went wrong before and was reported to somebody else.
type osFileSystem struct {
	fd   int
	name string
	dev  uint64
}

func (osFS) OpenFileSystem(dir string) (FileSystem, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	if release := unix.ByteSliceToString(uname.Release[:]); !syncfsReports(release) {
		return nil, fmt.Errorf("syncfs of Linux %s does not report all errors: %w", release, errors.ErrUnsupported)
	}
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	out := &osFileSystem{fd: f.(*osFile).fd, name: dir}
	if err := out.identify(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return out, nil
}

// syncfsReports says whether the syncfs of a Linux release, such as "6.1.0-13-amd64", reports all errors. What does not parse does not.
func syncfsReports(release string) bool {
	var version [2]int
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return false
	}
	for i := range version {
		digits := parts[i]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return false
		}
		version[i] = n
	}
	return version[0] > syncfsSince[0] || version[0] == syncfsSince[0] && version[1] >= syncfsSince[1]
}

// identify notes the device, and refuses file systems other than those that are known to hand errors on. An overlay, for one, keeps those of the file
// systems below it to itself, and a network file system has its own rules.
func (f *osFileSystem) identify() error {
	var fs unix.Statfs_t
	if err := retryEINTR(func() error { return unix.Fstatfs(f.fd, &fs) }); err != nil {
		return pathError("fstatfs", f.name, err)
	}
	switch int64(fs.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default:
		return fmt.Errorf("syncfs of %s on %s: %w", f.name, fsTypeName(int64(fs.Type)), errors.ErrUnsupported)
	}
	var st unix.Stat_t
	if err := retryEINTR(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return pathError("fstat", f.name, err)
	}
	f.dev = uint64(st.Dev)
	return nil
}

// Holds implements FileSystem. Two subvolumes of one btrfs count as two: that is on the safe side.
func (f *osFileSystem) Holds(name string) (bool, error) {
	var st unix.Stat_t
	if err := retryEINTR(func() error { return unix.Stat(name, &st) }); err != nil {
		return false, pathError("stat", name, err)
	}
	return uint64(st.Dev) == f.dev, nil
}

// SyncAll implements FileSystem. The fsync after the syncfs is for ext4 without a journal, where the last thing that syncfs does is to write metadata,
// with no order to the disk to empty its cache; an fsync gives that order.
func (f *osFileSystem) SyncAll() error {
	if err := unix.Syncfs(f.fd); err != nil {
		return pathError("syncfs", f.name, err)
	}
	if err := unix.Fsync(f.fd); err != nil {
		return pathError("fsync", f.name, err)
	}
	return nil
}

// Close implements FileSystem.
func (f *osFileSystem) Close() error {
	if err := unix.Close(f.fd); err != nil && err != unix.EINTR {
		return pathError("close", f.name, err)
	}
	return nil
}
