package vfs

import (
	"io"
	"sync/atomic"
	"syscall"
)

// memFile is an open file of a Mem. It lives on when its name is gone.
type memFile struct {
	fs     *Mem
	node   *memNode
	name   string
	write  bool
	closed atomic.Bool
}

func (f *memFile) Name() string        { return f.name }
func (f *memFile) Fd() (uintptr, bool) { return 0, false }

// check refuses what the kernel would refuse.
func (f *memFile) check(op string, write bool) error {
	if f.closed.Load() || write && !f.write {
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	n := int(min(int64(len(p)), max(f.node.size-off, 0)))
	f.node.readAt(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	return f.Writev([][]byte{p}, off)
}

func (f *memFile) Writev(bufs [][]byte, off int64) (int, error) {
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	var total int64
	for _, b := range bufs {
		total += int64(len(b))
	}
	if total == 0 {
		return 0, nil
	}
	m, n := f.fs, f.node
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(OpWrite, f.name); err != nil {
		return 0, err
	}
	end := min(off+total, m.growLocked(n, off+total))
	fits := max(end-off, 0)
	left := fits
	if left > 0 {
		n.remember(off, end, true)
		n.written = true
		for _, b := range bufs {
			c := min(int64(len(b)), left)
			n.writeAt(b[:c], off)
			off, left = off+c, left-c
		}
		n.setSize(max(n.size, end))
		n.modTime = m.opts.Clock.Now()
	}
	if fits < total {
		return int(fits), pathError("write", f.name, syscall.ENOSPC)
	}
	return int(total), nil
}

// growLocked takes space so that [0, end) of the file fits, as far as there
// is any, and returns how far the file may reach.
func (m *Mem) growLocked(n *memNode, end int64) int64 {
	need := (end + pageSize - 1) / pageSize * pageSize
	if need <= n.allocated || n.unlinked {
		return end
	}
	if limit := m.opts.CapacityBytes; limit > 0 {
		need = min(need, n.allocated+max(limit-m.mu.used, 0)/pageSize*pageSize)
	}
	m.mu.used += need - n.allocated
	n.allocated = need
	return min(end, need)
}

// truncateLocked sets the size.
func (m *Mem) truncateLocked(n *memNode, size int64) {
	if size < n.size {
		n.remember(size, n.size, false)
		n.cut(size)
	} else if size > n.size {
		n.written = true
	}
	n.setSize(size)
	n.modTime = m.opts.Clock.Now()
	if keep := (size + pageSize - 1) / pageSize * pageSize; keep < n.allocated {
		if !n.unlinked {
			m.mu.used -= n.allocated - keep
		}
		n.allocated = keep
	}
}

func (f *memFile) Size() (int64, error) {
	if err := f.check("size", false); err != nil {
		return 0, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.node.size, nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.beginLocked(OpTruncate, f.name); err != nil {
		return err
	}
	f.fs.truncateLocked(f.node, size)
	return nil
}

func (f *memFile) Datasync() error { return f.Sync() }

func (f *memFile) Sync() error {
	if err := f.check("sync", false); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.beginLocked(OpSync, f.name); err != nil {
		return err
	}
	f.node.sync()
	return nil
}

func (f *memFile) WriteBack(_, _ int64) error { return f.check("writeback", false) }
func (f *memFile) WriteOut(_, _ int64) error  { return f.check("writeout", false) }

func (f *memFile) Preallocate(off, n int64) error {
	if err := f.check("preallocate", true); err != nil {
		return err
	}
	if off < 0 || n <= 0 {
		return pathError("preallocate", f.name, syscall.EINVAL)
	}
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(OpPreallocate, f.name); err != nil {
		return err
	}
	limit := m.opts.CapacityBytes
	if grow := off + n - f.node.allocated; limit > 0 && grow > limit-m.mu.used {
		return pathError("preallocate", f.name, syscall.ENOSPC)
	}
	m.growLocked(f.node, off+n)
	return nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return pathError("close", f.name, syscall.EBADF)
	}
	return nil
}
