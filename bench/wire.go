package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/protocol"
)

// clientID is what the generator calls itself; brokers put it into their logs and quotas.
const clientID = "weir-bench"

// Versions of the hot requests: the last ones without flexible fields and with topic names, served by every Kafka from 2.4 to
// 4.x, so that positions within a frame are fixed.
const (
	produceVersion = 7
	fetchVersion   = 11
)

// frameBytesMax bounds a response that the generator is willing to hold (full verification, control requests).
const frameBytesMax = 1 << 30

// dialOptions says how a connection of the generator is set up.
type dialOptions struct {
	congestion string // "" or "system" leaves the host's choice
	timeout    time.Duration
}

// wire is one raw connection to a broker.
type wire struct {
	c   *net.TCPConn
	raw syscall.RawConn
	// congestion is the algorithm in force, as read back.
	congestion string

	drop struct { // of discard: fields, so that a call allocates nothing
		scratch []byte
		want    int
		got     int
		errno   error
		recv    func(fd uintptr) bool
	}
}

// dial connects to host:port.
func dial(ctx context.Context, addr string, o dialOptions) (*wire, error) {
	if o.timeout == 0 {
		o.timeout = 30 * time.Second
	}
	d := net.Dialer{Timeout: o.timeout, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w, err := newWire(c.(*net.TCPConn))
	if err == nil {
		err = w.setCongestion(o.congestion)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return w, nil
}

func newWire(c *net.TCPConn) (*wire, error) {
	raw, err := c.SyscallConn()
	w := &wire{c: c, raw: raw}
	w.drop.recv = w.recvDrop
	return w, err
}

func (w *wire) setCongestion(name string) error {
	var inner error
	err := w.raw.Control(func(fd uintptr) {
		if name != "" && name != "system" {
			if inner = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); inner != nil {
				inner = fmt.Errorf("congestion: %q: %w", name, inner)
				return
			}
		}
		w.congestion, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return errors.Join(err, inner)
}

func (w *wire) close() { _ = w.c.Close() }

// discard drops n bytes of the stream inside the kernel; they are never copied to user space. scratch only gives an address.
func (w *wire) discard(n int64, scratch []byte) error {
	w.drop.scratch = scratch
	for n > 0 {
		w.drop.want = int(min(n, 1<<30))
		if err := w.raw.Read(w.drop.recv); err != nil {
			return err
		}
		if w.drop.errno != nil {
			return fmt.Errorf("recv: %w", w.drop.errno)
		}
		if w.drop.got == 0 {
			return io.ErrUnexpectedEOF
		}
		n -= int64(w.drop.got)
	}
	return nil
}

// recvDrop is one receive of discard; false waits for more.
func (w *wire) recvDrop(fd uintptr) bool {
	for {
		w.drop.got, w.drop.errno = recvTrunc(int(fd), w.drop.scratch, w.drop.want)
		if w.drop.errno != unix.EINTR {
			return w.drop.errno != unix.EAGAIN
		}
	}
}

// call sends one request and decodes its response. For control requests only: it allocates.
func (w *wire) call(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(60 * time.Second)
	}
	if err := w.c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer w.c.SetDeadline(time.Time{})
	const correlation = 0x77656972
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, correlation)
	if _, err := w.c.Write(frame); err != nil {
		return nil, err
	}
	body, err := readFrame(w.c, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	if len(body) < 4 || binary.BigEndian.Uint32(body) != correlation {
		return nil, fmt.Errorf("%s: response with a foreign correlation id", kmsg.NameForKey(req.Key()))
	}
	body = body[4:]
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("%s: response header with tags", kmsg.NameForKey(req.Key()))
		}
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// readFrame reads one length-prefixed frame into buf, grown as bytes arrive.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(head[:])))
	if n < 4 || n > frameBytesMax {
		return nil, fmt.Errorf("response frame of %d bytes: want 4 to %d", n, frameBytesMax)
	}
	buf = buf[:0]
	for len(buf) < n {
		step := min(n-len(buf), 1<<20)
		at := len(buf)
		buf = append(buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// kafkaError turns a non-zero error code into an error; what says what was attempted.
func kafkaError(code int16, what string) error {
	if code == 0 {
		return nil
	}
	return &CodeError{What: what, Code: code}
}

// CodeError is a Kafka error code in a response.
type CodeError struct {
	What string // what was attempted, with topic and partition
	Code int16
}

// Error names the code.
func (e *CodeError) Error() string {
	return fmt.Sprintf("%s: %s (%d)", e.What, protocol.ErrorCode(e.Code).String(), e.Code)
}
