package vfs

import (
	"maps"
	"slices"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// memNode is a file or directory. All fields are guarded by Mem.mu.
type memNode struct {
	dir bool

	// Of a directory: the names now and as of the last SyncDir.
	entries, durable map[string]*memNode

	// Of a file: the contents now. A page that a clone may share is copied
	// before it is changed, which makes clones cheap.
	pages     []memPage
	size      int64
	allocated int64 // bytes taken on the disk, a multiple of pageSize
	modTime   time.Time
	unlinked  bool // allocated is no longer counted in Mem.mu.used

	// Of a file: what has happened since the last sync.
	undo             map[int64]*memSector // by sector number
	syncedSize       int64
	sizeMin, sizeMax int64 // the range of sizes since then
	written          bool  // false: only cuts
}

type memPage struct {
	b     *[pageSize]byte // nil: zeros
	owned bool            // no clone shares b
}

// memSector remembers a sector as of the last sync.
type memSector struct {
	old    [sectorSize]byte
	lo, hi int // the bytes written since: [lo, hi)
}

func newDirNode() *memNode {
	return &memNode{dir: true, entries: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func newFileNode(now time.Time) *memNode {
	return &memNode{modTime: now, undo: map[int64]*memSector{}}
}

func (n *memNode) names() []string { return slices.Sorted(maps.Keys(n.entries)) }

// readAt fills p with contents at off, zeros where there are none. The
// caller has checked the size.
func (n *memNode) readAt(p []byte, off int64) {
	for len(p) > 0 {
		page, in := off/pageSize, int(off%pageSize)
		c := min(len(p), pageSize-in)
		if page < int64(len(n.pages)) && n.pages[page].b != nil {
			copy(p[:c], n.pages[page].b[in:])
		} else {
			clear(p[:c])
		}
		p, off = p[c:], off+int64(c)
	}
}

// writeAt changes contents, without a thought for sizes and undo.
func (n *memNode) writeAt(p []byte, off int64) {
	for len(p) > 0 {
		page, in := off/pageSize, int(off%pageSize)
		c := copy(n.page(page)[in:], p)
		p, off = p[c:], off+int64(c)
	}
}

// page returns a page that may be changed.
func (n *memNode) page(i int64) *[pageSize]byte {
	for int64(len(n.pages)) <= i {
		n.pages = append(n.pages, memPage{})
	}
	p := &n.pages[i]
	if !p.owned {
		b := new([pageSize]byte)
		if p.b != nil {
			*b = *p.b
		}
		*p = memPage{b: b, owned: true}
	}
	return p.b
}

// cut drops contents from size on, so that they read as zeros if the file
// grows again.
func (n *memNode) cut(size int64) {
	keep := (size + pageSize - 1) / pageSize
	if keep < int64(len(n.pages)) {
		clear(n.pages[keep:])
		n.pages = n.pages[:keep]
	}
	if in := size % pageSize; in != 0 && keep <= int64(len(n.pages)) {
		clear(n.page(keep - 1)[in:])
	}
}

// remember keeps the sectors of [off, end) as they were at the last sync.
// written says that the bytes are about to be written, not cut off.
func (n *memNode) remember(off, end int64, written bool) {
	for sector := off / sectorSize; sector*sectorSize < end; sector++ {
		start := sector * sectorSize
		s := n.undo[sector]
		if s == nil {
			s = &memSector{lo: sectorSize, hi: 0}
			n.readAt(s.old[:], start)
			n.undo[sector] = s
		}
		if written {
			s.lo = min(s.lo, int(max(off-start, 0)))
			s.hi = max(s.hi, int(min(end-start, sectorSize)))
		}
	}
}

func (n *memNode) setSize(size int64) {
	n.size = size
	n.sizeMin = min(n.sizeMin, size)
	n.sizeMax = max(n.sizeMax, size)
}

// sync makes the contents durable.
func (n *memNode) sync() {
	clear(n.undo)
	n.syncedSize, n.sizeMin, n.sizeMax = n.size, n.size, n.size
	n.written = false
}
