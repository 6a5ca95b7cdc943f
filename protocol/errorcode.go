package protocol

import "fmt"

// ErrorCode is an error code of the Kafka protocol. It is an error, save that ErrNone is not a failure: Err turns it
// into nil.
type ErrorCode int16

// errorName is one row of the table of codes.
type errorName struct {
	name      string
	retriable bool
}

// errorCodeMin is the smallest code, the first row of errorNames.
const errorCodeMin = -1

// String returns Kafka's name of the code, such as NOT_LEADER_OR_FOLLOWER, or ERROR_<n> for a code unknown here.
func (e ErrorCode) String() string {
	if i := int(e) - errorCodeMin; i >= 0 && i < len(errorNames) {
		return errorNames[i].name
	}
	return fmt.Sprintf("ERROR_%d", int16(e))
}

// Error is String; it makes a code usable as an error.
func (e ErrorCode) Error() string { return e.String() }

// Err returns nil for ErrNone, else the code.
func (e ErrorCode) Err() error {
	if e == ErrNone {
		return nil
	}
	return e
}

// Retriable reports whether a client may send the same request again and hope.
func (e ErrorCode) Retriable() bool {
	i := int(e) - errorCodeMin
	return i >= 0 && i < len(errorNames) && errorNames[i].retriable
}

// Known reports whether the code is one of Kafka's.
func (e ErrorCode) Known() bool {
	i := int(e) - errorCodeMin
	return i >= 0 && i < len(errorNames)
}
