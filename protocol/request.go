package protocol

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// RequestBytesMax is the largest body that DecodeRequest takes, in bytes. kmsg's structs take up to some forty times
// the bytes of the smallest elements on the wire, so that this bounds what one request can make it allocate; 100,000
// topics by id fit. Produce and Fetch, with their own decoders, are not bound by it.
const RequestBytesMax = 4 << 20

// DecodeRequest decodes the body of a request into req, whose version is set, through kmsg. Before kmsg allocates
// anything, the key and version must be served, and a walk by the API's schema must find every array element that the
// lengths promise and end where the body ends. Produce and Fetch have decoders of their own and are refused here.
// Strings are copies; bytes fields share body.
// Errors: ErrUnservedAPI, ErrMalformed, ErrTrailing.
func DecodeRequest(req kmsg.Request, body []byte) error {
	key, version := req.Key(), req.GetVersion()
	api, served := SupportedRange(key)
	schema, known := requestSchema(key)
	if !served || !known || !api.Serves(version) {
		return fmt.Errorf("%w: api key %d version %d", ErrUnservedAPI, key, version)
	}
	if len(body) > RequestBytesMax {
		return fmt.Errorf("%w: api key %d version %d, body of %d bytes, limit %d", ErrMalformed, key, version, len(body), RequestBytesMax)
	}
	w := walker{reader: reader{src: body}, version: version, flexible: version >= api.FlexibleFrom, tagsLeft: tagsMax}
	w.fields(schema)
	if err := w.done(key, version, body); err != nil {
		return err
	}
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: api key %d version %d: %w", ErrMalformed, key, version, err)
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
