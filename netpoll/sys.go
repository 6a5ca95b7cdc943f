package netpoll

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's limit of buffers per call (UIO_MAXIOV).
const iovMax = 1024

// Calls that move more than rawBytesMax go through the scheduler-aware Syscall: copying that much takes so long that
// holding the P could delay a stop-the-world. Smaller ones on a non-blocking socket use RawSyscall, which saves
// telling the scheduler twice.
const rawBytesMax = 64 << 10

// call names a kind of system call.
type call uint8

const (
	callRead     call = iota // read, readv
	callWrite                // sendto, sendmsg
	callSendfile             // sendfile
	callAccept               // accept4
	callWait                 // epoll_wait
	callWatch                // epoll_ctl
)

// kernel makes the system calls of a server.
type kernel struct {
	// fault, which only tests set, is asked before each call: it makes the call fail with an error, or move no more than limit of the
	// bytes asked for. Several goroutines call it.
	fault func(c call, bytes int) (limit int, errno syscall.Errno)
}

// ask returns what fault says, and bytes where there is none.
func (k kernel) ask(c call, bytes int) (limit int, errno syscall.Errno) {
	if k.fault == nil {
		return bytes, 0
	}
	return k.fault(c, bytes)
}

// recv reads once into own and then extra. Sockets are non-blocking; EINTR is retried.
func (k kernel) recv(fd int, own, extra []byte) (int, syscall.Errno) {
	for {
		if n, errno := k.recvOnce(fd, own, extra); errno != unix.EINTR {
			return n, errno
		}
	}
}

func (k kernel) recvOnce(fd int, own, extra []byte) (int, syscall.Errno) {
	limit, errno := k.ask(callRead, len(own)+len(extra))
	if errno != 0 {
		return 0, errno
	}
	own = own[:min(limit, len(own))]
	extra = extra[:min(limit-len(own), len(extra))]
	var iov [2]unix.Iovec
	count := 0
	for _, b := range [2][]byte{own, extra} {
		if len(b) > 0 {
			iov[count].Base = unsafe.SliceData(b)
			iov[count].SetLen(len(b))
			count++
		}
	}
	var n uintptr
	switch {
	case count > 1:
		n, _, errno = syscall.Syscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(count))
	case iov[0].Len > rawBytesMax:
		n, _, errno = syscall.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len))
	default:
		n, _, errno = syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes the buffers of iovs, bytes in all, in one call. more tells TCP that data follows at once. EINTR is retried.
func (k kernel) send(fd int, iovs []unix.Iovec, bytes int, more bool) (int, syscall.Errno) {
	for {
		if n, errno := k.sendOnce(fd, iovs, bytes, more); errno != unix.EINTR {
			return n, errno
		}
	}
}

func (k kernel) sendOnce(fd int, iovs []unix.Iovec, bytes int, more bool) (int, syscall.Errno) {
	limit, errno := k.ask(callWrite, bytes)
	if errno != 0 {
		return 0, errno
	}
	if limit < bytes { // of a test: the start of the first buffer is the shortest of short writes
		first := iovs[0]
		first.SetLen(min(limit, int(first.Len)))
		iovs, bytes = []unix.Iovec{first}, int(first.Len)
	}
	flags := uintptr(unix.MSG_NOSIGNAL)
	if more {
		flags |= unix.MSG_MORE
	}
	var n uintptr
	if len(iovs) == 1 && bytes <= rawBytesMax {
		n, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(iovs[0].Base)),
			uintptr(iovs[0].Len), flags, 0, 0)
	} else {
		hdr := unix.Msghdr{Iov: &iovs[0]}
		hdr.SetIovlen(len(iovs))
		n, _, errno = syscall.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), flags)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendFile sends exactly count bytes at most of in, from pos. It may wait for the disk, so it is never a raw call. EINTR is retried.
func (k kernel) sendFile(fd, in int, pos int64, count int) (int, syscall.Errno) {
	for {
		limit, errno := k.ask(callSendfile, count)
		var n uintptr
		if off := pos; errno == 0 {
			n, _, errno = syscall.Syscall6(unix.SYS_SENDFILE, uintptr(fd), uintptr(in), uintptr(unsafe.Pointer(&off)), uintptr(limit), 0, 0)
		}
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// accept takes one connection off listener's queue, without waiting. EINTR is retried.
func (k kernel) accept(listener int) (int, unix.Sockaddr, error) {
	for {
		_, errno := k.ask(callAccept, 0)
		var err error = errno
		fd, sa := -1, unix.Sockaddr(nil)
		if errno == 0 {
			fd, sa, err = unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		}
		if err != unix.EINTR {
			return fd, sa, err
		}
	}
}

// unsentBytes is how much of what was written the peer's kernel has not acknowledged.
func unsentBytes(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// epollWait fills events. A timeout of 0 never blocks and is a raw call, which does not tell the scheduler; another one is with raw. A signal
// counts as no events: Go's preemption sends them.
func (k kernel) epollWait(epfd int, events []unix.EpollEvent, timeoutMs int, raw bool) (int, syscall.Errno) {
	_, errno := k.ask(callWait, 0)
	var n uintptr
	switch {
	case errno != 0:
	case timeoutMs == 0 || raw:
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeoutMs), 0, 0)
	default:
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(timeoutMs), 0, 0)
	}
	if errno == unix.EINTR {
		return 0, 0
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// epollCtl adds, changes or removes the interest in fd; tag comes back in the events.
func (k kernel) epollCtl(epfd, op, fd int, events uint32, tag uint64) syscall.Errno {
	if _, errno := k.ask(callWatch, 0); errno != 0 {
		return errno
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// eventTag is the tag that epollCtl stored.
func eventTag(ev *unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}
