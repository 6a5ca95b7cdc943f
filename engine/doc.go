// Package engine is the log: partitions as directories of segments, with sparse indexes, recovery, retention, compaction
// and producer state. It knows record batches and offsets, nothing of the network; its errors and offsets are its own.
//
// Place in the path: broker has decoded a request and holds batches (record.Batch) or a fetch position -> Store finds the
// Log -> Log.Append writes through vfs.File and tells ioqueue, which fsyncs and calls back; Log.Read returns spans of
// segment files -> netpoll sends them. cluster keeps its metadata in a Log too.
//
// The bytes on disk and what a crash may leave are in FORMATS.md at the root of the repository; the decisions of
// recovery in the table in recovery.go. Formats are Kafka's.
//
// # Files
//
//	store.go, dir.go      all log directories: lock, identity, placement, checkpoints, start and stop
//	background.go         the store's goroutine; deletion of partitions
//	log.go, open.go       one partition: state, lazy loading, close
//	append.go, roll.go    writing
//	read.go, times.go     reading by offset and by time
//	segment.go, index.go  one segment and its sparse indexes; cursor.go walks the batches of a file
//	segfile.go            files under the cap of open files; names made durable with the first fsync
//	offsets.go            the offsets and the one setter; waiters.go who waits for them
//	front.go              a first segment that is missing
//	recovery.go           after an unclean stop; cuts.go what that has to know of the process before
//	truncate.go, retention.go, compaction.go and cleaner*.go: what takes records away
//	producers*.go, txn*.go, epochs.go, checkpoint*.go: idempotence, aborted transactions, leader epochs, small files
//	inspect*.go           dump and verification, without a Store
//
// # Goroutines
//
//	Store.background      one: checkpoints, retention; owned by the Store, ends in Close
//	cleaner               one: compaction; owned by the Store
//	ioqueue.Scheduler     one set for each log directory: fsyncs (calling Log.onDurable) and jobs (deletes, snapshots)
//	recovery              RecoveryThreads for each directory while OpenStore runs
//
// # Locks, outermost first
//
//	Log.adminMu           one of truncation, retention, swap, close; may wait for the disk
//	logDir.ckptMu         a pass over the offsets of all logs and the writing of the checkpoints
//	Log.loadMu            loading
//	Log.rebuilding        an index of aborted transactions is made anew; may wait for the disk
//	Log.mu                the append lock; one write to the page cache, never an fsync (truncation excepted)
//	segment.lazy          opening or rebuilding the indexes of a sealed segment
//	offsetState.mu        changing offsets; readers load an immutable view
//	cutMark.mu            leaf; one byte to the page cache
//	waiterList.mu         leaf; callbacks run after it is released
//	Store.mu              the maps of logs; nothing else is locked while it is held
//
// Readers take none of them: they load the list of segments (copy on write) and the view of the offsets.
//
// # Errors
//
// The first write or fsync error takes the whole directory offline for good: no acknowledgement follows it, reads go on.
// ENOSPC is no such error: the log is cut back to its last batch and goes on when there is space. Corruption
// (CorruptFileError) takes one partition offline. Errors of reading fail the call.
package engine
