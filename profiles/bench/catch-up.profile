# Readers that start hours behind, beside producers and readers that must not notice.
title: catch-up readers
about: Do cold readers hurt live producers and tail readers?
repeats: 3
prewarm: 10s

fill_bytes: 2GiB
catch_up: 0, 1, 4
drop_caches: true
acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 64
partitions: 6
connections: 2
consumers: 1
verify: offsets
rate: 20k
schedule: poisson
warmup: 2s
duration: 8s
drain: 3m
