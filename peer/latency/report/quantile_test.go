package report

import (
	"fmt"
	"math"
	"testing"
)

// TestPercentile has values of R 4: quantile(x, p, type = 2).
func TestPercentile(t *testing.T) {
	for _, test := range []struct {
		sorted []float64
		p      float64
		want   float64
	}{
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.5, 5.5},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.9, 9.5},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.99, 10},
		{[]float64{1, 2, 4, 8, 16}, 0.5, 4},
		{[]float64{1, 2, 4, 8, 16}, 0.2, 1.5},
		{[]float64{1, 2, 4, 8, 16}, 0.9, 16},
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 3}, 0.5, 2},
	} {
		if got := Percentile(test.sorted, test.p); got != test.want {
			t.Errorf("the %g-quantile of %v is %g instead of %g", test.p, test.sorted, got, test.want)
		}
	}
}

// TestRanks has the order statistics of Le Boudec's table A.1 (the median), and from how many values on the others have both ends.
func TestRanks(t *testing.T) {
	for _, test := range []struct {
		n         int
		p         float64
		low, high int
	}{
		{5, 0.5, 0, 0}, {6, 0.5, 1, 6}, {8, 0.5, 1, 8}, {9, 0.5, 2, 8}, {10, 0.5, 2, 9}, {20, 0.5, 6, 15}, {30, 0.5, 10, 21}, {70, 0.5, 27, 44},
		{35, 0.9, 28, 0}, {36, 0.9, 29, 36}, {367, 0.99, 359, 0}, {368, 0.99, 360, 368},
	} {
		low, high := ranks(test.n, test.p)
		if low != test.low || high != test.high {
			t.Errorf("n %d, p %g: %d to %d instead of %d to %d", test.n, test.p, low, high, test.low, test.high)
		}
	}
}

// TestCoverage computes the binomial in another way, and holds the intervals to it: they cover what they should, and no
// narrower ones do, and the percentile lies within.
func TestCoverage(t *testing.T) {
	for _, p := range []float64{0.5, 0.9, 0.99} {
		row := []float64{1} // of n - 1, by number of successes
		for n := 1; n <= 400; n++ {
			next := make([]float64, n+1)
			for k, probability := range row {
				next[k] += probability * (1 - p)
				next[k+1] += probability * p
			}
			row = next
			atMost := func(k int) (sum float64) {
				for i := 0; i <= k; i++ {
					sum += row[i]
				}
				return sum
			}
			const tail, fuzz = 0.025, 1e-12
			low, high := ranks(n, p)
			where := fmt.Sprintf("n %d, p %g: %d to %d", n, p, low, high)
			if low > 0 && atMost(low-1) > tail+fuzz {
				t.Errorf("%s: the lower end is above the percentile too often", where)
			}
			if low < n && atMost(low) <= tail-fuzz {
				t.Errorf("%s: a higher lower end would do", where)
			}
			if high > 0 && 1-atMost(high-1) > tail+fuzz {
				t.Errorf("%s: the upper end is below the percentile too often", where)
			}
			if lower := max(1, high) - 1; high != 1 && lower > 0 && 1-atMost(lower-1) <= tail-fuzz {
				t.Errorf("%s: a lower upper end would do", where)
			}
			values := make([]float64, n)
			for i := range values {
				values[i] = float64(i + 1)
			}
			q := quantile(values, p)
			if q.Low != nil && *q.Low > q.Value || q.High != nil && *q.High < q.Value {
				t.Errorf("%s: the percentile %g lies outside", where, q.Value)
			}
		}
	}
}

func TestBinomialIsExactEnough(t *testing.T) {
	for _, n := range []int{1, 30, 1000, 100_000} {
		sum := 0.0
		for k := range n + 1 {
			sum += binomial(n, k, 0.9)
		}
		if math.Abs(sum-1) > 1e-7 {
			t.Errorf("n %d: the probabilities add up to %.12f", n, sum)
		}
	}
}
