package netpoll

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirmq/weir/internal/testkit"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(benchEnv); spec != "" {
		if err := generate(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// onBoth runs a test on both implementations.
func onBoth(t *testing.T, f func(t *testing.T, impl Impl)) {
	for _, impl := range []Impl{ImplEpoll, ImplGo} {
		t.Run(string(impl), func(t *testing.T) { f(t, impl) })
	}
}

// recorder is a Handler made of functions. It checks what Handler promises about calls of one loop.
type recorder struct {
	t       testing.TB
	onOpen  func(c Conn)
	onFrame func(c Conn, tk Ticket, frame []byte)
	onTurn  func(loop int)

	busy   [1024]atomic.Int32 // by loop: a callback runs
	opened chan Conn
	closed chan closing

	mu     sync.Mutex
	counts map[Conn]int // 1 opened, 2 closed
}

type closing struct {
	conn Conn
	err  error
}

func newRecorder(t testing.TB, onFrame func(c Conn, tk Ticket, frame []byte)) *recorder {
	return &recorder{t: t, onFrame: onFrame, opened: make(chan Conn, 1<<16), closed: make(chan closing, 1<<16), counts: make(map[Conn]int)}
}

func (r *recorder) enter(loop int) func() {
	if r.busy[loop].Add(1) != 1 {
		r.t.Errorf("two callbacks of loop %d run at the same time", loop)
	}
	return func() { r.busy[loop].Add(-1) }
}

// expect checks the order of a connection's callbacks.
func (r *recorder) expect(c Conn, what string, state, next int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[c] != state {
		r.t.Errorf("%s of connection %d in state %d, want %d", what, c.ID(), r.counts[c], state)
	}
	r.counts[c] = next
}

func (r *recorder) OnOpen(c Conn) {
	defer r.enter(c.Loop())()
	r.expect(c, "OnOpen", 0, 1)
	if r.onOpen != nil {
		r.onOpen(c)
	}
	r.opened <- c
}

func (r *recorder) OnFrame(c Conn, tk Ticket, frame []byte) {
	defer r.enter(c.Loop())()
	r.expect(c, "OnFrame", 1, 1)
	r.onFrame(c, tk, frame)
}

func (r *recorder) OnTurn(loop int) {
	defer r.enter(loop)()
	if r.onTurn != nil {
		r.onTurn(loop)
	}
}

func (r *recorder) OnClose(c Conn, err error) {
	defer r.enter(c.Loop())()
	r.expect(c, "OnClose", 1, 2)
	r.closed <- closing{c, err}
}

// startServer starts a server that is stopped, and checked for leaks of memory, at the end of the test.
func startServer(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Deadline)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		st := s.Stats()
		if st.Connections != 0 || st.Accepted != st.Closed {
			t.Errorf("after stop: %d connections, %d accepted, %d closed", st.Connections, st.Accepted, st.Closed)
		}
		if st.BufferBytes != 0 {
			t.Errorf("after stop: %d bytes are still charged to the budget", st.BufferBytes)
		}
	})
	return s
}

// client is a test's side of a connection.
type client struct {
	t testing.TB
	*net.TCPConn
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testkit.Deadline)); err != nil {
		t.Fatal(err)
	}
	return &client{t, c.(*net.TCPConn)}
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) send(payloads ...string) {
	c.t.Helper()
	var b []byte
	for _, p := range payloads {
		b = append(b, framed(p)...)
	}
	c.write(b)
}

func (c *client) receive() string {
	c.t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		c.t.Fatalf("read a frame's length: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("read a frame of %d bytes: %v", len(b), err)
	}
	return string(b)
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.receive(); got != w {
			c.t.Fatalf("got response %.60q (%d bytes), want %.60q (%d bytes)", got, len(got), w, len(w))
		}
	}
}

// expectEnd reads until the server has closed the connection, and returns what came before.
func (c *client) expectEnd() []byte {
	c.t.Helper()
	b, err := io.ReadAll(c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatalf("the server does not close the connection")
	}
	return b
}

func framed(payload string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

func respond(payload string) Response { return Response{Parts: []Part{{Bytes: framed(payload)}}} }

// echo answers every frame with itself.
func echo(_ Conn, tk Ticket, frame []byte) { tk.Send(respond(string(frame))) }

// nextClose returns the next closed connection's error.
func (r *recorder) nextClose() error {
	r.t.Helper()
	return testkit.Receive(r.t, "OnClose", r.closed).err
}

// tempFile writes data to a file and returns it, open for reading.
func tempFile(t testing.TB, data []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, what, cond)
}
