// Package admin serves what is for the volunteer alone: the profiles of a running
// mediator (net/http/pprof), at an address of its own that nobody else should reach.
//
//	GET /debug/pprof/…   as `go tool pprof http://host:port/debug/pprof/heap` reads them
//	GET /metrics         for Prometheus, as on the public side
package admin

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// headerTimeout bounds how long a request's head may take. There is no bound for the
// answer: a profile takes as long as it was asked for.
const headerTimeout = 10 * time.Second

// Server serves until Close.
type Server struct {
	http http.Server
	done chan struct{} // closed when serving has ended
}

// Serve begins to serve on the listener, which is the server's from then on.
func Serve(listener net.Listener, metrics http.Handler, logger *slog.Logger) *Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", metrics)
	s := &Server{
		http: http.Server{
			Handler: mux, ReadHeaderTimeout: headerTimeout,
			ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("the admin address is served no more", "error", err)
		}
	}()
	return s
}

// Close ends the server, and whatever it is answering.
func (s *Server) Close() {
	_ = s.http.Close() // its listener has nothing left to fail at
	<-s.done
}
