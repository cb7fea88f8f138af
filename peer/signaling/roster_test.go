package signaling

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"p2pcdn/common/mediation"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// names returns the URLs of so many mediators.
func names(what string, n int) (urls []string) {
	for i := range n {
		urls = append(urls, fmt.Sprintf("ws://%s%d.example/mediation", what, i))
	}
	return urls
}

// try moves on, and returns whom to.
func (r *roster) try() string {
	chosen, _ := r.next()
	return chosen.url
}

// urls are all that are known.
func (r *roster) urls() (urls []string) {
	for _, e := range r.entries {
		urls = append(urls, e.url)
	}
	return urls
}

func TestThoseOfTheUserComeFirst(t *testing.T) {
	own := names("own", 2)
	r := newRoster([]string{own[0], own[1], own[0]}, seeded(1))
	if got := r.try(); got != own[0] {
		t.Errorf("began with %s", got)
	}
	learnt := names("learnt", 3)
	r.learn(append(slices.Clone(learnt), own...))
	if got := r.try(); got != own[1] {
		t.Errorf("went on with %s", got)
	}
	got := []string{r.try(), r.try(), r.try()}
	slices.Sort(got)
	if !slices.Equal(got, learnt) {
		t.Errorf("went on with %v", got)
	}
	if chosen, rounds := r.next(); chosen.url != own[0] || rounds != 1 {
		t.Errorf("began anew with %s, after %d rounds", chosen.url, rounds)
	}
}

func TestTheNewestAreTriedFirst(t *testing.T) {
	r := newRoster(names("own", 1), seeded(1))
	own := r.try()
	older, newer := names("older", 3), names("newer", 3)
	r.learn(older)
	r.learn(append(slices.Clone(newer), older[0])) // which is news again
	first, then := append(slices.Clone(newer), older[0]), older[1:]
	for i := range 6 {
		want := first
		if i >= len(first) {
			want = then
		}
		if got := r.try(); !slices.Contains(want, got) {
			t.Errorf("choice %d is %s", i, got)
		}
	}
	if got := r.try(); got != own {
		t.Errorf("began anew with %s", got)
	}
}

// The peers of a mediator that dies spread over all that it named, and over time.
func TestPeersSpread(t *testing.T) {
	const peers = 1600
	learnt := names("learnt", mediation.MaxURLs)
	chosen, tenths := make(map[string]int), make(map[int]int)
	for seed := range uint64(peers) {
		r := newRoster(names("own", 1), seeded(seed))
		r.try()
		r.learn(learnt)
		chosen[r.try()]++
		tenths[int(10*backoff(r.random)(0)/hop)]++
	}
	for _, url := range learnt {
		if n := chosen[url]; n < peers/len(learnt)/2 || n > 2*peers/len(learnt) {
			t.Errorf("%d of %d peers came to %s", n, peers, url)
		}
	}
	for i := range 10 {
		if n := tenths[i]; n < peers/20 || n > peers/5 {
			t.Errorf("%d of %d peers came in tenth %d of the hop", n, peers, i)
		}
	}
}

func TestTheListIsBounded(t *testing.T) {
	own := names("own", 3)
	r := newRoster(own, seeded(1))
	r.try()
	var last []string
	for i := range 10 {
		last = names(fmt.Sprintf("list%d-", i), mediation.MaxURLs)
		r.learn(last)
		if len(r.entries) > maxMediators {
			t.Fatalf("%d mediators are known", len(r.entries))
		}
	}
	known := r.urls()
	for _, url := range append(own, last...) {
		if !slices.Contains(known, url) {
			t.Errorf("%s was forgotten", url)
		}
	}
	many := names("own", maxMediators+5)
	r = newRoster(many, seeded(1))
	r.try()
	r.learn(last)
	if !slices.Equal(r.urls(), many) {
		t.Errorf("of %d mediators of the user, %d are known", len(many), len(r.entries))
	}
	r = newRoster(names("own", maxMediators-2), seeded(1))
	r.try()
	r.learn(last)
	if known := r.urls(); !slices.Equal(known[maxMediators-2:], last[:2]) {
		t.Errorf("in the room that is left: %v", known[maxMediators-2:])
	}
}

// The one that is connected is not forgotten for those that it names.
func TestThePresentOneStays(t *testing.T) {
	r := newRoster(names("own", 1), seeded(1))
	r.try()
	r.learn(names("old", 1))
	present := r.try()
	for i := range 4 {
		r.learn(names(fmt.Sprintf("list%d-", i), mediation.MaxURLs))
	}
	if !slices.Contains(r.urls(), present) {
		t.Error("it was forgotten")
	}
}

// search fails at everybody but one, whose line then lasts.
func (r *roster) search(good string) {
	for r.try() != good {
	}
	r.lasted()
}

func TestWhoFailsAgainAndAgainIsForgotten(t *testing.T) {
	own, learnt := names("own", 1), names("learnt", 2)
	r := newRoster(own, seeded(1))
	r.try()
	r.learn(learnt)
	r.lasted()
	dead, good := learnt[0], learnt[1]
	for failed := 0; slices.Contains(r.urls(), dead); r.lasted() {
		if failed == maxFailed {
			t.Fatalf("it is known although it failed %d times", failed)
		}
		for url := r.try(); url != good; url = r.try() {
			if url == dead {
				failed++
			}
		}
	}
	if got := r.urls(); !slices.Equal(got, []string{own[0], good}) {
		t.Errorf("known: %v", got)
	}
}

// While nobody answers, it is rather we who have no network: all stay.
func TestNobodyIsForgottenWhileNobodyAnswers(t *testing.T) {
	r := newRoster(names("own", 1), seeded(1))
	r.try()
	r.learn(names("learnt", 5))
	for range 1000 {
		r.try()
	}
	if len(r.entries) != 6 {
		t.Errorf("known: %v", r.urls())
	}
	r.search(names("learnt", 1)[0])
	if len(r.entries) != 6 {
		t.Errorf("after the first that answered: %v", r.urls())
	}
	if _, rounds := r.next(); rounds != 0 {
		t.Errorf("after a line that lasted, %d rounds", rounds)
	}
}

// A mediator that leads on and on, to ever new names, does not keep the waits short.
func TestARoundEndsWhateverIsNamed(t *testing.T) {
	r := newRoster(names("own", 1), seeded(1))
	ended := 0
	for i := range 10 * maxMediators {
		if _, rounds := r.next(); rounds > 0 {
			ended = rounds
		}
		r.learn(names(fmt.Sprintf("trap%d-", i), mediation.MaxURLs))
	}
	if ended < 9 {
		t.Errorf("only %d rounds ended", ended)
	}
}

func TestWhatMayNotBeNamedIsPassedOver(t *testing.T) {
	for _, test := range []struct{ from, to string }{
		{"ws://a.example", "http://b.example"},
		{"ws://a.example", "nonsense"},
		{"ws://a.example", ""},
		{"wss://a.example", "ws://b.example"},
		{"ws://a.example", "ws://localhost"},
		{"ws://a.example", "ws://192.168.1.1"},
	} {
		r := newRoster([]string{test.from}, seeded(1))
		r.try()
		r.learn([]string{test.to, "wss://good.example"})
		if got := r.urls(); !slices.Equal(got, []string{test.from, "wss://good.example"}) {
			t.Errorf("%s named %s: %v", test.from, test.to, got)
		}
	}
}
