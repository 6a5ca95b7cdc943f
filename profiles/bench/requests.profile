# Requests of one small record: what one costs when it comes alone, when its producer waits for each answer, and when many are in flight.
title: small requests
about: What does a request cost the broker, by how its producer waits?
repeats: 3
prewarm: 8s

acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 1
partitions: 6
connections: 8
warmup: 1s
duration: 5s

[open]
rate: 5k
schedule: poisson
consumers: 1

[closed]
in_flight: 1
rate: max

[pipelined]
connections: 2
in_flight: 64
rate: max
