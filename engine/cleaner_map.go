package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
)

const (
	keyHashBytes    = 16
	offsetSlotBytes = keyHashBytes + 8
	// offsetMapLoad is how full the map may get: linear probing needs gaps.
	offsetMapLoad = 0.75
)

// offsetMap remembers for each key the offset of its newest record, in memory of a fixed size: a slot holds 16 bytes of
// the key's SHA-256 and the offset plus one, 24 bytes in all, so that key sizes do not matter. Two keys with the same
// hash would take each other's place; with 2^128 hashes that does not happen by chance, nor by design.
//
// Open addressing with linear probing; nothing is ever removed. Not safe for concurrent use.
type offsetMap struct {
	slots      []byte
	slotCount  uint64
	count      int
	countMax   int
	lastOffset int64 // everything up to here is in the map; -1 for an empty one
}

// newOffsetMap makes a map for up to keys entries, or as many as fit into bytesMax. At least one entry fits.
func newOffsetMap(keys int64, bytesMax int64) *offsetMap {
	slots := max(2, bytesMax/offsetSlotBytes)
	if want := int64(math.Ceil(float64(max(keys, 1))/offsetMapLoad)) + 1; want < slots {
		slots = want
	}
	slots = max(slots, 2)
	return &offsetMap{
		slots: make([]byte, slots*offsetSlotBytes), slotCount: uint64(slots),
		countMax: max(1, int(float64(slots)*offsetMapLoad)), lastOffset: -1,
	}
}

func (m *offsetMap) full() bool { return m.count >= m.countMax }

// find gives the slot of a hash, or the empty one where it belongs.
func (m *offsetMap) find(hash []byte) []byte {
	for i := binary.BigEndian.Uint64(hash) % m.slotCount; ; i = (i + 1) % m.slotCount {
		slot := m.slots[i*offsetSlotBytes : (i+1)*offsetSlotBytes]
		if binary.BigEndian.Uint64(slot[keyHashBytes:]) == 0 || bytes.Equal(slot[:keyHashBytes], hash) {
			return slot
		}
	}
}

// put notes that key was written at offset, which is above all offsets put before. false: the map is full and the key
// is not in it.
func (m *offsetMap) put(key []byte, offset int64) bool {
	hash := sha256.Sum256(key)
	slot := m.find(hash[:keyHashBytes])
	if binary.BigEndian.Uint64(slot[keyHashBytes:]) == 0 {
		if m.full() {
			return false
		}
		copy(slot, hash[:keyHashBytes])
		m.count++
	}
	binary.BigEndian.PutUint64(slot[keyHashBytes:], uint64(offset)+1)
	return true
}

// get gives the newest offset of key, -1 when it is not in the map.
func (m *offsetMap) get(key []byte) int64 {
	hash := sha256.Sum256(key)
	return int64(binary.BigEndian.Uint64(m.find(hash[:keyHashBytes])[keyHashBytes:])) - 1
}
