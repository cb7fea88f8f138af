package latency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
)

// watch is what a peer of package client told, for whoever waits for it.
type watch struct {
	changed chan struct{} // holds a token when there is news; capacity 1

	mu        sync.Mutex
	id        string                 // guarded by mu, as are all: of the last line
	down      error                  // the first failure of a line
	announced map[*client.Share]bool // bounded by the shares
	over      error                  // of the first share that failed
	lied      bool                   // a peer sent wrong data
}

func newWatch() *watch {
	return &watch{changed: make(chan struct{}, 1), announced: make(map[*client.Share]bool)}
}

// observe is for [client.Config].
func (w *watch) observe(e client.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := e.(type) {
	case client.LineUp:
		w.id = e.PeerID.Short()
	case client.LineDown:
		if w.down == nil {
			w.down = e.Err
		}
	case client.Announced:
		w.announced[e.Share] = true
	case client.StateChanged:
		if e.State == client.Failed && w.over == nil {
			w.over = e.Err
		}
	case client.PeerDropped:
		w.lied = w.lied || e.Banned
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watch) look(at func(w *watch)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at(w)
}

// peerID returns the short id, "" before there was one.
func (w *watch) peerID() (id string) {
	w.look(func(w *watch) { id = w.id })
	return id
}

// stampsOf returns the stamps of a share. For the first ones of a fresh peer, began is when that was started, a moment before
// the share was. For later ones it is zero: they found the line as it was, and it tells nothing that they had to wait for it.
func stampsOf(role timeline.Role, share *client.Share, began time.Time) timeline.Stamps {
	reached := share.Timeline()
	if began.IsZero() {
		delete(reached, timeline.MediatorOpen)
		delete(reached, timeline.Established)
	} else {
		reached[timeline.Started] = began
	}
	return timeline.Since(role, reached)
}

// seeder is a fresh peer that serves contents made up for it.
type seeder struct {
	watch  *watch
	began  time.Time
	peer   *client.Client
	shares []*client.Share
	infos  []content.Info
}

// startSeeder makes up the contents of the introduction and announces them. It waits for nobody.
func startSeeder(ctx context.Context, config *Config, mediator string, index int) (*seeder, error) {
	s := &seeder{watch: newWatch()}
	var sources []*generated
	for number := range config.Contents {
		source, err := generate(ctx, config, index, number+1)
		if err != nil {
			return nil, err
		}
		sources, s.infos = append(sources, source), append(s.infos, source.info)
	}
	s.began = time.Now()
	s.peer = client.Start([]string{mediator}, client.Config{
		Observe: s.watch.observe, Random: rand.New(random(config.Seed, "seeder", index)),
		NoTrickle: config.Flow == timeline.Prototype, Without: config.Without,
	})
	for _, source := range sources {
		share, err := s.peer.Seed(source)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("serving a content: %w", err)
		}
		s.shares = append(s.shares, share)
	}
	return s, nil
}

// announced waits until every content is announced.
func (s *seeder) announced(ctx context.Context, timeout time.Duration) *Failure {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		announced, down, over := 0, error(nil), error(nil)
		s.watch.look(func(w *watch) { announced, down, over = len(w.announced), w.down, w.over })
		switch {
		case announced == len(s.shares):
			return nil
		case over != nil:
			return &Failure{CodeLocal, fmt.Errorf("the seeder's content: %w", over)}
		case down != nil:
			failure := lineFailure(down)
			return &Failure{failure.Code, fmt.Errorf("the seeder's mediator: %w", down)}
		}
		select {
		case <-s.watch.changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return failed(CodeNotAnnounced, "the seeder's announce was not confirmed in time")
			}
			return failed(CodeInterrupted, "interrupted")
		}
	}
}

// lost waits until the line to the mediator breaks, and says so by cancel where it is still needed; at the latest ctx ends it.
func (s *seeder) lost(ctx context.Context, needed func() bool, cancel context.CancelCauseFunc) {
	for {
		var down error
		s.watch.look(func(w *watch) { down = w.down })
		if down != nil && !needed() {
			return
		}
		if down != nil {
			cancel(&Failure{CodeMediatorLost, fmt.Errorf("the seeder's mediator: %w", down)})
			return
		}
		select {
		case <-s.watch.changed:
		case <-ctx.Done():
			return
		}
	}
}

// row describes what the seeder did for a content.
func (s *seeder) row(template timeline.Row, number int, failure *Failure) *timeline.Row {
	row := template
	row.Role, row.Content, row.Peer = timeline.Seeder, number, s.watch.peerID()
	row.ContentBytes = s.infos[number-1].TotalLength
	row.Stamps = stampsOf(timeline.Seeder, s.shares[number-1], s.began)
	if _, announced := row.Stamps[timeline.Announced]; announced {
		failure = nil // what failed is another content of the same seeder
	}
	tell(&row, failure)
	return &row
}

func (s *seeder) close() { s.peer.Close() }
