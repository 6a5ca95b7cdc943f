# Ten minutes of everything at once: live producers and readers, segments that roll every few seconds, retention that deletes
# them, and readers that start from the beginning.
title: a mixed day in ten minutes
about: What happens to latency while segments roll, old data is deleted and readers catch up?
repeats: 1

acks: all
fsync: interval
value_bytes: 1KiB
batch_records: 32
partitions: 12
connections: 4
consumers: 2
verify: header
payload: text
codec: lz4
schedule: poisson
warmup: 10s
duration: 190s
drain: 2m

[tail]
rate: 10k

[roll]
rate: 20k
topic.segment.bytes: 16777216

[catch-up]
rate: 10k
fill_bytes: 2GiB
catch_up: 2
topic.segment.bytes: 67108864
