package neighbours

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/ident"
)

// clock is where the time of these tests begins.
var clock = time.Unix(1_000_000, 0)

func newTable() *table {
	return &table{
		self: idNumber(0), timing: DefaultTiming, random: rand.New(rand.NewPCG(1, 2)),
		entries: make(map[ident.MediatorID]*entry),
	}
}

// idNumber returns one of a thousand ids.
func idNumber(n int) ident.MediatorID {
	digits := "123456789A"
	text := []byte("12D3KooWGzxzKZYveHXtpG6AsrUJBcWfHBFS2HsEoGTxrMLvKXtF")
	text[20], text[21], text[22] = digits[n/100], digits[n/10%10], digits[n%10]
	return parseID(string(text))
}

func ids(from, to int) (out []ident.MediatorID) {
	for n := from; n < to; n++ {
		out = append(out, idNumber(n))
	}
	return out
}

func nobody(ident.MediatorID) bool    { return false }
func everybody(ident.MediatorID) bool { return true }

// says is an answer with a URL, over a connection on the internet.
func says(url string) report {
	return report{answer{PublicURL: url, Version: "v1"}, time.Millisecond, anywhere}
}

// neighbour puts a mediator with a proved URL into the table.
func (t *table) neighbour(n int, url, network string) {
	id := idNumber(n)
	p := proof{url: url, reach: anywhere}
	if network != "" {
		p.network = netip.MustParsePrefix(network)
	}
	t.entries[id] = &entry{
		id: id, member: true, connected: true, due: clock.Add(time.Hour), heard: clock,
		answer: says(url).answer, from: anywhere, proof: p, recheck: clock.Add(time.Hour),
	}
}

func wantDue(t *testing.T, table *table, now time.Time, want ...ident.MediatorID) {
	t.Helper()
	got := table.dueAsks(now, maxAsking)
	slices.SortFunc(got, func(a, b ident.MediatorID) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
	if !slices.Equal(got, want) {
		t.Errorf("after %v are due: %v, not %v", now.Sub(clock), got, want)
	}
}

func TestNewcomersAreAskedAtOnce(t *testing.T) {
	table := newTable()
	table.look(clock, ids(0, 3), nobody) // itself among them
	wantDue(t, table, clock, ids(1, 3)...)
	wantDue(t, table, clock.Add(time.Hour)) // they are being asked
	table.answered(clock, idNumber(1), says(""))
	wantDue(t, table, clock.Add(44*time.Second))
	wantDue(t, table, clock.Add(76*time.Second), idNumber(1))
}

func TestThoseWithAConnectionAreAskedFirst(t *testing.T) {
	table := newTable()
	table.look(clock, ids(1, 9), func(id ident.MediatorID) bool { return id == idNumber(5) || id == idNumber(7) })
	table.entries[idNumber(3)].due = clock.Add(-time.Second)
	got := table.dueAsks(clock, 3)
	if len(got) != 3 || !slices.Contains(got[:2], idNumber(5)) || !slices.Contains(got[:2], idNumber(7)) || got[2] != idNumber(3) {
		t.Errorf("%v", got)
	}
	if got := table.dueAsks(clock, 100); len(got) != 5 {
		t.Errorf("%d are left", len(got))
	}
}

func TestWhoDoesNotAnswerIsForgottenAndAskedRarely(t *testing.T) {
	table, now := newTable(), clock
	table.look(now, ids(1, 2), nobody)
	table.dueAsks(now, 1)
	table.answered(now, idNumber(1), says(""))
	if len(table.list()) != 1 {
		t.Error("one that answered is no neighbour")
	}
	for failures, pause := range []time.Duration{1, 2, 4, 8, 8, 8} {
		now = table.entries[idNumber(1)].due
		wantDue(t, table, now, idNumber(1))
		table.unanswered(now, idNumber(1))
		if len(table.list()) != 0 {
			t.Error("one that did not is one")
		}
		table.look(now, ids(1, 2), nobody)
		got, mean := table.entries[idNumber(1)].due.Sub(now), pause*time.Minute
		if got < mean*3/4 || got > mean*5/4 {
			t.Errorf("after %d failures the pause is %v", failures+1, got)
		}
	}
	table.look(now, nil, nobody)
	if len(table.entries) != 0 {
		t.Error("it is kept although the routing table dropped it")
	}
}

func TestLostConnectionsAreLookedInto(t *testing.T) {
	for name, lose := range map[string]func(*table, time.Time){
		"the connection":    func(table *table, now time.Time) { table.look(now, ids(1, 2), nobody) },
		"the routing table": func(table *table, now time.Time) { table.look(now, nil, everybody) },
	} {
		table := newTable()
		table.look(clock, ids(1, 2), everybody)
		table.dueAsks(clock, 1)
		table.answered(clock, idNumber(1), says(""))
		lose(table, clock.Add(5*time.Second))
		wantDue(t, table, clock.Add(9*time.Second)) // not so soon after the last ask
		wantDue(t, table, clock.Add(10*time.Second), idNumber(1))
		table.answered(clock.Add(10*time.Second), idNumber(1), says("")) // a false alarm
		lose(table, clock.Add(20*time.Second))
		wantDue(t, table, clock.Add(20*time.Second))
		if len(table.list()) != 1 {
			t.Errorf("%s: it is forgotten although it answers", name)
		}
	}
	table := newTable()
	table.look(clock, ids(1, 2), nobody)
	table.dueAsks(clock, 1)
	table.unanswered(clock, idNumber(1))
	table.look(clock.Add(30*time.Second), ids(1, 2), everybody)
	wantDue(t, table, clock.Add(30*time.Second), idNumber(1)) // it has come back
}

func TestStaleAnswersAreForgotten(t *testing.T) {
	table := newTable()
	table.neighbour(1, "ws://a.example", "")
	table.look(clock.Add(3*time.Minute), ids(1, 2), everybody)
	if len(table.list()) != 1 || len(table.urls(1)) != 1 {
		t.Error("it is forgotten too soon")
	}
	table.look(clock.Add(3*time.Minute+time.Second), ids(1, 2), everybody)
	if len(table.list()) != 0 || len(table.urls(1)) != 0 {
		t.Error("it is told")
	}
}

func TestTableIsBounded(t *testing.T) {
	table := newTable()
	table.look(clock, ids(1, 500), nobody)
	if len(table.entries) != maxEntries {
		t.Fatalf("it has %d entries", len(table.entries))
	}
	var known []ident.MediatorID
	for id, e := range table.entries {
		known = append(known, id)
		e.heard = clock
	}
	table.look(clock, append(ids(600, 610), known...), nobody)
	if table.entries[idNumber(600)] != nil {
		t.Error("one that is a member was thrown out")
	}
	table.look(clock, append(ids(600, 610), known[10:]...), nobody) // ten answer, but are no members any more
	if len(table.entries) != maxEntries || table.entries[idNumber(600)] == nil || table.entries[idNumber(609)] == nil {
		t.Error("members do not come before those that were some")
	}
}

func TestWhenURLsAreChecked(t *testing.T) {
	table, now := newTable(), clock
	table.look(now, ids(1, 2), everybody)
	hear := func(url string) {
		e := table.entries[idNumber(1)]
		e.asking = true
		table.answered(now, idNumber(1), says(url))
	}
	check := func(want string) toCheck {
		t.Helper()
		checks := table.dueChecks(now, maxChecking)
		if want == "" && len(checks) == 0 {
			return toCheck{}
		}
		if len(checks) != 1 || checks[0] != (toCheck{idNumber(1), want, anywhere}) {
			t.Fatalf("after %v are due: %v, not %q", now.Sub(clock), checks, want)
		}
		return checks[0]
	}
	told := func(want ...string) {
		t.Helper()
		if got := table.urls(9); !slices.Equal(got, want) {
			t.Fatalf("after %v are told: %v, not %v", now.Sub(clock), got, want)
		}
	}
	later := func(d time.Duration) { now = now.Add(d) }

	check("")
	hear("")
	check("")
	hear("ws://a.example")
	told()
	first := check("ws://a.example")
	check("") // it runs
	table.checked(now, first, proof{}, refuted)
	told()
	for _, mean := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 64} {
		later(mean*time.Minute*3/4 - time.Second)
		check("")
		later(mean*time.Minute/2 + 2*time.Second)
		table.checked(now, check("ws://a.example"), proof{}, refuted)
	}
	later(80 * time.Minute)
	held := proof{url: "ws://a.example", reach: anywhere}
	table.checked(now, check("ws://a.example"), held, holds)
	told("ws://a.example")
	later(44 * time.Minute)
	check("")
	later(32 * time.Minute)
	recheck := check("ws://a.example")
	told("ws://a.example") // meanwhile
	table.checked(now, recheck, proof{}, putOff)
	told("ws://a.example")
	later(59 * time.Second)
	check("")
	later(time.Second)
	table.checked(now, check("ws://a.example"), held, holds)

	hear("") // full, and then not any more
	told()
	hear("ws://a.example")
	told("ws://a.example")
	check("")

	hear("ws://b.example") // who changes his mind often waits
	told()
	check("")
	later(time.Minute)
	late := check("ws://b.example")
	hear("ws://c.example")
	table.checked(now, late, proof{url: "ws://b.example", reach: anywhere}, holds)
	told()
	later(time.Minute)
	table.checked(now, check("ws://c.example"), proof{url: "ws://c.example", reach: nearby}, holds)
	told() // from where we know it it may not be told
	table.entries[idNumber(1)].from = nearby
	told("ws://c.example")
	table.unanswered(now, idNumber(1))
	told()
	later(time.Hour)
	check("")
}

func TestChecksAreBounded(t *testing.T) {
	table := newTable()
	for n := range 10 {
		table.neighbour(n+1, "ws://a.example", "")
		table.entries[idNumber(n+1)].proof = proof{}
	}
	if got := len(table.dueChecks(clock, 4)); got != 4 {
		t.Errorf("%d at a time", got)
	}
	if got := len(table.dueChecks(clock, 100)); got != 6 {
		t.Errorf("%d are left", got)
	}
}

func TestURLsAreInRandomOrder(t *testing.T) {
	table := newTable()
	first, sets := make(map[string]int), make(map[string]int)
	for n := range 10 {
		table.neighbour(n+1, fmt.Sprintf("ws://n%d.example", n), "")
	}
	const draws = 1000
	for range draws {
		got := table.urls(3)
		if len(got) != 3 || got[0] == got[1] || got[1] == got[2] || got[0] == got[2] {
			t.Fatalf("%v", got)
		}
		first[got[0]]++
		for _, url := range got {
			sets[url]++
		}
	}
	for url, count := range sets {
		if count < draws*3/10*3/4 || first[url] < draws/10*2/3 {
			t.Errorf("%s was named %d times, and %d times first", url, count, first[url])
		}
	}
	if len(sets) != 10 {
		t.Errorf("%d were named", len(sets))
	}
	again := func(seed uint64) []string {
		table.random = rand.New(rand.NewPCG(seed, seed))
		return table.urls(10)
	}
	if !reflect.DeepEqual(again(7), again(7)) || reflect.DeepEqual(again(7), again(8)) {
		t.Error("the order does not come from the randomness that was handed in")
	}
	for n, want := range map[int]int{-1: 0, 0: 0, 1: 1, 10: 10, 11: 10} {
		if got := table.urls(n); len(got) != want {
			t.Errorf("of %d there are %v", n, got)
		}
	}
}

func TestNoURLIsToldTwiceOrIsOurs(t *testing.T) {
	table := newTable()
	table.own = "https://me.example/id"
	table.neighbour(1, "wss://me.example/other", "")
	table.neighbour(2, "wss://a.example/mediation", "")
	table.neighbour(3, "wss://A.example.:443/", "")
	table.neighbour(4, "ws://a.example/mediation", "") // another server, maybe
	for range 20 {
		if got := table.urls(9); len(got) != 2 || slices.Contains(got, "wss://me.example/other") || !slices.Contains(got, "ws://a.example/mediation") {
			t.Fatalf("%v", got)
		}
	}
}

func TestOneNetworkDoesNotCrowdOut(t *testing.T) {
	table := newTable()
	for n := range 100 {
		table.neighbour(n+1, fmt.Sprintf("ws://n%d.sybil.example", n), "9.9.9.0/24")
	}
	table.neighbour(201, "ws://a.example", "8.8.8.0/24")
	table.neighbour(202, "ws://b.example", "2620:fe::/48")
	for n := range 5 { // a LAN
		table.neighbour(300+n, fmt.Sprintf("ws://10.0.0.%d", n+1), "")
	}
	for range 20 {
		got := table.urls(100)
		if len(got) != maxPerNetwork+2+5 || !slices.Contains(got, "ws://a.example") || !slices.Contains(got, "ws://b.example") {
			t.Fatalf("%v", got)
		}
	}
}
