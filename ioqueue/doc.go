// Package ioqueue decides when the files of a log directory are fsynced, and
// tells each partition log up to which end offset it is durable. It also runs
// the directory's other slow work (deletes, preallocation) off everybody's
// path. It knows files and end offsets, nothing of Kafka. Scheduler's comment
// describes how it works.
//
// Place in the path: engine writes a batch with vfs.File.Writev under its
// log's lock -> Stream.Written -> fsync by policy -> OnDurable -> engine
// advances its offsets and wakes who waits.
//
// Goroutines, all owned by a Scheduler and ended by its Close: Parallel
// workers that fsync, one timing wheel, up to Workers for jobs given to Go
// (they exist while there are jobs), and one that calls OnOffline.
//
// Locks: Stream.mu before Scheduler.mu; readyQueue.mu, jobQueue.mu and the wheel's are
// leaves below both. None is held in a system call or a callback. Callers may hold their log's lock
// when they call anything but SyncNow, Drop and Close.
package ioqueue
