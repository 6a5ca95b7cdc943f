package netpoll

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// coldReadersMax is how many file ranges are brought into memory at the same time, for all loops together.
const coldReadersMax = 8

// coldReadBytes is the size of one read of a cold range.
const coldReadBytes = 256 << 10

// coldReader keeps event loops from waiting for the disk: sendfile of a range that is not in the page cache would stall all connections
// of the loop. The loop asks cold first, which never waits, and has cold ranges read on another goroutine.
type coldReader struct {
	pool     *bufferPool
	slots    chan struct{}
	noStat   atomic.Bool // the kernel has no cachestat (before 6.5)
	override func(FileRange) bool
}

func newColdReader(pool *bufferPool) *coldReader {
	return &coldReader{pool: pool, slots: make(chan struct{}, coldReadersMax)}
}

// cold reports whether sending f would wait for the disk. It may be wrong either way: pages come and go.
func (r *coldReader) cold(f FileRange) bool {
	if r.override != nil {
		return r.override(f)
	}
	if !r.noStat.Load() {
		rng, st := unix.CachestatRange{Off: uint64(f.Pos), Len: uint64(f.Len)}, unix.Cachestat_t{}
		_, _, errno := syscall.RawSyscall6(unix.SYS_CACHESTAT, uintptr(f.Fd),
			uintptr(unsafe.Pointer(&rng)), uintptr(unsafe.Pointer(&st)), 0, 0, 0)
		if errno == 0 {
			page := int64(unix.Getpagesize())
			first, last := f.Pos/page, (f.Pos+f.Len-1)/page
			return st.Cache < uint64(last-first+1)
		}
		if errno != unix.ENOSYS {
			return false // sendfile will tell what is wrong with the file
		}
		r.noStat.Store(true)
	}
	var b [1]byte
	_, err := unix.Preadv2(f.Fd, [][]byte{b[:]}, f.Pos, unix.RWF_NOWAIT)
	return err == unix.EAGAIN
}

// warm reads f into the page cache and then calls done. It does not wait itself. The file has to stay open until done.
func (r *coldReader) warm(f FileRange, done func()) {
	go func() {
		r.slots <- struct{}{}
		b := r.pool.get(coldReadBytes)
		for f.Len > 0 {
			n, err := unix.Pread(f.Fd, b[:min(int64(len(b)), f.Len)], f.Pos)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				break // sendfile will tell
			}
			f.Pos, f.Len = f.Pos+int64(n), f.Len-int64(n)
		}
		r.pool.put(b)
		<-r.slots
		done()
	}()
}
