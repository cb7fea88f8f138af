package rtc

import (
	"log/slog"
	"net"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v2"
	"github.com/pion/webrtc/v3"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
)

// The defaults of Config.
const (
	// DefaultConnectTimeout is how long a connection may take to open: ICE with
	// a relay behind two slow networks takes some seconds; nobody waits longer than this.
	DefaultConnectTimeout = 20 * time.Second

	// DefaultLostAfter is how long a peer may be silent before its connection
	// is given up. ICE sends something every second, so several in a row got lost.
	DefaultLostAfter = 8 * time.Second

	// DefaultAnewAfter is how long a connection may take that was offered before the ICE servers
	// were known, until it is offered once more with them: in the other case it takes some round trips.
	DefaultAnewAfter = 2 * time.Second

	// DefaultTCPAfter is how long UDP is tried alone: some round trips between the
	// farthest peers. TCP makes what is behind a lost packet wait for it, and is
	// limited twice, by itself and by SCTP.
	DefaultTCPAfter = time.Second

	// relayWait is how long a pair with a relay waits for a direct one: two round trips between far peers.
	relayWait = 500 * time.Millisecond
)

// Network is where a Transport gets its sockets; it is a type of pion's.
type Network = transport.Net

// Config is what a Transport is made of. The zero value is usable.
type Config struct {
	Log            *slog.Logger  // for what pion says; nil: nobody hears it
	Network        Network       // nil: the system's
	TCP            net.Listener  // where ICE over TCP is accepted, owned by the Transport from New on; nil: nowhere
	ConnectTimeout time.Duration // 0: DefaultConnectTimeout
	LostAfter      time.Duration // 0: DefaultLostAfter
	AnewAfter      time.Duration // after so long of checks a prepared connection is begun anew, with other ICE servers; 0: DefaultAnewAfter
	TCPAfter       time.Duration // after so long of checks our candidates over TCP are told; 0: DefaultTCPAfter
	Nomination     bool          // a pair of addresses is used only when it was nominated: a round trip later; to measure that
	Cookie         bool          // DTLS asks for a cookie: a round trip more; to measure that
	NoTrickle      bool          // a description is sent only when all candidates are gathered, with those of UDP in it
}

// Transport makes connections. Its methods may be called together.
type Transport struct {
	settings       webrtc.SettingEngine // static after construction, as is all; each connection gets a copy
	network        Network              // nil: the system's, made for each connection
	tcp            *tcpMux              // nil: ICE over TCP is not accepted
	log            *slog.Logger
	connectTimeout time.Duration
	anewAfter      time.Duration
	tcpAfter       time.Duration
	nomination     bool
	noTrickle      bool
}

// New returns a Transport. One with a [Config.TCP] must be closed.
func New(config Config) *Transport {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = DefaultConnectTimeout
	}
	if config.LostAfter == 0 {
		config.LostAfter = DefaultLostAfter
	}
	if config.AnewAfter == 0 {
		config.AnewAfter = DefaultAnewAfter
	}
	if config.TCPAfter == 0 {
		config.TCPAfter = DefaultTCPAfter
	}
	var settings webrtc.SettingEngine
	settings.LoggerFactory = loggers{config.Log} // pion's own writes to standard output
	settings.DetachDataChannels()                // frames over 64 KiB need a read buffer of our own
	// The cookie exchange of DTLS (RFC 6347, 4.2.1) costs a round trip, and proves that the other side is where it says.
	// The offerer, which alone is DTLS's server here, has that proved by ICE.
	settings.SetDTLSInsecureSkipHelloVerify(!config.Cookie)
	settings.EnableSCTPZeroChecksum(true) // where both sides can (RFC 9653): DTLS protects every packet already
	// A check that overtakes its candidate's signal, or comes from behind a browser's
	// mDNS name, makes a peer reflexive candidate: as direct as a host candidate, and
	// not worth the second that pion would wait for a better one.
	settings.SetPrflxAcceptanceMinWait(0)
	// A direct pair is chosen as soon as it works. Where none has for so long there is none, as a rule, and a relay need not
	// wait for one any longer; pion's two seconds would be most of what such a connection takes.
	settings.SetRelayAcceptanceMinWait(relayWait)
	// Nothing for half of the time: "disconnected"; for the other half too: "failed".
	settings.SetICETimeouts(config.LostAfter/2, config.LostAfter/2, config.LostAfter/8)
	// TCP for connecting to those who accept it, whether or not we do.
	settings.SetNetworkTypes([]webrtc.NetworkType{
		webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6,
	})
	t := &Transport{
		log: config.Log, network: config.Network, connectTimeout: config.ConnectTimeout, anewAfter: config.AnewAfter,
		tcpAfter: config.TCPAfter, nomination: config.Nomination, noTrickle: config.NoTrickle,
	}
	if config.TCP != nil {
		t.tcp = newTCPMux(config.TCP, config.Log)
		settings.SetICETCPMux(t.tcp)
	}
	t.settings = settings
	return t
}

// Close ends what [New] began: it stops accepting ICE over TCP and waits for what was
// accepted. Connections are to be closed before.
func (t *Transport) Close() {
	if t.tcp != nil {
		_ = t.tcp.Close() // a port that cannot be closed is not in use either
	}
}

// newPeerConnection makes a peer connection with sockets of its own. controls says whether we nominate, password returns the other
// side's for ICE, once there is one.
func (t *Transport) newPeerConnection(configuration webrtc.Configuration, controls func() bool, password func() string) (*webrtc.PeerConnection, *latch, error) {
	network, err := newSockets(t.network)
	if err != nil {
		return nil, nil, err
	}
	settings := t.settings
	settings.SetNet(network)
	// Two peers on a machine without a network. Where there is one the loopback must not
	// be offered: Firefox answers checks from it but never uses such a pair, so that a
	// connection for which it is nominated never opens.
	settings.SetIncludeLoopbackCandidate(offline(network.Interfaces()))
	if !t.nomination {
		settings.SetICEBindingRequestHandler(chooseFirst(network.latch, controls, password))
	}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(configuration)
	if err != nil {
		return nil, nil, err
	}
	pc.SCTP().Transport().OnStateChange(func(state webrtc.DTLSTransportState) {
		switch state {
		case webrtc.DTLSTransportStateNew:
		case webrtc.DTLSTransportStateConnecting: // it listens
			network.latch.open()
		default:
			network.latch.open()
			network.latch.end()
		}
	})
	return pc, network.latch, nil
}

// Peering says who is to be connected with whom, and how.
type Peering struct {
	Local, Remote ident.PeerID // glare is resolved by them; an offerer's Remote may be zero: see [Conn.Bind]
	Offerer       bool         // whether this side offers; an answerer waits for an offer
	ICEServers    []mediation.ICEServer
	Handler       Handler
}

// Handler hears what happens to a connection. Signal, Reached and Opened are called one
// after the other, Frame from another goroutine, after Opened; none may block for long,
// and all may call the Conn's methods.
type Handler interface {
	// Signal hands out a signal for the remote peer, to be sent in order.
	Signal(data string)

	// Reached says that a phase on the way to the channel is reached: offers and answers, ICE, DTLS. Each may come
	// again where a connection is begun anew.
	Reached(phase timeline.Phase)

	// Opened says that frames can be sent, of at most maxFrame bytes. Those that come have up
	// to [wire.MaxFrame].
	Opened(maxFrame int)

	// Frame hands over a frame. It is valid only during the call. The next one
	// is not read before: a handler that takes its time slows the sender down.
	Frame(frame []byte)

	// Closed says that the connection ended, exactly once and last of all, with
	// every goroutine of it gone. err is what was given to Close, or what happened.
	Closed(err error)
}

func configurationOf(servers []mediation.ICEServer) webrtc.Configuration {
	var configuration webrtc.Configuration
	for _, server := range servers {
		configuration.ICEServers = append(configuration.ICEServers, webrtc.ICEServer{
			URLs: server.URLs, Username: server.Username, Credential: server.Credential,
		})
	}
	return configuration
}

// loggers turns what pion logs into records of our own log: its warnings are
// about what is normal here (a candidate that cannot be reached), so they are told as
// debugging output.
type loggers struct{ log *slog.Logger }

func (l loggers) NewLogger(scope string) logging.LeveledLogger {
	return &logger{l.log.With("pion", scope)}
}
