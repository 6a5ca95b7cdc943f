package engine

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/vfs"
)

// segFile is one file of a partition, opened when needed and closed again when too many are open. It is a vfs.File, so
// that the fsync scheduler can hold it without a descriptor, and it makes its own name durable with its first sync: a
// segment's bytes must not count as durable before the directory knows the file.
type segFile struct {
	dir    *partitionDir
	pooled *vfs.PooledFile
	// unlinked says that the directory entry, and perhaps the directory itself, has not been synced yet.
	unnamed atomic.Bool
}

var _ vfs.File = (*segFile)(nil)

func newSegFile(dir *partitionDir, name string) *segFile {
	return &segFile{dir: dir, pooled: dir.pool.File(dir.join(name), true)}
}

// create makes the file, or empties it; its name is durable after the next sync.
func (f *segFile) create() error {
	file, err := f.dir.fs.Create(f.pooled.Name())
	if err != nil {
		return err
	}
	f.pooled = f.dir.pool.Adopt(file, true)
	f.unnamed.Store(true)
	return nil
}

// rename moves the file to another name in its directory, not durably.
func (f *segFile) rename(name string) error {
	to := f.dir.join(name)
	if err := f.dir.fs.Rename(f.Name(), to); err != nil {
		return err
	}
	f.pooled.SetName(to)
	return nil
}

// FilesCrowded says that readers hold more files of partitions open than OpenFilesMax allows: one that has something should come back for more
// when that is sent.
func (s *Store) FilesCrowded() bool { return s.pool.Crowded() }

// ref acquires the open file for a reader.
func (f *segFile) ref() (*FileRef, error) {
	file, err := f.pooled.Acquire()
	if err != nil {
		return nil, err
	}
	r := &FileRef{pooled: f.pooled, file: file}
	r.refs.Store(1)
	return r, nil
}

func (f *segFile) with(do func(vfs.File) error) error {
	file, err := f.pooled.Acquire()
	if err != nil {
		return err
	}
	defer f.pooled.Release()
	return do(file)
}

// ReadAt implements io.ReaderAt.
func (f *segFile) ReadAt(p []byte, pos int64) (int, error) {
	file, err := f.pooled.Acquire()
	if err != nil {
		return 0, err
	}
	defer f.pooled.Release()
	return file.ReadAt(p, pos)
}

// WriteAt implements io.WriterAt.
func (f *segFile) WriteAt(p []byte, pos int64) (int, error) {
	file, err := f.pooled.Acquire()
	if err != nil {
		return 0, err
	}
	defer f.pooled.Release()
	f.pooled.MarkDirty()
	return file.WriteAt(p, pos)
}

// Writev implements vfs.File.
func (f *segFile) Writev(bufs [][]byte, pos int64) (int, error) {
	file, err := f.pooled.Acquire()
	if err != nil {
		return 0, err
	}
	defer f.pooled.Release()
	f.pooled.MarkDirty()
	return file.Writev(bufs, pos)
}

// Size implements vfs.File.
func (f *segFile) Size() (n int64, err error) {
	err = f.with(func(file vfs.File) error { n, err = file.Size(); return err })
	return n, err
}

// Truncate implements vfs.File.
func (f *segFile) Truncate(size int64) error {
	return f.with(func(file vfs.File) error {
		f.pooled.MarkDirty()
		return file.Truncate(size)
	})
}

// Datasync implements vfs.File; the first one syncs the names of file and directory as well.
func (f *segFile) Datasync() error {
	if err := f.with(func(file vfs.File) error { f.pooled.MarkClean(); return file.Datasync() }); err != nil {
		return err
	}
	return f.syncName()
}

// Sync implements vfs.File.
func (f *segFile) Sync() error {
	if err := f.with(func(file vfs.File) error { f.pooled.MarkClean(); return file.Sync() }); err != nil {
		return err
	}
	return f.syncName()
}

func (f *segFile) syncName() error {
	if !f.unnamed.Load() {
		return nil
	}
	if err := f.dir.syncNames(); err != nil {
		return err
	}
	f.unnamed.Store(false)
	return nil
}

// WriteBack implements vfs.File.
func (f *segFile) WriteBack(pos, n int64) error {
	return f.with(func(file vfs.File) error { return file.WriteBack(pos, n) })
}

// WriteOut implements vfs.File.
func (f *segFile) WriteOut(pos, n int64) error {
	return f.with(func(file vfs.File) error { return file.WriteOut(pos, n) })
}

// Preallocate implements vfs.File.
func (f *segFile) Preallocate(pos, n int64) error {
	return f.with(func(file vfs.File) error { return file.Preallocate(pos, n) })
}

// Fd implements vfs.File; there is no descriptor that stays valid, FileRef has one.
func (f *segFile) Fd() (uintptr, bool) { return 0, false }

// Name implements vfs.File.
func (f *segFile) Name() string { return f.pooled.Name() }

// Close refuses further use; readers that hold a FileRef go on.
func (f *segFile) Close() error {
	f.pooled.Close()
	return nil
}

// partitionDir is what a segment needs to know of its partition's directory.
type partitionDir struct {
	fs   vfs.FS
	pool *vfs.Pool
	path string
	// retirements counts the segments whose files were renamed for deletion.
	retirements atomic.Int64
	// unnamed says that the directory's own name has not been synced in its parent yet.
	unnamed atomic.Bool
	meta    struct {
		sync.Mutex
		id      TopicID
		pending bool // partition.metadata is not on disk
	}
}

// topicID is the id in partition.metadata, or the one that it will hold.
func (d *partitionDir) topicID() TopicID {
	d.meta.Lock()
	defer d.meta.Unlock()
	return d.meta.id
}

// setTopicID notes the id; pending means that partition.metadata has to be written.
func (d *partitionDir) setTopicID(id TopicID, pending bool) {
	d.meta.Lock()
	defer d.meta.Unlock()
	d.meta.id, d.meta.pending = id, pending
}

// writeMetadata writes partition.metadata, durably, unless it is there.
func (d *partitionDir) writeMetadata() error {
	d.meta.Lock()
	defer d.meta.Unlock()
	if !d.meta.pending || d.meta.id == (TopicID{}) {
		return nil
	}
	if err := writePartitionMetadata(d.fs, d.path, d.meta.id); err != nil {
		return err
	}
	d.meta.pending = false
	return nil
}

// stageMetadata writes partition.metadata beside itself, unless it is there or nothing is known to write; then it gives nil. Nobody else writes
// it until done.
func (d *partitionDir) stageMetadata() (*stagedFile, error) {
	d.meta.Lock()
	if !d.meta.pending || d.meta.id == (TopicID{}) {
		d.meta.Unlock()
		return nil, nil
	}
	path := d.join(partitionMetadataName)
	if err := vfs.StageFile(d.fs, path, encodePartitionMetadata(d.meta.id)); err != nil {
		d.meta.Unlock()
		return nil, fmt.Errorf("write %s: %w", partitionMetadataName, err)
	}
	return &stagedFile{path: path, done: func(replaced bool) {
		defer d.meta.Unlock()
		if replaced {
			d.meta.pending = false
		}
	}}, nil
}

func (d *partitionDir) join(name string) string { return filepath.Join(d.path, name) }

// syncNames makes the names of the files, and of the directory, durable.
func (d *partitionDir) syncNames() error {
	// A full disk puts the topic's id off to the next checkpoint: records are good without it, and a broker must not die of it.
	if err := d.writeMetadata(); err != nil && !isNoSpace(err) {
		return err
	}
	if err := d.fs.SyncDir(d.path); err != nil {
		return fmt.Errorf("sync directory %s: %w", d.path, err)
	}
	if d.unnamed.Load() {
		parent := filepath.Dir(d.path)
		if err := d.fs.SyncDir(parent); err != nil {
			return fmt.Errorf("sync directory %s: %w", parent, err)
		}
		d.unnamed.Store(false)
	}
	return nil
}

// FileRef is a counted reference to an open segment file. It stays readable after the segment left the log.
type FileRef struct {
	pooled *vfs.PooledFile
	file   vfs.File
	refs   atomic.Int32
}

// Fd is the file descriptor for sendfile; false when the file is not the operating system's.
func (f *FileRef) Fd() (int, bool) {
	fd, ok := f.file.Fd()
	return int(fd), ok
}

// ReadAt copies bytes out of the segment.
func (f *FileRef) ReadAt(p []byte, pos int64) (int, error) { return f.file.ReadAt(p, pos) }

// Name is the path the file was opened by.
func (f *FileRef) Name() string { return f.file.Name() }

// Retain adds a reference.
func (f *FileRef) Retain() { f.refs.Add(1) }

// Release gives a reference back.
func (f *FileRef) Release() {
	switch n := f.refs.Add(-1); {
	case n == 0:
		f.pooled.Release()
	case n < 0:
		panic("BUG: FileRef released more often than retained: " + f.file.Name())
	}
}
