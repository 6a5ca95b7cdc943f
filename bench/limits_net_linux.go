package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// congestionsMax bounds how many congestion controls are probed.
const congestionsMax = 4

// congestions are the congestion controls that sockets of this host can have, its default first. Broker and generator may each choose
// their own, so a floor is what the best of them gives.
func congestions(fallback string) []string {
	names := []string{fallback}
	data, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control") // without it the default alone is probed
	for _, name := range strings.Fields(string(data)) {
		if name != fallback && len(names) < congestionsMax {
			names = append(names, name)
		}
	}
	return names
}

// socketPair connects two TCP sockets with a congestion control over the loopback; "" leaves the host's.
func socketPair(congestion string) (a, b *wire, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if a, err = dial(context.Background(), ln.Addr().String(), dialOptions{congestion: congestion}); err != nil {
		return nil, nil, err
	}
	d, err := ln.Accept()
	if err == nil {
		if b, err = newWire(d.(*net.TCPConn)); err == nil {
			err = b.setCongestion(congestion)
		}
	}
	if err != nil {
		a.close()
		if d != nil {
			d.Close()
		}
		return nil, nil, err
	}
	return a, b, nil
}

// pushProbe is a kind of probe that pushes bytes through connections for a while. send moves some bytes from position pos of its source, receive
// consumes until the end of the stream.
type pushProbe struct {
	send    func(w *wire, pos int64) (int64, error)
	receive func(w *wire) error
}

// best runs a probe with each congestion control over one connection and over as many as there are cores, and keeps the best.
func (l *limitProbe) best(ctx context.Context, s pushProbe) (floor, error) {
	var best floor
	for i, name := range congestions(l.Congestion) {
		for _, conns := range []int{1, max(2, hostCPUs())} {
			for range limitRepeats {
				rate, cost, err := l.streams(ctx, s, name, conns)
				if err != nil && i > 0 {
					continue // this one may not be chosen here
				}
				if err != nil {
					return best, err
				}
				best.take(rate, cost, name)
			}
		}
	}
	return best, ctx.Err()
}

// streams runs a probe over a number of connections at once.
func (l *limitProbe) streams(ctx context.Context, s pushProbe, congestion string, conns int) (rate, cost float64, err error) {
	var senders, receivers []*wire
	defer func() {
		for _, w := range append(senders, receivers...) {
			w.close()
		}
	}()
	for range conns {
		a, b, err := socketPair(congestion)
		if err != nil {
			return 0, 0, err
		}
		senders, receivers = append(senders, a), append(receivers, b)
	}
	return cpuCost(func() (int64, error) {
		type end struct {
			n   int64
			err error
		}
		ends := make(chan end, 2*conns)
		for i := range conns {
			go func() {
				var e end
				for start := time.Now(); time.Since(start) < l.time && ctx.Err() == nil && e.err == nil; {
					var n int64
					n, e.err = s.send(senders[i], e.n)
					e.n += n
				}
				_ = senders[i].c.CloseWrite() // the receiver's end of the stream
				ends <- e
			}()
			go func() {
				err := s.receive(receivers[i])
				if err != nil {
					receivers[i].close() // or the sender waits for room for ever
				}
				ends <- end{err: err}
			}()
		}
		var sum end
		for range 2 * conns {
			e := <-ends
			sum.n += e.n
			sum.err = errors.Join(sum.err, e.err)
		}
		return sum.n, sum.err
	})
}

func (l *limitProbe) loopback(ctx context.Context, _ string) error {
	chunk := make([]byte, limitChunk)
	best, err := l.best(ctx, pushProbe{
		send: func(w *wire, _ int64) (int64, error) {
			n, err := w.c.Write(chunk)
			return int64(n), err
		},
		receive: func(w *wire) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{w.c}, make([]byte, limitChunk))
			return err
		}})
	l.LoopbackRate, l.LoopbackCost, l.LoopbackCongestion = best.rate, best.cost, best.congestion
	return err
}

// sendfile sends a file that lies in the page cache to readers that drop the bytes in the kernel, as the bench's header-only consumers do.
func (l *limitProbe) sendfile(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	best, err := l.best(ctx, pushProbe{
		send: func(w *wire, pos int64) (int64, error) { return sendfileOnce(w, f, pos%l.file) },
		receive: func(w *wire) error {
			if err := w.discard(1<<62, make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) { // it ends with the stream
				return fmt.Errorf("sendfile probe: %w", err)
			}
			return nil
		}})
	l.SendfileRate, l.SendfileCost, l.SendfileCongestion = best.rate, best.cost, best.congestion
	return err
}

// sendfileOnce sends up to 1 MiB of f from offset pos.
func sendfileOnce(w *wire, f *os.File, pos int64) (int64, error) {
	var n int
	var errno error
	err := w.raw.Write(func(fd uintptr) bool {
		off := pos
		n, errno = unix.Sendfile(int(fd), int(f.Fd()), &off, 1<<20)
		return errno != unix.EAGAIN && errno != unix.EINTR
	})
	if err == nil && errno != nil {
		err = fmt.Errorf("sendfile: %w", errno)
	}
	return int64(n), err
}

// roundTrip bounces one byte; the quickest series counts.
func (l *limitProbe) roundTrip(ctx context.Context, _ string) error {
	for i, name := range congestions(l.Congestion) {
		for range limitRepeats {
			us, err := l.bounce(ctx, name)
			if err != nil && i > 0 {
				continue
			}
			if err != nil {
				return err
			}
			if l.RoundTrip == 0 || us < l.RoundTrip {
				l.RoundTrip = us
			}
		}
	}
	return nil
}

// bounce gives the mean time of a round trip, microseconds.
func (l *limitProbe) bounce(ctx context.Context, congestion string) (float64, error) {
	a, b, err := socketPair(congestion)
	if err != nil {
		return 0, err
	}
	defer a.close()
	done := make(chan error, 1)
	go func() {
		defer b.close()
		_, err := io.CopyBuffer(struct{ io.Writer }{b.c}, struct{ io.Reader }{b.c}, make([]byte, 64))
		done <- err
	}()
	n, start := 0, time.Now()
	for one := make([]byte, 1); n == 0 || time.Since(start) < l.time && ctx.Err() == nil; n++ {
		if _, err := a.c.Write(one); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(a.c, one); err != nil {
			return 0, err
		}
	}
	us := float64(time.Since(start).Nanoseconds()) / 1e3 / float64(n)
	_ = a.c.CloseWrite()
	return us, <-done
}
