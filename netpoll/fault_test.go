package netpoll

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/testkit"
)

var callNames = map[call]string{callRead: "read", callWrite: "write", callSendfile: "sendfile", callAccept: "accept",
	callWait: "epoll_wait", callWatch: "epoll_ctl"}

// faulty is a kernel that does to each call of some kinds what next says.
type faulty struct {
	count [callWatch + 1]atomic.Int64 // calls by kind, failed ones included
}

func (f *faulty) kernel(next func(c call, n int64, bytes int) (int, syscall.Errno)) kernel {
	return kernel{fault: func(c call, bytes int) (int, syscall.Errno) { return next(c, f.count[c].Add(1)-1, bytes) }}
}

// mixed answers "file" with a header and a file range, everything else with itself.
func mixed(data []byte, fd int, released *atomic.Int64) func(Conn, Ticket, []byte) {
	return func(_ Conn, tk Ticket, frame []byte) {
		if string(frame) != "file" {
			tk.Send(respond(string(frame)))
			return
		}
		tk.Send(Response{
			Parts: []Part{{Bytes: binary.BigEndian.AppendUint32(nil, uint32(len(data)+3)), File: FileRange{Fd: fd, Len: int64(len(data))}},
				{Bytes: []byte("end")}},
			Release: func() { released.Add(1) },
		})
	}
}

// exchange sends small and large frames and asks for the file, and compares every byte of the answers.
func exchange(t *testing.T, s *Server, data []byte, rounds int) {
	t.Helper()
	c := dial(t, s)
	large := strings.Repeat("large", 60_000)
	for range rounds {
		c.send("small", "file", large, "x")
		c.expect("small", string(data)+"end", large, "x")
	}
}

// Each kind of call is interrupted twice before it succeeds, every time: nothing is lost and nothing is done twice.
func TestInterruptedCallsAreRepeated(t *testing.T) {
	data := pattern(300_000)
	onBoth(t, func(t *testing.T, impl Impl) {
		for kind, name := range callNames {
			if kind == callWatch || impl == ImplGo && (kind == callAccept || kind == callWait) {
				continue // epoll_ctl does not wait, and those of the Go runtime are its own
			}
			t.Run(name, func(t *testing.T) {
				var f faulty
				var released atomic.Int64
				r := newRecorder(t, mixed(data, int(tempFile(t, data).Fd()), &released))
				s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, kernel: f.kernel(func(c call, n int64, bytes int) (int, syscall.Errno) {
					if c == kind && n%3 != 2 {
						return 0, unix.EINTR
					}
					return bytes, 0
				})})
				exchange(t, s, data, 3)
				if got := f.count[kind].Load(); got < 3 {
					t.Errorf("%s was called %d times: the test tests nothing", name, got)
				}
				if err := s.Stats().AcceptErrors; err != 0 {
					t.Errorf("%d accept errors", err)
				}
			})
		}
	})
}

// sendfile moves a part of the range and then takes no more, again and again: the position goes on from what was moved.
func TestSendfilePartlyThenAgain(t *testing.T) {
	data := pattern(200_123)
	var f faulty
	var released atomic.Int64
	r := newRecorder(t, mixed(data, int(tempFile(t, data).Fd()), &released))
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r, kernel: f.kernel(func(c call, n int64, bytes int) (int, syscall.Errno) {
		switch {
		case c != callSendfile:
			return bytes, 0
		case n%2 == 1:
			return 0, unix.EAGAIN
		}
		return min(bytes, 9_973), 0
	})})
	exchange(t, s, data, 2)
	if got, want := f.count[callSendfile].Load(), int64(2*2*(len(data)/9_973)); got < want {
		t.Errorf("%d sendfile calls, want at least %d", got, want)
	}
	eventually(t, "both responses are released", func() bool { return released.Load() == 2 })
}

// Reads, writes and sendfiles that move any part of what was asked, fail with EINTR or, where the socket is ready all the same,
// with EAGAIN, in a random order.
func TestShortCalls(t *testing.T) {
	data := pattern(150_000)
	seed := testkit.Seed(t, 7)
	onBoth(t, func(t *testing.T, impl Impl) {
		var mu sync.Mutex
		rnd := testkit.Rand(seed)
		var f faulty
		var released atomic.Int64
		r := newRecorder(t, mixed(data, int(tempFile(t, data).Fd()), &released))
		s := startServer(t, Options{Impl: impl, Loops: 1, Handler: r, kernel: f.kernel(func(c call, _ int64, bytes int) (int, syscall.Errno) {
			mu.Lock()
			defer mu.Unlock()
			switch choice := rnd.IntN(8); {
			case c > callSendfile:
				return bytes, 0
			case choice == 0:
				return 0, unix.EINTR
			case choice == 1 && impl == ImplEpoll: // the Go runtime's epoll is edge-triggered: it would wait for ever
				return 0, unix.EAGAIN
			case choice < 5:
				return min(bytes, 1+rnd.IntN(20_000)), 0
			}
			return bytes, 0
		})})
		exchange(t, s, data, 5)
	})
}

// A call that fails for good closes its connection, which says what failed, and no other.
func TestFailedCallsCloseTheirConnection(t *testing.T) {
	data := pattern(100_000)
	for _, test := range []struct {
		kind  call
		errno syscall.Errno
		says  string
	}{
		{callRead, unix.ECONNRESET, "read"},
		{callWrite, unix.EPIPE, "write"},
		{callSendfile, unix.EIO, "write"},
		{callWatch, unix.ENOSPC, "epoll_ctl"},
	} {
		t.Run(callNames[test.kind], func(t *testing.T) {
			var f faulty
			var armed atomic.Bool
			var released atomic.Int64
			r := newRecorder(t, mixed(data, int(tempFile(t, data).Fd()), &released))
			s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r, kernel: f.kernel(func(c call, _ int64, bytes int) (int, syscall.Errno) {
				if c == test.kind && armed.CompareAndSwap(true, false) {
					return 0, test.errno
				}
				return bytes, 0
			})})
			other := dial(t, s)
			other.send("before")
			other.expect("before")
			armed.Store(true)
			c := dial(t, s)
			if _, err := c.Write(framed("file")); err != nil { // may be closed already
				t.Logf("write: %v", err)
			}
			c.expectEnd()
			if err := r.nextClose(); !errors.Is(err, test.errno) || !strings.HasPrefix(err.Error(), test.says+": ") {
				t.Errorf("closed with %v, want %s: %v", err, test.says, test.errno)
			}
			other.send("after")
			other.expect("after")
		})
	}
}

// A peer that gives up while it waits to be accepted costs nothing but a count of none.
func TestAcceptOfAbortedConnection(t *testing.T) {
	var f faulty
	r := newRecorder(t, echo)
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r, kernel: f.kernel(func(c call, n int64, bytes int) (int, syscall.Errno) {
		if c == callAccept && n == 0 {
			return 0, unix.ECONNABORTED
		}
		return bytes, 0
	})})
	c := dial(t, s)
	c.send("x")
	c.expect("x")
	_ = c.Close()
	if err := r.nextClose(); err != io.EOF {
		t.Errorf("closed with %v", err)
	}
	if st := s.Stats(); st.AcceptErrors != 0 || st.Refused != 0 {
		t.Errorf("%d accept errors, %d refused, want none", st.AcceptErrors, st.Refused)
	}
}
