package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// maxIDs is how many peer ids are tried on one connection. Random ids do not
// meet; a mediator that refuses several refuses all.
const maxIDs = 3

// line is one connection to a mediator, from dialling to its end. It returns why
// it ended, an error of events.go. One goroutine (the caller) reads, one writes, one pings.
func (c *Client) line(ctx context.Context, url string) error {
	conn, err := c.dial(ctx, url)
	if err != nil {
		return err
	}
	opened := time.Now()
	conn.SetReadLimit(mediation.MaxMessageSize)
	lasting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.CloseNow()

	connected, err := c.handshake(ctx, conn)
	if err != nil {
		return err
	}
	connected.URL, connected.Opened = url, opened
	c.roster.learn(connected.Mediators)
	c.setOnline(true)      // first, so that whoever hears of the line can use it
	c.tell(ctx, connected) // and before anything of this line is heard

	var helpers sync.WaitGroup
	failed := make(chan error, 2) // what the helpers met first; each sends at most once
	helpers.Go(func() { failed <- c.write(lasting, conn) })
	helpers.Go(func() { failed <- c.ping(lasting, conn) })
	read := make(chan error, 1)
	helpers.Go(func() { read <- c.read(ctx, conn) })

	select {
	case err = <-failed:
	case err = <-read:
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // also where a helper noticed it first
		// The close handshake wants the reader to go on; it is bounded by the library.
		_ = conn.Close(websocket.StatusNormalClosure, "")
		err = ctx.Err()
	}
	cancel()
	_ = conn.CloseNow()
	helpers.Wait()
	return err
}

func (c *Client) dial(ctx context.Context, url string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	// A transport of its own, so that no idle connection outlives the attempt.
	client := &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: c.config.Dial, DisableKeepAlives: true},
		// As in browsers no redirection is followed: it would lead where no mediator may, see mediation.MayName.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client})
	switch {
	case err == nil:
		return conn, nil
	case response == nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	case response.StatusCode == http.StatusServiceUnavailable || response.StatusCode == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: it answers %s", ErrRefused, response.Status)
	case response.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("%w: it answers %s", ErrNotMediator, response.Status)
	default:
		return nil, fmt.Errorf("%w: %w", ErrNotMediator, err)
	}
}

// handshake introduces us under a fresh id, and under another one where that is taken.
func (c *Client) handshake(ctx context.Context, conn *websocket.Conn) (Connected, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	var refusal error
	for range maxIDs {
		id, err := ident.NewPeerID(c.config.Random)
		if err != nil {
			return Connected{}, err
		}
		if err := conn.Write(ctx, websocket.MessageText, mediation.Encode(mediation.Handshake{PeerID: id})); err != nil {
			return Connected{}, lost(err)
		}
		message, err := receive(ctx, conn)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Connected{}, fmt.Errorf("%w: it does not answer the handshake", ErrNotMediator)
		} else if err != nil {
			return Connected{}, err
		}
		switch m := message.(type) {
		case mediation.Established:
			return Connected{PeerID: id, ICEServers: m.ICEServers, Mediators: m.Mediators}, nil
		case *mediation.Error:
			refusal = fmt.Errorf("%w: %w", ErrRefused, m)
			if m.Code != mediation.CodePeerIDInUse {
				return Connected{}, refusal
			}
		default:
			return Connected{}, fmt.Errorf("%w: it answers the handshake with %q", ErrNotMediator, message.Type())
		}
	}
	return Connected{}, refusal
}

// receive reads one message. What cannot be understood is no mediator's.
func receive(ctx context.Context, conn *websocket.Conn) (mediation.Message, error) {
	kind, text, err := conn.Read(ctx)
	switch {
	case err != nil:
		return nil, lost(err)
	case kind != websocket.MessageText:
		return nil, fmt.Errorf("%w: it sends binary messages", ErrNotMediator)
	}
	message, err := mediation.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it sent: %w", ErrNotMediator, err)
	}
	return message, nil
}

// lost says how a line ended, with the mediator's own words where it gave some.
func lost(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		reason := closed.Reason
		if reason == "" {
			reason = closed.Code.String()
		}
		return fmt.Errorf("%w: it closed the connection: %s", ErrLost, reason)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// read tells what the mediator says until the connection ends. It does not end
// with ctx: a cancelled read would tear the connection down, and a healthy one is to be closed.
func (c *Client) read(ctx context.Context, conn *websocket.Conn) error {
	for {
		message, err := receive(context.WithoutCancel(ctx), conn)
		switch {
		case errors.Is(err, &mediation.Error{Code: mediation.CodeUnknownType}):
			continue // of a later version
		case err != nil:
			return err
		}
		switch m := message.(type) {
		case *mediation.Error:
			if m.Code == mediation.CodeGoingAway {
				return fmt.Errorf("%w: %w", ErrLost, m) // the close would only cost time
			}
			c.tell(ctx, Heard{m})
		case mediation.Peers, mediation.Signal, mediation.Announced:
			c.tell(ctx, Heard{m})
		}
	}
}

func (c *Client) write(lasting context.Context, conn *websocket.Conn) error {
	for {
		select {
		case <-lasting.Done():
			return lasting.Err()
		case <-c.wake:
		}
		for _, message := range c.next() {
			if err := c.writeOne(lasting, conn, message); err != nil {
				return lost(err)
			}
		}
	}
}

func (c *Client) writeOne(lasting context.Context, conn *websocket.Conn, message mediation.Message) error {
	ctx, cancel := context.WithTimeout(lasting, c.config.Timeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, mediation.Encode(message))
}

// ping notices a mediator that is gone without a word, and keeps proxies awake.
func (c *Client) ping(lasting context.Context, conn *websocket.Conn) error {
	tick := time.NewTicker(c.config.PingEach)
	defer tick.Stop()
	for {
		select {
		case <-lasting.Done():
			return lasting.Err()
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(lasting, c.config.Timeout)
		err := conn.Ping(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("%w: it does not answer a ping", ErrLost)
		}
	}
}
