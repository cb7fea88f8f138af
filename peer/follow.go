package main

import (
	"context"
	"fmt"
	"time"

	"p2pcdn/peer/client"
)

// follow shows how the downloads go until all have ended. The error is one that ends them all.
func (g *getting) follow(ctx context.Context, events *inbox) error {
	g.view = newView(g.w, g.downloads)
	defer g.view.end()
	ticker := time.NewTicker(lookEach)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.interrupted()
		case <-events.wake:
			for _, e := range events.take() {
				if err := g.heard(e); err != nil {
					return err
				}
			}
		case err := <-g.pipe.ended():
			if err := g.pipe.end(err); err != nil {
				return err
			}
		case <-ticker.C:
		}
		if g.look(ctx) {
			return nil
		}
	}
}

// look looks at every download, and reports whether all have ended.
func (g *getting) look(ctx context.Context) (over bool) {
	over = true
	for _, d := range g.downloads {
		if !d.over {
			g.lookAt(ctx, d)
			over = over && d.over
		}
	}
	g.view.draw(g.downloads)
	return over
}

func (g *getting) lookAt(ctx context.Context, d *download) {
	d.status = d.share.Status()
	now := time.Now()
	if done := d.status.Swarm.HaveBytes + d.status.Checked; done != d.done {
		d.done, d.moved = done, now
	}
	g.view.show(d)
	switch {
	case d.status.State == client.Complete && (d.path != standard || g.pipe.done):
		d.over = true
		g.say("complete: %s, %s\n", d.place(), size(d.info.TotalLength))
	case d.status.State == client.Failed:
		d.err = d.withKept(d.share.Wait(ctx))
		g.gaveUp(d)
	case d.status.State != client.Complete && g.timeout > 0 && now.Sub(d.moved) >= g.timeout:
		d.err = d.withKept(fmt.Errorf("no piece arrived for %v: %s", g.timeout, hindrance(d.status, g.lineUp)))
		d.share.Stop()
		g.gaveUp(d)
	}
}

// interrupted says whether there is something to go on with.
func (g *getting) interrupted() error {
	told := interruption{}
	for _, d := range g.downloads {
		if d.share != nil && !d.over {
			d.status = d.share.Status()
			told.kept = told.kept || d.kept()
		}
	}
	return told
}

func (g *getting) heard(e client.Event) error {
	switch e := e.(type) {
	case client.LineUp:
		g.lineUp = true
		g.view.say(func() { tellLine(g.w, e) })
	case client.LineDown:
		g.view.say(func() { tellLine(g.w, e) })
		if !g.lineUp && e.Failures >= mediatorRounds*len(g.urls) {
			return fmt.Errorf("no mediator can be reached: %s: %w", e.URL, e.Err)
		}
	case client.Refused:
		g.view.say(func() { tellLine(g.w, e) })
	case client.PeerDropped:
		if e.Banned {
			g.say("peer %s sent wrong data and is not asked again\n", e.Peer.Short())
		}
	}
	return nil
}

// hindrance says what a download lacks.
func hindrance(status client.Status, lineUp bool) string {
	switch {
	case !lineUp:
		return "there is no line to a mediator"
	case status.State == client.Searching:
		return "nobody was found who has this content, of this length"
	case status.State == client.Connecting:
		return "no connection to a peer came about"
	}
	return "the peers that are connected send nothing"
}
