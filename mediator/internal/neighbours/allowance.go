package neighbours

import (
	"maps"
	"time"

	"golang.org/x/time/rate"
)

// maxAllowances bounds the keys of one table of allowances; each takes about 200 bytes.
const maxAllowances = 4096

// allowances hold many strangers to a rate each. Its owner guards it. The zero prefix,
// or whatever the key's zero value is, has no limit.
type allowances[K comparable] struct {
	rate  rate.Limit
	burst int
	of    map[K]*rate.Limiter // those that have not got all their burst back, and some that have; bounded by maxAllowances
}

func newAllowances[K comparable](every time.Duration, burst int) *allowances[K] {
	return &allowances[K]{rate: rate.Every(every), burst: burst, of: make(map[K]*rate.Limiter)}
}

// take reports whether the key may once more. Where there are too many keys a new one may not: to
// forget one that has used up its allowance would give it a new one.
func (a *allowances[K]) take(key K, now time.Time) bool {
	var none K
	if key == none {
		return true
	}
	limiter := a.of[key]
	if limiter == nil {
		if len(a.of) >= maxAllowances {
			maps.DeleteFunc(a.of, func(_ K, l *rate.Limiter) bool { return l.TokensAt(now) >= float64(a.burst) })
		}
		if len(a.of) >= maxAllowances {
			return false
		}
		limiter = rate.NewLimiter(a.rate, a.burst)
		a.of[key] = limiter
	}
	return limiter.AllowN(now, 1)
}
