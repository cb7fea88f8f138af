package signaling

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// hop is the longest wait before another mediator is tried. All peers of one that is lost
	// come to the others at once: a thousand of them are one a millisecond then, and nobody
	// misses a mediator for a second.
	hop = time.Second

	// firstRetry is the longest wait when all mediators were tried in vain: a hiccup is soon over. It
	// doubles with each such round up to lastRetry, so that a mediator that comes back is not overrun.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second

	// goodFor is how long a line must last for the waits to begin anew: as long as the longest, so
	// that a mediator that breaks all its lines gets no more attempts than one that is down.
	goodFor = lastRetry

	// pingEach is how often the mediator is asked whether it is there: with the timeout, a line to one that is
	// cut off lasts 20 s at most, so that there is another one within half a minute. It keeps proxies awake,
	// too, which close silent connections after a minute.
	pingEach = 10 * time.Second

	// maxSignals bounds the signals that wait to be sent: the candidates of all
	// connections that are set up at once, with room.
	maxSignals = 512

	// eventQueue smooths bursts: all candidates of a few peers.
	eventQueue = 64
)

// Config is what a Client is made of. Zero values mean the defaults.
type Config struct {
	URLs     []string                       // of mediators, at least one; tried in this order, before those that mediators name
	Random   io.Reader                      // for peer ids; nil: crypto/rand
	Chance   *mathrand.Rand                 // for choices and waits; owned by the Client; nil: a random one
	Backoff  func(rounds int) time.Duration // the wait when all were tried in vain so many times; 0: before another one is tried; nil: jittered, exponential
	Dial     Dial                           // nil: TCP
	Timeout  time.Duration                  // for each step: connecting, the handshake, a write, a ping; 0: 10 s
	PingEach time.Duration                  // 0: 10 s
	Patient  bool                           // nothing is said before the mediator has answered the handshake: a round trip later; to measure that
}

// Dial opens a connection to a host and port, as [net.Dialer.DialContext] does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Client is a line to a mediator. Its methods may be called together, and do
// not block, but for Close.
type Client struct {
	config Config // static after construction, as are the next four
	events chan Event
	cancel context.CancelFunc
	done   chan struct{} // closed when run ended
	wake   chan struct{} // holds a token while there may be something in pending; capacity 1

	roster *roster // owned by run

	mu        sync.Mutex
	online    bool                          // guarded by mu, as are the next five: a handshake was sent
	announced []content.FullHash            // what is announced, in the order of the calls; bounded by the caller's contents
	wanted    []content.FullHash            // what peers are wanted for; likewise
	offers    map[content.FullHash]Offering // of those, where there is one
	pending   []mediation.Message           // waits to be sent: at most maxSignals signals, and three messages per content
	signals   int                           // how many of pending are signals
}

// Offering returns an offer for a peer that is not known yet, as signal_data, in the form that it has now; "" where
// there is none any more. It is called when a get_peers is about to be sent, and must not block.
type Offering func() string

// Start begins to connect and returns at once.
func Start(config Config) *Client {
	if config.Random == nil {
		config.Random = rand.Reader
	}
	if config.Chance == nil {
		config.Chance = mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))
	}
	if config.Backoff == nil {
		config.Backoff = backoff(config.Chance)
	}
	if config.Dial == nil {
		config.Dial = new(net.Dialer).DialContext
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	if config.PingEach == 0 {
		config.PingEach = pingEach
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		config: config, cancel: cancel, roster: newRoster(config.URLs, config.Chance),
		offers: make(map[content.FullHash]Offering),
		events: make(chan Event, eventQueue),
		done:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	go c.run(ctx)
	return c
}

// backoff returns the waits. Each is drawn by chance, from the first one on, so that the peers of a mediator
// that went down do not all come to another one at once, nor back: any time up to a hop before another
// one is tried, and then what doubles with each round, less up to half of it.
func backoff(chance *mathrand.Rand) func(rounds int) time.Duration {
	return func(rounds int) time.Duration {
		if rounds == 0 {
			return time.Duration(chance.Int64N(int64(hop)))
		}
		longest := int64(min(lastRetry, firstRetry<<min(rounds-1, 10)))
		return time.Duration(longest/2 + chance.Int64N(longest/2))
	}
}

// Events is closed after Close.
func (c *Client) Events() <-chan Event { return c.events }

// Close closes the line, which the mediator takes as the end of every announce
// and interest, and waits for everything the Client started.
func (c *Client) Close() {
	c.cancel()
	<-c.done
}

// GetPeers asks who seeds the content, now and whenever the line is up again,
// until Found or Finish. Asking again asks again. offer, where it is not nil, goes with
// the question; it counts until the next call for the content, Found or Finish.
func (c *Client) GetPeers(hash content.FullHash, offer Offering) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = with(c.wanted, hash)
	c.offers[hash] = offer
	if offer == nil {
		delete(c.offers, hash)
	}
	c.say(mediation.GetPeers{FullHash: hash})
}

// Found says that no more peers are needed for the content: they are not asked for when
// the line is up again. The announce stays. The mediator is told nothing, and may name more.
func (c *Client) Found(hash content.FullHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = without(c.wanted, hash)
	delete(c.offers, hash)
	c.unsay(mediation.GetPeers{FullHash: hash})
}

// Announce announces the content, now and whenever the line is up again, until Finish.
func (c *Client) Announce(hash content.FullHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announced = with(c.announced, hash)
	c.say(mediation.Announce{FullHash: hash})
}

// Finish ends the content's announce and the interest in it.
func (c *Client) Finish(hash content.FullHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announced, c.wanted = without(c.announced, hash), without(c.wanted, hash)
	delete(c.offers, hash)
	c.say(mediation.Finish{FullHash: hash})
}

// offer returns what is to go with a get_peers.
func (c *Client) offer(hash content.FullHash) mediation.SignalData {
	c.mu.Lock()
	offer := c.offers[hash]
	c.mu.Unlock()
	if offer == nil {
		return mediation.SignalData{}
	}
	data := mediation.NewSignalData(offer())
	if data.Len() > mediation.MaxSignalData {
		return mediation.SignalData{}
	}
	return data
}

// Signal sends a signal to a peer, or fails with [ErrOffline] or [ErrBusy].
func (c *Client) Signal(hash content.FullHash, to ident.PeerID, data string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.online {
		return ErrOffline
	}
	if c.signals >= maxSignals {
		return ErrBusy
	}
	c.signals++
	c.say(mediation.Signal{FullHash: hash, PeerID: to, SignalData: mediation.NewSignalData(data)})
	return nil
}

func with(list []content.FullHash, hash content.FullHash) []content.FullHash {
	if slices.Contains(list, hash) {
		return list
	}
	return append(list, hash)
}

func without(list []content.FullHash, hash content.FullHash) []content.FullHash {
	return slices.DeleteFunc(list, func(other content.FullHash) bool { return other == hash })
}

// say queues a message, in place of an equal one that still waits. While there
// is no line it does nothing: what is wanted is said when there is. Called with mu held.
func (c *Client) say(message mediation.Message) {
	if !c.online {
		return
	}
	if _, isSignal := message.(mediation.Signal); !isSignal {
		c.unsay(message)
	}
	c.pending = append(c.pending, message)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// unsay takes back a message that still waits. Called with mu held.
func (c *Client) unsay(message mediation.Message) {
	c.pending = slices.DeleteFunc(c.pending, func(other mediation.Message) bool { return other == message })
}

// next takes the messages that wait.
func (c *Client) next() []mediation.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := c.pending
	c.pending, c.signals = nil, 0
	return pending
}

// setOnline begins or ends a line: what waited is void, and what is wanted is said anew.
func (c *Client) setOnline(online bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.online, c.pending, c.signals = online, nil, 0
	for _, hash := range c.wanted { // first: somebody waits for it
		c.say(mediation.GetPeers{FullHash: hash})
	}
	for _, hash := range c.announced {
		c.say(mediation.Announce{FullHash: hash})
	}
}

// run keeps the line up until Close.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	defer close(c.events)
	mediator, _ := c.roster.next()
	for failures := 0; ; {
		began := time.Now()
		err := c.line(ctx, mediator.url)
		c.setOnline(false)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrLost) && time.Since(began) > goodFor {
			failures = 0
			c.roster.lasted()
		}
		failures++
		c.roster.learn(namedInLeaving(err))
		left := mediator
		var rounds int
		mediator, rounds = c.roster.next()
		retry := c.config.Backoff(rounds)
		c.tell(ctx, Disconnected{
			URL: left.url, Learnt: left.learnt > 0, Err: err, Failures: failures,
			Next: mediator.url, Retry: retry,
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

// namedInLeaving returns the mediators that one named which goes away, if that is why its line ended.
func namedInLeaving(err error) []string {
	var leaving *mediation.Error
	if errors.As(err, &leaving) && leaving.Code == mediation.CodeGoingAway {
		return leaving.Mediators
	}
	return nil
}

// tell hands out an event; it waits until there is room.
func (c *Client) tell(ctx context.Context, event Event) {
	select {
	case c.events <- event:
	case <-ctx.Done():
	}
}
