# For two brokers that differ in log.segment.bytes: scripts/paired starts them. 20 MB/s into one partition roll a segment of 16 MiB every 0.8 s.
# Under never the larger segments are not written to the disk within a run at all, and the smaller ones are: that difference is the disk's, not the roll's.
title: segments that roll and go
about: Does a roll or a deleted segment show in the tail of the latency?
repeats: 5
prewarm: 8s
settle: 30s

acks: 1
fsync: never, interval, commit
value_bytes: 1KiB
partitions: 1
connections: 4
batch_records: 16
rate: 20k
schedule: poisson
warmup: 2s
duration: 10s
topic.retention.bytes: 67108864
