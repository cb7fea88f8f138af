package signaling

import (
	"errors"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// Why there is no line to a mediator, for errors.Is.
var (
	// ErrUnreachable: nobody listens there, or the network does not lead there.
	ErrUnreachable = errors.New("the mediator cannot be reached")

	// ErrNotMediator: somebody answers, but does not speak the mediation protocol.
	ErrNotMediator = errors.New("that is no mediator")

	// ErrRefused: the mediator does not want us, now or ever. Where it said why in
	// its protocol, errors.As finds the [*mediation.Error].
	ErrRefused = errors.New("the mediator refused the connection")

	// ErrLost: the line was there and broke. Where the mediator said that it goes away, errors.As
	// finds the [*mediation.Error].
	ErrLost = errors.New("the line to the mediator was lost")

	// ErrOffline is returned by Signal while there is no line.
	ErrOffline = errors.New("there is no line to a mediator")

	// ErrBusy is returned by Signal when too many signals wait to be sent.
	ErrBusy = errors.New("too many signals wait to be sent")
)

// Event is [Opened], [Connected], [Asked], [Disconnected] or [Heard].
type Event interface{ event() }

// Opened says that the WebSocket to a mediator is open. What is wanted is said to it right away.
type Opened struct{ At time.Time }

// Asked says that a get_peers was handed to the WebSocket.
type Asked struct {
	FullHash content.FullHash
	Offer    bool // it went with an offer
	At       time.Time
}

// Connected says that a mediator established the connection. PeerID is ours from
// now on, until the next Connected.
type Connected struct {
	URL        string
	PeerID     ident.PeerID
	ICEServers []mediation.ICEServer
	Mediators  []string // URLs of others, as the mediator says
}

// Disconnected says that the line broke, or that an attempt failed.
type Disconnected struct {
	URL      string
	Learnt   bool          // it was not among those of the user: a mediator named it
	Err      error         // wraps one of the errors above
	Failures int           // attempts in a row that failed or did not last; at least 1
	Next     string        // the URL that is tried next; may be the same one
	Retry    time.Duration // and after which time
}

// Heard is a message of the mediator: Peers, Signal, Announced or *Error. The error going_away
// is none: it ends the line.
type Heard struct{ Message mediation.Message }

func (Opened) event()       {}
func (Asked) event()        {}
func (Connected) event()    {}
func (Disconnected) event() {}
func (Heard) event()        {}
