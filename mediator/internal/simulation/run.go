package simulation

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/mediator/internal/memnet"
)

// Run lives through a configuration, on the time of package time: in a bubble of
// testing/synctest that takes as long as there is something to compute. All that
// it started has ended when it returns. progress is called now and then; it may be nil.
func Run(ctx context.Context, config Config, progress func(string)) (*Result, error) {
	if config.Bootstraps < 1 || config.Mediators <= config.Bootstraps || config.Contents < 1 {
		return nil, fmt.Errorf("a simulation of %d mediators, %d of which stay, and %d contents", config.Mediators, config.Bootstraps, config.Contents)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &world{
		Config: config, ctx: ctx, random: rand.New(rand.NewPCG(config.Seed, 0)),
		net:  memnet.New(memnet.Config{Latency: memnet.Earth(config.Seed)}),
		byID: make(map[ident.MediatorID]*mediator), seeders: make(map[ident.PeerID]*seeder), lookups: make(map[lookupKey]*lookup),
		result: &Result{Config: config},
	}
	began := time.Now()
	tell := func(what string) {
		if progress != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			progress(fmt.Sprintf("%v: %s; %d mediators live, %d have died, %d lookups", time.Since(began).Round(time.Second), what, len(w.living), w.result.Departed, len(w.result.Lookups)))
		}
	}
	defer func() {
		cancel()
		for _, m := range w.living {
			m.host.Kill() // nobody waits for anybody
		}
		for _, m := range w.living {
			w.wg.Go(m.close)
		}
		w.wg.Wait()
	}()
	for n := range config.Mediators {
		m, err := w.start(n < config.Bootstraps)
		if err != nil {
			return nil, err
		}
		if m.stays {
			w.joined = append(w.joined, m.discovery.Addrs()...)
		}
		if n%100 == 99 {
			tell("joining")
		}
		if !pause(ctx, config.JoinEvery) {
			return nil, ctx.Err()
		}
	}
	tell("all have joined")
	if !pause(ctx, config.Settle) {
		return nil, ctx.Err()
	}
	tell("settled")
	contents := make([]*seeder, config.Contents)
	for i := range contents {
		contents[i] = &seeder{world: w, hash: contentOf(i)}
	}
	announced := 0
	if err := w.live(config.Announcing, w.deaths(), happening{
		every: config.Announcing / 2 / time.Duration(config.Contents),
		do: func() error {
			if announced < config.Contents {
				contents[announced].settle(w.anyone(nil))
				announced++
			}
			return nil
		},
	}); err != nil {
		return nil, err
	}
	for ; announced < config.Contents; announced++ {
		contents[announced].settle(w.anyone(nil))
	}
	tell("announced")
	w.mu.Lock()
	w.result.Lookups, w.result.Departed = nil, 0
	for _, m := range w.living {
		m.before = m.host.Stats()
	}
	w.mu.Unlock()
	if err := w.live(config.Measured, w.deaths(),
		happening{every: config.Measured / time.Duration(max(1, config.Lookups)), do: func() error { return w.lookAny(contents) }},
		happening{every: config.Measured / 6, do: func() error { tell("measuring"); return nil }},
	); err != nil {
		return nil, err
	}
	w.measure()
	pause(ctx, config.Patience) // for the last lookups
	tell("measured")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.result, ctx.Err()
}

// happening is something that happens by chance (a Poisson process).
type happening struct {
	every time.Duration // on average; zero: never
	do    func() error
	next  time.Time
}

// deaths are those of mediators, each replaced at once by a new one, so that their number stays.
func (w *world) deaths() happening {
	if w.Leaving == 0 {
		return happening{}
	}
	return happening{every: time.Duration(float64(time.Hour) / (w.Leaving * float64(w.Mediators))), do: func() error {
		m := w.anyone(nil)
		for m.stays {
			m = w.anyone(nil)
		}
		w.die(m)
		w.mu.Lock()
		w.result.Departed++
		w.mu.Unlock()
		_, err := w.start(false)
		return err
	}}
}

// live has things happen for some time.
func (w *world) live(d time.Duration, things ...happening) error {
	end := time.Now().Add(d)
	after := func(h *happening) {
		w.mu.Lock()
		defer w.mu.Unlock()
		h.next = time.Now().Add(time.Duration(-math.Log(1-w.random.Float64()) * float64(h.every)))
	}
	for i := range things {
		after(&things[i])
	}
	for {
		var first *happening
		for i := range things {
			if h := &things[i]; h.do != nil && (first == nil || h.next.Before(first.next)) {
				first = h
			}
		}
		if first == nil || first.next.After(end) {
			if !pause(w.ctx, time.Until(end)) {
				return w.ctx.Err()
			}
			return nil
		}
		if !pause(w.ctx, time.Until(first.next)) {
			return w.ctx.Err()
		}
		if err := first.do(); err != nil {
			return err
		}
		after(first)
	}
}

// lookAny begins a lookup of a content that can be found, at a mediator other
// than the seeder's.
func (w *world) lookAny(contents []*seeder) error {
	w.mu.Lock()
	var s *seeder
	for range 10 * len(contents) {
		s = contents[w.random.IntN(len(contents))]
		if s.announced && s.at.alive {
			break
		}
	}
	if !s.announced || !s.at.alive {
		w.mu.Unlock()
		return nil
	}
	but := s.at
	w.mu.Unlock()
	at := w.anyone(but)
	w.wg.Go(func() { w.look(at, s) })
	return nil
}

// measure looks at the network at the end of the measurement.
func (w *world) measure() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.living {
		m.after = m.host.Stats()
		status := m.discovery.Status()
		w.result.Records = append(w.result.Records, status.Held)
		w.result.Peers = append(w.result.Peers, status.Peers)
		w.result.Connections = append(w.result.Connections, m.after.Connections)
	}
	for _, m := range w.ever { // a newcomer has begun at nothing
		w.result.Messages += m.after.Sent.Messages - m.before.Sent.Messages
		w.result.Bytes += m.after.Sent.Bytes - m.before.Sent.Bytes
		w.result.Dials += m.after.Dials - m.before.Dials
		w.result.FailedDials += m.after.FailedDials - m.before.FailedDials
	}
}
