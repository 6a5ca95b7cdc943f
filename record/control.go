package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is the kind of a control record, the second field of its key.
type ControlType int16

// The control record types that brokers act on. Abort and commit end transactions; the others belong to Raft logs.
const (
	ControlAbort        ControlType = 0
	ControlCommit       ControlType = 1
	ControlLeaderChange ControlType = 2
	ControlUnknown      ControlType = -1
)

// String names the type.
func (t ControlType) String() string {
	switch t {
	case ControlAbort:
		return "ABORT"
	case ControlCommit:
		return "COMMIT"
	case ControlLeaderChange:
		return "LEADER_CHANGE"
	case ControlUnknown:
	}
	return fmt.Sprintf("CONTROL_%d", int16(t))
}

// EndTxnMarker is the content of a control batch that ends a transaction.
type EndTxnMarker struct {
	Commit           bool  // false: aborted
	ProducerID       int64 // whose transaction it is
	ProducerEpoch    int16
	CoordinatorEpoch int32 // of the transaction coordinator that wrote it
	TimestampMs      int64 // ms since 1970
}

// The markers' versions and sizes: key int16 version, int16 type; value int16 version, int32 coordinator epoch.
const (
	controlKeyBytes  = 4
	endTxnValueBytes = 6
)

// AppendEndTxnMarker appends the control batch of a marker, with base offset 0 for the log to stamp.
func AppendEndTxnMarker(dst []byte, m EndTxnMarker) []byte {
	b := NewBuilder()
	b.SetProducer(m.ProducerID, m.ProducerEpoch, NoSequence)
	b.SetTransactional(true)
	t := ControlAbort
	if m.Commit {
		t = ControlCommit
	}
	var value [endTxnValueBytes]byte
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	b.AppendControl(m.TimestampMs, t, 0, value[:])
	return b.Finish(dst)
}

// ControlTypeOf returns the type that a control record's key names. The error is ErrCorrupt.
func ControlTypeOf(r *Record) (ControlType, error) {
	if len(r.Key) < controlKeyBytes {
		return ControlUnknown, fmt.Errorf("%w: control record with a key of %d bytes, want %d", ErrCorrupt, len(r.Key), controlKeyBytes)
	}
	return ControlType(binary.BigEndian.Uint16(r.Key[2:])), nil
}

// ParseEndTxnMarker reads the control record of a transaction marker. The error is ErrCorrupt, or ErrInvalid for a
// control record of another type.
func ParseEndTxnMarker(r *Record) (t ControlType, coordinatorEpoch int32, err error) {
	if t, err = ControlTypeOf(r); err != nil {
		return t, 0, err
	}
	if t != ControlAbort && t != ControlCommit {
		return t, 0, fmt.Errorf("%w: control record %s is not a transaction marker", ErrInvalid, t)
	}
	if len(r.Value) < endTxnValueBytes {
		return t, 0, fmt.Errorf("%w: transaction marker with a value of %d bytes, want %d", ErrCorrupt, len(r.Value), endTxnValueBytes)
	}
	return t, int32(binary.BigEndian.Uint32(r.Value[2:])), nil
}
