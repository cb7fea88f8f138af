//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/mediation"
)

// What is measured under attack: pairs of honest peers, each with an address that some others
// share, are introduced again and again, at a pace that is far from what the mediator can do. Before
// each attack and during it, in turn, so that what disturbs the machine for a while
// disturbs both. The attacker is a process of its own with the least priority: what it costs
// to attack is not what is measured, but what it costs the mediator to be attacked. All come to
// it over loopback; on a machine of few cores they still share them with it.
const (
	attackTime = 5 * time.Second
	maxPairs   = 500

	// pairPause is between two introductions of one pair: five a second, of the 25 lookups and
	// 50 signals that a peer may make.
	pairPause = 200 * time.Millisecond

	// calmTime is between an attack and what is measured next.
	calmTime = time.Second
)

// Quantiles are of the introductions of honest peers.
type Quantiles struct {
	Introductions int     `json:"introductions"`
	Failed        int     `json:"failed"`
	P50           float64 `json:"p50_ms"`
	P99           float64 `json:"p99_ms"`
}

// Assault is what one attack did to honest peers, and what was done against it.
type Assault struct {
	Name     string             `json:"name"`
	What     string             `json:"what"`
	Quiet    Quantiles          `json:"quiet"` // just before
	During   Quantiles          `json:"during"`
	Sent     int                `json:"sent"`     // messages, requests or connections
	Refusals map[string]float64 `json:"refusals"` // by code, meanwhile
	Memory   float64            `json:"memory"`   // of the mediator at the end of it, resident, in bytes
}

// Siege is all of them.
type Siege struct {
	Pairs    int            `json:"pairs"`
	Seconds  float64        `json:"seconds"` // of each attack
	Flood    int            `json:"flood"`
	Assaults []Assault      `json:"assaults"`
	Refused  map[string]int `json:"refused"` // what honest peers were told; nothing, it is hoped
	trouble  error          // the first introduction that failed
}

// couple is an honest pair.
type couple struct {
	seeder, leecher *peer
	hash            content.FullHash
}

// underAttack runs every attack in turn.
func underAttack(ctx context.Context, o options, stderr io.Writer) (*Siege, error) {
	say := newTeller(stderr)
	defer say.over()
	say.now("starting the mediator")
	m, err := startMediator(ctx, o.mediator)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	s := &Siege{Pairs: o.pairs, Seconds: o.duration.Seconds(), Flood: o.flood, Refused: make(map[string]int)}
	couples, err := s.marry(ctx, m.url)
	defer func() {
		for _, c := range couples {
			c.seeder.reset()
			if c.leecher != nil {
				c.leecher.reset()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	if _, err := s.measure(ctx, couples, attackTime); err != nil { // before it counts: everything is warm then
		return nil, err
	}
	for i, a := range attacks {
		say.now(fmt.Sprintf("attack %d of %d: %s", i+1, len(attacks), a.name))
		assault, err := s.besiege(ctx, o, m, a, couples)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		s.Assaults = append(s.Assaults, assault)
	}
	return s, nil
}

// marry connects the pairs.
func (s *Siege) marry(ctx context.Context, url string) (couples []*couple, err error) {
	var mu sync.Mutex
	refused := func(code mediation.ErrorCode) {
		mu.Lock()
		defer mu.Unlock()
		s.Refused[string(code)]++
	}
	for n := range s.Pairs {
		c := &couple{hash: contentNumber(n)}
		if c.seeder, err = join(ctx, url, address(2*n/perAddress), []content.FullHash{c.hash}, refused); err != nil {
			return couples, fmt.Errorf("an honest peer cannot come: %w", err)
		}
		couples = append(couples, c)
		if c.leecher, err = join(ctx, url, address(2*n/perAddress), nil, refused); err != nil {
			return couples, fmt.Errorf("an honest peer cannot come: %w", err)
		}
	}
	return couples, nil
}

// measure introduces all pairs for a while.
func (s *Siege) measure(ctx context.Context, couples []*couple, d time.Duration) (Quantiles, error) {
	during, stop := context.WithTimeout(ctx, d)
	defer stop()
	var mu sync.Mutex
	var took []time.Duration
	var result Quantiles
	var all sync.WaitGroup
	for _, c := range couples {
		all.Go(func() {
			for pause := rand.N(pairPause); ; pause = pairPause/2 + rand.N(pairPause) {
				select {
				case <-during.Done():
					return
				case <-time.After(pause):
				}
				began := time.Now()
				err := c.leecher.introduce(ctx, c.hash, true) // one that has begun is waited for
				mu.Lock()
				if err == nil {
					took = append(took, time.Since(began))
				} else if result.Failed++; s.trouble == nil {
					s.trouble = err
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	result.Introductions = len(took)
	result.P50, result.P99 = percentiles(took)
	return result, ctx.Err()
}

// besiege measures without the attack, and with it.
func (s *Siege) besiege(ctx context.Context, o options, m *mediator, a attack, couples []*couple) (assault Assault, err error) {
	assault = Assault{Name: a.name, What: a.what}
	if assault.Quiet, err = s.measure(ctx, couples, o.duration); err != nil {
		return assault, err
	}
	before, err := m.state()
	if err != nil {
		return assault, err
	}
	enemy, err := startAttacker(order{Name: a.name, URL: m.url, Victim: couples[0].seeder.id.String(), Rate: o.flood})
	if err != nil {
		return assault, err
	}
	assault.During, err = s.measure(ctx, couples, o.duration)
	after, stateErr := m.state()
	assault.Sent = enemy.stop()
	if err == nil {
		err = stateErr
	}
	if err != nil {
		return assault, err
	}
	assault.Memory, assault.Refusals = after.Memory, make(map[string]float64)
	for code, n := range after.Refusals {
		if more := n - before.Refusals[code]; more > 0 {
			assault.Refusals[code] = more
		}
	}
	if assault.Sent == 0 {
		return assault, fmt.Errorf("the attacker sent nothing")
	}
	rest(ctx, calmTime)
	return assault, ctx.Err()
}

// good reports whether every honest introduction came to be.
func (s *Siege) good() bool {
	return len(s.Refused) == 0 && !slices.ContainsFunc(s.Assaults, func(a Assault) bool { return a.Quiet.Failed+a.During.Failed > 0 })
}

func (s *Siege) table(w io.Writer) {
	fmt.Fprintf(w, "%d honest pairs, %.0f s before and %.0f s in each attack of at most %d a second\n\n", s.Pairs, s.Seconds, s.Seconds, s.Flood)
	fmt.Fprintf(w, "%-26s %8s %8s %6s %8s %8s %6s %6s %8s %8s  %s\n",
		"", "p50", "under", "ratio", "p99", "under", "ratio", "failed", "sent", "MiB", "refusals")
	for _, a := range s.Assaults {
		fmt.Fprintf(w, "%-26s %8.2f %8.2f %6.2f %8.2f %8.2f %6.2f %6d %8d %8.1f  %s\n",
			a.Name, a.Quiet.P50, a.During.P50, a.During.P50/a.Quiet.P50, a.Quiet.P99, a.During.P99, a.During.P99/a.Quiet.P99,
			a.During.Failed, a.Sent, a.Memory/(1<<20), tally(a.Refusals))
	}
	fmt.Fprintf(w, "\np50 and p99 of honest introductions in ms. Honest peers were told %s\n", tally(s.Refused))
	if s.trouble != nil {
		fmt.Fprintf(w, "the first introduction that failed: %v\n", s.trouble)
	}
	fmt.Fprintf(w, "\n%s\n", verdict(s.good(), "honest peers were served", "HONEST PEERS WERE NOT SERVED"))
}

// order is what an attacker's process is told.
type order struct {
	Name, URL, Victim string
	Rate              int
}

// attackVariable makes this program an attacker: it holds an order, in JSON.
const attackVariable = "P2PCDN_SOAK_ATTACK"

// enemy is an attacker's process.
type enemy struct {
	process *exec.Cmd
	in      io.Closer // it ends when this does, also where we are killed
	out     bytes.Buffer
}

func startAttacker(o order) (*enemy, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e := &enemy{process: exec.Command(program)}
	e.process.Env = append(os.Environ(), attackVariable+"="+string(text))
	e.process.Stdout, e.process.Stderr = &e.out, os.Stderr
	if e.in, err = e.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := e.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the attacker: %w", err)
	}
	return e, nil
}

// stop ends the attacker, and returns how much it sent.
func (e *enemy) stop() (sent int) {
	_ = e.in.Close()
	late := time.AfterFunc(endTime, func() { _ = e.process.Process.Kill() })
	_ = e.process.Wait() // what it sent says enough
	late.Stop()
	_, _ = fmt.Sscan(e.out.String(), &sent)
	return sent
}

// attacker is the attacker's process.
func attacker(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, "soak: an attacker's order:", err)
		return exitUsage
	}
	i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == o.Name })
	if i < 0 {
		fmt.Fprintln(os.Stderr, "soak: there is no attack of the name", o.Name)
		return exitUsage
	}
	yieldToOthers()
	ctx, stop := context.WithTimeout(context.Background(), maxDuration)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	h := newHostility(o)
	h.run(ctx, attacks[i])
	fmt.Println(h.sent.Load())
	return exitFlat
}
