# Longer and larger than the page cache's dirty limit, so that the disk has to keep up.
title: sustained
about: What happens once the kernel has to write back as fast as records arrive?
repeats: 1

acks: all
fsync: interval, never
value_bytes: 1KiB
batch_records: 256
partitions: 6
connections: 2
consumers: 1
verify: offsets
rate: 150k
schedule: poisson
warmup: 10s
duration: 90s
topic.segment.bytes: 268435456
topic.retention.bytes: 1073741824
