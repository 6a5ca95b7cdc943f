package vfs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
)

// Pool opens files when they are needed and closes those that are not when more
// than a cap are open. A file in use is never closed: a sendfile that has
// acquired its descriptor cannot find another file behind the number.
//
// Which idle file goes is decided by second chance (CLOCK), an approximation
// of least recently used that costs a flag per use instead of a list under a
// shared lock. When all files are in use, the pool goes over its cap rather
// than fail.
//
// A file with written bytes that are not synced (MarkDirty) goes last. The
// kernel reports a failed write-back to descriptors that were open at the
// time; one opened later can miss it once the inode has left the memory, and
// its fsync would succeed over a hole.
//
// Locks: PooledFile.mu before Pool.mu. The eviction scan, under Pool.mu, only tries the
// files' locks and skips those that are taken.
type Pool struct {
	fs      FS
	openMax int

	mu struct {
		sync.Mutex
		ring []*PooledFile // open files
		hand int
	}
	opens, evictions atomic.Int64
	crowded          atomic.Bool // more than openMax are open, since all of those are in use
}

// PoolStats is a snapshot of a pool's counters.
type PoolStats struct {
	// Open is how many files are open now.
	Open int
	// Opens and Evictions count files opened and closed for space.
	Opens, Evictions int64
}

// NewPool returns a pool that keeps at most openMax files of fs open, as long as no
// more are in use. An openMax below 1 counts as 1.
func NewPool(fs FS, openMax int) *Pool {
	return &Pool{fs: fs, openMax: max(openMax, 1)}
}

// PooledFile is a file known to a Pool, open or not.
type PooledFile struct {
	pool     *Pool
	writable bool
	used     atomic.Bool // since the hand last passed
	dirty    atomic.Bool

	mu struct {
		sync.Mutex
		name   string
		file   File // nil when not open
		refs   int
		closed bool
		index  int // in Pool.mu.ring, guarded by Pool.mu; -1 when absent
	}
}

// File returns a handle of name without opening it.
func (p *Pool) File(name string, writable bool) *PooledFile {
	f := &PooledFile{pool: p, writable: writable}
	f.mu.name = name
	f.mu.index = -1
	return f
}

// Adopt returns a handle of a file that is already open, such as one just
// created. The pool owns it from now on.
func (p *Pool) Adopt(file File, writable bool) *PooledFile {
	f := p.File(file.Name(), writable)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.file = file
	p.add(f)
	return f
}

// Stats returns the counters.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{Open: len(p.mu.ring), Opens: p.opens.Load(), Evictions: p.evictions.Load()}
}

// Crowded says that more files are open than the cap allows, because they are in use: who can do with fewer at a time should. It changes when
// a file is opened or closed; a Release alone leaves it.
func (p *Pool) Crowded() bool { return p.crowded.Load() }

// Acquire opens the file if it is not open and keeps it open until Release.
// It fails with the error of opening, or EBADF after Close.
func (f *PooledFile) Acquire() (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		return nil, pathError("acquire", f.mu.name, syscall.EBADF)
	}
	if f.mu.file == nil {
		open := f.pool.fs.Open
		if f.writable {
			open = f.pool.fs.OpenReadWrite
		}
		file, err := open(f.mu.name)
		if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && f.pool.evictOne() {
			// Others in this process use descriptors too: the cap alone does not keep some free.
			file, err = open(f.mu.name)
		}
		if err != nil {
			return nil, err
		}
		f.mu.file = file
		f.pool.opens.Add(1)
		f.pool.add(f)
	}
	f.mu.refs++
	f.used.Store(true)
	return f.mu.file, nil
}

// Release ends the use that an Acquire began. The file it returned must not
// be used any more.
func (f *PooledFile) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.refs <= 0 {
		panic(fmt.Sprintf("BUG: %s released more often than acquired", f.mu.name))
	}
	f.mu.refs--
	if f.mu.closed && f.mu.refs == 0 {
		f.closeLocked()
	}
}

// InUse says that somebody has acquired the file and not released it yet. After Close nobody can who has not.
func (f *PooledFile) InUse() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.refs > 0
}

// MarkDirty says that the file is about to be written. Call it between
// Acquire and the write.
func (f *PooledFile) MarkDirty() { f.dirty.Store(true) }

// MarkClean says that the file is about to be synced. Call it between Acquire
// and the sync: a write that comes during the sync makes the file dirty
// again.
func (f *PooledFile) MarkClean() { f.dirty.Store(false) }

// Name returns the name the file is opened by.
func (f *PooledFile) Name() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.name
}

// SetName tells the pool that the file was renamed.
func (f *PooledFile) SetName(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.name = name
}

// Close refuses further Acquires and closes the file with the last Release.
func (f *PooledFile) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.closed = true
	if f.mu.refs == 0 {
		f.closeLocked()
	}
}

// closeLocked closes the file, if it is open. An error of close loses nothing: what matters was
// synced before.
func (f *PooledFile) closeLocked() {
	if f.mu.file == nil {
		return
	}
	_ = f.mu.file.Close()
	f.mu.file = nil
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	f.pool.removeLocked(f)
}

// add puts f, whose lock the caller holds, on the ring and makes room.
func (p *Pool) add(f *PooledFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.mu.index = len(p.mu.ring)
	p.mu.ring = append(p.mu.ring, f)
	// Three rounds: the first may only clear flags, the last takes dirty
	// files too.
	round := len(p.mu.ring)
	for step := 0; step < 3*round && len(p.mu.ring) > p.openMax; step++ {
		if p.mu.hand >= len(p.mu.ring) {
			p.mu.hand = 0
		}
		victim := p.mu.ring[p.mu.hand]
		if victim == f || victim.used.Swap(false) || victim.dirty.Load() && step < 2*round || !p.evictLocked(victim) {
			p.mu.hand++
		}
	}
	p.crowded.Store(len(p.mu.ring) > p.openMax)
}

// evictOne closes an idle file, one without unsynced bytes if there is any; false when all are in use.
func (p *Pool) evictOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, dirty := range []bool{false, true} {
		for _, victim := range p.mu.ring {
			if victim.dirty.Load() == dirty && p.evictLocked(victim) {
				return true
			}
		}
	}
	return false
}

// evictLocked closes victim unless it is in use or its lock is taken.
func (p *Pool) evictLocked(victim *PooledFile) bool {
	if !victim.mu.TryLock() {
		return false
	}
	defer victim.mu.Unlock()
	if victim.mu.refs > 0 || victim.mu.file == nil {
		return false
	}
	_ = victim.mu.file.Close()
	victim.mu.file = nil
	p.evictions.Add(1)
	p.removeLocked(victim)
	return true
}

// removeLocked takes f off the ring; the last one fills its place.
func (p *Pool) removeLocked(f *PooledFile) {
	last := len(p.mu.ring) - 1
	moved := p.mu.ring[last]
	p.mu.ring[f.mu.index] = moved
	moved.mu.index = f.mu.index
	p.mu.ring[last] = nil
	p.mu.ring = p.mu.ring[:last]
	f.mu.index = -1
	p.crowded.Store(last > p.openMax)
}
