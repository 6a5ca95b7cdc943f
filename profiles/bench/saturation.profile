# As fast as it goes: closed loop, bounded requests in flight. Proves whether the generator or the broker is the limit.
title: saturation
about: What is the highest throughput of produce and of fetch, and who is the bottleneck?
repeats: 5
prewarm: 10s

acks: 1
fsync: never
partitions: 6
value_bytes: 1KiB
batch_records: 256
warmup: 3s
duration: 10s
verify: offsets
congestion: cubic

[produce]
connections: 2
rate: max

[produce-consume]
connections: 2
consumers: 1
rate: max

[fetch]
connections: 0
fill_bytes: 4GiB
catch_up: 1
warmup: 1s
duration: 3s
