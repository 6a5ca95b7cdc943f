package ioqueue

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleeper is where one goroutine sleeps until another wakes it or a short time is over, in the kernel and not in the Go scheduler, whose timers are too
// coarse for a part of an fsync. The price is that it keeps its processor of GOMAXPROCS until the runtime notices, 20 microseconds to 10 ms.
type sleeper struct{ woken atomic.Uint32 }

const (
	futexWaitPrivate = 0 | 128 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	futexWakePrivate = 1 | 128
)

// sleep returns when wake is or was called since the last sleep, or after limit, which is not negative. It may also return early.
func (s *sleeper) sleep(limit time.Duration) {
	if s.woken.Load() == 0 {
		timeout := unix.NsecToTimespec(int64(limit))
		// Every error means: do not sleep any longer. The caller looks again at what it waits for.
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.woken)), futexWaitPrivate, 0, uintptr(unsafe.Pointer(&timeout)), 0, 0)
	}
	s.woken.Store(0)
}

// wake ends the sleep, or the next one if there is none. It does not block.
func (s *sleeper) wake() {
	if s.woken.Swap(1) == 0 {
		_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.woken)), futexWakePrivate, math.MaxInt32, 0, 0, 0)
	}
}
