# As fast as it goes: closed loop, bounded requests in flight. Proves whether the generator or the broker is the limit.
# On a disk that cannot take a GB a second its write-back is the limit: --data-parent /dev/shm leaves it out, for every target.
title: saturation
about: What is the highest throughput of produce and of fetch, and who is the bottleneck?
repeats: 5
prewarm: 8s

acks: 1
fsync: never
partitions: 6
value_bytes: 1KiB
batch_records: 256
warmup: 1s
duration: 5s
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
# Four readers at once, so that the cores are the limit and not the time of one round trip.
fill_bytes: 2GiB
catch_up: 4
duration: 10s
