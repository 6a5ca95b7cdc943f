# One partition, one record per request, one request at a time for each producer: how many requests share an fsync is all that counts. The disk's bound is
# in go test ./ioqueue -bench DiskBound; device_flushes in results.json against the requests shows how many share one.
title: group commit
about: How does the rate of durable acknowledgements grow with the number of producers?
repeats: 3
prewarm: 8s

acks: 1
fsync: commit
value_bytes: 1KiB
batch_records: 1
partitions: 1
connections: 1, 2, 8, 32, 128
in_flight: 1
rate: max
warmup: 1s
duration: 6s
