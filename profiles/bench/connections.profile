# A few busy connections among thousands of idle ones. Needs about 2 file descriptors per connection on this host.
title: connections
about: Do idle connections cost the busy ones anything, and how much memory does each take?
repeats: 3
prewarm: 10s

idle_connections: 0, 1000, 5000, 10000
connections: 100
acks: 1
fsync: never
value_bytes: 1KiB
batch_records: 4
partitions: 24
consumers: 1
verify: offsets
rate: 20k
schedule: poisson
warmup: 2s
duration: 9s
