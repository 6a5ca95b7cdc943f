package vfs

// memFileSystem is a Mem as a FileSystem.
type memFileSystem struct {
	fs  *Mem
	dir string
}

// OpenFileSystem implements FS. A Mem is one file system.
func (m *Mem) OpenFileSystem(dir string) (FileSystem, error) {
	if _, err := m.List(dir); err != nil {
		return nil, err
	}
	return &memFileSystem{fs: m, dir: dir}, nil
}

func (f *memFileSystem) Holds(name string) (bool, error) {
	_, err := f.fs.Stat(name)
	return err == nil, err
}

// SyncAll makes all names and all files durable.
func (f *memFileSystem) SyncAll() error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.beginLocked(OpSyncAll, f.dir); err != nil {
		return err
	}
	for _, group := range m.mu.pending {
		for _, c := range group {
			c.apply(c.dir.durable)
		}
	}
	m.mu.pending = nil
	m.root.eachFile(map[*memNode]bool{}, (*memNode).sync)
	return nil
}

func (f *memFileSystem) Close() error { return nil }
