package protocol

// fieldKind is the shape of a field on the wire.
type fieldKind uint8

// The shapes that request bodies are made of.
const (
	fieldFixed  fieldKind = iota // so many bytes
	fieldString                  // nullable or not
	fieldBytes                   // nullable or not
	fieldList                    // array of fixed-size values, which have no tagged fields
	fieldArray                   // array of structs, each with tagged fields when flexible
	fieldOption                  // int8: negative for null, else the struct follows
	fieldNames                   // array of strings
)

// schemaField is one field of a body: its shape and the versions that have it.
type schemaField struct {
	kind     fieldKind
	size     int // of a fixed field, or of the values of a list, in bytes
	from, to int16
	fields   []schemaField
}

// versionLast stands for "every later version".
const versionLast = 1<<15 - 1

func fixed(size int) schemaField     { return schemaField{kind: fieldFixed, size: size, to: versionLast} }
func listOf(size int) schemaField    { return schemaField{kind: fieldList, size: size, to: versionLast} }
func ofKind(k fieldKind) schemaField { return schemaField{kind: k, to: versionLast} }
func arrayOf(fields ...schemaField) schemaField {
	return schemaField{kind: fieldArray, to: versionLast, fields: fields}
}
func optional(fields ...schemaField) schemaField {
	return schemaField{kind: fieldOption, to: versionLast, fields: fields}
}

// since limits a field to version v and later.
func (f schemaField) since(v int16) schemaField { f.from = v; return f }

// until limits a field to version v and earlier.
func (f schemaField) until(v int16) schemaField { f.to = v; return f }

// requestSchema returns the fields of a request body. APIs with a decoder of their own, and those not served, have
// none. The tagged fields at the end of a body and of each struct are implied. A test encodes random requests of every
// API and version with kmsg and finds that the walk ends where the body does.
func requestSchema(key int16) (fields []schemaField, ok bool) {
	str, bytes := ofKind(fieldString), ofKind(fieldBytes)
	switch key {
	case KeyListOffsets:
		return []schemaField{fixed(4), fixed(1).since(2), arrayOf(str, arrayOf(fixed(4), fixed(4).since(4), fixed(8))), fixed(4).since(10)}, true
	case KeyMetadata:
		return []schemaField{arrayOf(fixed(16).since(10), str), fixed(1).since(4), fixed(1).since(8).until(10), fixed(1).since(8)}, true
	case KeyApiVersions:
		return []schemaField{str.since(3), str.since(3), str.since(5), fixed(4).since(5)}, true
	case KeyCreateTopics:
		return []schemaField{arrayOf(str, fixed(4), fixed(2), arrayOf(fixed(4), listOf(4)), arrayOf(str, str)), fixed(4), fixed(1).since(1)}, true
	case KeyDeleteTopics:
		return []schemaField{ofKind(fieldNames).until(5), arrayOf(str, fixed(16)).since(6), fixed(4)}, true
	case KeyDeleteRecords:
		return []schemaField{arrayOf(str, arrayOf(fixed(4), fixed(8))), fixed(4)}, true
	case KeyInitProducerID:
		return []schemaField{str, fixed(4), fixed(8).since(3), fixed(2).since(3)}, true
	case KeyOffsetForLeaderEpoch:
		return []schemaField{fixed(4).since(3), arrayOf(str, arrayOf(fixed(4), fixed(4).since(2), fixed(4)))}, true
	case KeyDescribeConfigs:
		return []schemaField{arrayOf(fixed(1), str, ofKind(fieldNames)), fixed(1).since(1), fixed(1).since(3)}, true
	case KeyAlterConfigs:
		return []schemaField{arrayOf(fixed(1), str, arrayOf(str, str)), fixed(1)}, true
	case KeyDescribeLogDirs:
		return []schemaField{arrayOf(str, listOf(4))}, true
	case KeyCreatePartitions:
		return []schemaField{arrayOf(str, fixed(4), arrayOf(listOf(4))), fixed(4), fixed(1)}, true
	case KeyIncrementalAlterConfigs:
		return []schemaField{arrayOf(fixed(1), str, arrayOf(str, fixed(1), str)), fixed(1)}, true
	case KeyDescribeCluster:
		return []schemaField{fixed(1), fixed(1).since(1), fixed(1).since(2)}, true
	case KeyGetTelemetrySubscriptions:
		return []schemaField{fixed(16)}, true
	case KeyPushTelemetry:
		return []schemaField{fixed(16), fixed(4), fixed(1), fixed(1), bytes}, true
	case KeyDescribeTopicPartitions:
		return []schemaField{arrayOf(str), fixed(4), optional(str, fixed(4))}, true
	}
	return nil, false
}

// tagsMax bounds the tagged fields of a body that DecodeRequest decodes. kmsg keeps unknown ones in maps, which cost
// a hundred times the two bytes that a field needs on the wire.
const tagsMax = 1000

// walker skips over a body by its schema.
type walker struct {
	reader
	version  int16
	flexible bool
	tagsLeft uint32
}

// fields skips the fields of one struct, its tagged ones included.
func (w *walker) fields(fields []schemaField) {
	for i := range fields {
		if f := &fields[i]; w.version >= f.from && w.version <= f.to {
			w.field(f)
		}
	}
	if !w.flexible || w.bad {
		return
	}
	n := w.uvarint()
	if n > w.tagsLeft {
		w.fail()
		return
	}
	w.tagsLeft -= n
	for ; n > 0 && !w.bad; n-- {
		w.uvarint()
		w.span(int(w.uvarint()))
	}
}

// field skips one field.
func (w *walker) field(f *schemaField) {
	switch f.kind {
	case fieldFixed:
		w.span(f.size)
	case fieldString:
		w.stringBytes(w.flexible)
	case fieldBytes:
		w.nullableBytes(w.flexible)
	case fieldList:
		if n := w.nullableArrayLen(w.flexible, f.size); n > 0 {
			w.span(n * f.size)
		}
	case fieldNames:
		for n := w.nullableArrayLen(w.flexible, 1); n > 0 && !w.bad; n-- {
			w.stringBytes(w.flexible)
		}
	case fieldArray:
		for n := w.nullableArrayLen(w.flexible, 1); n > 0 && !w.bad; n-- {
			w.fields(f.fields)
		}
	case fieldOption:
		if w.int8() >= 0 && !w.bad {
			w.fields(f.fields)
		}
	}
}
