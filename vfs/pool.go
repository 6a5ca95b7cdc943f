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
// its fsync would succeed over a hole. Clean and dirty files have a ring each,
// so that no opening walks over thousands of dirty ones to find that there is
// no clean one: event loops open files.
//
// Locks: PooledFile.mu before Pool.mu. The eviction scan, under Pool.mu, only tries the
// files' locks and skips those that are taken.
type Pool struct {
	fs      FS
	openMax int

	mu struct {
		sync.Mutex
		clean, dirty poolRing // open files
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
	dirty    atomic.Bool // changes under Pool.mu

	mu struct {
		sync.Mutex
		name   string
		file   File // nil when not open
		refs   int
		closed bool
	}
	// The ring that holds the file, nil when it is not open, and the file's place there. Guarded by Pool.mu.
	ring       *poolRing
	prev, next *PooledFile
}

// poolRing is open files in a circle over which a clock's hand goes. Guarded by Pool.mu.
type poolRing struct {
	hand  *PooledFile // the one looked at next; nil when there is none
	count int
}

// secondChances is how many files that were used since the hand passed are spared by one eviction. Where all of thousands were used,
// clearing their flags takes longer than an append may wait.
const secondChances = 256

// File returns a handle of name without opening it.
func (p *Pool) File(name string, writable bool) *PooledFile {
	f := &PooledFile{pool: p, writable: writable}
	f.mu.name = name
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
	return PoolStats{Open: p.openLocked(), Opens: p.opens.Load(), Evictions: p.evictions.Load()}
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
func (f *PooledFile) MarkDirty() {
	if !f.dirty.Load() {
		f.mark(true)
	}
}

// MarkClean says that the file is about to be synced. Call it between Acquire
// and the sync: a write that comes during the sync makes the file dirty
// again.
func (f *PooledFile) MarkClean() {
	if f.dirty.Load() {
		f.mark(false)
	}
}

// mark changes the flag, and the ring with it.
func (f *PooledFile) mark(dirty bool) {
	p := f.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	f.dirty.Store(dirty)
	if f.ring != nil {
		f.ring.remove(f)
		p.ringLocked(dirty).add(f)
	}
}

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
	f.ring.remove(f)
	f.pool.tellLocked()
}

// openLocked is how many files are open.
func (p *Pool) openLocked() int { return p.mu.clean.count + p.mu.dirty.count }

// tellLocked keeps what Crowded says.
func (p *Pool) tellLocked() { p.crowded.Store(p.openLocked() > p.openMax) }

// ringLocked is where a file belongs.
func (p *Pool) ringLocked(dirty bool) *poolRing {
	if dirty {
		return &p.mu.dirty
	}
	return &p.mu.clean
}

// add puts f, whose lock the caller holds, on its ring and makes room.
func (p *Pool) add(f *PooledFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ringLocked(f.dirty.Load()).add(f)
	for p.openLocked() > p.openMax && p.evictLocked() {
	}
	p.tellLocked()
}

// evictOne closes an idle file, one without unsynced bytes if there is any; false when all are in use.
func (p *Pool) evictOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tellLocked()
	return p.evictLocked()
}

// evictLocked closes an idle file, a clean one if there is any; false when all are in use.
func (p *Pool) evictLocked() bool {
	for _, ring := range []*poolRing{&p.mu.clean, &p.mu.dirty} {
		if ring.evict() {
			p.evictions.Add(1)
			return true
		}
	}
	return false
}

// add puts f where the hand comes last.
func (r *poolRing) add(f *PooledFile) {
	f.ring = r
	r.count++
	if r.hand == nil {
		f.prev, f.next, r.hand = f, f, f
		return
	}
	f.prev, f.next = r.hand.prev, r.hand
	f.prev.next, f.next.prev = f, f
}

// remove takes f off.
func (r *poolRing) remove(f *PooledFile) {
	r.count--
	if r.hand == f {
		r.hand = f.next
	}
	if r.count == 0 {
		r.hand = nil
	}
	f.prev.next, f.next.prev = f.next, f.prev
	f.ring, f.prev, f.next = nil, nil, nil
}

// evict closes the next file that is idle and was not used since the hand passed, or after secondChances the next that is idle. It returns
// false when all are in use.
func (r *poolRing) evict() bool {
	// Two rounds: the first may only clear flags.
	chances := secondChances
	for range 2 * r.count {
		victim := r.hand
		r.hand = victim.next
		if chances > 0 && victim.used.Swap(false) {
			chances--
		} else if victim.closeIdle() {
			r.remove(victim)
			return true
		}
	}
	return false
}

// closeIdle closes the file unless it is in use or its lock is taken.
func (f *PooledFile) closeIdle() bool {
	if !f.mu.TryLock() {
		return false
	}
	defer f.mu.Unlock()
	if f.mu.refs > 0 || f.mu.file == nil {
		return false
	}
	_ = f.mu.file.Close()
	f.mu.file = nil
	return true
}
