# The same load spread over more and more partitions.
title: partitions
about: What does a partition cost, in latency, CPU and memory?
repeats: 3
prewarm: 10s

partitions: 1, 10, 100, 1000, 10000
acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 16
connections: 4
consumers: 1
verify: offsets
rate: 20k
schedule: poisson
warmup: 2s
duration: 8s
topic.segment.bytes: 16777216
