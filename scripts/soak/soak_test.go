//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if order := os.Getenv(attackVariable); order != "" {
		os.Exit(attacker(order))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// folder holds the mediator of this repository, which program builds once; "" before.
var folder string

var program = sync.OnceValues(func() (path string, err error) {
	if folder, err = os.MkdirTemp("", "p2pcdn-soak-test-"); err != nil {
		return "", err
	}
	return build(context.Background(), folder)
})

// patience bounds what is waited for; nothing here takes a tenth of it.
const patience = 2 * time.Minute

// start starts the mediator of this repository; it is stopped at the end of the test.
func start(t *testing.T) *mediator {
	t.Helper()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("what a process takes is read from /proc, which this system does not have")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	m, err := startMediator(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	return m
}

// TestEverythingReturns is a short soak: so many peers come and go, however long that takes, and then
// nothing of them is left.
func TestEverythingReturns(t *testing.T) {
	const peers, rounds, each, introductions = 200, 30, 10, 5
	m := start(t)
	before, err := m.rested(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := newCrowd(m.url, peers)
	defer c.end()
	if err := c.join(ctx, peers); err != nil {
		t.Fatal(err)
	}
	full, err := m.collected()
	if err != nil {
		t.Fatal(err)
	}
	if full.Connections != peers || full.Peers != peers || full.Contents == 0 || full.Announced != full.Contents || full.Files < before.Files+peers {
		t.Errorf("with %d peers it says %+v", peers, full)
	}
	for range rounds {
		var work sync.WaitGroup
		for range introductions {
			work.Go(func() { c.introduce(ctx) })
		}
		work.Wait() // who is asked and has just left would have to be waited for
		c.leave(each, false)
		if err := c.join(ctx, each); err != nil {
			t.Fatal(err)
		}
	}
	c.leave(each, true)
	c.end()
	counts, took := c.look()
	if counts.Joined != peers+rounds*each || counts.Left != counts.Joined || counts.Introduced == 0 || len(took) != counts.Introduced {
		t.Errorf("what happened is %+v", counts)
	}
	if counts.Lost+counts.Failed+len(counts.Refused) != 0 {
		t.Errorf("what went wrong is %+v; the first: %s", counts, c.firstTrouble())
	}
	after, err := settled(t.Context(), m, before)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range returns(before, after, peers) {
		if !r.Back {
			t.Errorf("%s: %v before the first peer, %v after the last one", r.Name, r.Start, r.End)
		}
	}
	if t.Failed() {
		stacks, err := m.get("/debug/pprof/goroutine?debug=1")
		t.Log(stacks, err)
	}
}

// TestAttackIsMeasured has honest peers introduced during an attack of which everything is refused,
// so that it does not matter how much of it there is.
func TestAttackIsMeasured(t *testing.T) {
	m := start(t)
	s := &Siege{Pairs: 3, Refused: make(map[string]int)}
	couples, err := s.marry(t.Context(), m.url)
	for _, c := range couples {
		defer c.seeder.reset()
		defer c.leecher.reset()
	}
	if err != nil {
		t.Fatal(err)
	}
	assault, err := s.besiege(t.Context(), options{duration: 2 * time.Second, flood: maxRate}, m, attacks[slices.IndexFunc(attacks, func(a attack) bool { return a.name == "nonsense" })], couples)
	if err != nil {
		t.Fatal(err)
	}
	s.Assaults = append(s.Assaults, assault)
	if assault.Sent == 0 || assault.Quiet.Introductions == 0 || assault.During.Introductions == 0 || !s.good() {
		t.Errorf("it yielded %+v; the first that failed: %v", assault, s.trouble)
	}
	var table bytes.Buffer
	if s.table(&table); !strings.Contains(table.String(), "bad_message") || !strings.Contains(table.String(), "\nhonest peers were served\n") {
		t.Errorf("the table is\n%s", table.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"x"}, {"--peers", "0"}, {"--peers", "99999"}, {"--duration", "0s"}, {"--duration", "2h"}, {"--churn", "-1"}, {"--churn", "101"},
		{"--introductions", "-1"}, {"--pairs", "0"}, {"--flood", "0"}, {"--nothing"},
	} {
		var said strings.Builder
		if code := run(t.Context(), args, io.Discard, &said); code != exitUsage || said.Len() == 0 {
			t.Errorf("%v ended with %d and %q", args, code, said.String())
		}
	}
	var said strings.Builder
	if code := run(t.Context(), []string{"-h"}, io.Discard, &said); code != exitFlat || !strings.Contains(said.String(), "Exit codes") {
		t.Errorf("-h ended with %d and %q", code, said.String())
	}
	if o, err := parse([]string{"--attack"}, io.Discard); err != nil || o.duration != attackTime {
		t.Errorf("an attack takes %v, %v", o.duration, err)
	}
	if code := run(t.Context(), []string{"--mediator", "/nowhere/mediator"}, io.Discard, io.Discard); code != exitNotFlat {
		t.Errorf("without a mediator it ended with %d", code)
	}
}
