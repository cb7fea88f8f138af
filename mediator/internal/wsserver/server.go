// Package wsserver is the mediator's face to browsers and to Go peers: HTTP, and
// the WebSocket in it. It is the mediator's only user of github.com/coder/websocket.
//
//	GET /            what this is, for people
//	GET /mediation   the WebSocket of package mediation
//	GET /id          who this mediator is and where its DHT listens: JSON, see [Identity]
//	GET /healthz     200 "ok" while it serves, 503 once it shuts down
//	GET /readyz      200 "ready" where peers should be sent here, else 503 and why not
//	GET /status.json how it is, for programs and for the page at /
//	GET /metrics     the same for Prometheus, where there are any
//	GET /preview/…   the preview pages
//
// /mediation and /id may be used from pages of any origin: content is delivered to
// sites that the mediator has never heard of; unless [Config.AllowOrigins] names those
// that may use /mediation.
//
// Who is not let in gets an HTTP status and, as its body, an error of package
// mediation: overloaded (503), too_many_connections (429) or origin_refused (403).
package wsserver

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
	"p2pcdn/mediator/internal/session"
)

const (
	// DefaultMaxSessions bounds the open WebSockets. Idle ones take some 12 KiB
	// each; the worst that each can hold is an unfinished message and a full
	// queue, 650 KiB.
	DefaultMaxSessions = 20_000

	// DefaultMaxPerAddress bounds the open WebSockets of one address (IPv6: of one
	// /64): an office or a carrier's NAT may bring hundreds of visitors behind one.
	DefaultMaxPerAddress = 256

	// maxVisitors and maxVisitsPerAddress bound the connections that are no WebSockets,
	// in all and of one address: they are over in seconds, and a browser has six.
	maxVisitors         = 4096
	maxVisitsPerAddress = 512

	// headerTimeout bounds how long a client may take to send its request's head, and
	// maxHeader how large that is: browsers send 1 to 4 KiB.
	headerTimeout = 10 * time.Second
	maxHeader     = 16 << 10

	// idleTimeout is how long an HTTP connection without a request is kept.
	idleTimeout = time.Minute

	// writeTimeout bounds the answer to an HTTP request: the preview's scripts
	// over a slow line. (A WebSocket has its own.)
	writeTimeout = time.Minute
)

// Identity is what /id answers: enough to join the DHT through this mediator.
type Identity struct {
	ID        string   `json:"id"`        // the libp2p peer id
	Addresses []string `json:"addresses"` // multiaddrs, each with /p2p/<id>
	Version   string   `json:"version"`   // of the program, for people
}

// Config is what a Server is made of.
type Config struct {
	Attach    func(*session.Session, string) session.Peer // a new peer's place in the router; the host by which it reached us
	Identity  func() Identity
	Home      []byte          // the page at /
	Preview   fs.FS           // the pages at /preview/
	Ready     func() error    // why peers should not be sent here; nil: they should
	Status    func() any      // what /status.json says
	Metrics   http.Handler    // at /metrics; nil: none
	GoingAway func() []string // where peers may go when this mediator ends: WebSocket URLs
	Session   session.Config
	Logger    *slog.Logger

	MaxSessions    int            // 0: DefaultMaxSessions
	MaxPerAddress  int            // WebSockets; 0: DefaultMaxPerAddress
	MaxMessage     int            // bytes, at most those of the protocol; 0: those
	AllowOrigins   []string       // of pages that may use /mediation, as browsers write them; none: all
	TrustedProxies []netip.Prefix // whose X-Forwarded-For says who a client is

	visits int // connections of one address that are no WebSockets; 0: maxVisitsPerAddress
}

// Server serves until Shutdown. It is an [http.Handler] of its own, for tests.
type Server struct {
	Config
	handler    http.Handler
	http       http.Server
	peers      *door    // WebSockets
	visitors   *door    // what is no WebSocket (yet)
	turnedAway sync.Map // net.Conn → struct{}: visitors that were not let in, until they are closed

	mu       sync.Mutex                    // guards everything below
	sessions map[*session.Session]struct{} // bounded by peers
	closing  bool
	work     sync.WaitGroup // sessions; added to under mu and before closing
}

// New returns a server that serves nothing yet; see Serve.
func New(config Config) *Server {
	limits.Fill(&config.MaxSessions, DefaultMaxSessions)
	limits.Fill(&config.MaxPerAddress, DefaultMaxPerAddress)
	limits.Fill(&config.MaxMessage, mediation.MaxMessageSize)
	if config.MaxMessage < 0 || config.MaxMessage > mediation.MaxMessageSize {
		config.MaxMessage = mediation.MaxMessageSize // nobody sends longer ones
	}
	config.Session = config.Session.WithDefaults()
	visitors := maxVisitors
	limits.Fill(&config.visits, maxVisitsPerAddress)
	if config.MaxSessions < 0 { // who wants no bound of WebSockets has none on their way, either
		visitors = limits.Off
	}
	if config.MaxPerAddress < 0 {
		config.visits = limits.Off
	}
	s := &Server{
		Config: config, sessions: make(map[*session.Session]struct{}),
		peers: newDoor(config.MaxSessions, config.MaxPerAddress), visitors: newDoor(visitors, config.visits),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /id", s.identity)
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /status.json", s.status)
	if config.Metrics != nil {
		mux.Handle("GET /metrics", config.Metrics)
	}
	mux.HandleFunc("GET "+mediation.Path, s.mediation)
	mux.Handle("GET /preview/", http.StripPrefix("/preview/", fresh(http.FileServerFS(config.Preview))))
	mux.Handle("GET /preview", http.RedirectHandler("/preview/", http.StatusMovedPermanently))
	s.handler = secure(mux)
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      writeTimeout,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve accepts connections until Shutdown, then returns nil.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends the server: no new connection is taken, every peer is told going_away,
// and when it returns all of them are over. What ctx does not leave time for is cut off.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	for open := range s.sessions {
		goodbye := &mediation.Error{Code: mediation.CodeGoingAway, Message: "this mediator shuts down; connect to another one"}
		if s.GoingAway != nil {
			goodbye.Mediators = s.GoingAway() // in another order for each, so that not all go to the same one
		}
		open.End(goodbye)
	}
	s.mu.Unlock()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.work.Wait() // each session takes two seconds at most from End
}

// Sessions is the number of open WebSockets.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Full reports whether there is no room for another WebSocket.
func (s *Server) Full() bool { return limits.Reached(s.Sessions(), s.MaxSessions) }

// secure sets the headers that every answer has. The preview handles content of
// strangers: nothing of it may ever run as a script of ours.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
		next.ServeHTTP(w, r)
	})
}

// fresh makes browsers ask each time whether a page has changed: the pages and
// their scripts must fit together, also after an upgrade. Pages of any origin may
// load the scripts.
func fresh(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) home(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(s.Home) // whoever does not read it has gone
}

func (s *Server) identity(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(s.Identity()) // likewise
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.isClosing() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // likewise
}

// ready answers whether peers should be sent here: it serves also where they should not.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	err := errors.New("shutting down")
	if !s.isClosing() {
		if err = nil; s.Ready != nil {
			err = s.Ready()
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ready\n")) // likewise
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	if s.Status == nil {
		http.NotFound(w, nil)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(s.Status()) // likewise
}

// mediation takes one peer's connection over, and serves it in a goroutine of its own: the
// one that the request came on has a stack that grew, and buffers, for as long as it lives.
func (s *Server) mediation(w http.ResponseWriter, r *http.Request) {
	if !s.admits(r) {
		s.refuse(w, http.StatusForbidden, mediation.CodeOriginRefused, "this mediator serves pages of other sites only")
		return
	}
	source := limits.Source(s.client(r))
	if code := s.peers.enter(source, false); code != "" {
		s.refuseRoom(w, code)
		return
	}
	transport, err := accept(w, r, s.MaxMessage)
	if err != nil { // accept has answered
		s.peers.leave(source)
		s.Logger.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return
	}
	peer := session.New(transport, s.Session)
	if !s.enter(peer) { // it shuts down
		s.peers.leave(source)
		transport.Close(mediation.CodeGoingAway)
		return
	}
	host := r.Host
	go func() {
		defer s.leave(peer, source)
		peer.Run(func(p *session.Session) session.Peer { return s.Attach(p, host) })
	}()
}

// refuseRoom says that there is no room for another connection.
func (s *Server) refuseRoom(w http.ResponseWriter, code mediation.ErrorCode) {
	w.Header().Set("Retry-After", "30")
	if code == mediation.CodeTooManyConnections {
		s.refuse(w, http.StatusTooManyRequests, code, "this address has as many connections as it may")
		return
	}
	s.refuse(w, http.StatusServiceUnavailable, code, "no room for another peer; try another mediator")
}

// refuse answers a request with an error of the protocol.
func (s *Server) refuse(w http.ResponseWriter, status int, code mediation.ErrorCode, message string) {
	s.Session.Observer.Refused(code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(mediation.Encode(&mediation.Error{Code: code, Message: message})) // likewise
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// enter counts a session in, unless the server ends.
func (s *Server) enter(peer *session.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sessions[peer] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *Server) leave(peer *session.Session, source netip.Prefix) {
	s.peers.leave(source)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, peer)
	s.work.Done()
}
