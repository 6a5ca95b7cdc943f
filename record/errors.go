package record

import (
	"errors"
	"fmt"
)

// Errors of this package, to be tested with errors.Is. The text around them names the field, what was found and what
// was expected.
var (
	// ErrCorrupt: lengths that do not fit, a wrong CRC, records that cannot be parsed. Kafka's CORRUPT_MESSAGE.
	ErrCorrupt = errors.New("record: corrupt batch")
	// ErrTruncated: the bytes end inside the batch. It is ErrCorrupt as well; a reader of a fetch response or of the
	// end of a log tells it apart.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrCorrupt)
	// ErrTooLarge: the batch, or its decompressed form, exceeds a limit. Kafka's MESSAGE_TOO_LARGE.
	ErrTooLarge = errors.New("record: batch too large")
	// ErrInvalid: well-formed bytes that a client must not send. Kafka's INVALID_RECORD.
	ErrInvalid = errors.New("record: invalid batch")
	// ErrInvalidTimestamp: a timestamp that cannot be. Kafka's INVALID_TIMESTAMP.
	ErrInvalidTimestamp = errors.New("record: invalid timestamp")
	// ErrUnsupportedMagic: a format other than version 2. Kafka's UNSUPPORTED_FOR_MESSAGE_FORMAT.
	ErrUnsupportedMagic = errors.New("record: unsupported magic")
	// ErrUnsupportedCodec: codec bits 5 to 7, or a codec that the caller does not allow. Kafka's
	// UNSUPPORTED_COMPRESSION_TYPE.
	ErrUnsupportedCodec = errors.New("record: unsupported codec")
)
