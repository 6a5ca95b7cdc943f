package netpoll

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The benchmarks compare both implementations over loopback. The load comes from a process of its own, so that the CPU time reported
// is the server's alone; that figure is to be trusted more than the rate, for both share the machine. Compare implementations
// with each other only, interleaved, and take the medians:
//
//	go test -run - -bench . -count 7 ./netpoll

// benchEnv makes the test binary a load generator; its value is a benchLoad with addresses, see benchLoad.generate.
const benchEnv = "WEIR_NETPOLL_LOAD"

// benchLoad sends batches of pipelined frames over several connections and reads as many response bytes.
type benchLoad struct {
	conns, pipeline  int
	frame, respBytes int
}

func (l benchLoad) run(b *testing.B, o Options) {
	s := startServer(b, o)
	rounds := max(1, b.N/(l.conns*l.pipeline))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d %d %d %d", benchEnv, s.Addr(), s.Congestion(),
		l.conns, l.pipeline, l.frame, l.respBytes, rounds))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ready := make([]byte, 1)
	if _, err := io.ReadFull(out, ready); err != nil { // connected
		b.Fatal(err)
	}
	before, beforeStats := cpuSeconds(b), s.Stats()
	b.ReportAllocs()
	b.ResetTimer()
	_ = in.Close() // go
	if _, err := io.ReadFull(out, ready); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	requests := float64(rounds * l.conns * l.pipeline)
	b.ReportMetric((cpuSeconds(b)-before)*1e6/requests, "cpu-us/req")
	b.ReportMetric(requests/b.Elapsed().Seconds(), "req/s")
	st := s.Stats()
	calls := st.Reads + st.Writes + st.Sendfiles - beforeStats.Reads - beforeStats.Writes - beforeStats.Sendfiles
	b.ReportMetric(float64(calls)/requests, "syscalls/req")
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// generate is the load generator's process: it connects, says so with one byte, waits for the end of its input, and says
// with another byte that it is done.
func generate(spec string) error {
	var l benchLoad
	var addr, congestion string
	var rounds int
	if _, err := fmt.Sscan(spec, &addr, &congestion, &l.conns, &l.pipeline, &l.frame, &l.respBytes, &rounds); err != nil {
		return err
	}
	var batch []byte
	for range l.pipeline {
		batch = append(batch, framed(string(make([]byte, l.frame)))...)
	}
	conns := make([]*net.TCPConn, l.conns)
	for i := range conns {
		// The client's kernel uses the same congestion control as the server's.
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
			})
		}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = c.(*net.TCPConn)
	}
	fmt.Print("c")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	done := make(chan error, len(conns))
	for _, c := range conns {
		go func() { done <- l.rounds(c, batch, rounds) }()
	}
	for range conns {
		if err := <-done; err != nil {
			return err
		}
	}
	fmt.Print("d")
	return nil
}

func (l benchLoad) rounds(c *net.TCPConn, batch []byte, rounds int) error {
	buf := make([]byte, min(l.pipeline*l.respBytes, 256<<10))
	for range rounds {
		if _, err := c.Write(batch); err != nil {
			return err
		}
		for left := l.pipeline * l.respBytes; left > 0; {
			n, err := c.Read(buf[:min(left, len(buf))])
			if err != nil {
				return err
			}
			left -= n
		}
	}
	return nil
}

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// benchHandler answers at once, with the same parts every time.
type benchHandler struct{ parts []Part }

func (benchHandler) OnOpen(Conn)         {}
func (benchHandler) OnTurn(int)          {}
func (benchHandler) OnClose(Conn, error) {}
func (h benchHandler) OnFrame(_ Conn, t Ticket, _ []byte) {
	t.Send(Response{Parts: h.parts})
}

func benchBoth(b *testing.B, load benchLoad, h Handler) {
	for _, v := range []struct {
		name string
		o    Options
	}{
		{"epoll", Options{Impl: ImplEpoll, Loops: 1}},
		{"epoll-2loops", Options{Impl: ImplEpoll, Loops: 2}},
		{"epoll-locked", Options{Impl: ImplEpoll, Loops: 1, LockThreads: true}},
		{"go", Options{Impl: ImplGo}},
	} {
		b.Run(v.name, func(b *testing.B) {
			v.o.Handler = h
			load.run(b, v.o)
		})
	}
}

// Small requests and responses, one in flight on each of many connections.
func BenchmarkSmallPingPong(b *testing.B) {
	h := benchHandler{[]Part{{Bytes: framed(string(make([]byte, 60)))}}}
	benchBoth(b, benchLoad{conns: 64, pipeline: 1, frame: 256, respBytes: 64}, h)
}

// Small requests and responses, 16 in flight on each connection.
func BenchmarkSmallPipelined(b *testing.B) {
	h := benchHandler{[]Part{{Bytes: framed(string(make([]byte, 60)))}}}
	benchBoth(b, benchLoad{conns: 16, pipeline: 16, frame: 256, respBytes: 64}, h)
}

// Requests as producers send them.
func BenchmarkFrames(b *testing.B) {
	h := benchHandler{[]Part{{Bytes: framed(string(make([]byte, 60)))}}}
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			benchBoth(b, benchLoad{conns: 8, pipeline: 2, frame: size, respBytes: 64}, h)
		})
	}
}

// Responses as consumers get them: a header and a range of a warm file, against the same range from memory.
func BenchmarkResponses(b *testing.B) {
	for _, size := range []int{16 << 10, 64 << 10, 1 << 20} {
		f := benchFile(b, size)
		head := framed(string(make([]byte, 96)))
		memory := make([]byte, size)
		load := benchLoad{conns: 8, pipeline: 1, frame: 100, respBytes: len(head) + size}
		b.Run(fmt.Sprintf("sendfile-%dKiB", size>>10), func(b *testing.B) {
			benchBoth(b, load, benchHandler{[]Part{{Bytes: head, File: FileRange{Fd: int(f.Fd()), Len: int64(size)}}}})
		})
		b.Run(fmt.Sprintf("pread-%dKiB", size>>10), func(b *testing.B) {
			benchBoth(b, load, preadHandler{benchHandler{[]Part{{Bytes: head}, {Bytes: memory}}}, f})
		})
	}
}

// preadHandler reads the range into memory for every response: what sendfile saves.
type preadHandler struct {
	benchHandler
	file *os.File
}

func (h preadHandler) OnFrame(c Conn, t Ticket, frame []byte) {
	if _, err := h.file.ReadAt(h.parts[1].Bytes, 0); err != nil && err != io.EOF {
		c.Close(err)
	}
	h.benchHandler.OnFrame(c, t, frame)
}

func benchFile(b *testing.B, size int) *os.File { return tempFile(b, pattern(size)) }
