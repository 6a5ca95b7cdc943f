# The hockey stick: latency against offered load, up to the maximum and past it.
title: latency against offered load
about: How does latency grow with load, and where is the knee?
repeats: 3
prewarm: 10s

rate: 5%, 10%, 25%, 50%, 75%, 90%, 110%
acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 16
partitions: 6
connections: 4
consumers: 1
verify: offsets
schedule: poisson
warmup: 2s
duration: 6s
