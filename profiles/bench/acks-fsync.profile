# What does durability cost on this disk? The same offered load under every combination of acknowledgement, fsync and codec.
title: acks x fsync x codec
about: What does each acknowledgement and fsync class cost here, in latency and in broker CPU, with and without compression?
repeats: 3
prewarm: 8s

acks: 0, 1, all
fsync: commit, interval, never
codec: none, lz4, zstd, snappy

payload: text
value_bytes: 1KiB
batch_records: 16
partitions: 6
connections: 4
consumers: 1
verify: header
rate: 20k
schedule: poisson
warmup: 750ms
duration: 2300ms
