# For two brokers that differ in fsync.policy: scripts/paired starts them. A closed loop for the throughput, an open one for the tail of the latency.
title: fsync in the background
about: What do fsyncs in the background cost, in throughput and in the tail of acks=1?
repeats: 5
prewarm: 8s
settle: 30s

acks: 1
fsync: default
value_bytes: 1KiB
partitions: 6
topic.segment.bytes: 268435456
topic.retention.bytes: 268435456

[throughput]
connections: 2
batch_records: 256
rate: max
warmup: 1s
duration: 8s

[latency]
connections: 4
batch_records: 16
rate: 20k
schedule: poisson
warmup: 2s
duration: 12s
