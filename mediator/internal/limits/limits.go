// Package limits is how the rooms of the mediator say how much of something there
// may be. A limit is a number: zero means the room's default, which a Config
// fills in, and [Off] that there is no limit. It holds no state.
package limits

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// Off is a limit that does not hold. Benchmarks use it; on the open internet
// each of them is somebody's way in.
const Off = -1

// BurstSeconds is for how many seconds a peer may save up what it did not use of a
// rate: a page says at its start what would otherwise be said over half a minute.
const BurstSeconds = 20

// Fill gives a limit its default where it is zero.
func Fill[N int | time.Duration](limit *N, fallback N) {
	if *limit == 0 {
		*limit = fallback
	}
}

// Reached reports whether there may be no more than there are.
func Reached(count, limit int) bool { return limit >= 0 && count >= limit }

// Limiter holds something to so many a second, with BurstSeconds saved up at the most
// and least in any case, so that a single thing of that size can pass.
func Limiter(perSecond, least int) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(perSecond*BurstSeconds, least))
}

// Source is whom an address counts as: itself in IPv4, its /64 in IPv6, since
// whoever has one address there has all of them (RFC 6177).
func Source(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	prefix, err := address.Prefix(bits)
	if err != nil { // an address that is none: all of them are one
		return netip.Prefix{}
	}
	return prefix
}
