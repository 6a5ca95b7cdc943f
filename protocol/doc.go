// Package protocol is what franz-go's kmsg does not give of the Kafka protocol: request and response headers, frame
// assembly, error codes by name, the table of served versions, a guard in front of kmsg's decoders, and hand-written
// codecs of Produce and Fetch, both sides. It does no I/O.
//
// Place in the path: netpoll hands a frame to broker -> ParseRequestHeader -> ProduceRequest.Decode,
// FetchRequest.Decode or DecodeRequest -> broker's handler -> AppendResponseHeader and a response encoder, FinishFrame
// -> netpoll. A Fetch response is encoded with cuts: positions between which the record bytes of partitions go, so
// that they can be sent from files. bench uses the client side: the request encoders and response decoders.
//
// Formats. A frame is a 4-byte big-endian length and the payload. Request header: int16 key, int16 version, int32
// correlation id, nullable string client id, and from the API's first flexible version on, tagged fields (KIP-482).
// Response header: int32 correlation id, tagged fields when flexible, save ApiVersions, which never has them (KIP-511).
//
// Ownership. Decoders allocate in steady state nothing: names and record bytes stay slices of the frame, also where
// the type is string. Whatever outlives the frame has to be copied (strings.Clone, bytes.Clone).
//
// Hostile bytes. No decoder allocates by a length that the bytes merely claim: an array length is checked against the
// bytes left and the smallest encoding of its elements; DecodeRequest walks the body by a schema before kmsg sees it.
//
// Goroutines and locks: none. Values belong to one goroutine at a time; the tables are read-only.
package protocol
