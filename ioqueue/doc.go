// Package ioqueue decides when the files of a log directory are fsynced, and
// tells each log how far it is durable. It knows files and end offsets,
// nothing of Kafka.
package ioqueue
