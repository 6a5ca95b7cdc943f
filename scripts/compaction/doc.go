// Command compaction measures log compaction in weir and in Apache Kafka on the same data, one broker after the other:
//
//	go run ./scripts/compaction [--gib 2] [--keys 200000] [--value-bytes 1024] [--codec none] [--repeats 3]
//
// Each run starts one broker on an empty directory, writes records with random keys to one partition of a compacted topic whose
// min.compaction.lag.ms keeps the cleaner off, writes back the disk's dirty pages, and then sets the lag to 0. Both have one cleaner thread with the
// same offset map and no throttle, and look for work every 100 ms. The time is from the answer to that change until the broker's
// cleaner-offset-checkpoint says that everything below the active segment is clean; the MB are those of the sealed segments before. Then the topic is read
// from the beginning: every key must have its last value. With several repeats the brokers are interleaved, A B B A.
//
// Kafka is taken from $WEIR_CACHE or ~/.cache/weir, where it is installed when it is missing, which needs java and mvn. The status is 1 when anything
// failed, 3 when a broker serves something wrong.
//
// Goroutines: one for each broker's process, ended before the next starts, and those of the clients. No locks.
package main
