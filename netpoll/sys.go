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

// recvInto reads once into own and then extra. Sockets are non-blocking; EINTR is retried.
func recvInto(fd int, own, extra []byte) (int, syscall.Errno) {
	var iov [2]unix.Iovec
	count := 0
	for _, b := range [2][]byte{own, extra} {
		if len(b) > 0 {
			iov[count].Base = unsafe.SliceData(b)
			iov[count].SetLen(len(b))
			count++
		}
	}
	for {
		var n uintptr
		var errno syscall.Errno
		switch {
		case count > 1:
			n, _, errno = syscall.Syscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(count))
		case iov[0].Len > rawBytesMax:
			n, _, errno = syscall.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len))
		default:
			n, _, errno = syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len))
		}
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// sendIovs writes the buffers of iovs, bytes in all, in one call. more tells TCP that data follows at once.
func sendIovs(fd int, iovs []unix.Iovec, bytes int, more bool) (int, syscall.Errno) {
	flags := uintptr(unix.MSG_NOSIGNAL)
	if more {
		flags |= unix.MSG_MORE
	}
	for {
		var n uintptr
		var errno syscall.Errno
		if len(iovs) == 1 && bytes <= rawBytesMax {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(iovs[0].Base)),
				uintptr(iovs[0].Len), flags, 0, 0)
		} else {
			hdr := unix.Msghdr{Iov: &iovs[0]}
			hdr.SetIovlen(len(iovs))
			n, _, errno = syscall.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), flags)
		}
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// sendFile sends exactly count bytes at most of in, from pos. It may wait for the disk, so it is never a raw call.
func sendFile(fd, in int, pos int64, count int) (int, syscall.Errno) {
	for {
		off := pos
		n, _, errno := syscall.Syscall6(unix.SYS_SENDFILE, uintptr(fd), uintptr(in), uintptr(unsafe.Pointer(&off)), uintptr(count), 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
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

// epollWait fills events. A timeout of 0 never blocks and is a raw call. A signal counts as no events:
// Go's preemption sends them.
func epollWait(epfd int, events []unix.EpollEvent, timeoutMs int) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	if timeoutMs == 0 {
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
			uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	} else {
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
func epollCtl(epfd, op, fd int, events uint32, tag uint64) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// eventTag is the tag that epollCtl stored.
func eventTag(ev *unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}
