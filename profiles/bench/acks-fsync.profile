# What does durability cost on this disk? The same offered load under every combination of acknowledgement, fsync and codec. Beside a peer these
# are 36 combinations x 2 targets x 3 repeats = 216 runs of about 2.7 s: short ones, but the repeats' histograms are merged. The load is
# light, 375 requests a second, so that an fsync for each of them is within reach of a disk; fetches wait briefly, so that runs end soon.
title: acks x fsync x codec
about: What does each acknowledgement and fsync class cost here, in latency and in broker CPU, with and without compression?
repeats: 3
prewarm: 8s

acks: 0, 1, all
fsync: commit, interval, never
codec: none, lz4, zstd, snappy

payload: text
value_bytes: 1KiB
batch_records: 16
partitions: 6
connections: 4
consumers: 1
verify: header
fetch_wait: 100ms
rate: 6k
schedule: poisson
warmup: 500ms
duration: 1600ms
