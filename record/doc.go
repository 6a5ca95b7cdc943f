// Package record is the RecordBatch, version 2, as a view over a byte slice: validation, stamping, iteration, and a
// builder. It does no I/O; views, header checks and stamping allocate nothing.
//
// Place in the path: broker has decoded a Produce request (package protocol) and holds the batch bytes as a slice of
// the frame -> Next and Batch.Validate check them -> engine stamps base offset and leader epoch in place and writes
// the bytes. On fetch, record bytes are not touched at all. Recovery, compaction and offset-for-timestamp read
// batches back through the same views.
//
// The format, big-endian, part of the wire and the disk format (KIP-98); the constants below name the positions:
//
//	pos  len  field
//	  0    8  base offset
//	  8    4  batch length: bytes after this field
//	 12    4  partition leader epoch
//	 16    1  magic (2)
//	 17    4  CRC-32C over everything from the attributes to the end
//	 21    2  attributes: bits 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 has delete horizon
//	 23    4  last offset delta
//	 27    8  base timestamp, ms: the deltas of the records count from it (or the delete horizon, see bit 6)
//	 35    8  max timestamp, ms
//	 43    8  producer id, -1 for none
//	 51    2  producer epoch
//	 53    4  base sequence
//	 57    4  record count
//	 61       records, compressed together when the codec is not none
//
// A record is: varint length; int8 attributes (unused); varlong timestamp delta; varint offset delta; varint key
// length (-1 for null) and key; varint value length (-1 for null) and value; varint header count; per header a varint
// key length, key, varint value length (-1 for null), value. Varints are zig-zag.
//
// The first 21 bytes lie outside the CRC, so that a broker stamps base offset and leader epoch without a new one.
//
// Ownership: a Batch, and the Key, Value and Headers of a Record, are slices of the caller's bytes or of the
// Iterator's buffer; they are valid as long as those are.
//
// Goroutines and locks: none. A Builder or an Iterator belongs to one goroutine at a time.
package record
