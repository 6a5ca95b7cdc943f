package bench

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/record"
)

func quickSpec(mod func(*Spec)) Spec {
	s := Spec{Conns: 2, Consumers: 1, Partitions: 3, ValueBytes: 100, Records: 5, Acks: -1, Verify: VerifyFull,
		Rate: Rate{Kind: RateAbsolute, Value: 2000}, Warmup: 200 * time.Millisecond, Duration: time.Second, Drain: 60 * time.Second,
		FetchWait: 50 * time.Millisecond}
	if mod != nil {
		mod(&s)
	}
	return s
}

func mustRun(t *testing.T, f *fakeBroker, spec Spec) *RunResult {
	t.Helper()
	var res *RunResult
	if err := within(t, "the run", func(ctx context.Context) (err error) {
		res, err = Run(ctx, f.target("fake"), spec, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return res
}

func hasReason(res *RunResult, part string) bool {
	for _, r := range res.Reasons {
		if strings.Contains(r, part) {
			return true
		}
	}
	return false
}

func TestRunReadsBackWhatItWrote(t *testing.T) {
	t.Parallel()
	for i, codec := range codecNames {
		for j, verify := range []Verify{VerifyFull, VerifyHeader, VerifyOffsets} {
			for _, acks := range []Acks{Acks(-((i + j) % 2))} { // 0 and all by turns
				t.Run(codec+"/"+string(verify)+"/acks="+acks.String(), func(t *testing.T) {
					t.Parallel()
					f := startFake(t)
					res := mustRun(t, f, quickSpec(func(s *Spec) {
						s.Codec, s.Verify, s.Acks = codec, verify, acks
						s.Warmup, s.Duration = 50*time.Millisecond, 250*time.Millisecond
					}))
					if n := res.Truth.Faults(); n != 0 {
						t.Fatalf("%d faults: %+v", n, res.Truth)
					}
					if len(res.Errors) > 0 {
						t.Fatal(res.Errors)
					}
					if res.Requests == 0 || res.Response == nil || res.EndToEnd == nil || res.Truth.Checked < res.Requests {
						t.Fatalf("requests %d, checked %d, response %v, end to end %v", res.Requests, res.Truth.Checked, res.Response, res.EndToEnd)
					}
					if verify == VerifyFull && res.Truth.Records < 5*res.Requests {
						t.Fatalf("%d records checked of %d requests", res.Truth.Records, res.Requests)
					}
				})
			}
		}
	}
}

// A stall of one second at 1,000 requests a second delays about a thousand of them; a closed loop would count one. Large requests fill
// the socket, so that the sender itself is held up: counted from the actual send, most of the stall would vanish.
func TestStallShowsInEveryRequestItDelayed(t *testing.T) {
	t.Parallel()
	for name, valueBytes := range map[string]int{"small": 100, "socket full": 20_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stall(t, valueBytes)
		})
	}
}

func stall(t *testing.T, valueBytes int) {
	t.Helper()
	f := startFake(t)
	var stalled bool
	f.store = func(_ int64, p *fakePartition, _ []byte) int16 { // kept by number only
		p.end++
		return 0
	}
	f.onProduce = func(n int64) {
		if n == 400 && !stalled {
			stalled = true
			time.Sleep(time.Second)
		}
	}
	res := mustRun(t, f, quickSpec(func(s *Spec) {
		s.Conns, s.Partitions, s.Records, s.Consumers, s.ValueBytes = 1, 1, 1, 0, valueBytes
		s.Rate.Value, s.Duration = 1000, 2*time.Second
	}))
	late := int64(0)
	h, err := res.hists.decode(metricResponse)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range h.Distribution() {
		if b.To > int64(100*time.Millisecond) {
			late += b.Count
		}
	}
	if late < 700 {
		t.Fatalf("%d responses later than 100 ms, want at least 700: %+v", late, res.Response)
	}
	if res.Response.Max < 900_000 {
		t.Fatalf("longest response %.0f us, want about a second", res.Response.Max)
	}
	if valueBytes > 1000 { // the sender was held up, by the target: that is slip, but not the generator's own lag
		if res.Slip.Max < 300_000 || res.GeneratorLag.P90 > res.Slip.Max/2 {
			t.Fatalf("slip %+v, generator's lag %+v", res.Slip, res.GeneratorLag)
		}
		if res.Service.P50 > res.Response.P50 {
			t.Fatalf("service %+v, response %+v", res.Service, res.Response)
		}
	}
	if got := res.Response.Count; got < 1990 || got > 2010 {
		t.Fatalf("%d responses in 2 s at 1000/s", got)
	}
}

func TestTruthFindsWhatABrokerDoesWrong(t *testing.T) {
	t.Parallel()
	var kept []byte
	cases := []struct {
		name  string
		store func(n int64, p *fakePartition, b []byte) int16
		count func(*Truth) int64
	}{
		{"lost", func(n int64, p *fakePartition, b []byte) int16 {
			if n == 20 { // the batch goes, its offsets stay
				p.end += int64(5)
				return 0
			}
			p.append(b)
			return 0
		}, func(t *Truth) int64 { return t.Lost }},
		{"duplicated", func(n int64, p *fakePartition, b []byte) int16 {
			p.append(b)
			if n == 20 {
				p.append(b)
			}
			return 0
		}, func(t *Truth) int64 { return t.Duplicated }},
		{"reordered", func(n int64, p *fakePartition, b []byte) int16 {
			if n == 20 {
				kept = append([]byte(nil), b...)
				return 0
			}
			p.append(b)
			if n == 21 {
				p.append(kept)
			}
			return 0
		}, func(t *Truth) int64 { return t.Reordered }},
		{"corrupt", func(n int64, p *fakePartition, b []byte) int16 {
			p.append(b)
			if n == 20 {
				last := p.batches[len(p.batches)-1]
				last[len(last)-3] ^= 1
			}
			return 0
		}, func(t *Truth) int64 { return t.Corrupt }},
		{"corrupt header", func(n int64, p *fakePartition, b []byte) int16 {
			p.append(b)
			if n == 20 {
				p.batches[len(p.batches)-1][record.PosMaxTimestamp+7] ^= 1
			}
			return 0
		}, func(t *Truth) int64 { return t.Corrupt }},
		{"not kept", func(n int64, p *fakePartition, b []byte) int16 {
			if n < 20 || n > 30 {
				p.append(b)
			}
			return 0
		}, func(t *Truth) int64 { return t.EndOffset }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			f.store = c.store
			res := mustRun(t, f, quickSpec(func(s *Spec) {
				s.Conns, s.Partitions, s.Duration = 1, 1, 300*time.Millisecond
				if c.name == "not kept" {
					s.Drain = 2 * time.Second // it waits for records that never come
				}
			}))
			if c.count(&res.Truth) == 0 {
				t.Fatalf("not noticed: %+v", res.Truth)
			}
			if res.Valid || !hasReason(res, "truth") {
				t.Fatalf("valid %v, reasons %q", res.Valid, res.Reasons)
			}
		})
	}
}

func TestProduceErrorsMakeARunInvalid(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	f.store = func(n int64, p *fakePartition, b []byte) int16 {
		if n%10 == 0 {
			return 7 // REQUEST_TIMED_OUT
		}
		p.append(b)
		return 0
	}
	res := mustRun(t, f, quickSpec(nil))
	if res.Valid || !hasReason(res, "REQUEST_TIMED_OUT") || res.FailedRequests == 0 {
		t.Fatalf("valid %v, %d failed, reasons %q", res.Valid, res.FailedRequests, res.Reasons)
	}
	if res.Truth.Faults() != 0 {
		t.Fatalf("requests that failed count as lost: %+v", res.Truth)
	}
}

func TestClosedLoopKeepsTheInFlightBound(t *testing.T) {
	t.Parallel()
	for _, inFlight := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(inFlight), func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			var most atomic.Int64 // requests that waited behind one that was being answered
			f.onProduce = func(int64) { time.Sleep(time.Millisecond) }
			f.beforeAnswer = func(frame, behind int) {
				for n := int64((behind + frame - 1) / frame); ; {
					if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
						return
					}
				}
			}
			res := mustRun(t, f, quickSpec(func(s *Spec) { s.Rate, s.InFlight, s.Duration = Rate{Kind: RateMax}, inFlight, 300*time.Millisecond }))
			if res.Truth.Faults() != 0 || res.Requests == 0 || len(res.Errors) != 0 {
				t.Fatalf("%+v %v", res.Truth, res.Errors)
			}
			if got := int(most.Load()); got != inFlight-1 {
				t.Fatalf("at most %d requests waited behind another, want %d", got, inFlight-1)
			}
		})
	}
}

// What ends a run early looks the same from the one goroutine of a producer with one request at a time and from the two of one with more.
func TestClosedLoopEnds(t *testing.T) {
	t.Parallel()
	for _, inFlight := range []int{1, 2} {
		for _, cancelled := range []bool{false, true} {
			t.Run(fmt.Sprint(inFlight, "/cancelled=", cancelled), func(t *testing.T) {
				t.Parallel()
				f := startFake(t)
				ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
				defer cancel()
				release := make(chan struct{})
				f.onProduce = func(n int64) {
					switch {
					case n == 100 && cancelled:
						cancel()
					case n == 100:
						f.closeAll()
					}
					if n >= 100 {
						<-release
					}
				}
				spec := quickSpec(func(s *Spec) { s.Rate, s.InFlight, s.Consumers = Rate{Kind: RateMax}, inFlight, 0 })
				started := time.Now()
				res, err := Run(ctx, f.target("fake"), spec, nil)
				took := time.Since(started)
				close(release)
				switch {
				case cancelled && took >= spec.Drain:
					t.Fatalf("ended after %v, as if the answers were waited for", took)
				case err != nil || res.Valid:
					t.Fatalf("valid %v, %v", res.Valid, err)
				case !cancelled && len(res.Errors) != 2:
					t.Fatalf("errors %v, want one for each connection", res.Errors)
				case cancelled && (len(res.Errors) != 0 || res.FailedRequests > int64(2*inFlight)):
					t.Fatalf("errors %v, %d requests failed, want none and at most %d", res.Errors, res.FailedRequests, 2*inFlight)
				}
			})
		}
	}
}

func TestCatchUpReadersReadFromTheStart(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	res := mustRun(t, f, quickSpec(func(s *Spec) { s.FillBytes, s.CatchUp, s.Verify = 1<<20, 2, VerifyOffsets }))
	if res.Truth.Faults() != 0 || len(res.Errors) != 0 {
		t.Fatalf("%+v %v", res.Truth, res.Errors)
	}
	if want := int64(3 * (1 << 20) / 500); res.Truth.Checked < want {
		t.Fatalf("%d batches checked, want at least %d", res.Truth.Checked, want)
	}
}
