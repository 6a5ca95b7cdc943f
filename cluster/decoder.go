package cluster

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// decoder reads the formats of this package from bytes that may be anything. The first error sticks; after it every read
// returns zero. What is allocated is bounded by the bytes that are there, and for partitions by partitionsMax in all.
type decoder struct {
	b          []byte
	pos        int
	partitions int // how many more may be read
	err        error

	// b is a window of a file that begins at byte base of it and moves on; src is nil when b is all there is. size is the file's, in bytes.
	src        io.ReaderAt
	base, size int64
}

func newDecoder(b []byte) *decoder { return &decoder{b: b, partitions: partitionsMax} }

// windowBytes is the least that a decoder of a file reads at once; more only for one string, which has its own limit.
const windowBytes = 64 << 10

// newFileDecoder reads from byte pos of a file of size bytes on, and holds no more of it than it needs.
func newFileDecoder(src io.ReaderAt, pos, size int64) *decoder {
	return &decoder{partitions: partitionsMax, src: src, base: pos, size: size}
}

// fill makes the next n bytes part of b, as far as there are any. An error of the disk sticks, as it is.
func (d *decoder) fill(n int) {
	if d.src == nil || d.err != nil || len(d.b)-d.pos >= n {
		return
	}
	rest := append(make([]byte, 0, max(n, windowBytes)), d.b[d.pos:]...)
	d.base, d.pos = d.base+int64(d.pos), 0
	want := int(min(int64(cap(rest)), d.size-d.base))
	d.b = rest[:max(want, len(rest))]
	if got, err := d.src.ReadAt(d.b[len(rest):], d.base+int64(len(rest))); got < len(d.b)-len(rest) {
		d.err = fmt.Errorf("read %d bytes at byte %d: got %d: %w", len(d.b)-len(rest), d.base+int64(len(rest)), got, err)
	}
}

// at is the position of the next byte in the file or payload.
func (d *decoder) at() int64 { return d.base + int64(d.pos) }

// failf records an error at the present position, unless there is one already, and returns the one that stands.
func (d *decoder) failf(format string, args ...any) error {
	if d.err == nil {
		d.err = &CorruptError{Pos: d.at(), Reason: fmt.Sprintf(format, args...)}
	}
	return d.err
}

// finish returns the error, or one about bytes that are left.
func (d *decoder) finish() error {
	if d.err == nil && d.left() != 0 {
		d.failf("%d bytes too many", d.left())
	}
	return d.err
}

func (d *decoder) left() int {
	if d.src != nil {
		return int(d.size - d.at())
	}
	return len(d.b) - d.pos
}

func (d *decoder) byte(what string) byte {
	if d.fill(1); d.err != nil {
		return 0
	}
	if d.left() < 1 {
		d.failf("%s: no bytes left", what)
		return 0
	}
	d.pos++
	return d.b[d.pos-1]
}

func (d *decoder) uvarint(what string) uint64 {
	if d.fill(binary.MaxVarintLen64); d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.pos:])
	if n <= 0 {
		d.failf("%s: not a varint", what)
		return 0
	}
	d.pos += n
	return v
}

// count reads a number of things, at most most, each of which takes at least size of the bytes that are left.
func (d *decoder) count(what string, most, size int) int {
	v := d.uvarint(what)
	if d.err == nil && v > uint64(most) {
		d.failf("%s: %d, at most %d", what, v, most)
		return 0
	}
	if d.err == nil && int(v)*size > d.left() {
		d.failf("%s: %d, but only %d bytes are left", what, v, d.left())
		return 0
	}
	return int(v)
}

func (d *decoder) int32(what string) int32 { return int32(d.count(what, math.MaxInt32, 0)) }

// bytes returns the next n bytes, a slice of the input; of a file, until the next call of any method.
func (d *decoder) bytes(what string, n int) []byte {
	if d.err == nil && n > d.left() {
		d.failf("%s: %d bytes, but only %d are left", what, n, d.left())
	}
	if d.fill(n); d.err != nil {
		return nil
	}
	d.pos += n
	return d.b[d.pos-n : d.pos]
}

func (d *decoder) string(what string, most int) string {
	return string(d.bytes(what, d.count(what, most, 1)))
}

func (d *decoder) id() (id TopicID) {
	copy(id[:], d.bytes("topic id", len(id)))
	return id
}

// configs reads a map; nil when it is empty.
func (d *decoder) configs() map[string]string {
	count := d.count("configs", configsMax, 2)
	if count == 0 {
		return nil
	}
	m := make(map[string]string, count)
	last := ""
	for i := range count {
		k := d.string("config key", configBytesMax)
		v := d.string("config value", configBytesMax)
		if i > 0 && k <= last {
			d.failf("config key %q after %q: keys must ascend", k, last)
		}
		if d.err != nil {
			return nil
		}
		m[k], last = v, k
	}
	return m
}

// nodes reads a list of node ids; nil when it is empty.
func (d *decoder) nodes(what string) []int32 {
	count := d.count(what, replicasMax, 1)
	if count == 0 {
		return nil
	}
	nodes := make([]int32, count)
	for i := range nodes {
		nodes[i] = d.int32(what)
	}
	return nodes
}

// assignments reads runs of partitions; the partitions of a run share one slice.
func (d *decoder) assignments() [][]int32 {
	runs := d.count("partition runs", partitionsMax, 3)
	var assignments [][]int32
	for range runs {
		length := d.count("partitions of a run", d.partitions, 0)
		nodes := d.nodes("replicas")
		if d.err == nil && (length == 0 || len(nodes) == 0) {
			d.failf("a run of %d partitions with %d replicas", length, len(nodes))
		}
		if d.err != nil {
			return nil
		}
		d.partitions -= length
		assignments = slices.Grow(assignments, length)
		for range length {
			assignments = append(assignments, nodes)
		}
	}
	return assignments
}
