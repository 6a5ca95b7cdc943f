# For two brokers that differ in num.network.threads: scripts/paired starts them, with DATA=/dev/shm, so that the disk is not the limit.
title: event loops
about: What does each event loop add, in throughput, latency and CPU?
repeats: 3
prewarm: 8s

acks: 1
fsync: never
partitions: 6
value_bytes: 1KiB
batch_records: 256
warmup: 1s
duration: 3s
verify: offsets
congestion: cubic

[produce]
connections: 4
rate: max

[open]
connections: 4
consumers: 1
batch_records: 16
rate: 20k
schedule: poisson

[fetch]
connections: 0
fill_bytes: 1GiB
catch_up: 4
