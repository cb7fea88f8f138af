package ice

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"p2pcdn/common/ident"
	"p2pcdn/mediator/internal/limits"
)

// maxSpent bounds the peers without an allocation of which it is still known what they
// relayed, at about 200 bytes each. It matters for a second: see leastBurst.
const maxSpent = 1024

// leastBurst is the least that may be relayed at once, in bytes: a congestion window
// of some dozen packets, where the rate of a second would be less than that. Saving up
// more than a second would only fill queues on the way, and be lost there.
const leastBurst = 64 << 10

// The reasons not to grant an allocation.
var (
	errPeerAllocations  = errors.New("the peer has as many allocations as it may")
	errTotalAllocations = errors.New("there are as many allocations as there may be")
)

// accounts holds peers to what they may relay.
type accounts struct {
	limits Limits
	total  *rate.Limiter // bytes of all peers; it guards itself

	mu    sync.Mutex                             // guards everything below
	live  int                                    // allocations; bounded by TotalAllocations
	open  map[ident.PeerID]*account              // those with allocations; bounded by live
	spent *simplelru.LRU[ident.PeerID, *account] // those without, so that coming again gives nobody a new burst
}

// account is that of one peer, in all of its allocations.
type account struct {
	peer        ident.PeerID
	bytes       *rate.Limiter // it guards itself
	allocations int           // guarded by accounts.mu; bounded by PeerAllocations
}

func newAccounts(l Limits) *accounts {
	spent, err := simplelru.NewLRU[ident.PeerID, *account](maxSpent, nil)
	if err != nil { // it has no error but for a size that is none
		panic(err)
	}
	return &accounts{limits: l, total: bucket(l.TotalRate), open: make(map[ident.PeerID]*account), spent: spent}
}

// bucket allows so many bytes a second.
func bucket(perSecond int) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(perSecond, leastBurst))
}

// enter counts one more allocation of the peer, unless it or all of them have as many as they
// may. What has entered must leave.
func (a *accounts) enter(peer ident.PeerID) (*account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.open[peer]
	switch {
	case limits.Reached(a.live, a.limits.TotalAllocations):
		return nil, errTotalAllocations
	case of != nil && limits.Reached(of.allocations, a.limits.PeerAllocations), limits.Reached(0, a.limits.PeerAllocations):
		return nil, errPeerAllocations
	}
	if of == nil {
		var again bool
		if of, again = a.spent.Get(peer); again {
			a.spent.Remove(peer)
		} else {
			of = &account{peer: peer, bytes: bucket(a.limits.PeerRate)}
		}
		a.open[peer] = of
	}
	of.allocations++
	a.live++
	return of, nil
}

func (a *accounts) leave(of *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live--
	if of.allocations--; of.allocations == 0 {
		delete(a.open, of.peer)
		a.spent.Add(of.peer, of)
	}
}

// count is how many allocations there are.
func (a *accounts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live
}

// take reports whether so many bytes of the peer may be relayed now, and counts them then.
func (a *accounts) take(of *account, now time.Time, bytes int) bool {
	return of.bytes.AllowN(now, bytes) && a.total.AllowN(now, bytes)
}
