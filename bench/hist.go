package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram range: values are ns, kept to 1 us, up to 60 s, with 3 significant digits.
const (
	histLowest  = int64(time.Microsecond)
	histHighest = int64(60 * time.Second)
	histDigits  = 3
)

func newHist() *hdrhistogram.Histogram { return hdrhistogram.New(histLowest, histHighest, histDigits) }

// metric numbers the histograms that a run keeps.
type metric int

// The histograms of one run.
const (
	metricResponse metric = iota // intended send -> answer
	metricService                // actual send -> answer
	metricSlip                   // intended send -> actual send
	metricLag                    // the part of the slip that the target did not cause by blocking the socket
	metricEndToEnd               // intended send -> batch at a tail consumer
	metricCatchUp                // fetch request -> response, catch-up readers only
	metricCount
)

var metricNames = [metricCount]string{"response", "service", "slip", "generator_lag", "end_to_end", "catch_up_fetch"}

// recorder is one worker's histograms. Writers are the worker's goroutines, the reader is the collector, which swaps the
// current set for an empty one: nothing is averaged, everything is merged.
type recorder struct {
	mu struct {
		sync.Mutex
		cur     [metricCount]*hdrhistogram.Histogram // nil until used
		clamped int64                                // values beyond the histogram's range
	}
}

// record adds one value in ns. A negative one (clock of another host) counts as 0.
func (r *recorder) record(m metric, ns int64) {
	r.mu.Lock()
	h := r.mu.cur[m]
	if h == nil {
		h = newHist()
		r.mu.cur[m] = h
	}
	if ns < 0 {
		ns = 0
	}
	if ns > histHighest {
		ns = histHighest
		r.mu.clamped++
	}
	_ = h.RecordValue(ns) // in range by the lines above
	r.mu.Unlock()
}

// take moves what was recorded since the last take into dst and empties the recorder.
func (r *recorder) take(dst *histSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, h := range r.mu.cur {
		if h != nil && h.TotalCount() > 0 {
			dst.get(metric(m)).Merge(h)
			h.Reset()
		}
	}
	dst.clamped += r.mu.clamped
	r.mu.clamped = 0
}

// histSet is one histogram per metric, allocated on use. Not safe for concurrent use.
type histSet struct {
	h       [metricCount]*hdrhistogram.Histogram
	clamped int64
}

func (s *histSet) get(m metric) *hdrhistogram.Histogram {
	if s.h[m] == nil {
		s.h[m] = newHist()
	}
	return s.h[m]
}

func (s *histSet) merge(o *histSet) {
	for m, h := range o.h {
		if h != nil {
			s.get(metric(m)).Merge(h)
		}
	}
	s.clamped += o.clamped
}

// reset empties the histograms for reuse.
func (s *histSet) reset() {
	for _, h := range s.h {
		if h != nil {
			h.Reset()
		}
	}
	s.clamped = 0
}

// encodedSet is a histSet in HdrHistogram's compressed V2 form: a few KiB where the histograms take a MiB. Empty ones are nil.
type encodedSet [metricCount][]byte

func (s *histSet) encode() (e encodedSet) {
	for m, h := range s.h {
		if h != nil && h.TotalCount() > 0 {
			data, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
			if err != nil {
				panic("BUG: histogram cannot be encoded: " + err.Error())
			}
			e[m] = data
		}
	}
	return e
}

// decode returns the histogram of a metric, nil when there is none. The error is for bytes that came from elsewhere.
func (e *encodedSet) decode(m metric) (*hdrhistogram.Histogram, error) {
	if e[m] == nil {
		return nil, nil
	}
	return hdrhistogram.Decode(e[m])
}

// mergeInto adds what was encoded to dst.
func (e *encodedSet) mergeInto(dst *histSet) error {
	for m := range e {
		h, err := e.decode(metric(m))
		if err != nil {
			return err
		}
		if h != nil {
			dst.get(metric(m)).Merge(h)
		}
	}
	return nil
}

// Latency is the summary of one histogram. Times are microseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	P9999 float64 `json:"p9999_us"`
	Max   float64 `json:"max_us"`
}

func summarize(h *hdrhistogram.Histogram) *Latency {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	us := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	return &Latency{Count: h.TotalCount(), Mean: h.Mean() / 1e3, P50: us(50), P90: us(90), P99: us(99), P999: us(99.9),
		P9999: us(99.99), Max: float64(h.Max()) / 1e3}
}

// CurvePoint is one point of a percentile curve.
type CurvePoint struct {
	Percentile float64 `json:"p"`
	Micros     float64 `json:"us"`
}

// percentileCurve samples h at the quantiles 1-2^-k and halves between, which are evenly spaced on the axis log(1/(1-q)).
func percentileCurve(h *hdrhistogram.Histogram) []CurvePoint {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	var out []CurvePoint
	for rest := 1.0; rest > 0.5/float64(h.TotalCount()) && rest > 1e-7; rest /= 1.3 {
		p := 100 * (1 - rest)
		out = append(out, CurvePoint{p, float64(h.ValueAtQuantile(p)) / 1e3})
	}
	return append(out, CurvePoint{100, float64(h.Max()) / 1e3})
}
