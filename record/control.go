package record

// ControlType is the kind of a control record, the second field of its key.
type ControlType int16

// The control record types that Kafka defines; the first two end transactions.
const (
	ControlAbort        ControlType = 0
	ControlCommit       ControlType = 1
	ControlLeaderChange ControlType = 2
	ControlUnknown      ControlType = -1
)

// AppendEndTxnMarker appends a control batch that ends a transaction: commit or abort, at the given time in ms, with
// base offset 0 for the log to stamp.
func AppendEndTxnMarker(dst []byte, commit bool, producerID int64, producerEpoch int16, coordinatorEpoch int32, timestampMs int64) []byte {
	return dst
}

// ParseEndTxnMarker reads the control record of a transaction marker.
func ParseEndTxnMarker(r *Record) (t ControlType, coordinatorEpoch int32, err error) {
	return ControlUnknown, 0, ErrInvalid
}
