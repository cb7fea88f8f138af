package report

import (
	"math"
	"slices"
)

// confidence of the intervals.
const confidence = 0.95

// Quantile is a percentile of a sample, in milliseconds, with the ends of its interval; nil: there are too few values.
type Quantile struct {
	Value float64  `json:"value"`
	Low   *float64 `json:"low"`
	High  *float64 `json:"high"`
}

// Times are the percentiles of a sample.
type Times struct {
	N   int      `json:"n"`
	P50 Quantile `json:"p50"`
	P90 Quantile `json:"p90"`
	P99 Quantile `json:"p99"`
}

// times returns the percentiles of the values, in milliseconds; nil where there are none. It sorts them.
func times(values []float64) *Times {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	return &Times{len(values), quantile(values, 0.5), quantile(values, 0.9), quantile(values, 0.99)}
}

// quantile returns the p-quantile of sorted values.
func quantile(sorted []float64, p float64) Quantile {
	q := Quantile{Value: Percentile(sorted, p)}
	low, high := ranks(len(sorted), p)
	if low > 0 {
		q.Low = &sorted[low-1]
	}
	if high > 0 {
		q.High = &sorted[high-1]
	}
	return q
}

// Percentile returns the p-quantile of sorted values, of which there is one at least.
func Percentile(sorted []float64, p float64) float64 {
	const fuzz = 1e-9 // n·p is an integer, but for how p is kept
	at := p * float64(len(sorted))
	above := max(1, int(math.Ceil(at-fuzz)))
	if math.Abs(at-math.Round(at)) < fuzz && above < len(sorted) {
		return (sorted[above-1] + sorted[above]) / 2
	}
	return sorted[above-1]
}

// ranks returns which order statistics of n values, from 1, are the ends of the p-quantile's interval; 0: none is.
func ranks(n int, p float64) (low, high int) {
	const tail = (1 - confidence) / 2
	below := 0.0 // the probability that at most k values are below the quantile
	for k := range n {
		below += binomial(n, k, p)
		if below <= tail {
			low = k + 1
		}
		if high == 0 && 1-below <= tail {
			high = k + 1
		}
	}
	return low, high
}

// binomial is the probability of k successes of n with probability p each.
func binomial(n, k int, p float64) float64 {
	logGamma := func(x int) float64 {
		value, _ := math.Lgamma(float64(x + 1))
		return value
	}
	return math.Exp(logGamma(n) - logGamma(k) - logGamma(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}
