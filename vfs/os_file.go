package vfs

import (
	"io"

	"golang.org/x/sys/unix"
)

// osFile is a bare descriptor.
type osFile struct {
	fd   int
	name string
}

func (f *osFile) Name() string        { return f.name }
func (f *osFile) Fd() (uintptr, bool) { return uintptr(f.fd), true }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		err := retryEINTR(func() (err error) {
			n, err = unix.Pread(f.fd, p[done:], off+int64(done))
			return err
		})
		if err != nil {
			return done, pathError("pread", f.name, err)
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		var n int
		err := retryEINTR(func() (err error) {
			n, err = unix.Pwrite(f.fd, p[done:], off+int64(done))
			return err
		})
		if err == nil && n == 0 {
			err = unix.EIO // a write that makes no progress would loop for ever
		}
		if err != nil {
			return done, pathError("pwrite", f.name, err)
		}
		done += n
	}
	return done, nil
}

func (f *osFile) Writev(bufs [][]byte, off int64) (int, error) {
	n, err := writevAll(bufs, off, func(iov [][]byte, off int64) (n int, err error) {
		err = retryEINTR(func() (err error) {
			n, err = unix.Pwritev(f.fd, iov, off)
			return err
		})
		return n, err
	})
	if err != nil {
		return n, pathError("pwritev", f.name, err)
	}
	return n, nil
}

// iovSmall is how many buffers writevAll copies to go on after a short write.
const iovSmall = 16

// writevAll calls pwritev until all is written or it fails.
func writevAll(bufs [][]byte, off int64, pwritev func([][]byte, int64) (int, error)) (int, error) {
	done, skip := 0, 0 // skip: bytes of bufs[0] written already
	for {
		for len(bufs) > 0 && skip >= len(bufs[0]) {
			skip -= len(bufs[0])
			bufs = bufs[1:]
		}
		if len(bufs) == 0 {
			return done, nil
		}
		iov := bufs[:min(len(bufs), iovMax)]
		if skip > 0 {
			// The caller's slices are not ours to change. A short write is
			// rare; a few at a time will do.
			iov = append([][]byte(nil), iov[:min(len(iov), iovSmall)]...)
			iov[0] = iov[0][skip:]
		}
		n, err := pwritev(iov, off+int64(done))
		if err == nil && n == 0 {
			err = unix.EIO // a write that makes no progress would loop for ever
		}
		if err != nil {
			return done, err
		}
		done += n
		skip += n
	}
}

func (f *osFile) Size() (int64, error) {
	var st unix.Stat_t
	if err := retryEINTR(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return 0, pathError("fstat", f.name, err)
	}
	return st.Size, nil
}

func (f *osFile) Truncate(size int64) error {
	if err := retryEINTR(func() error { return unix.Ftruncate(f.fd, size) }); err != nil {
		return pathError("ftruncate", f.name, err)
	}
	return nil
}

// Datasync retries after EINTR only: the call was then not carried out, so
// this is not the forbidden retry of a failed fsync.
func (f *osFile) Datasync() error {
	if err := retryEINTR(func() error { return unix.Fdatasync(f.fd) }); err != nil {
		return pathError("fdatasync", f.name, err)
	}
	return nil
}

func (f *osFile) Sync() error {
	if err := retryEINTR(func() error { return unix.Fsync(f.fd) }); err != nil {
		return pathError("fsync", f.name, err)
	}
	return nil
}

func (f *osFile) WriteBack(off, n int64) error {
	return f.syncRange(off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (f *osFile) WriteOut(off, n int64) error {
	return f.syncRange(off, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}

func (f *osFile) syncRange(off, n int64, flags int) error {
	err := retryEINTR(func() error { return unix.SyncFileRange(f.fd, off, n, flags) })
	if err != nil && !unsupported(err) {
		return pathError("sync_file_range", f.name, err)
	}
	return nil
}

func (f *osFile) Preallocate(off, n int64) error {
	err := retryEINTR(func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if err != nil && !unsupported(err) {
		return pathError("fallocate", f.name, err)
	}
	return nil
}

func (f *osFile) Close() error {
	// Linux releases the descriptor even when close is interrupted: never retry.
	if err := unix.Close(f.fd); err != nil && err != unix.EINTR {
		return pathError("close", f.name, err)
	}
	return nil
}

func unsupported(err error) bool {
	return err == unix.EOPNOTSUPP || err == unix.ENOSYS
}
