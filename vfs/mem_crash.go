package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashMode says how much of what was not synced survives in a CrashClone.
type CrashMode uint8

const (
	// CrashRandom decides for each unsynced sector, size and name on its own.
	CrashRandom CrashMode = iota
	// CrashLoseUnsynced keeps only what was synced.
	CrashLoseUnsynced
	// CrashKeepAll keeps everything, on disk.
	CrashKeepAll
	// CrashKillProcess keeps everything, in the page cache: what kill -9
	// leaves. What was not synced is still not synced, and a second crash can take it.
	CrashKillProcess
)

// String returns the mode's name.
func (c CrashMode) String() string {
	switch c {
	case CrashRandom:
		return "random"
	case CrashLoseUnsynced:
		return "lose unsynced"
	case CrashKeepAll:
		return "keep all"
	case CrashKillProcess:
		return "kill process"
	}
	return "unknown"
}

// CrashClone returns the file system as it may look when the machine loses
// power now and starts again. The same seed, mode and history give the same
// clone. It shares unchanged pages with m and costs little; both may be used
// on, independently. Locks are not held in the clone, hooks and stops are not set.
func (m *Mem) CrashClone(seed uint64, mode CrashMode) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &crasher{
		mode:  mode,
		rng:   rand.New(rand.NewPCG(seed, 0x6372617368)),
		nodes: map[*memNode]*memNode{},
		names: map[*memNode]map[string]*memNode{},
	}
	if mode == CrashRandom {
		c.choosePending(m.mu.pending)
	}
	out := NewMem(m.opts)
	out.root = c.clone(m.root)
	if mode == CrashKillProcess {
		for _, group := range m.mu.pending {
			copied := make(dirGroup, len(group))
			for i, g := range group {
				copied[i] = dirChange{c.clone(g.dir), g.name, c.clone(g.node)}
			}
			out.mu.pending = append(out.mu.pending, copied)
		}
	}
	out.root.eachFile(map[*memNode]bool{}, func(n *memNode) { out.mu.used += n.allocated })
	return out
}

// UnsyncedBytes returns how many bytes of the file name have been written
// since its last sync, and its size at that sync: tests that cut the file at every byte of an
// unsynced tail clone with CrashKeepAll and truncate.
func (m *Mem) UnsyncedBytes(name string) (bytes, syncedSize int64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.lookupLocked("stat", name)
	if err != nil {
		return 0, 0, err
	}
	for _, s := range n.undo {
		bytes += int64(max(s.hi-s.lo, 0))
	}
	return bytes, n.syncedSize, nil
}

// eachFile visits the files that have a name now, once each.
func (n *memNode) eachFile(seen map[*memNode]bool, visit func(*memNode)) {
	if n.dir {
		for _, name := range n.names() {
			n.entries[name].eachFile(seen, visit)
		}
	} else if !seen[n] {
		seen[n] = true
		visit(n)
	}
}

type crasher struct {
	mode  CrashMode
	rng   *rand.Rand
	nodes map[*memNode]*memNode            // copies made
	names map[*memNode]map[string]*memNode // CrashRandom: the surviving names
}

// choosePending lets each unsynced change of names survive or not. They may
// reach the disk in any order but for changes of one name, the last of which
// wins.
func (c *crasher) choosePending(pending []dirGroup) {
	for _, group := range pending {
		for _, g := range group {
			if c.names[g.dir] == nil {
				c.names[g.dir] = maps.Clone(g.dir.durable)
			}
		}
		if c.rng.IntN(2) == 0 {
			continue
		}
		for _, g := range group {
			g.apply(c.names[g.dir])
		}
	}
}

func (c *crasher) clone(n *memNode) *memNode {
	if n == nil {
		return nil
	}
	if out := c.nodes[n]; out != nil {
		return out
	}
	if !n.dir {
		out := c.cloneFile(n)
		c.nodes[n] = out
		return out
	}
	out := newDirNode()
	c.nodes[n] = out
	entries := n.entries
	switch {
	case c.mode == CrashLoseUnsynced:
		entries = n.durable
	case c.mode == CrashRandom && c.names[n] != nil:
		entries = c.names[n]
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		out.entries[name] = c.clone(entries[name])
	}
	if c.mode != CrashKillProcess {
		out.durable = maps.Clone(out.entries)
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		out.durable[name] = c.clone(n.durable[name])
	}
	return out
}

func (c *crasher) cloneFile(n *memNode) *memNode {
	for i := range n.pages {
		n.pages[i].owned = false
	}
	out := newFileNode(n.modTime)
	out.pages = slices.Clone(n.pages)
	out.size = n.size
	out.allocated = n.allocated
	switch c.mode {
	case CrashKillProcess:
		out.syncedSize, out.sizeMin, out.sizeMax = n.syncedSize, n.sizeMin, n.sizeMax
		out.written = n.written
		out.unlinked = n.unlinked
		for k, s := range n.undo {
			copied := *s
			out.undo[k] = &copied
		}
		return out
	case CrashLoseUnsynced:
		for k, s := range n.undo {
			out.writeAt(s.old[:], k*sectorSize)
		}
		out.size = n.syncedSize
	case CrashRandom:
		c.tear(n, out)
	}
	out.cut(out.size)
	out.allocated = max(out.allocated, (out.size+pageSize-1)/pageSize*pageSize)
	out.sync()
	return out
}

// tear decides what is left of the unsynced part of a file.
func (c *crasher) tear(n, out *memNode) {
	if len(n.undo) == 0 && n.size == n.syncedSize {
		return
	}
	switch r := c.rng.IntN(10); {
	case r < 5: // as it was last
	case r < 7:
		out.size = n.syncedSize
	case !n.written:
		out.size = n.sizeMin
	default:
		out.size = n.sizeMin + c.rng.Int64N(n.sizeMax-n.sizeMin+1)
	}
	for _, k := range slices.Sorted(maps.Keys(n.undo)) {
		c.tearSector(n, out, k)
	}
}

func (c *crasher) tearSector(n, out *memNode, k int64) {
	s := n.undo[k]
	var b [sectorSize]byte
	var noise uint64
	n.readAt(b[:], k*sectorSize)
	if s.lo >= s.hi { // cut off, not written since: there again, if the size says so
		if !n.written || c.rng.IntN(2) == 0 {
			out.writeAt(s.old[:], k*sectorSize)
		}
		return
	}
	switch r := c.rng.IntN(10); {
	case r < 4: // it arrived
		return
	case r < 7: // it did not
		copy(b[s.lo:s.hi], s.old[s.lo:s.hi])
	case r < 9: // an earlier state of it arrived, before later bytes were added
		from := s.lo + c.rng.IntN(s.hi-s.lo)
		copy(b[from:s.hi], s.old[from:s.hi])
	default:
		for i := s.lo; i < s.hi; i++ {
			if i%8 == 0 || i == s.lo {
				noise = c.rng.Uint64()
			}
			b[i] = byte(noise >> (i % 8 * 8))
		}
	}
	out.writeAt(b[:], k*sectorSize)
}
