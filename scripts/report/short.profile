# A run of half a minute on two targets whose report has something in each of its parts. The numbers mean nothing.
title: every part of a report
about: Is the report readable, offline and accessible?
repeats: 1

value_bytes: 200
batch_records: 4
partitions: 2
connections: 2
consumers: 1
fetch_wait: 20ms
warmup: 200ms
duration: 1s
rate: 500

[matrix]
acks: 1, all
fsync: commit, never

[curve]
acks: 1
fsync: never
rate: 500, 4k
duration: 3s

[fast]
acks: 1
fsync: never
rate: max
