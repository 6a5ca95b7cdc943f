// Package compression holds the codecs a Kafka record batch may use: gzip, snappy, lz4 and zstd, both ways.
//
// Place in the path: record opens and builds compressed batches through this package; nothing else in the broker
// decompresses. The produce and fetch paths pass compressed bytes through untouched.
//
// Formats. gzip is RFC 1952 with any number of members. snappy is written in the block framing of Java's snappy
// library ("xerial": an 8-byte magic, two 4-byte versions, then 4-byte length + raw snappy block, big-endian),
// because Kafka's Java client reads nothing else; raw snappy blocks, which librdkafka and others write, are read
// too. lz4 is the LZ4 frame format. zstd is one or more zstd frames.
//
// Limits. Decompress takes a hard limit on its output and never allocates in proportion to a size that the input
// merely claims: a bomb fails with ErrTooLarge after at most the limit has been produced, plus one window.
//
// Ownership. Append and Decompress append to dst, as the built-in append does, and keep no reference to dst or src.
//
// Goroutines and locks: none of its own. Every function may be called from many goroutines at once. Encoders and
// decoders live in sync.Pools, which are this package's only state.
package compression
