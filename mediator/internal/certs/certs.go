// Package certs is the mediator's TLS: where its certificates come from, and how
// they stay valid while it runs. A page that was loaded by https may only open
// wss connections, so a mediator for the world's pages needs one of these, or a
// proxy in front that has.
//
//	[Files]  a certificate and its key in PEM files, which somebody else renews
//	[ACME]   certificates that the mediator gets from a CA, and renews itself
//
// Both are a [Source]. A source that has started never ends the mediator: what
// goes wrong later is told once, what was valid is served on, and it is tried again.
//
// # HTTP/1.1 alone
//
// HTTP/2 is not offered. A WebSocket begins as an HTTP/1.1 request; within HTTP/2
// it would have to be an extended CONNECT (RFC 8441), which the server does not
// speak: a client that offers both would be given the one that it cannot use. The
// few pages that a mediator serves gain nothing from it.
//
// # ACME
//
// A CA asks for a proof that the names lead here (RFC 8555):
//
//   - TLS-ALPN-01 (RFC 8737): the CA opens a TLS connection, names the host and the
//     protocol acme-tls/1, and is shown a certificate with the answer. The
//     mediator's own port answers it, nothing else is needed.
//   - HTTP-01: the CA reads a file by plain HTTP. [ACME.Handler] answers it, where
//     the operator has a listener for it.
//
// Public CAs ask on the ports 443 and 80 and nowhere else, whatever port the
// mediator has. Where it has another one, the operator must forward 443 to it, or
// 80 to the listener of HTTP-01.
//
// The protocol is golang.org/x/crypto/acme; what it is used for is decided here.
// The two managers that come with such a client fit less. autocert, over the same
// client, asks for a certificate only within somebody's handshake, which
// waits for it; says nothing of a renewal that fails; asks again for a refused
// name with any handshake a minute later, where Let's Encrypt allows five refusals
// an hour; and cannot be stopped.
// certmagic can do far more than this, DNS challenges and shared storage: it costs
// seven modules and 1.9 MB of the binary (this: no module and 80 KB), keeps its own
// log with every failure in it, and has no clock to hand in. What is not here
// is what a mediator has no use for: wildcards, RSA certificates (every browser
// that has WebRTC takes ECDSA), and accounts that are bound to a contract with the CA.
package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Source is where a server's certificates come from. Its methods may be called at
// any time and together; Run once.
type Source interface {
	// Config is for [tls.NewListener]. ([net/http.Server.ServeTLS] would add HTTP/2
	// to it.) It shows what is valid at each handshake, and need not be asked
	// for again. Whoever serves it bounds the time of a handshake.
	Config() *tls.Config

	// Run keeps the certificates valid until ctx is done. When it returns, nothing
	// that it started is left.
	Run(ctx context.Context)

	// Reload has Run look at once whether there is something to do, and say
	// again what is still wrong. It does not wait for it.
	Reload()

	// Names are the host names (and IP addresses) that are served.
	Names() []string

	// Expires is when the first of the certificates ends; zero while there is a
	// name that has none.
	Expires() time.Time
}

// base is what all configs have in common. TLS 1.2 is what the browsers of the
// last ten years have; 1.0 and 1.1 are forbidden by RFC 8996.
func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// clock is the time. Tests have their own.
type clock interface {
	Now() time.Time
	After(time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// maxFile bounds what is read of a file with certificates or a key, in bytes: a
// chain of ten with RSA keys of 4096 bits, and the text that some tools write
// before each, is a tenth of it.
const maxFile = 256 << 10

// read returns the content of a file of at most maxFile, and what the file was
// before it was read: what changes meanwhile is seen as a change later.
func read(path string) (text []byte, before fs.FileInfo, err error) {
	before, err = os.Stat(path) // first: opening a pipe would wait for its writer
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, before, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, before, err
	}
	defer file.Close()
	text, err = io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, before, err
	case len(text) > maxFile:
		return nil, before, fmt.Errorf("%s is larger than %d KiB: it holds something else", path, maxFile>>10)
	}
	return text, before, nil
}
