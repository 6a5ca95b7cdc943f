// Package cluster holds the cluster's metadata: which topics exist, with which ids, partitions and configuration, and which
// producer ids were given out. It decides every change to them, in one order that survives a crash.
//
// # Place in the path
//
// broker (an admin API, a reconciler) -> Node.CreateTopics and its like -> a Record in a Raft entry -> the engine log
// __cluster_metadata-0 (fsynced, policy commit) -> Apply -> a new Image -> the reconciler, then the proposer's result. Readers
// (Metadata, Produce, Fetch) load Node.Image and never wait.
//
// # Image, Record, Apply
//
// Image is an immutable value; an old one stays valid for whoever holds it. Apply(image, record) is pure: the same records in
// the same order give the same image, whatever the clock and the host. Whether a change is allowed (does the topic exist? is
// the partition count larger than the present one?) is decided there, when the record's turn comes in the log, so that
// concurrent proposals cannot both be right. A refused record leaves the image as it was and its proposer gets the error.
// What depends on one broker's settings (configuration ranges, soft limits) is checked before the proposal.
//
// # Raft
//
// Order comes from etcd's raft core (RawNode), with one voter. The node campaigns at start and leads before Start returns; with
// a single voter there is nothing to time out, so there is no ticker and an idle node never wakes. Proposals that arrive
// while an fsync runs form the next group: one append, one fsync, one new Image per group.
//
// # Formats
//
// Every integer is an unsigned varint as in encoding/binary unless it says fixed, which is big-endian; a string is its byte length
// and its bytes; a map is its length and its key, value strings in key order. Constants here are part of the
// format: never renumber them. FORMATS.md, section Metadata, is the same contract with the crash cases.
//
// Log record (key null; offset = Raft index - 1; partition leader epoch = Raft term):
//
//	type     1 byte   0 = records, 2 = the empty entry with which a leader begins; 1 is kept for changes of the voters
//	payload  bytes    of type 0: version (1 byte, 1), count, then count times: kind, length, body
//
// Record bodies, each with a version byte (now 0) first:
//
//	1 cluster       id string
//	2 topic         name string, id 16 bytes, partitions, configs map
//	3 partitions    topic id 16 bytes, total, partitions (the added ones)
//	4 remove topic  topic id 16 bytes
//	5 forget topic  topic id 16 bytes
//	6 configs       resource type, name string, version expected, configs map (replaces the whole map)
//	7 producer ids  node, count
//	partitions = number of runs, then per run: how many partitions, number of replicas, the replicas (the first one leads)
//
// Snapshot file <index, 20 digits>-<term, 10 digits>.image in the folder __cluster_metadata of the first log directory:
//
//	magic "WEIRIMG1", fixed 32-bit CRC32C of the rest, fixed 64-bit length of the rest, then the rest: voters (count, Raft
//	ids = node ids + 1), index, term, cluster id, next producer id, brokers, topics, removed topics (see imagecodec.go)
//
// The file quorum-state beside it holds Raft's hard state as text lines with a CRC32C (see hardstate.go).
//
// inspect.go reads all three for weir dump. recover.go decides what a start does with each combination of them; what it cannot read or what does not fit
// together it refuses.
//
// # Goroutines
//
// One loop per Node (node.go) owns the RawNode, appends, applies, publishes; it takes no lock while it writes. One short-lived
// goroutine writes a snapshot from an image, at most one at a time. Both end before Stop returns.
//
// # Locks
//
// proposalQueue.mu guards the queue of proposals, Node.listeners the list of listeners; both are leaves, held for a few
// instructions. Everything else is owned by the loop or an atomic. No lock is held while a listener or a proposer is called.
package cluster
