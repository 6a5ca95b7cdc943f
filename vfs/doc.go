// Package vfs is the only way weir touches a disk: a small FS and File
// interface with three implementations.
//
//   - OS: the operating system (Linux), through golang.org/x/sys/unix.
//   - Mem: memory, with a model of what a power failure leaves behind. Tests
//     clone it as it would look after a crash and run recovery on the clone.
//   - ErrorFS: a wrapper that injects errors, short writes and delays.
//
// Beside them: WriteFileAtomic for checkpoints and metadata, and Pool, which
// keeps the number of open files under a cap.
//
// Place in the path: engine (pwritev of batches, pread, spans for sendfile)
// and ioqueue (fdatasync, write-back, preallocation) -> here -> kernel.
//
// # What is assumed of the disk
//
// The crash model of Mem is the contract that weir's formats rely on:
//
//   - Bytes of a file are durable once Datasync or Sync returned without an
//     error after they were written; so is the size that makes them readable.
//   - A name (create, rename, remove) is durable once SyncDir of its
//     directory returned; a new directory needs SyncDir of its parent.
//   - Until then, each 512-byte sector of what was written is on disk, is
//     not, is half there, or is garbage, independently of the others and of
//     the order of the writes; the file's size is anything between the
//     smallest and largest it had since the last sync, and bytes that never
//     arrived read as zeros.
//   - A write does not harm bytes outside its own range, even where they
//     share a sector with it (power-safe overwrite, as SQLite calls it).
//   - A rename within a directory is atomic: after a crash the old state or
//     the new one is there.
//   - FileSystem.SyncAll makes durable all bytes, sizes and names there are.
//   - After a failed fsync nothing is known about the bytes it covered, and a
//     second fsync that succeeds proves nothing.
//
// # Goroutines and locks
//
// The package starts no goroutine. Every FS and File is safe for concurrent
// use. Mem has one mutex per file system; ErrorFS one for its rules; Pool one
// for its rings and one per file. All are leaves, except that Pool's file lock
// is taken before its ring lock, and a file may be opened or closed under
// both.
package vfs
