# Small records, alone and in batches: the cost of a request against the cost of a byte.
title: small records
about: What do records of 10 to 200 bytes cost, one per request and in batches?
repeats: 3
prewarm: 10s

acks: 1
fsync: never
partitions: 6
connections: 4
warmup: 1s
duration: 5s
payload: text

[unbatched]
value_bytes: 10, 50, 100, 200
batch_records: 1
in_flight: 64
rate: max

[batched]
value_bytes: 10, 50, 100, 200
batch_records: 1000
rate: max

[trickle]
value_bytes: 100
batch_records: 1
rate: 20k
schedule: poisson
consumers: 1
verify: full
