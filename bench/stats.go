package bench

import (
	"math"
	"math/rand/v2"
	"slices"
)

// median of xs, NaN when there is none. xs is not changed.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// bootstrapRounds is the number of resamples behind an interval.
const bootstrapRounds = 4000

// bootstrapMedian returns the 95 % percentile-bootstrap interval of the median of xs. With fewer than three values there is
// none, and low, high are -Inf, +Inf: nothing can be claimed.
func bootstrapMedian(xs []float64, seed uint64) (low, high float64) {
	if len(xs) < 3 {
		return math.Inf(-1), math.Inf(1)
	}
	return bootstrap(seed, func(rng *rand.Rand) float64 { return median(resample(xs, rng)) })
}

// bootstrapRatio returns the interval of median(a)/median(b) for samples that are not paired.
func bootstrapRatio(a, b []float64, seed uint64) (low, high float64) {
	if len(a) < 3 || len(b) < 3 {
		return math.Inf(-1), math.Inf(1)
	}
	return bootstrap(seed, func(rng *rand.Rand) float64 { return median(resample(a, rng)) / median(resample(b, rng)) })
}

func resample(xs []float64, rng *rand.Rand) []float64 {
	out := make([]float64, len(xs))
	for i := range out {
		out[i] = xs[rng.IntN(len(xs))]
	}
	return out
}

func bootstrap(seed uint64, draw func(*rand.Rand) float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(seed, 0xb007))
	ms := make([]float64, bootstrapRounds)
	for i := range ms {
		ms[i] = draw(rng)
	}
	slices.Sort(ms)
	return ms[bootstrapRounds*25/1000], ms[bootstrapRounds*975/1000]
}
