package bench

import "strings"

// defaultProfile is what `weir bench` runs without arguments: under a minute, on an embedded broker.
const defaultProfile = `
title: acks x fsync on this disk
about: What does an acknowledgement cost here, and what does an fsync add?
repeats: 1

acks: 0, 1, all
fsync: commit, interval, never
payload: text
value_bytes: 1KiB
batch_records: 8
partitions: 4
connections: 4
consumers: 1
verify: full
rate: 10k
schedule: poisson
warmup: 1s
duration: 2500ms
drain: 20s
`

// DefaultProfile is the profile of `weir bench` without arguments.
func DefaultProfile() (*Profile, error) {
	p, err := ParseProfile("default", strings.NewReader(defaultProfile))
	if err != nil {
		return nil, err
	}
	p.Path = "(built in)"
	return p, nil
}
