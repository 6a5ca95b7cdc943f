package vfs

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/internal/clock"
)

// Rule says which operations of an ErrorFS go wrong, and how. The first rule that
// matches and is due decides about the error; the delays of all matching rules add up.
type Rule struct {
	// Ops are the operations meant. Default: OpAny.
	Ops Op
	// Path must occur in the file's name, or either name of a rename.
	// Default: "", any.
	Path string
	// Skip lets this many matching operations pass first. Default: 0.
	Skip int
	// Count is how many operations the rule then applies to; 0 means all
	// that follow. Default: 0.
	Count int
	// Err is what the operation fails with, wrapped with operation and name;
	// nil lets it pass (a rule of delay only). The operation is not carried
	// out, but for ShortBytes.
	Err error
	// ShortBytes is how many bytes of a failing write are written all the
	// same. Default: 0.
	ShortBytes int
	// After carries the operation out and fails it afterwards: an fsync that
	// reached the disk and still reported an error. Default: false.
	After bool
	// Delay holds the operation up, on the clock of the options. Default: 0.
	Delay time.Duration
	// Hook runs before the operation, without locks: tests block in it, or
	// note that it was reached. Default: nil.
	Hook func(op Op, name string)
}

// ErrorFSOptions configure an ErrorFS.
type ErrorFSOptions struct {
	// Clock times delays. Default: clock.Real().
	Clock clock.Clock
	// Rules are in force from the start.
	Rules []Rule
}

// ErrorFS wraps a file system and makes operations fail by rules, which may change at
// any time. It is safe for concurrent use.
type ErrorFS struct {
	inner FS
	clock clock.Clock

	mu struct {
		sync.Mutex
		rules  []*ruleState
		counts map[Op]int64
	}
}

type ruleState struct {
	Rule
	seen int
}

// NewErrorFS returns inner behind the rules of opts.
func NewErrorFS(inner FS, opts ErrorFSOptions) *ErrorFS {
	e := &ErrorFS{inner: inner, clock: opts.Clock}
	if e.clock == nil {
		e.clock = clock.Real()
	}
	e.mu.counts = make(map[Op]int64)
	for _, r := range opts.Rules {
		e.Add(r)
	}
	return e
}

// Add puts a rule in force, after those there are, and returns what takes it
// back.
func (e *ErrorFS) Add(r Rule) (remove func()) {
	if r.Ops == 0 {
		r.Ops = OpAny
	}
	state := &ruleState{Rule: r}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.rules = append(e.mu.rules, state)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for i, s := range e.mu.rules {
			if s == state {
				e.mu.rules = append(e.mu.rules[:i:i], e.mu.rules[i+1:]...)
				return
			}
		}
	}
}

// Clear removes all rules.
func (e *ErrorFS) Clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.rules = nil
}

// Count returns how many operations of the given kinds were tried.
func (e *ErrorFS) Count(ops Op) (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for op, c := range e.mu.counts {
		if op&ops != 0 {
			n += c
		}
	}
	return n
}

// verdict is what the rules say about one operation.
type verdict struct {
	err   error
	short int
	after bool
}

func (e *ErrorFS) judge(op Op, names ...string) (v verdict) {
	var delay time.Duration
	var hooks []func(Op, string)
	e.mu.Lock()
	e.mu.counts[op]++
	for _, r := range e.mu.rules {
		if r.Ops&op == 0 || !matches(r.Path, names) {
			continue
		}
		r.seen++
		if r.seen <= r.Skip || r.Count > 0 && r.seen > r.Skip+r.Count {
			continue
		}
		delay += r.Delay
		if r.Hook != nil {
			hooks = append(hooks, r.Hook)
		}
		if r.Err != nil && v.err == nil {
			v = verdict{pathError(op.String(), names[0], r.Err), r.ShortBytes, r.After}
		}
	}
	e.mu.Unlock()
	for _, hook := range hooks {
		hook(op, names[0])
	}
	if delay > 0 {
		<-e.clock.NewTimer(delay).C()
	}
	return v
}

func matches(path string, names []string) bool {
	for _, name := range names {
		if strings.Contains(name, path) {
			return true
		}
	}
	return false
}

// do runs an operation under the rules.
func (e *ErrorFS) do(op Op, f func() error, names ...string) error {
	v := e.judge(op, names...)
	if v.err != nil && !v.after {
		return v.err
	}
	if err := f(); err != nil {
		return err
	}
	return v.err
}

// get is do for operations with a result; a failed one has none.
func get[T any](e *ErrorFS, op Op, f func() (T, error), names ...string) (out T, err error) {
	err = e.do(op, func() (err error) {
		out, err = f()
		return err
	}, names...)
	return out, err
}

func (e *ErrorFS) file(op Op, f func(string) (File, error), name string) (File, error) {
	file, err := get(e, op, func() (File, error) { return f(name) }, name)
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return &errorFile{File: file, fs: e}, nil
}

// Open implements FS.
func (e *ErrorFS) Open(name string) (File, error) { return e.file(OpOpen, e.inner.Open, name) }

// OpenReadWrite implements FS.
func (e *ErrorFS) OpenReadWrite(name string) (File, error) {
	return e.file(OpOpen, e.inner.OpenReadWrite, name)
}

// Create implements FS.
func (e *ErrorFS) Create(name string) (File, error) { return e.file(OpCreate, e.inner.Create, name) }

// Remove implements FS.
func (e *ErrorFS) Remove(name string) error {
	return e.do(OpRemove, func() error { return e.inner.Remove(name) }, name)
}

// RemoveAll implements FS.
func (e *ErrorFS) RemoveAll(name string) error {
	return e.do(OpRemove, func() error { return e.inner.RemoveAll(name) }, name)
}

// Rename implements FS.
func (e *ErrorFS) Rename(oldName, newName string) error {
	return e.do(OpRename, func() error { return e.inner.Rename(oldName, newName) }, newName, oldName)
}

// MkdirAll implements FS.
func (e *ErrorFS) MkdirAll(dir string) error {
	return e.do(OpMkdir, func() error { return e.inner.MkdirAll(dir) }, dir)
}

// SyncDir implements FS.
func (e *ErrorFS) SyncDir(dir string) error {
	return e.do(OpSyncDir, func() error { return e.inner.SyncDir(dir) }, dir)
}

// List implements FS.
func (e *ErrorFS) List(dir string) ([]string, error) {
	return get(e, OpList, func() ([]string, error) { return e.inner.List(dir) }, dir)
}

// Stat implements FS.
func (e *ErrorFS) Stat(name string) (FileInfo, error) {
	return get(e, OpStat, func() (FileInfo, error) { return e.inner.Stat(name) }, name)
}

// DiskUsage implements FS.
func (e *ErrorFS) DiskUsage(dir string) (Usage, error) {
	return get(e, OpUsage, func() (Usage, error) { return e.inner.DiskUsage(dir) }, dir)
}

// Lock implements FS.
func (e *ErrorFS) Lock(name string) (io.Closer, error) {
	return get(e, OpLock, func() (io.Closer, error) { return e.inner.Lock(name) }, name)
}

// OpenFileSystem implements FS.
func (e *ErrorFS) OpenFileSystem(dir string) (FileSystem, error) {
	inner, err := get(e, OpOpen, func() (FileSystem, error) { return e.inner.OpenFileSystem(dir) }, dir)
	if err != nil {
		if inner != nil {
			_ = inner.Close()
		}
		return nil, err
	}
	return &errorFileSystem{FileSystem: inner, fs: e, dir: dir}, nil
}

// errorFileSystem passes Holds and Close through.
type errorFileSystem struct {
	FileSystem
	fs  *ErrorFS
	dir string
}

func (f *errorFileSystem) SyncAll() error { return f.fs.do(OpSyncAll, f.FileSystem.SyncAll, f.dir) }

// errorFile passes Name and Fd through.
type errorFile struct {
	File
	fs *ErrorFS
}

func (f *errorFile) ReadAt(p []byte, off int64) (int, error) {
	return get(f.fs, OpRead, func() (int, error) { return f.File.ReadAt(p, off) }, f.Name())
}

func (f *errorFile) WriteAt(p []byte, off int64) (int, error) {
	return f.Writev([][]byte{p}, off)
}

func (f *errorFile) Writev(bufs [][]byte, off int64) (int, error) {
	v := f.fs.judge(OpWrite, f.Name())
	if v.err == nil || v.after {
		n, err := f.File.Writev(bufs, off)
		if err == nil {
			err = v.err
		}
		return n, err
	}
	n := 0
	for _, b := range bufs {
		b = b[:min(len(b), v.short-n)]
		if len(b) == 0 {
			continue
		}
		c, err := f.File.WriteAt(b, off+int64(n))
		n += c
		if err != nil {
			return n, err
		}
	}
	return n, v.err
}

func (f *errorFile) Size() (int64, error) {
	return get(f.fs, OpSize, f.File.Size, f.Name())
}

func (f *errorFile) Truncate(size int64) error {
	return f.fs.do(OpTruncate, func() error { return f.File.Truncate(size) }, f.Name())
}

func (f *errorFile) Datasync() error { return f.fs.do(OpSync, f.File.Datasync, f.Name()) }
func (f *errorFile) Sync() error     { return f.fs.do(OpSync, f.File.Sync, f.Name()) }

func (f *errorFile) WriteBack(off, n int64) error {
	return f.fs.do(OpWriteBack, func() error { return f.File.WriteBack(off, n) }, f.Name())
}

func (f *errorFile) WriteOut(off, n int64) error {
	return f.fs.do(OpWriteOut, func() error { return f.File.WriteOut(off, n) }, f.Name())
}

func (f *errorFile) Preallocate(off, n int64) error {
	return f.fs.do(OpPreallocate, func() error { return f.File.Preallocate(off, n) }, f.Name())
}

// Close always closes the file, also when it reports an error: as Linux does.
func (f *errorFile) Close() error {
	v := f.fs.judge(OpClose, f.Name())
	if err := f.File.Close(); err != nil {
		return err
	}
	return v.err
}
