package client

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

// Config is what a Client is made of. Line and Connect are required; of the
// rest, zero values mean the defaults.
type Config struct {
	Line    Line                           // the Client closes it
	Guess   []mediation.ICEServer          // used until the first mediator names some
	Connect func(peering rtc.Peering) Conn // begins a connection
	Observe func(Event)                    // called one at a time by the engine; must not block nor call the Client
	Log     *slog.Logger                   // nil: nobody hears it
	ICETCP  net.Listener                   // for [Start]: where WebRTC over TCP is accepted; the Client closes it; nil: nowhere
	Random  *rand.Rand                     // for the swarms; owned by the Client

	// NoTrickle is for [Start]: offers and answers are sent only with all candidates in them, as
	// [rtc.Config] has it; to measure what trickling saves.
	NoTrickle bool

	Without []Cut // ways of saving round trips that are left out, to measure what they save

	MaxLeech        int           // peers to fetch one content from; 0: 8, enough that one slow peer does not count
	MaxServe        int           // peers of one content, above which those that come are sent away; 0: 32, so that each gets a fair part of an uplink
	MaxConnections  int           // in all; 0: 64. Each costs some file descriptors and up to 4 MiB
	MaxShares       int           // contents at a time; 0: 4096
	UploadLimit     int64         // bytes/s of blocks to all peers together; 0: none. As are the next two, it is checked block by block
	DownloadLimit   int64         // bytes/s of blocks that are asked for; 0: none
	PeerUploadLimit int64         // bytes/s of blocks to any one peer; 0: none
	UploadSlots     int           // peers that are sent blocks at a time, in turn; 0: 8, which together fill any uplink
	IdleAfter       time.Duration // how long a link without content stays; 0: 30 s
	Patience        time.Duration // with a peer that owes something; 0: swarm.DefaultPatience
	AskAgain        time.Duration // how often a search without success is begun anew; 0: 30 s
	Review          time.Duration // how often the worst peer of a download is looked for; 0: 30 s
}

func (c Config) withDefaults() Config {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.MaxLeech, 8)
	set(&c.MaxServe, 32)
	set(&c.MaxConnections, 64)
	set(&c.MaxShares, 4096)
	set(&c.UploadSlots, 8)
	if c.IdleAfter == 0 {
		c.IdleAfter = 30 * time.Second
	}
	if c.AskAgain == 0 {
		c.AskAgain = 30 * time.Second
	}
	if c.Review == 0 {
		c.Review = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Random == nil {
		c.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return c
}

// Line is the line to a mediator; [signaling.Client] is one. Its methods do not
// block, but for Close, which closes Events.
type Line interface {
	Events() <-chan signaling.Event
	GetPeers(hash content.FullHash, offer signaling.Offering)
	Found(hash content.FullHash)
	Announce(hash content.FullHash)
	Finish(hash content.FullHash)
	Signal(hash content.FullHash, to ident.PeerID, data string) error
	Close()
}

// Conn is a connection to a peer; [rtc.Conn] is one, and says what the methods guarantee.
type Conn interface {
	Bind(local, remote ident.PeerID, servers []mediation.ICEServer)
	Signal(signal rtc.Signal)
	Send(frame []byte) error
	Room() bool
	Close(err error)
}

// Source is what is seeded; [p2pcdn/peer/store.Source] is one. It is owned by the Client from Seed on.
type Source interface {
	Info() content.Info
	ReadBlock(piece int, begin int64, buffer []byte) error
	Close() error
}

// Target is where a content is fetched to; [p2pcdn/peer/store.Target] is one. It is
// owned by the Client from Get on. Its methods may be called together; blocks that are
// written at the same time never overlap, and only what was verified is read.
type Target interface {
	// Found reports whether there is something of an earlier attempt; if not there is nothing to check.
	Found() bool

	// Check returns the pieces that are there already, of an earlier attempt, and right.
	// info has piece hashes. progress is called with the bytes looked at, and all.
	Check(ctx context.Context, info content.Info, progress func(done, total int64)) (*wire.Bits, error)

	// WriteBlock writes a block to its place, whether right or wrong.
	WriteBlock(piece int, begin int64, data []byte) error
	ReadBlock(piece int, begin int64, buffer []byte) error

	// Commit is called when every piece is verified. What is committed stays.
	Commit() error

	// Close ends it. What was not committed stays for the next attempt; Discard throws it away.
	Close() error
	Discard() error
}

// Event is something that a person may want to know.
type Event interface{ event() }

// LineUp says that a mediator is connected, to which we are PeerID.
type LineUp struct {
	URL    string
	PeerID ident.PeerID
}

// LineDown says that it is not, and why.
type LineDown signaling.Disconnected

// StateChanged says that a share is in another state.
type StateChanged struct {
	Share *Share
	State State
	Err   error // why, where the state is Failed
}

// Refused is an error message of the mediator. What it is about is asked for again by itself.
type Refused struct {
	Share *Share // what it is about; may be nil
	Err   *mediation.Error
}

// Announced says that the share can be found through every mediator; it is said anew for each line.
type Announced struct{ Share *Share }

// Described says that the piece hashes are known; Info is complete.
type Described struct {
	Share *Share
	Info  content.Info
}

// PeerDropped says that a peer was sent away from a share, for lying if Banned.
type PeerDropped struct {
	Share  *Share
	Peer   ident.PeerID
	Reason wire.Reason
	Banned bool
}

func (LineUp) event()       {}
func (LineDown) event()     {}
func (StateChanged) event() {}
func (Refused) event()      {}
func (Announced) event()    {}
func (Described) event()    {}
func (PeerDropped) event()  {}
