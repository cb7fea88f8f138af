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
// it ended, an error of events.go. One goroutine reads, one writes, one pings. The writer
// says what is wanted right behind the handshake: to wait for its answer would cost a round trip.
func (c *Client) line(ctx context.Context, url string) error {
	conn, err := c.dial(ctx, url)
	if err != nil {
		return err
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	c.tell(ctx, Opened{time.Now()})
	lasting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.CloseNow()

	var helpers sync.WaitGroup
	failed := make(chan error, 3)        // what the helpers met first; each sends at most once
	greet := make(chan struct{}, maxIDs) // one token for each handshake that is to be sent
	greet <- struct{}{}
	introduced := make(chan ident.PeerID, maxIDs) // the ids that were sent
	helpers.Go(func() { failed <- c.write(lasting, conn, greet, introduced) })
	helpers.Go(func() { failed <- c.ping(lasting, conn) })
	helpers.Go(func() { failed <- c.listen(ctx, conn, url, greet, introduced) })

	select {
	case err = <-failed:
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

// listen is the reader: it waits for the answer to our handshake, and then tells what the mediator says.
// An answer that does not come in time ends the connection.
func (c *Client) listen(ctx context.Context, conn *websocket.Conn, url string, greet chan<- struct{}, introduced <-chan ident.PeerID) error {
	late := time.AfterFunc(c.config.Timeout, func() { _ = conn.CloseNow() })
	connected, err := c.established(ctx, conn, greet, introduced)
	if !late.Stop() {
		return fmt.Errorf("%w: it does not answer the handshake", ErrNotMediator)
	} else if err != nil {
		return err
	}
	connected.URL = url
	c.roster.learn(connected.Mediators)
	if c.config.Patient {
		c.setOnline(true)
	}
	c.tell(ctx, connected) // before anything else of this line is heard
	return c.read(ctx, conn)
}

// established waits for the mediator's answer to our handshake. Where the id is taken another one is sent, and with it
// all that was said behind the first: the mediator has not taken it.
func (c *Client) established(ctx context.Context, conn *websocket.Conn, greet chan<- struct{}, introduced <-chan ident.PeerID) (Connected, error) {
	for tries := 1; ; {
		message, err := receive(context.WithoutCancel(ctx), conn)
		if err != nil {
			return Connected{}, err
		}
		switch m := message.(type) {
		case mediation.Established:
			return Connected{PeerID: <-introduced, ICEServers: m.ICEServers, Mediators: m.Mediators}, nil
		case *mediation.Error:
			switch {
			case m.Code == mediation.CodeHandshakeRequired: // what we said behind a handshake that was refused
			case m.Code == mediation.CodePeerIDInUse && tries < maxIDs:
				tries++
				<-introduced
				greet <- struct{}{}
			default:
				return Connected{}, fmt.Errorf("%w: %w", ErrRefused, m)
			}
		default:
			return Connected{}, fmt.Errorf("%w: it answers the handshake with %q", ErrNotMediator, message.Type())
		}
	}
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

// write is the writer: a handshake under a fresh id for each token, all that is wanted behind it, and then what
// there is to say.
func (c *Client) write(lasting context.Context, conn *websocket.Conn, greet <-chan struct{}, introduced chan<- ident.PeerID) error {
	for {
		select {
		case <-lasting.Done():
			return lasting.Err()
		case <-greet:
			id, err := ident.NewPeerID(c.config.Random)
			if err != nil {
				return err
			}
			introduced <- id
			if err := c.writeOne(lasting, conn, mediation.Handshake{PeerID: id}); err != nil {
				return lost(err)
			}
			if !c.config.Patient {
				c.setOnline(true)
			}
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
	question, asks := message.(mediation.GetPeers)
	if asks {
		question.Offer = c.offer(question.FullHash)
		message = question
	}
	at := time.Now() // before the write: the answer may be back before its return is noticed
	err := conn.Write(ctx, websocket.MessageText, mediation.Encode(message))
	if asks && err == nil {
		c.tell(lasting, Asked{question.FullHash, question.Offer.Len() > 0, at})
	}
	return err
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
