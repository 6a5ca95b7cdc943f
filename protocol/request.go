package protocol

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DecodeRequest decodes the body of a request into req, whose version is set, through kmsg, in three steps: the key
// and version must be served; the body is walked by its schema, so that every array length is proven by the bytes
// behind it before kmsg allocates for it, and nothing may be left over; then kmsg decodes. Strings and bytes are copies or share the frame
// only as kmsg's ReadFrom does: bytes fields share it, strings do not.
// Errors: ErrUnservedAPI, ErrMalformed, ErrTrailing.
func DecodeRequest(req kmsg.Request, body []byte) error {
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: api key %d version %d: %w", ErrMalformed, req.Key(), req.GetVersion(), err)
	}
	return nil
}

// AppendResponse appends a whole response frame: length, header, body. resp's version is set.
func AppendResponse(dst []byte, correlationID int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = AppendResponseHeader(dst, resp.Key(), resp.GetVersion(), correlationID)
	dst = resp.AppendTo(dst)
	FinishFrame(dst[start:], 0)
	return dst
}

// AppendRequest appends a whole request frame for a client: length, header, body. req's version is set.
func AppendRequest(dst []byte, correlationID int32, clientID string, req kmsg.Request) []byte {
	start := len(dst)
	dst = AppendRequestHeader(dst, req.Key(), req.GetVersion(), correlationID, clientID)
	dst = req.AppendTo(dst)
	FinishFrame(dst[start:], 0)
	return dst
}
