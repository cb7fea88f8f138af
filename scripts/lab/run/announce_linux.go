package run

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
)

// announces measures how long it takes from an announce at one mediator until another names who announced. There are no
// peers: two connections say what peers would. The phases of a row are
//
//	started      the announce was sent
//	announced    the mediator answered that it is stored
//	lookup_sent  the first get_peers was sent to the other mediator, at the same time
//	peers_named  that one named the announcer: it was asked again each time it had found nobody
func (r *doing) announces(ctx context.Context, from, n int) error {
	for index := from; index < from+n; index++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		row := &timeline.Row{Index: index, Outcome: timeline.Done, Stamps: timeline.Stamps{}}
		if index == from {
			r.startsNow()
		}
		err := r.announce(ctx, row)
		if ctx.Err() != nil {
			return ctx.Err() // what is lost then, we ended ourselves
		}
		if err != nil {
			row.Outcome, row.ErrorCode, row.Error = timeline.Failed, codeOf(err), err.Error()
		}
		r.row(row)
	}
	return nil
}

// announce makes one, and fills the row.
func (r *doing) announce(ctx context.Context, row *timeline.Row) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	seeder, err := r.join(ctx, r.Seeder, r.Mediators[0])
	if err != nil {
		return err
	}
	defer seeder.leave()
	leecher, err := r.join(ctx, r.Leecher, r.Mediators[len(r.Mediators)-1])
	if err != nil {
		return err
	}
	defer leecher.leave()
	hash := content.FullHash(sha256.Sum256(fmt.Appendf(nil, "%d/%s/%d", r.Plan.Seed, r.Name, row.Index)))
	started := time.Now()
	since := func() time.Duration { return time.Since(started).Round(time.Microsecond) }
	row.Stamps[timeline.Started] = 0
	if err := seeder.say(ctx, mediation.Announce{FullHash: hash}); err != nil {
		return err
	}
	type result struct {
		at  time.Duration
		err error
	}
	stored := make(chan result, 1)
	go func() {
		err := seeder.hear(ctx, func(m mediation.Message) bool {
			_, is := m.(mediation.Announced)
			return is
		})
		stored <- result{since(), err}
	}()
	row.Stamps[timeline.LookupSent] = since()
	named := leecher.finds(ctx, hash, seeder.id)
	if named == nil {
		row.Stamps[timeline.PeersNamed] = since()
	} else {
		cancel() // nobody waits for what is stored then
	}
	told := <-stored
	if told.err == nil {
		row.Stamps[timeline.Announced] = told.at
	}
	return errors.Join(named, told.err)
}

// finds asks who has a content until this peer is named. It has one question under way at a time.
func (c *caller) finds(ctx context.Context, hash content.FullHash, seeder ident.PeerID) error {
	if err := c.say(ctx, mediation.GetPeers{FullHash: hash}); err != nil {
		return err
	}
	var wrong error
	err := c.hear(ctx, func(m mediation.Message) bool {
		peers, is := m.(mediation.Peers)
		if is && slices.Contains(peers.Peers, seeder) {
			return true
		}
		if is && len(peers.Peers) == 0 { // the search ended with nobody
			wrong = c.say(ctx, mediation.GetPeers{FullHash: hash})
		}
		return wrong != nil
	})
	return errors.Join(wrong, err)
}

// caller is a connection to a mediator.
type caller struct {
	id   ident.PeerID
	conn *websocket.Conn
}

// join connects from a host to the mediator of another.
func (r *doing) join(ctx context.Context, host, mediator string) (*caller, error) {
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		return nil, err
	}
	client := clientAt(r.Network.Host(host))
	client.Timeout = 0 // ctx bounds it
	conn, _, err := websocket.Dial(ctx, r.mediatorURL(mediator), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, withCode(codeUnreachable, fmt.Errorf("the mediator of %s from %s: %w", mediator, host, err))
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	c := &caller{id, conn}
	err = c.say(ctx, mediation.Handshake{PeerID: id})
	if err == nil {
		err = c.hear(ctx, func(m mediation.Message) bool {
			_, is := m.(mediation.Established)
			return is
		})
	}
	if err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

func (c *caller) leave() { _ = c.conn.CloseNow() }

func (c *caller) say(ctx context.Context, m mediation.Message) error {
	if err := c.conn.Write(ctx, websocket.MessageText, mediation.Encode(m)); err != nil {
		return c.lost(ctx, err)
	}
	return nil
}

// hear reads messages until one is what is waited for.
func (c *caller) hear(ctx context.Context, awaited func(mediation.Message) bool) error {
	for {
		_, text, err := c.conn.Read(ctx)
		if err != nil {
			return c.lost(ctx, err)
		}
		message, err := mediation.Decode(text)
		if err != nil {
			return withCode(codeProgram, fmt.Errorf("what a mediator says: %w", err))
		}
		if refusal, is := message.(*mediation.Error); is {
			return withCode(codeRefused, fmt.Errorf("the mediator refuses: %s (%s)", refusal.Message, refusal.Code))
		}
		if awaited(message) {
			return nil
		}
	}
}

// lost is why a connection is of no use any more.
func (c *caller) lost(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return withCode(codeTimeout, fmt.Errorf("the mediator does not answer in time: %w", err))
	}
	return withCode(codeLost, fmt.Errorf("the connection to the mediator: %w", err))
}
