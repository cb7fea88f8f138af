package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"p2pcdn/mediator/internal/certs"
)

// http01HeaderTimeout and http01Timeout bound a request to the port of HTTP-01: a CA's are short.
const (
	http01HeaderTimeout = 10 * time.Second
	http01Timeout       = 20 * time.Second
)

// tlsSide is where the certificates come from, and what runs for it. Nil is no TLS.
type tlsSide struct {
	source certs.Source
	http01 *http.Server  // nil: none
	cancel func()        // ends source
	ended  chan struct{} // closed when it has
	served chan struct{} // closed when http01 has
}

func (c Config) acme() certs.ACMEConfig {
	return certs.ACMEConfig{
		Domains: c.ACME.Domains, Email: c.ACME.Email, Directory: c.ACME.Directory, RootFile: c.ACME.RootFile,
		DataDir: c.DataDir, HTTP01: c.ACME.HTTP != "", Logger: c.Logger,
	}
}

// startTLS reads what there is of certificates, and begins to keep them valid.
func startTLS(config Config) (*tlsSide, error) {
	side := &tlsSide{ended: make(chan struct{}), served: make(chan struct{})}
	switch {
	case config.TLSCert != "":
		files, err := certs.NewFiles(config.TLSCert, config.TLSKey, config.Logger)
		if err != nil {
			return nil, err
		}
		side.source = files
	case len(config.ACME.Domains) > 0:
		acme, err := certs.NewACME(config.acme())
		if err != nil {
			return nil, err
		}
		side.source = acme
		if err := side.serveHTTP01(config, acme); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	if side.http01 == nil {
		close(side.served)
	}
	ctx, cancel := context.WithCancel(context.Background())
	side.cancel = cancel
	go func() {
		defer close(side.ended)
		side.source.Run(ctx)
	}()
	return side, nil
}

// serveHTTP01 answers the CA by plain HTTP, where that was asked for. Everybody else is sent to https.
func (s *tlsSide) serveHTTP01(config Config, acme *certs.ACME) error {
	if config.ACME.HTTP == "" {
		return nil
	}
	listener, err := net.Listen("tcp", config.ACME.HTTP)
	if err != nil {
		return fmt.Errorf("opening the address %s of HTTP-01: %w", config.ACME.HTTP, err)
	}
	away := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+acme.Names()[0]+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
	s.http01 = &http.Server{
		Handler: acme.Handler(away), ReadHeaderTimeout: http01HeaderTimeout, ReadTimeout: http01Timeout, WriteTimeout: http01Timeout,
		ErrorLog: slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.served)
		if err := s.http01.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			config.Logger.Error("HTTP-01 is answered no more", "error", err)
		}
	}()
	return nil
}

// over is the listener with TLS over it, where there is any.
func (s *tlsSide) over(listener net.Listener) net.Listener {
	if s == nil {
		return listener
	}
	return tls.NewListener(listener, s.source.Config())
}

// close ends what startTLS began.
func (s *tlsSide) close() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.ended
	if s.http01 != nil {
		_ = s.http01.Close() // its listener has nothing left to fail at
	}
	<-s.served
}
