package bench

import "hash/crc32"

// crcPatch corrects a CRC after a change of a few bytes in a long message, without reading the message again.
//
// A CRC register without its inversions is linear over GF(2): the difference of two checksums depends only on the XOR of the
// two messages. When they differ in one stretch, that difference is the stretch's own raw CRC, advanced by as many zero bytes
// as follow it. Advancing is a 32x32 bit matrix, kept as four tables of 256 words.
type crcPatch struct {
	tab *crc32.Table
	op  [4][256]uint32
}

// newCRCPatch prepares corrections for a stretch that is followed by suffixLen bytes in the checksummed range.
func newCRCPatch(tab *crc32.Table, suffixLen int) *crcPatch {
	p := &crcPatch{tab: tab}
	zeros := make([]byte, min(suffixLen, 1<<16))
	for bit := 0; bit < 32; bit++ {
		state := uint32(1) << bit
		for left := suffixLen; left > 0; {
			n := min(left, len(zeros))
			state = ^crc32.Update(^state, tab, zeros[:n])
			left -= n
		}
		for v := 0; v < 256; v++ {
			if v&(1<<(bit%8)) != 0 {
				p.op[bit/8][v] ^= state
			}
		}
	}
	return p
}

// delta returns what must be XORed to the checksum when the stretch changes by diff (old XOR new).
func (p *crcPatch) delta(diff []byte) uint32 {
	raw := ^crc32.Update(0xffffffff, p.tab, diff)
	return p.op[0][raw&0xff] ^ p.op[1][raw>>8&0xff] ^ p.op[2][raw>>16&0xff] ^ p.op[3][raw>>24]
}
