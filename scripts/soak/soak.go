//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"
)

const (
	// sampleEvery is how often the mediator is asked how it is, after it has collected its garbage.
	sampleEvery = 5 * time.Second

	// lineEvery is how often that is said where it is no terminal.
	lineEvery = time.Minute

	// settleTime bounds the wait for the mediator to be rid of everybody: it finds out within
	// 50 s who has vanished, though none has at the end, and has records to withdraw.
	settleTime = 2 * time.Minute
	settleTick = 250 * time.Millisecond
)

// Sample is a moment of a soak.
type Sample struct {
	Seconds float64 `json:"seconds"` // since all had come
	State
	Counts        Counts  `json:"counts"` // since the start
	Introductions float64 `json:"introductions_per_second"`
	P50           float64 `json:"p50_ms"` // of these
	P99           float64 `json:"p99_ms"`
}

// Result is what a soak yields.
type Result struct {
	Peers   int      `json:"peers"`
	Seconds float64  `json:"seconds"`
	Churn   float64  `json:"churn"`
	Start   State    `json:"start"` // after a collection, before the first peer
	Full    State    `json:"full"`  // after a collection, when all had come
	End     State    `json:"end"`   // after a collection, when all had left
	Samples []Sample `json:"samples"`
	Total   Counts   `json:"total"`
	P50     float64  `json:"p50_ms"`
	P99     float64  `json:"p99_ms"`
	Trends  []Trend  `json:"trends"`
	Returns []Return `json:"returns"`
	Trouble string   `json:"trouble,omitempty"` // the first peer or introduction that went wrong
}

// soak runs one.
func soak(ctx context.Context, o options, stderr io.Writer) (*Result, error) {
	say := newTeller(stderr)
	defer say.over()
	say.now("starting the mediator")
	m, err := startMediator(ctx, o.mediator)
	if err != nil {
		return nil, err
	}
	defer m.stop()
	r := &Result{Peers: o.peers, Churn: o.churn}
	if r.Start, err = m.rested(ctx); err != nil {
		return nil, err
	}
	c := newCrowd(m.url, o.peers)
	defer c.end()
	say.now(fmt.Sprintf("%d peers come", o.peers))
	if err := c.join(ctx, o.peers); err != nil {
		return nil, err
	}
	if r.Full, err = m.collected(); err != nil {
		return nil, err
	}
	if err := r.hold(ctx, o, m, c, say); err != nil {
		return nil, err
	}
	say.now("everybody leaves")
	c.end()
	if r.End, err = settled(ctx, m, r.Start); err != nil {
		return nil, err
	}
	r.judge()
	return r, nil
}

// hold lets the crowd live for as long as the options say, and samples.
func (r *Result) hold(ctx context.Context, o options, m *mediator, c *crowd, say *teller) error {
	living, stop := context.WithTimeout(ctx, o.duration)
	defer stop()
	lived := make(chan error, 1)
	began := time.Now()
	go func() { lived <- c.liveOn(living, o.peers, o.churn, o.introductions) }()
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	var all []time.Duration
	last := began
	for {
		select {
		case <-ticker.C:
			if living.Err() != nil { // it comes to an end
				continue
			}
		case err := <-lived:
			r.Seconds = min(time.Since(began), o.duration).Seconds() // what had begun was ended after that
			var took []time.Duration
			r.Total, took = c.look()
			all = append(all, took...)
			r.P50, r.P99 = percentiles(all)
			r.Trouble = c.firstTrouble()
			if err == nil {
				err = ctx.Err()
			}
			return err
		}
		state, err := m.collected()
		if err != nil {
			stop()
			<-lived
			return err
		}
		now := time.Now()
		sample := Sample{Seconds: now.Sub(began).Seconds(), State: state}
		var took []time.Duration
		sample.Counts, took = c.look()
		all = append(all, took...)
		sample.Introductions = float64(len(took)) / now.Sub(last).Seconds()
		sample.P50, sample.P99 = percentiles(took)
		last = now
		r.Samples = append(r.Samples, sample)
		say.sample(sample, o)
	}
}

// percentiles are the 50th and the 99th, in milliseconds; 0 of none.
func percentiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(took))
	at := func(part float64) float64 {
		return sorted[int(part*float64(len(sorted)-1))].Seconds() * 1000
	}
	return at(0.5), at(0.99)
}

// settled waits until the mediator is as it was before anybody came, or does not become so, and
// returns how it is then.
func settled(ctx context.Context, m *mediator, start State) (State, error) {
	deadline := time.Now().Add(settleTime)
	for {
		state, err := m.collected()
		if err != nil || time.Now().After(deadline) || allBack(returns(start, state, 0)) {
			return state, err
		}
		select {
		case <-time.After(settleTick):
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
}

// teller says how it goes: in one line on a terminal, in a few elsewhere.
type teller struct {
	to       io.Writer
	terminal bool
	said     time.Time // the last sample
}

func newTeller(to io.Writer) *teller {
	file, is := to.(*os.File)
	return &teller{to: to, terminal: is && term.IsTerminal(int(file.Fd()))}
}

func (t *teller) now(text string) {
	if t.terminal {
		fmt.Fprintf(t.to, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(t.to, text)
	}
}

func (t *teller) sample(s Sample, o options) {
	if !t.terminal && time.Since(t.said) < lineEvery {
		return
	}
	t.said = time.Now()
	t.now(fmt.Sprintf("%4.0f of %.0f s: %.0f connections, %.1f MiB, %.0f goroutines, %.0f files, %.0f introductions/s, p99 %.1f ms",
		s.Seconds, o.duration.Seconds(), s.Connections, s.Memory/(1<<20), s.Goroutines, s.Files, s.Introductions, s.P99))
}

func (t *teller) over() {
	if t.terminal {
		fmt.Fprint(t.to, "\r\x1b[K")
	}
}
