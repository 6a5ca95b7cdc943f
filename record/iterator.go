package record

// Header is one header of a record. Key is never null, Value is nil for null.
type Header struct {
	Key, Value []byte
}

// Record is one record of a batch. Key and Value are nil for null. The slices are valid until the next call of
// Iterator.Next, Headers' elements included.
type Record struct {
	// Attributes is unused by Kafka, 0.
	Attributes int8
	// OffsetDelta is the record's offset less the batch's base offset.
	OffsetDelta int32
	// TimestampDelta is the record's timestamp less the batch's base timestamp, in ms.
	TimestampDelta int64
	Key, Value     []byte
	Headers        []Header
}

// Iterator walks the records of one batch. Use:
//
//	it := batch.Records(buf, limit)
//	for it.Next() {
//		r := it.Record()
//	}
//	if err := it.Err(); err != nil { ... }
//	buf = it.Buffer()
type Iterator struct {
	rec Record
	err error
	buf []byte
}

// Records returns an iterator over the records. buf is used for decompression and may be nil; the iterator owns it
// until the walk ends, and Buffer gives it back, perhaps grown. limit is the largest decompressed size in bytes,
// 0 for DecompressedBytesMax(len(b)). Errors show in Err after Next has returned false: ErrTooLarge, ErrCorrupt,
// ErrUnsupportedCodec. The CRC is not checked.
func (b Batch) Records(buf []byte, limit int) Iterator { return Iterator{buf: buf} }

// Next moves to the next record and reports whether there is one.
func (it *Iterator) Next() bool { return false }

// Record returns the current record. It is overwritten by Next.
func (it *Iterator) Record() *Record { return &it.rec }

// Err returns what ended the walk early, nil when all records that the header counts were there and nothing else.
func (it *Iterator) Err() error { return it.err }

// Buffer returns the buffer given to Records, perhaps grown, for the next batch.
func (it *Iterator) Buffer() []byte { return it.buf }

// Offset returns the current record's offset.
func (it *Iterator) Offset() int64 { return 0 }

// Timestamp returns the current record's timestamp in ms: the batch's when it is a log-append-time batch.
func (it *Iterator) Timestamp() int64 { return 0 }
