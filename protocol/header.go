package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FrameLengthBytes is the size of the length in front of every frame.
const FrameLengthBytes = 4

// Header is a parsed request header.
type Header struct {
	Key, Version  int16 // as sent: any value
	CorrelationID int32 // comes back in the response
	// ClientID is empty when null. It shares the frame's bytes: strings.Clone it to keep it.
	ClientID string
	// Body is the rest of the frame, the request proper.
	Body []byte
}

// ParseRequestHeader parses the header of a request. frame is the payload, without its 4 length bytes. Of a request
// whose key or version is outside the advertised ranges only the first 8 bytes are read, since what follows cannot be
// known: ClientID is then empty and Body all the rest. The error is ErrMalformed.
func ParseRequestHeader(frame []byte) (Header, error) {
	if len(frame) < 8 {
		return Header{}, fmt.Errorf("%w: request header of %d bytes, want at least 8", ErrMalformed, len(frame))
	}
	h := Header{
		Key:           int16(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	api, ok := SupportedRange(h.Key)
	if !ok || h.Version < api.Min || h.Version > api.Max {
		h.Body = frame[8:]
		return h, nil
	}
	r := reader{src: frame[8:]}
	h.ClientID = r.nullableString(false)
	r.tags(h.Version >= api.FlexibleFrom)
	if r.bad {
		return h, fmt.Errorf("%w: request header of api key %d version %d ends early", ErrMalformed, h.Key, h.Version)
	}
	h.Body = r.src
	return h, nil
}

// AppendRequestHeader begins a request frame for a client: room for the length, then the header. FinishFrame fills
// the length in. An empty client id is sent as an empty string.
func AppendRequestHeader(dst []byte, key, version int16, correlationID int32, clientID string) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt16(dst, key)
	dst = appendInt16(dst, version)
	dst = appendInt32(dst, correlationID)
	dst = appendString(dst, clientID, false)
	return appendNoTags(dst, isFlexible(key, version))
}

// AppendResponseHeader begins a response frame: room for the length, then the header, whose form depends on key and
// version. FinishFrame fills the length in. For an unserved key or version the plain header is written, which is
// right for ApiVersions' answer to an unknown version.
func AppendResponseHeader(dst []byte, key, version int16, correlationID int32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, correlationID)
	return appendNoTags(dst, key != KeyApiVersions && isFlexible(key, version))
}

// FinishFrame stores the frame's length. frame begins at the length bytes that AppendResponseHeader or
// AppendRequestHeader left; extraBytes counts what will be sent of the frame but is not in the slice, such as records
// from files. It returns frame. A frame beyond 2 GiB is a bug of the caller.
func FinishFrame(frame []byte, extraBytes int) []byte {
	n := len(frame) - FrameLengthBytes + extraBytes
	if n < 0 || n > math.MaxInt32 {
		panic(fmt.Sprintf("BUG: protocol: frame of %d bytes", n))
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
	return frame
}

// ParseResponseHeader parses the header of a response to a request of the given key and version; frame is the payload
// without its length bytes. body shares the frame's bytes. The error is ErrMalformed.
func ParseResponseHeader(frame []byte, key, version int16) (correlationID int32, body []byte, err error) {
	r := reader{src: frame}
	correlationID = r.int32()
	r.tags(key != KeyApiVersions && isFlexible(key, version))
	if r.bad {
		return 0, nil, fmt.Errorf("%w: response header of %d bytes ends early (api key %d version %d)", ErrMalformed, len(frame), key, version)
	}
	return correlationID, r.src, nil
}

// isFlexible reports whether a served API has tagged fields at this version.
func isFlexible(key, version int16) bool {
	api, ok := SupportedRange(key)
	return ok && version >= api.FlexibleFrom && version <= api.Max
}
