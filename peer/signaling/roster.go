package signaling

import (
	"math/rand/v2"
	"slices"

	"p2pcdn/common/mediation"
)

const (
	// maxMediators bounds the mediators that are remembered, two full lists of established or
	// going_away: what one mediator names does not push out all that others named.
	maxMediators = 2 * mediation.MaxURLs

	// maxFailed is in how many searches in a row a learnt mediator may fail before it is
	// forgotten: one that is updated, or restarted, misses one of them or two.
	maxFailed = 3
)

// roster is whom a peer may turn to: the mediators that the user named, in that order and never
// forgotten, and behind them those that mediators named. It is pure state, without a clock.
//
// A search is what lies between two lines that last. It goes in rounds: within one, every
// mediator is tried once, those of the user in order and then the learnt ones, the newest
// first. Among those that were named together chance decides, so that the peers of a
// mediator that is lost spread over all that it named.
type roster struct {
	random  *rand.Rand
	entries []*entry // those of the user first; bounded by maxMediators, or by the user's where those are more
	present *entry   // the one that is used or tried; nil before the first
	naming  int      // how many lists were learnt
	tries   int      // in this round; it ends after as many as there are mediators, also where some were learnt meanwhile
	rounds  int      // how many of this search ended with nobody
}

// entry is a mediator that is known.
type entry struct {
	url    string
	learnt int  // the number of the list that named it last; 0: the user did
	tried  bool // in this round
	missed bool // in this search
	failed int  // searches in a row in which it was tried in vain, and another one was found
}

// newRoster knows those of the user. There must be one.
func newRoster(urls []string, random *rand.Rand) *roster {
	r := &roster{random: random}
	for _, url := range urls {
		if r.find(url) == nil {
			r.entries = append(r.entries, &entry{url: url})
		}
	}
	return r
}

func (r *roster) find(url string) *entry {
	if i := slices.IndexFunc(r.entries, func(e *entry) bool { return e.url == url }); i >= 0 {
		return r.entries[i]
	}
	return nil
}

// learn remembers the mediators that the present one names, as far as it may. Where there is no
// room, those go that were named longest ago.
func (r *roster) learn(urls []string) {
	if len(urls) == 0 {
		return
	}
	r.naming++
	for _, url := range urls {
		switch e := r.find(url); {
		case !mediation.MayName(r.present.url, url):
		case e == nil && r.makeRoom():
			r.entries = append(r.entries, &entry{url: url, learnt: r.naming})
		case e != nil && e.learnt > 0:
			e.learnt = r.naming
		}
	}
}

// makeRoom reports whether there is room for one more that is learnt now.
func (r *roster) makeRoom() bool {
	if len(r.entries) < maxMediators {
		return true
	}
	oldest := -1
	for i, e := range r.entries {
		if e.learnt > 0 && e != r.present && (oldest < 0 || e.learnt < r.entries[oldest].learnt) {
			oldest = i
		}
	}
	if oldest < 0 || r.entries[oldest].learnt == r.naming {
		return false
	}
	r.entries = slices.Delete(r.entries, oldest, oldest+1)
	return true
}

// next chooses whom to try, who is the present one from now on. It returns how many rounds
// ended with nobody, if this begins another one, and 0 within a round.
func (r *roster) next() (chosen *entry, rounds int) {
	if r.tries >= len(r.entries) {
		for _, e := range r.entries {
			e.tried = false
		}
		r.tries = 0
		r.rounds++
		rounds = r.rounds
	}
	r.present = r.choose()
	r.present.tried, r.present.missed = true, true
	r.tries++
	return r.present, rounds
}

// choose returns one that was not tried in this round. There is one: who makes room for another leaves it untried.
func (r *roster) choose() *entry {
	var newest []*entry
	for _, e := range r.entries {
		switch {
		case e.tried:
		case e.learnt == 0:
			return e
		case len(newest) == 0 || e.learnt > newest[0].learnt:
			newest = []*entry{e}
		case e.learnt == newest[0].learnt:
			newest = append(newest, e)
		}
	}
	return newest[r.random.IntN(len(newest))]
}

// lasted says that the line to the present one, which is lost now, was a good one. That ended a
// search, and another one begins. Who failed in it counts as failing only now: while
// nobody is found, it is rather we who have no network.
func (r *roster) lasted() {
	for _, e := range r.entries {
		switch {
		case e == r.present:
			e.failed = 0
		case e.missed:
			e.failed++
		}
		e.missed, e.tried = e == r.present, e == r.present
	}
	r.entries = slices.DeleteFunc(r.entries, func(e *entry) bool { return e.learnt > 0 && e.failed >= maxFailed })
	r.tries, r.rounds = 1, 0
}
