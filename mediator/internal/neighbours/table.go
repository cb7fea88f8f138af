package neighbours

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"p2pcdn/common/ident"
)

const (
	// maxEntries bounds the mediators that are asked. The routing table of a network
	// of thousands has some 200. An entry takes about half a KiB.
	maxEntries = 256

	// staleAfter is for how many intervals an answer counts when no further one came.
	staleAfter = 3

	// maxBackoff bounds how often the pause after a failed ask or check doubles: eight
	// intervals, and an hour from a minute on.
	maxBackoff      = 3
	maxCheckBackoff = 6

	// pausesPerInterval: nobody is asked more often than so many times per interval, whatever happens.
	pausesPerInterval = 6

	// maxPerNetwork is how many mediators of one network are told to peers. Several volunteers
	// rent from one provider; of 16 that are told, three are no majority.
	maxPerNetwork = 3
)

// entry is one mediator of the table.
type entry struct {
	id        ident.MediatorID
	member    bool // of the routing table, when last looked at
	connected bool // likewise

	asking   bool
	asked    time.Time // when last
	due      time.Time // to be asked
	failures int       // to answer, in a row

	heard  time.Time // when it answered; zero: it is no neighbour
	answer answer    // what it said then
	took   time.Duration
	from   reach // where our connection to it goes

	checking bool
	recheck  time.Time // when to check again what was proved
	retry    time.Time // when to check, at the earliest, what was not
	refuted  int       // checks in a row that failed
	proof    proof
}

// proof is what a check found. The zero value proves nothing.
type proof struct {
	url     string
	network netip.Prefix // of the address that answered
	reach   reach        // the nearest of all the host's addresses
}

// proved reports whether the URL of the last answer may be told.
func (e *entry) proved() bool {
	return !e.heard.IsZero() && e.answer.PublicURL != "" && e.answer.PublicURL == e.proof.url && e.from.mayName(e.proof.reach)
}

// table is who is known and what is due. It is pure state: it asks nobody, and the
// time is told to it. Its owner guards it.
type table struct {
	self    ident.MediatorID
	own     string // where our own URL leads, see target.id; "": we have none
	timing  Timing
	random  *rand.Rand
	entries map[ident.MediatorID]*entry
}

// jitter draws from d ± a quarter, so that mediators that started together do not stay in step.
func (t *table) jitter(d time.Duration) time.Duration {
	return d - d/4 + time.Duration(t.random.Int64N(int64(d/2)+1))
}

// pause is the shortest time between two asks of one mediator.
func (t Timing) pause() time.Duration { return t.Interval / pausesPerInterval }

// look takes in who is in the routing table and who is connected now.
func (t *table) look(now time.Time, members []ident.MediatorID, connected func(ident.MediatorID) bool) {
	isMember := make(map[ident.MediatorID]bool, len(members))
	for _, id := range members {
		isMember[id] = true
	}
	for id, e := range t.entries {
		member, link := isMember[id], connected(id)
		heard := !e.heard.IsZero()
		if heard && (e.member && !member || e.connected && !link) || !heard && !e.connected && link {
			e.due = earlier(e.due, later(now, e.asked.Add(t.timing.pause())))
		}
		e.member, e.connected = member, link
		if heard && now.Sub(e.heard) > staleAfter*t.timing.Interval {
			e.heard = time.Time{}
		}
		if e.forgettable() && e.heard.IsZero() {
			delete(t.entries, id)
		}
	}
	for _, id := range members {
		if t.entries[id] != nil || id == t.self || !t.room() {
			continue
		}
		t.entries[id] = &entry{id: id, member: true, connected: connected(id), due: now}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forgettable reports whether the routing table does without it, and nothing is under way.
func (e *entry) forgettable() bool { return !e.member && !e.asking && !e.checking }

// room makes sure that one more fits in: members come before those that were some.
func (t *table) room() bool {
	if len(t.entries) < maxEntries {
		return true
	}
	for id, e := range t.entries {
		if e.forgettable() {
			delete(t.entries, id)
			return true
		}
	}
	return false
}

// dueAsks returns up to limit mediators that are to be asked now, and counts on
// it that they are: those first to which there is a connection, and then those that wait for longest.
func (t *table) dueAsks(now time.Time, limit int) []ident.MediatorID {
	var due []*entry
	for _, e := range t.entries {
		if !e.asking && !now.Before(e.due) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *entry) int {
		if a.connected != b.connected {
			if a.connected {
				return -1
			}
			return 1
		}
		return a.due.Compare(b.due)
	})
	var ids []ident.MediatorID
	for _, e := range due[:min(len(due), limit)] {
		e.asking, e.asked = true, now
		ids = append(ids, e.id)
	}
	return ids
}

// answered ends an ask that went well. An entry stays while it is asked.
func (t *table) answered(now time.Time, id ident.MediatorID, report report) {
	e := t.entries[id]
	e.asking, e.failures = false, 0
	e.heard, e.answer, e.took, e.from = now, report.answer, report.took, report.from
	e.due = now.Add(t.jitter(t.timing.Interval))
}

// unanswered ends an ask that failed.
func (t *table) unanswered(now time.Time, id ident.MediatorID) {
	e := t.entries[id]
	e.asking, e.heard = false, time.Time{}
	e.due = now.Add(t.jitter(t.timing.Interval << min(e.failures, maxBackoff)))
	e.failures++
}

// toCheck is a URL that somebody named.
type toCheck struct {
	id   ident.MediatorID
	url  string
	from reach
}

// dueChecks returns up to limit URLs that are to be checked now, and counts on it that they are.
func (t *table) dueChecks(now time.Time, limit int) (checks []toCheck) {
	for _, e := range t.entries {
		if len(checks) >= limit {
			break
		}
		due := e.retry
		if e.proved() {
			due = e.recheck
		}
		if e.checking || e.heard.IsZero() || e.answer.PublicURL == "" || now.Before(due) {
			continue
		}
		e.checking = true
		checks = append(checks, toCheck{e.id, e.answer.PublicURL, e.from})
	}
	return checks
}

// checked ends a check. Where it was put off, what was proved stays so.
func (t *table) checked(now time.Time, check toCheck, found proof, verdict verdict) {
	e := t.entries[check.id]
	e.checking = false
	e.retry = now.Add(t.timing.CheckRetry)
	switch verdict {
	case holds:
		e.proof, e.refuted = found, 0
		e.recheck = now.Add(t.jitter(t.timing.CheckInterval))
	case refuted:
		e.proof = proof{}
		e.retry = now.Add(t.jitter(t.timing.CheckRetry << min(e.refuted, maxCheckBackoff)))
		e.refuted++
	case putOff:
		e.recheck = e.retry
	}
}

// urls returns up to n URLs that may be told, in random order.
func (t *table) urls(n int) []string {
	var candidates []*entry
	for _, e := range t.entries {
		if e.proved() {
			candidates = append(candidates, e)
		}
	}
	// A map's order is not random enough, and for a test too much so.
	slices.SortFunc(candidates, byID)
	t.random.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	told := map[string]bool{t.own: true}
	networks := make(map[netip.Prefix]int)
	var urls []string
	for _, e := range candidates {
		if len(urls) >= n {
			break
		}
		parsed, err := parseTarget(e.proof.url)
		if err != nil || told[parsed.id()] || e.proof.network.IsValid() && networks[e.proof.network] >= maxPerNetwork {
			continue
		}
		told[parsed.id()] = true
		networks[e.proof.network]++
		urls = append(urls, e.proof.url)
	}
	return urls
}

func byID(a, b *entry) int { return cmp.Compare(a.id.String(), b.id.String()) }

// list returns the neighbours, by id.
func (t *table) list() []Neighbour {
	var alive []*entry
	for _, e := range t.entries {
		if !e.heard.IsZero() {
			alive = append(alive, e)
		}
	}
	slices.SortFunc(alive, byID)
	neighbours := make([]Neighbour, 0, len(alive))
	for _, e := range alive {
		neighbours = append(neighbours, Neighbour{
			ID: e.id, PublicURL: e.answer.PublicURL, Proved: e.proved(), Version: e.answer.Version,
			Peers: e.answer.Peers, Swarms: e.answer.Swarms, RoundTrip: e.took, Heard: e.heard,
		})
	}
	return neighbours
}
