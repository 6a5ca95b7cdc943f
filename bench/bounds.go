package bench

import "slices"

// Bounds are what no broker on this host can exceed: they follow from the floors, with all cores at work and nothing else to do.
type Bounds struct {
	Produce float64 `json:"produce_bytes_per_s"` // generator and broker share the cores: send, receive, CRC, write into the page cache
	Fetch   float64 `json:"fetch_bytes_per_s"`   // sendfile to readers that drop the bytes
	Durable float64 `json:"durable_us"`          // an fdatasync's median and a round trip: below it nothing was made durable
	Answer  float64 `json:"answer_us"`           // a loopback round trip
}

// Bounds derives the bounds for a host with that many cores. Bytes are those on the wire: compressed ones.
func (l *Limits) Bounds(cpus int) Bounds {
	b := Bounds{Produce: ratio(float64(cpus)*1e9, l.LoopbackCost+l.crcCost()+l.WriteCost), Fetch: ratio(float64(cpus)*1e9, l.SendfileCost),
		Answer: l.RoundTrip}
	if l.Sync != nil {
		sync := l.Sync.P50
		if l.SyncRewrite > 0 {
			sync = min(sync, l.SyncRewrite)
		}
		b.Durable = sync + l.RoundTrip
	}
	return b
}

// crcCost is in CPU seconds per 10^9 bytes; results of older programs have only the rate.
func (l *Limits) crcCost() float64 {
	if l.CRCCost > 0 {
		return l.CRCCost
	}
	return ratio(1e9, l.CRC)
}

// share is how much of what the host can do a run did: 1 is all of it. Bytes in and out compete for the same cores, so their shares add up.
func (b *Bounds) share(in, out float64) float64 { return ratio(in, b.Produce) + ratio(out, b.Fetch) }

// wireRates are the bytes per second that a run moved in and out, as they were on the wire; ok is false when that is not known.
func (res *RunResult) wireRates(spec *Spec) (in, out float64, ok bool) {
	values := res.ReadBytes + res.CatchUpBytes
	if spec.Engine != "raw" {
		return res.ValueBytes, values, spec.Codec == "none"
	}
	perValue := ratio(float64(res.FetchedBytes), res.fetchedValues)
	return ratio(float64(res.StoredBytes), res.Seconds), values * perValue, true
}

// checkBounds sets the share of the bounds that the run reached. A share above 1 is noted: the host can do more than its probe showed, and
// the bounds are not shown then.
func (res *RunResult) checkBounds(spec *Spec, b *Bounds) {
	in, out, ok := res.wireRates(spec)
	if !ok || b.Produce == 0 || b.Fetch == 0 {
		return
	}
	if res.BoundShare = b.share(in, out); res.BoundShare > 1 {
		res.note("%s MB/s in and %s MB/s out on the wire are %.0f %% of the host's bound: the probe of the host was disturbed, and its bounds are not shown",
			mb(in), mb(out), 100*res.BoundShare)
	}
}

// bounds are the bounds of the host; nil when they were not measured, are not those of the targets, or were exceeded by a run.
func (r *Results) bounds() *Bounds {
	for _, p := range r.Points {
		for _, run := range p.Runs {
			if run.BoundShare > 1 {
				return nil
			}
		}
	}
	return r.probedBounds()
}

// probedBounds are the bounds whether a run exceeded them or not.
func (r *Results) probedBounds() *Bounds {
	if r.Limits == nil || len(r.Workers) > 0 || !slices.ContainsFunc(r.Targets, func(t TargetInfo) bool { return t.Local }) {
		return nil
	}
	b := r.Limits.Bounds(r.Environment.CPUs)
	return &b
}
