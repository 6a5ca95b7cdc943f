# One stream, many readers: what does each further consumer cost?
title: fan-out
about: What does each further reader of the same records cost the broker?
repeats: 3
prewarm: 10s

consumers: 1, 2, 4, 8, 16, 32
acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 64
partitions: 6
connections: 2
verify: offsets
rate: 20k
schedule: poisson
warmup: 2s
duration: 8s
