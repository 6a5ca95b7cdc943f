package bench

import (
	"strings"
	"testing"
)

// hostResults is a series on a host whose floors give bounds of 2 GB/s in and 10 GB/s out.
func hostResults(runs ...*RunResult) *Results {
	r := &Results{Targets: []TargetInfo{{Name: "weir", Local: true}}, Points: []*PointResult{{Label: "x", Runs: runs}},
		Limits: &Limits{LoopbackCost: 0.5, CRCCost: 0.1, WriteCost: 0.4, SendfileCost: 0.2, RoundTrip: 20, SyncRewrite: 100,
			Sync: &SyncSummary{P50: 300}}}
	r.Environment.CPUs = 2
	return r
}

func TestAFloorIsTheBestOfItsProbes(t *testing.T) {
	t.Parallel()
	var f floor
	f.take(3e9, 0.7, "bbr")
	f.take(2e9, 0.1, "cubic") // slower, but cheaper
	f.take(1e9, 0, "broken")  // nothing was measured
	f.take(1e9, 0.9, "bbr")   // disturbed
	if f.rate != 3e9 || f.cost != 0.1 || f.congestion != "cubic" {
		t.Errorf("%+v", f)
	}
}

func TestBoundsFollowFromTheFloors(t *testing.T) {
	t.Parallel()
	b := hostResults().bounds()
	if b == nil || b.Produce != 2e9 || b.Fetch != 10e9 || b.Durable != 120 || b.Answer != 20 {
		t.Fatalf("%+v", b)
	}
	if got := b.share(1e9, 5e9); got != 1 {
		t.Errorf("half of each bound is all of the host, got %v", got)
	}
	r := hostResults()
	r.Workers = []WorkerInfo{{}}
	if r.bounds() != nil {
		t.Error("this host's floors bound the load of others")
	}
	r = hostResults()
	r.Targets[0].Local = false
	if r.bounds() != nil {
		t.Error("this host's floors bound a target elsewhere")
	}
}

func TestSharesCountBytesOnTheWire(t *testing.T) {
	t.Parallel()
	// 4 GB/s of values that were compressed to a quarter, written and read once.
	res := &RunResult{Seconds: 2, ValueBytes: 4e9, ReadBytes: 4e9, StoredBytes: 2e9, FetchedBytes: 2e9, fetchedValues: 8e9}
	r := hostResults(res)
	res.checkBounds(&Spec{Engine: "raw", Codec: "zstd"}, r.bounds())
	if res.BoundShare != 0.6 || len(res.Notes) > 0 {
		t.Errorf("share %v, notes %v: want 1/2 + 1/10", res.BoundShare, res.Notes)
	}
	client := &RunResult{Seconds: 2, ValueBytes: 4e9}
	client.checkBounds(&Spec{Engine: "kgo", Codec: "zstd"}, r.bounds())
	if client.BoundShare != 0 {
		t.Errorf("the bytes that a client compresses are not known, got a share of %v", client.BoundShare)
	}
}

func TestABoundThatARunExceededIsNotClaimed(t *testing.T) {
	t.Parallel()
	res := &RunResult{Target: "weir", Seconds: 1, ReadBytes: 11e9, FetchedBytes: 11e9, fetchedValues: 11e9, Valid: true}
	r := hostResults(res)
	res.checkBounds(&Spec{Engine: "raw"}, r.bounds())
	if res.BoundShare <= 1 || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "110 % of the host's bound") {
		t.Fatalf("share %v, notes %v", res.BoundShare, res.Notes)
	}
	r.finish()
	if r.bounds() != nil || r.Bounds != nil {
		t.Error("the bounds are still claimed")
	}
	html, err := RenderReport(r)
	if err != nil || strings.Contains(string(html), "bound: fetch") {
		t.Errorf("the report draws the bound (%v)", err)
	}
}
