// Package wsserver is the mediator's face to browsers and to Go peers: HTTP, and
// the WebSocket in it. It is the mediator's only user of nhooyr.io/websocket.
//
//	GET /            what this is, for people
//	GET /mediation   the WebSocket of package mediation
//	GET /id          who this mediator is and where its DHT listens: JSON, see [Identity]
//	GET /healthz     200 "ok" while it serves, 503 once it shuts down
//	GET /preview/…   the preview pages
//
// /mediation and /id may be used from pages of any origin: content is delivered to
// sites that the mediator has never heard of.
package wsserver

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/session"
)

const (
	// DefaultMaxSessions bounds the open WebSockets. Idle ones take some 30 KiB
	// each; the worst that each can hold is an unfinished message and a full
	// queue, 650 KiB.
	DefaultMaxSessions = 20_000

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
	Attach      func(*session.Session) session.Peer // a new peer's place in the router
	Identity    func() Identity
	Home        []byte // the page at /
	Preview     fs.FS  // the pages at /preview/
	Session     session.Config
	MaxSessions int // 0: DefaultMaxSessions
	Logger      *slog.Logger
}

// Server serves until Shutdown. It is an [http.Handler] of its own, for tests.
type Server struct {
	Config
	handler http.Handler
	http    http.Server

	mu       sync.Mutex                    // guards everything below
	sessions map[*session.Session]struct{} // bounded by MaxSessions
	closing  bool
	work     sync.WaitGroup // sessions; added to under mu and before closing
}

// New returns a server that serves nothing yet; see Serve.
func New(config Config) *Server {
	if config.MaxSessions == 0 {
		config.MaxSessions = DefaultMaxSessions
	}
	s := &Server{Config: config, sessions: make(map[*session.Session]struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /id", s.identity)
	mux.HandleFunc("GET /healthz", s.health)
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
		open.End(&mediation.Error{Code: mediation.CodeGoingAway, Message: "this mediator shuts down; connect to another one"})
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
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // likewise
}

// mediation serves one peer for as long as its WebSocket is open.
func (s *Server) mediation(w http.ResponseWriter, r *http.Request) {
	if !s.room() {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "no room for another peer; try another mediator", http.StatusServiceUnavailable)
		return
	}
	transport, err := accept(w, r)
	if err != nil { // accept has answered
		s.Logger.Debug("no WebSocket", "remote", r.RemoteAddr, "error", err)
		return
	}
	peer := session.New(transport, s.Session)
	if !s.enter(peer) { // somebody took the last place meanwhile
		transport.Close(mediation.CodeOverloaded)
		return
	}
	defer s.leave(peer)
	peer.Run(context.WithoutCancel(r.Context()), s.Attach)
}

func (s *Server) room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing && len(s.sessions) < s.MaxSessions
}

// enter counts a session in, unless there is no room any more.
func (s *Server) enter(peer *session.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.sessions) >= s.MaxSessions {
		return false
	}
	s.sessions[peer] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *Server) leave(peer *session.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, peer)
	s.work.Done()
}
