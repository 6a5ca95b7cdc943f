package netpoll

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/internal/testkit"
)

// forceBuffer makes a socket's buffer in the kernel larger than one read or write may be.
func forceBuffer(t *testing.T, fd, option int) {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 16<<20); err != nil {
		t.Skipf("this user may not have large socket buffers: %v", err)
	}
}

// One connection is read readBytesMax at one event, however much the kernel holds of it.
func TestReadOfOneConnectionIsBounded(t *testing.T) {
	r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tk.Skip() })
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	c := dial(t, s)
	sock := testkit.Receive(t, "OnOpen", r.opened).(*conn).sock.(*epollSock)
	forceBuffer(t, sock.fd, unix.SO_RCVBUFFORCE)
	noise := make([]byte, 0, 4<<20)
	for len(noise) < cap(noise) {
		noise = append(noise, framed(string(make([]byte, 1020)))...)
	}
	onLoop(s, func(e *epollLoop) {
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(noise)
			sent <- err
		}()
		testkit.Eventually(t, "the kernel holds more than one read's worth", func() bool {
			held, err := unix.IoctlGetInt(sock.fd, unix.SIOCINQ)
			return err == nil && held > 2*readBytesMax
		})
		before := e.stats.bytesIn.Load()
		e.handle(&unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(uint32(sock.tag())), Pad: int32(uint32(sock.tag() >> 32))})
		if got := e.stats.bytesIn.Load() - before; got == 0 || got > readBytesMax {
			t.Errorf("%d bytes were read at one event, want at most %d", got, readBytesMax)
		}
		go func() {
			if err := <-sent; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("write: %v", err)
			}
		}()
	})
	eventually(t, "all is read", func() bool { return s.Stats().BytesIn == int64(len(noise)) })
}

// One connection is sent writeBytesMax before others have their turn, however much the kernel would take.
func TestWriteOfOneConnectionIsBounded(t *testing.T) {
	data := pattern(12 << 20)
	var released atomic.Int64
	file := tempFile(t, data)
	tickets := make(chan Ticket, 1)
	r := newRecorder(t, func(_ Conn, tk Ticket, _ []byte) { tickets <- tk })
	s := startServer(t, Options{Impl: ImplEpoll, Loops: 1, Handler: r})
	s.cold.override = func(FileRange) bool { return false }
	c := dial(t, s)
	sock := testkit.Receive(t, "OnOpen", r.opened).(*conn).sock.(*epollSock)
	forceBuffer(t, sock.fd, unix.SO_SNDBUFFORCE)
	c.send("file")
	tk := testkit.Receive(t, "ticket", tickets)
	onLoop(s, func(e *epollLoop) {
		mixed(data, int(file.Fd()), &released)(nil, tk, []byte("file"))
		before := e.stats.bytesOut.Load()
		e.process(sock.conn)
		if got := e.stats.bytesOut.Load() - before; got < writeBytesMax || got > writeBytesMax+prefixBytes || !sock.delayed {
			t.Errorf("%d bytes were sent at once (delayed %v), want %d", got, sock.delayed, writeBytesMax)
		}
	})
	c.expect(string(data) + "end")
}

// A connection of ImplGo that is closed while its reader is in the system call keeps the memory that the kernel may still write to.
func TestCloseWhileReadInFlight(t *testing.T) {
	var armed atomic.Bool
	inCall, goOn := make(chan bool), make(chan bool)
	r := newRecorder(t, echo)
	s := startServer(t, Options{Impl: ImplGo, Loops: 1, Handler: r, kernel: kernel{fault: func(c call, bytes int) (int, syscall.Errno) {
		if c == callRead && armed.CompareAndSwap(true, false) {
			inCall <- true
			<-goOn
		}
		return bytes, 0
	}}})
	c := dial(t, s)
	whole := framed("a frame that comes in two parts")
	c.write(whole[:10])
	conn := testkit.Receive(t, "OnOpen", r.opened).(*conn)
	eventually(t, "the first part is read", func() bool { return s.Stats().BytesIn == 10 })
	armed.Store(true)
	c.write(whole[10:])
	testkit.Receive(t, "the reader in its call", inCall)
	wrong := errors.New("enough")
	conn.Close(wrong)
	if err := r.nextClose(); err != wrong {
		t.Errorf("closed with %v", err)
	}
	s.runner.each(func(*loop) {
		if conn.in.buf == nil {
			t.Error("the buffer was given back while a read may write to it")
		}
	})
	close(goOn)
	eventually(t, "the reader gives the buffer back", func() bool { return s.Stats().BufferBytes == 0 })
}
