package bench

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvTrunc receives up to n bytes with MSG_TRUNC, which on TCP drops them without a copy. n may exceed len(scratch): the
// kernel does not touch the buffer.
func recvTrunc(fd int, scratch []byte, n int) (int, error) {
	r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(scratch))), uintptr(n),
		unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// preciseThread binds the goroutine to a thread whose sleeps end within microseconds: the runtime's own timers are rounded to
// 1 ms when the process is idle. The returned function undoes the binding.
func preciseThread() (release func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1_000, 0, 0, 0) // best effort: 1 us instead of 50
	return func() {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		runtime.UnlockOSThread()
	}
}

// preciseSleep blocks the thread for d.
func preciseSleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // interrupted by a signal: the caller looks at the clock again
}
