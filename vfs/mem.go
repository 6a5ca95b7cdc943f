package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/weirmq/weir/internal/clock"
)

// ErrStopped is returned by every changing operation of a Mem after the one
// that StopAfter named: the process is dead, as far as the disk can tell.
var ErrStopped = errors.New("vfs: stopped at the crash point")

// MemOptions configure a Mem.
type MemOptions struct {
	// Clock stamps ModTime. Default: clock.Real().
	Clock clock.Clock
	// CapacityBytes is the size of the disk: writes and preallocation beyond
	// it get ENOSPC, after as many bytes as fit. Default: 0, no limit.
	CapacityBytes int64
}

// Mem is a file system in memory that knows which of its bytes and names have
// been synced, so that CrashClone can show what a power failure might leave.
// The package comment states the model. The root directory exists; relative
// names start there.
type Mem struct {
	opts MemOptions
	root *memNode

	mu struct {
		sync.RWMutex
		pending []dirGroup // changes of names since their SyncDir, oldest first
		used    int64      // bytes taken by linked files
		locks   map[string]bool
		ops     int64 // changing operations begun
		stopAt  int64 // the last one that is carried out; -1 = no stop
		hook    func(op Op, name string, n int64)
	}
}

// dirGroup is a set of changes of names that reach the disk together.
type dirGroup []dirChange

// dirChange sets a name to a node, or removes it where node is nil.
type dirChange struct {
	dir  *memNode
	name string
	node *memNode
}

// NewMem returns an empty file system.
func NewMem(opts MemOptions) *Mem {
	if opts.Clock == nil {
		opts.Clock = clock.Real()
	}
	m := &Mem{opts: opts, root: newDirNode()}
	m.mu.locks = make(map[string]bool)
	m.mu.stopAt = -1
	return m
}

// Ops returns how many changing operations (OpMutating) have been begun.
func (m *Mem) Ops() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.ops
}

// StopAfter lets n more changing operations happen and fails all later ones
// with ErrStopped. A negative n takes the stop back. A crash-point test counts the operations
// of a run with Ops, then repeats the run with a stop after each of them.
func (m *Mem) StopAfter(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < 0 {
		m.mu.stopAt = -1
		return
	}
	m.mu.stopAt = m.mu.ops + n
}

// OnOp calls hook before each changing operation, with its number (the first
// is 1). The hook runs under the file system's lock and must not call back.
func (m *Mem) OnOp(hook func(op Op, name string, n int64)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.hook = hook
}

// beginLocked counts a changing operation and refuses it after the stop.
func (m *Mem) beginLocked(op Op, name string) error {
	if m.mu.stopAt >= 0 && m.mu.ops >= m.mu.stopAt {
		return pathError(op.String(), name, ErrStopped)
	}
	m.mu.ops++
	if m.mu.hook != nil {
		m.mu.hook(op, name, m.mu.ops)
	}
	return nil
}

// SetCapacity changes the size of the disk: tests make room with it. Zero
// means no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opts.CapacityBytes = bytes
}

func clean(name string) string { return path.Clean("/" + name) }

// lookupLocked finds a node, nil and an error if there is none.
func (m *Mem) lookupLocked(op, name string) (*memNode, error) {
	node := m.root
	for part := range strings.SplitSeq(clean(name), "/") {
		if part == "" {
			continue
		}
		if !node.dir {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		next := node.entries[part]
		if next == nil {
			return nil, pathError(op, name, syscall.ENOENT)
		}
		node = next
	}
	return node, nil
}

// parentLocked finds the directory that holds name.
func (m *Mem) parentLocked(op, name string) (dir *memNode, base string, err error) {
	full := clean(name)
	if full == "/" {
		return nil, "", pathError(op, name, syscall.EINVAL)
	}
	dir, err = m.lookupLocked(op, path.Dir(full))
	if err != nil {
		return nil, "", pathError(op, name, errors.Unwrap(err))
	}
	if !dir.dir {
		return nil, "", pathError(op, name, syscall.ENOTDIR)
	}
	return dir, path.Base(full), nil
}

// changeLocked carries out changes of names that reach the disk together.
func (m *Mem) changeLocked(group ...dirChange) {
	for _, c := range group {
		c.apply(c.dir.entries)
	}
	m.mu.pending = append(m.mu.pending, group)
}

func (c dirChange) apply(entries map[string]*memNode) {
	if c.node == nil {
		delete(entries, c.name)
	} else {
		entries[c.name] = c.node
	}
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, write bool) (File, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	node, err := m.lookupLocked("open", name)
	if err != nil {
		return nil, err
	}
	if node.dir {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return &memFile{fs: m, node: node, name: name, write: write}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	node := dir.entries[base]
	if node != nil && node.dir {
		return nil, pathError("create", name, syscall.EISDIR)
	}
	if err := m.beginLocked(OpCreate, name); err != nil {
		return nil, err
	}
	if node == nil {
		node = newFileNode(m.opts.Clock.Now())
		m.changeLocked(dirChange{dir, base, node})
	} else {
		m.truncateLocked(node, 0)
	}
	return &memFile{fs: m, node: node, name: name, write: true}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	node := dir.entries[base]
	if node == nil {
		return pathError("remove", name, syscall.ENOENT)
	}
	if node.dir && len(node.entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	return m.removeLocked(dir, base, name)
}

func (m *Mem) removeLocked(dir *memNode, base, name string) error {
	if err := m.beginLocked(OpRemove, name); err != nil {
		return err
	}
	m.unlinkLocked(dir.entries[base])
	m.changeLocked(dirChange{dir, base, nil})
	return nil
}

// unlinkLocked gives back the space of a file that has lost its name.
func (m *Mem) unlinkLocked(node *memNode) {
	if node != nil && !node.dir {
		m.mu.used -= node.allocated
		node.unlinked = true
	}
}

// RemoveAll implements FS: children first, one operation each, as the system
// does it, so that a crash can leave part of a directory.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if dir.entries[base] == nil {
		return nil
	}
	return m.removeTreeLocked(dir, base, name)
}

func (m *Mem) removeTreeLocked(dir *memNode, base, name string) error {
	node := dir.entries[base]
	for _, child := range node.names() {
		if err := m.removeTreeLocked(node, child, path.Join(name, child)); err != nil {
			return err
		}
	}
	return m.removeLocked(dir, base, name)
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldDir, oldBase, err := m.parentLocked("rename", oldName)
	if err != nil {
		return err
	}
	newDir, newBase, err := m.parentLocked("rename", newName)
	if err != nil {
		return err
	}
	node, target := oldDir.entries[oldBase], newDir.entries[newBase]
	switch {
	case node == nil:
		return pathError("rename", oldName, syscall.ENOENT)
	case node.dir && strings.HasPrefix(clean(newName)+"/", clean(oldName)+"/"):
		return pathError("rename", newName, syscall.EINVAL)
	case target == nil:
	case target.dir && !node.dir:
		return pathError("rename", newName, syscall.EISDIR)
	case !target.dir && node.dir:
		return pathError("rename", newName, syscall.ENOTDIR)
	case target.dir && len(target.entries) > 0:
		return pathError("rename", newName, syscall.ENOTEMPTY)
	}
	if err := m.beginLocked(OpRename, newName); err != nil {
		return err
	}
	if node == target {
		return nil
	}
	m.unlinkLocked(target)
	m.changeLocked(dirChange{oldDir, oldBase, nil}, dirChange{newDir, newBase, node})
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.root
	for part := range strings.SplitSeq(clean(dir), "/") {
		if part == "" {
			continue
		}
		next := node.entries[part]
		if next == nil {
			if err := m.beginLocked(OpMkdir, dir); err != nil {
				return err
			}
			next = newDirNode()
			m.changeLocked(dirChange{node, part, next})
		}
		if !next.dir {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		node = next
	}
	return nil
}

// SyncDir implements FS. A rename across directories becomes durable with
// either of the two, as one journal transaction.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.lookupLocked("syncdir", dir)
	if err != nil {
		return err
	}
	if !node.dir {
		return pathError("syncdir", dir, syscall.ENOTDIR)
	}
	if err := m.beginLocked(OpSyncDir, dir); err != nil {
		return err
	}
	m.mu.pending = slices.DeleteFunc(m.mu.pending, func(group dirGroup) bool {
		if !slices.ContainsFunc(group, func(c dirChange) bool { return c.dir == node }) {
			return false
		}
		for _, c := range group {
			c.apply(c.dir.durable)
		}
		return true
	})
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	node, err := m.lookupLocked("list", dir)
	if err != nil {
		return nil, err
	}
	if !node.dir {
		return nil, pathError("list", dir, syscall.ENOTDIR)
	}
	return node.names(), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (FileInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	node, err := m.lookupLocked("stat", name)
	if err != nil {
		return FileInfo{}, err
	}
	return FileInfo{
		Name:           path.Base(clean(name)),
		Size:           node.size,
		AllocatedBytes: node.allocated,
		ModTime:        node.modTime,
		Dir:            node.dir,
	}, nil
}

// DiskUsage implements FS. Without a capacity the disk has 1 TiB.
func (m *Mem) DiskUsage(dir string) (Usage, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.lookupLocked("statfs", dir); err != nil {
		return Usage{}, err
	}
	total := m.opts.CapacityBytes
	if total == 0 {
		total = 1 << 40
	}
	return Usage{TotalBytes: total, FreeBytes: max(total-m.mu.used, 0), Type: "mem"}, nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("lock", name)
	if err != nil {
		return nil, err
	}
	full := clean(name)
	if m.mu.locks[full] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	if dir.entries[base] == nil {
		if err := m.beginLocked(OpCreate, name); err != nil {
			return nil, err
		}
		m.changeLocked(dirChange{dir, base, newFileNode(m.opts.Clock.Now())})
	}
	m.mu.locks[full] = true
	return &memLock{fs: m, name: full}, nil
}

type memLock struct {
	fs   *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.mu.locks, l.name)
	})
	return nil
}
