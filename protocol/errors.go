package protocol

import "errors"

// Errors of the decoders, to be tested with errors.Is. The text around them says where and what.
var (
	// ErrMalformed: the bytes are not what the API's schema demands. Kafka closes the connection on these.
	ErrMalformed = errors.New("protocol: malformed message")
	// ErrTrailing: bytes are left over after the message. It counts as malformed too.
	ErrTrailing = &malformedError{"protocol: trailing bytes"}
	// ErrUnservedAPI: no decoder for this key or version.
	ErrUnservedAPI = errors.New("protocol: api key or version is not served")
)

// malformedError is an error that errors.Is finds under ErrMalformed as well.
type malformedError struct{ text string }

func (e *malformedError) Error() string { return e.text }

// Is makes every malformedError match ErrMalformed.
func (e *malformedError) Is(target error) bool { return target == ErrMalformed }
