package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

// leeway is what a driver may take longer than a page may: to open it, and to tell.
const leeway = 30 * time.Second

// order is a command to a driver; see scripts/lab/browser/pages.mjs.
type order struct {
	Do        string   `json:"do"`
	Mediators []string `json:"mediators,omitempty"`
	Trackers  []string `json:"trackers,omitempty"`
	STUN      *string  `json:"stun"`
	Contents  int      `json:"contents,omitempty"`
	Bytes     int64    `json:"bytes,omitempty"`
	Piece     int64    `json:"piece,omitempty"` // bytes
	Seed      string   `json:"seed,omitempty"`
	Link      string   `json:"link,omitempty"`
	Timeout   int64    `json:"timeout,omitempty"` // ms
}

// report is its answer.
type report struct {
	Links     []string                   `json:"links"`
	Outcome   timeline.Outcome           `json:"outcome"`
	Phases    map[timeline.Phase]float64 `json:"phases"` // ms since started
	ErrorCode string                     `json:"error_code"`
	Error     string                     `json:"error"`
}

// driver is a browser on a host.
type driver struct {
	*process
	run *doing
	at  string // the host of its mediator
}

// maxRestarts is how often the browsers of a run are started again after one of them failed.
const maxRestarts = 3

// browsers has pages introduced, by this project's peer or by WebTorrent. Each introduction has two pages of its own, in contexts that
// share nothing with those before; the browsers stay, while they work.
func (r *doing) browsers(ctx context.Context, from, n int) error {
	if r.What == plan.WebTorrent {
		if err := r.startTracker(ctx); err != nil {
			return err
		}
	}
	var b *pair
	for index, restarts := from, 0; index < from+n; index++ {
		var trouble error
		if b == nil {
			b, trouble = r.drivers(ctx)
		}
		if trouble == nil {
			trouble = r.pages(ctx, index, b.seeder, b.leecher)
		}
		if trouble == nil {
			continue
		}
		if restarts++; ctx.Err() != nil || restarts > maxRestarts {
			return trouble
		}
		if err := r.complete(ctx, index, 1, trouble); err != nil {
			return err
		}
		b.end()
		b = nil
	}
	return nil
}

// pair is the two browsers of a run.
type pair struct{ seeder, leecher *driver }

func (p *pair) end() {
	if p != nil {
		p.seeder.end()
		p.leecher.end()
	}
}

// drivers starts both.
func (r *doing) drivers(ctx context.Context) (*pair, error) {
	seeder, err := r.drive(ctx, r.Seeder, r.Mediators[0])
	if err != nil {
		return nil, err
	}
	leecher, err := r.drive(ctx, r.Leecher, r.Mediators[len(r.Mediators)-1])
	if err != nil {
		seeder.end()
		return nil, err
	}
	return &pair{seeder, leecher}, nil
}

// drive starts a browser on a host.
func (r *doing) drive(ctx context.Context, host, mediator string) (*driver, error) {
	kind := "p2pcdn"
	if r.What == plan.WebTorrent {
		kind = "webtorrent"
	}
	options, err := json.Marshal(map[string]any{"browser": r.Browser, "kind": kind, "mdns": r.MDNS, "flags": append([]string{}, r.Flags...)})
	if err != nil {
		return nil, err
	}
	p, err := r.start(host, string(r.Browser), command{
		program: "node", args: []string{filepath.Join(r.Root, "scripts/lab/browser/driver.mjs"), string(options)}, talks: true, listens: true,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if _, err := p.line(ctx); err != nil { // its first line says that it is ready
		return nil, err
	}
	return &driver{p, r, mediator}, nil
}

// startTracker starts WebTorrent's tracker, on the host of the mediator.
func (r *doing) startTracker(ctx context.Context) error {
	p, err := r.start(r.Mediators[0], "tracker", command{
		program: "node", args: []string{filepath.Join(r.Root, "scripts/bench/tracker.mjs"), "0.0.0.0", fmt.Sprint(trackerPort)}, talks: true,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	_, err = p.line(ctx) // its port: it listens
	return err
}

// pages makes one introduction. An error is one of the drivers; there may be rows nevertheless.
func (r *doing) pages(ctx context.Context, index int, seeders, leechers *driver) (trouble error) {
	defer func() {
		if trouble != nil {
			return // they are started again
		}
		for _, d := range []*driver{leechers, seeders} {
			trouble = errors.Join(trouble, d.leave(ctx))
		}
	}()
	seeded, err := seeders.tell(ctx, order{
		Do: "seed", Contents: r.Contents, Bytes: r.Size, Piece: r.Piece, Seed: fmt.Sprintf("%d/%s/%d", r.Plan.Seed, r.Name, index),
	})
	if err != nil {
		return err
	}
	if seeded.Outcome != timeline.Done || len(seeded.Links) != r.Contents {
		r.failedFrom(index, 1, codeNotAnnounced, fmt.Sprintf("the seeder did not announce: %s (%s)", seeded.Error, seeded.ErrorCode))
		return nil
	}
	r.startsNow()
	for i, link := range seeded.Links {
		got, err := leechers.tell(ctx, order{Do: "get", Link: link})
		if err != nil {
			return err
		}
		row := &timeline.Row{Index: index, Content: i + 1, Outcome: got.Outcome, ErrorCode: got.ErrorCode, Error: got.Error, Stamps: got.stamps()}
		r.row(row)
		if row.Outcome != timeline.Done {
			r.failedFrom(index, i+2, codeEarlier, "")
			return nil
		}
	}
	return nil
}

// failedFrom hands out the rows of an introduction's contents from this one on, after the first of which nothing was tried.
func (r *doing) failedFrom(index, content int, code, text string) {
	for ; content <= r.Contents; content++ {
		outcome := timeline.Failed
		if code == codeEarlier {
			outcome, text = timeline.Skipped, "an earlier content of the pair failed"
		}
		r.row(&timeline.Row{Index: index, Content: content, Outcome: outcome, ErrorCode: code, Error: text})
		code = codeEarlier
	}
}

// stamps are the phases in the form of a row. Those that came before started, that no table takes, or that have no name there, are
// left out.
func (a *report) stamps() timeline.Stamps {
	stamps := make(timeline.Stamps)
	for _, phase := range timeline.Phases {
		at, reached := a.Phases[phase]
		if !reached || at < 0 || at > 2*float64(timeline.MaxStamp.Milliseconds()) { // what is more might not fit the type
			continue
		}
		if stamp := time.Duration(at*1000+0.5) * time.Microsecond; stamp <= timeline.MaxStamp {
			stamps[phase] = stamp
		}
	}
	return stamps
}

// leave has the browser close its page. A browser that cannot would disturb the next introduction.
func (d *driver) leave(ctx context.Context) error {
	left, err := d.tell(ctx, order{Do: "leave"})
	if err == nil && left.Error != "" {
		err = withCode(codeProgram, fmt.Errorf("%s cannot close its page: %s", d.name, left.Error))
	}
	return err
}

// tell gives an order and waits for what becomes of it.
func (d *driver) tell(ctx context.Context, o order) (*report, error) {
	r := d.run
	o.Timeout = r.Timeout.Milliseconds()
	o.Mediators = []string{r.mediatorURL(d.at)}
	if r.What == plan.WebTorrent {
		o.Mediators, o.Trackers = nil, []string{"ws://" + r.address(d.at, trackerPort)}
	}
	if r.STUN && !strings.Contains(strings.Join(r.Plan.Host(d.at).Mediator.Args, " "), "--stun=false") {
		url := "stun:" + r.address(d.at, mediatorPort)
		o.STUN = &url
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if _, err := d.in.Write(append(text, '\n')); err != nil {
		return nil, d.died()
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout+leeway)
	defer cancel()
	line, err := d.line(ctx)
	if err != nil {
		return nil, err
	}
	var a report
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return nil, withCode(codeProgram, fmt.Errorf("%s answers %.100q: %w", d.name, line, err))
	}
	return &a, nil
}
