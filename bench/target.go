package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Target is a broker under load.
type Target interface {
	// Name labels the target in tables and files: letters, digits, dots, dashes.
	Name() string
	// Addr is a bootstrap address, host:port. It is known once Start has returned.
	Addr() string
	// PIDs are the broker's processes on this host; empty when it runs elsewhere.
	PIDs() []int
	// DataDir is the broker's data directory on this host, "" when unknown: its file system is shown with the results.
	DataDir() string
	// Start makes the target answer; for one that runs already it only checks that it does.
	Start(ctx context.Context) error
	// Stop ends what Start started and removes its data.
	Stop() error
}

// AddressTarget is a broker that runs already.
type AddressTarget struct {
	name, addr string
	pid        int
}

// ParseTarget reads "name=host:port" or "host:port", either with ",pid=N" behind it.
func ParseTarget(s string) (*AddressTarget, error) {
	t := &AddressTarget{}
	rest, pid, hasPID := strings.Cut(s, ",pid=")
	if hasPID {
		if _, err := fmt.Sscanf(pid, "%d", &t.pid); err != nil || t.pid < 1 {
			return nil, fmt.Errorf("target %q: field pid: %q is not a process id", s, pid)
		}
	}
	name, addr, named := strings.Cut(rest, "=")
	if !named {
		name, addr = rest, rest
	}
	if name == "" || strings.ContainsAny(name, "/\\ ") {
		return nil, fmt.Errorf("target %q: field name: %q: want letters, digits, dots or dashes", s, name)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" || port == "0" {
		return nil, fmt.Errorf("target %q: field address: %q is not host:port", s, addr)
	}
	if host == "" {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	t.name, t.addr = strings.ReplaceAll(name, ":", "-"), addr
	return t, nil
}

// Name is the label.
func (t *AddressTarget) Name() string { return t.name }

// Addr is host:port.
func (t *AddressTarget) Addr() string { return t.addr }

// PIDs is the given pid, or the processes that listen on the port, found through /proc.
func (t *AddressTarget) PIDs() []int {
	if t.pid != 0 {
		return []int{t.pid}
	}
	return listenerPIDs(t.addr)
}

// DataDir is unknown.
func (t *AddressTarget) DataDir() string { return "" }

// Start checks that the address answers.
func (t *AddressTarget) Start(ctx context.Context) error {
	a, err := dialAdmin(ctx, t.addr)
	if err != nil {
		return fmt.Errorf("target %s: field address: %w", t.name, err)
	}
	defer a.close()
	if _, err := a.metadata(ctx, ""); err != nil {
		return fmt.Errorf("target %s at %s does not answer Metadata: %w", t.name, t.addr, err)
	}
	return nil
}

// Stop does nothing: the broker is not ours.
func (t *AddressTarget) Stop() error { return nil }

// ProcessTarget runs a broker as a child process with a directory of its own, so that its CPU and memory are measured apart.
type ProcessTarget struct {
	// Label is the target's name.
	Label string
	// Software says what it is, with its version. Default: "", unknown.
	Software string
	// Command builds the argument vector for a fresh directory.
	Command func(dir string) []string
	// Fixed is the address that the command listens on; "" takes it from the line that says ready.
	Fixed string
	// Parent is where the directory is made. Default: "", the system's temporary directory.
	Parent string
	// ReadyTimeout is how long the process may take to answer. Default: 60 s.
	ReadyTimeout time.Duration
	// Keep leaves the directory in place on Stop.
	Keep bool

	cmd  *exec.Cmd
	dir  string
	addr string
	out  tail
	done chan struct{}
}

// Name is the label.
func (p *ProcessTarget) Name() string { return p.Label }

// Version is Software.
func (p *ProcessTarget) Version() string { return p.Software }

// Addr is the address in the ready line.
func (p *ProcessTarget) Addr() string { return p.addr }

// PIDs is the child.
func (p *ProcessTarget) PIDs() []int {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	return []int{p.cmd.Process.Pid}
}

// DataDir is the child's directory.
func (p *ProcessTarget) DataDir() string { return p.dir }

var readyAddr = regexp.MustCompile(`((?:\[[0-9a-fA-F:]+\]|[0-9A-Za-z_.-]+):[0-9]{2,5})`)

// parseReady finds the address in the line "ready address=HOST:PORT ...", which weir serve prints.
func parseReady(line string) (addr string, ok bool) {
	if !strings.HasPrefix(line, "ready ") {
		return "", false
	}
	for _, m := range readyAddr.FindAllString(line, -1) {
		if host, port, err := net.SplitHostPort(m); err == nil && host != "" && !strings.HasPrefix(port, "0") {
			return m, true
		}
	}
	return "", false
}

// Start runs the command and waits until it answers a Metadata request.
func (p *ProcessTarget) Start(ctx context.Context) (err error) {
	if p.ReadyTimeout == 0 {
		p.ReadyTimeout = 60 * time.Second
	}
	if p.dir, err = os.MkdirTemp(p.Parent, "weir-bench-"+p.Label+"-"); err != nil {
		return err
	}
	argv := p.Command(p.dir)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	pipe, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("target %s: %w", p.Label, err)
	}
	p.done = make(chan struct{})
	ready, watched := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(watched)
		p.watch(pipe, ready)
	}()
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit status is judged by whether it answers
		w.Close()
		<-watched // its last words are known
	}()
	ctx, cancel := context.WithTimeout(ctx, p.ReadyTimeout)
	defer cancel()
	p.addr = p.Fixed
	if p.addr == "" {
		select {
		case p.addr = <-ready:
		case <-p.done:
			return p.startError(errors.New("it ended before it was ready"))
		case <-ctx.Done():
			return p.startError(ctx.Err())
		}
	}
	return p.waitAnswer(ctx)
}

// waitAnswer polls until the broker serves Metadata.
func (p *ProcessTarget) waitAnswer(ctx context.Context) error {
	for {
		a, err := dialAdmin(ctx, p.addr)
		if err == nil {
			_, err = a.metadata(ctx, "")
			a.close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.startError(errors.New("it ended before it answered"))
		case <-ctx.Done():
			return p.startError(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *ProcessTarget) startError(err error) error {
	_ = p.Stop()
	return fmt.Errorf("target %s: %w; its last output:\n%s", p.Label, err, p.out.String())
}

// watch keeps the last lines of output and reports the address of the first ready line.
func (p *ProcessTarget) watch(r io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.out.add(lines.Text())
		if addr, ok := parseReady(lines.Text()); ok {
			select {
			case ready <- addr:
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// Stop ends the child (SIGTERM, after 15 s SIGKILL) and removes its directory.
func (p *ProcessTarget) Stop() error {
	if p.cmd != nil && p.cmd.Process != nil && p.done != nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(15 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		p.cmd = nil
	}
	if p.dir == "" || p.Keep {
		return nil
	}
	dir := p.dir
	p.dir = ""
	return os.RemoveAll(dir)
}

// tail keeps the last lines that were added.
type tail struct {
	mu struct {
		sync.Mutex
		lines []string
	}
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.lines) == 20 {
		t.mu.lines = t.mu.lines[1:]
	}
	t.mu.lines = append(t.mu.lines, line)
}

// String joins the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.mu.lines, "\n")
}
