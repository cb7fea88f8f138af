package certs

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/idna"
)

const (
	// DefaultDirectory is Let's Encrypt.
	DefaultDirectory = acme.LetsEncryptURL

	// MaxDomains bounds the names, each of which has a certificate of its own, so
	// that one that leads elsewhere is no harm to the others. A new mediator
	// with all of them stays within the 50 certificates a week that Let's Encrypt
	// issues below one registered domain.
	MaxDomains = 32
)

const (
	// firstRetry and maxRetry bound the pause after the CA refused a name; it
	// doubles. Attempts come after 2, 6, 14, 30 and 62 minutes: Let's Encrypt
	// takes five refusals an hour, and shuts the name out for longer after that.
	firstRetry = 2 * time.Minute
	maxRetry   = 3 * time.Hour

	// firstReconnect is the first pause after the CA was not reached. It is short,
	// since a mediator may start before its network does, and such an attempt
	// counts nowhere. It doubles, to maxRetry as well.
	firstReconnect = 10 * time.Second

	// longestRetry bounds the pause that the CA itself asks for: its longest window is a week.
	longestRetry = 7 * 24 * time.Hour

	// shortestLife is the pause after a certificate was obtained. A CA whose
	// certificates are to be renewed as soon as they are there, or a wrong clock
	// here, would otherwise be asked without end.
	shortestLife = time.Hour

	// longestWait is how long the end of a pause may go unnoticed when the clock
	// was set, or the machine slept.
	longestWait = time.Hour

	// connectTime, orderTime and requestTime bound how long it takes to reach the
	// CA and name the account, to get one certificate (the CA looks at the proof
	// from several places, and may have a queue), and to be answered one request.
	connectTime = time.Minute
	orderTime   = 5 * time.Minute
	requestTime = 30 * time.Second
)

// ACMEConfig is what an [ACME] is made of.
type ACMEConfig struct {
	Domains   []string     // the host names to serve, 1 to [MaxDomains]; nothing else is served
	Email     string       // whom the CA may tell of trouble; it learns it when the account is made; "": nobody
	Directory string       // the https URL of the CA's directory; "": [DefaultDirectory]
	RootFile  string       // a PEM file of the roots that the CA's own server is verified by; "": the system's
	DataDir   string       // the account and the certificates are kept in acme/ below it; used by one mediator at a time
	HTTP01    bool         // [ACME.Handler] is served where the CA looks for it, and tried first
	Logger    *slog.Logger // is told what a volunteer should know; nil discards it
}

// Validate checks what can be checked without touching anything.
func (c ACMEConfig) Validate() error {
	_, _, err := c.parse()
	return err
}

// parse checks, and returns the names in the form in which handshakes have them.
func (c ACMEConfig) parse() (names []string, directory *url.URL, err error) {
	if names, err = c.hosts(); err != nil {
		return nil, nil, err
	}
	if strings.ContainsAny(c.Email, " \t\r\n,?") || (c.Email != "" && !strings.Contains(c.Email, "@")) {
		return nil, nil, fmt.Errorf("the address that the CA may write to must be one like you@example.org, not %q", c.Email)
	}
	if c.DataDir == "" {
		return nil, nil, errors.New("certificates need a data directory")
	}
	directory, err = url.Parse(cmp.Or(c.Directory, DefaultDirectory))
	if err != nil || directory.Scheme != "https" || directory.Host == "" {
		return nil, nil, fmt.Errorf("the CA's directory must be an https URL, not %q", c.Directory)
	}
	return names, directory, nil
}

func (c ACMEConfig) hosts() (names []string, err error) {
	if len(c.Domains) == 0 || len(c.Domains) > MaxDomains {
		return nil, fmt.Errorf("1 to %d domains can have certificates, not %d", MaxDomains, len(c.Domains))
	}
	hosts := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true))
	for _, domain := range c.Domains {
		name, err := hosts.ToASCII(strings.TrimSuffix(domain, "."))
		switch {
		case strings.HasPrefix(domain, "*."):
			return nil, fmt.Errorf("a certificate for %s takes a proof by DNS, which a mediator cannot give: name each host", domain)
		case net.ParseIP(domain) != nil:
			return nil, fmt.Errorf("a domain must be a host name, and %s is an IP address", domain)
		case err != nil:
			return nil, fmt.Errorf("a domain must be a host name like mediator.example.org, not %q", domain)
		case slices.Contains(names, name):
			return nil, fmt.Errorf("the domain %s is named twice", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// ACME is certificates from a CA, one for each name. They are renewed after two
// thirds of their life, and kept on disk, so that a restart asks for nothing.
type ACME struct {
	config    ACMEConfig
	names     []string
	directory string
	store     store
	account   crypto.Signer
	http      *http.Client
	clock     clock
	reload    chan struct{} // has room for one: more than one is no more than one

	// Owned by NewACME, then by Run.
	hosts     []*host   // in the order of names
	unreached int       // how often in a row the CA gave no account
	told      bool      // that was logged
	notBefore time.Time // when the CA is talked to again, after that

	mu           sync.Mutex                  // guards everything below
	certificates map[string]*tls.Certificate // by name; what is served
	proofs       map[string]*tls.Certificate // by name; the answers to TLS-ALPN-01, while the CA looks
	tokens       map[string]string           // by path; the answers to HTTP-01, likewise
}

// host is one name's state. Owned by Run.
type host struct {
	name     string
	due      time.Time // of the next attempt
	failures int       // in a row
	next     int       // which of the challenges is tried next, modulo their number
	told     []string  // which kinds of failure were logged since the last success; see failed
}

var _ Source = (*ACME)(nil)

// NewACME reads what is kept, and makes the key of the account where there is
// none. It talks to nobody: Run does.
func NewACME(config ACMEConfig) (*ACME, error) { return newACME(config, systemClock{}) }

func newACME(config ACMEConfig, clock clock) (*ACME, error) {
	names, directory, err := config.parse()
	if err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	a := &ACME{
		config: config, names: names, directory: directory.String(), clock: clock, reload: make(chan struct{}, 1),
		certificates: make(map[string]*tls.Certificate), proofs: make(map[string]*tls.Certificate), tokens: make(map[string]string),
	}
	if a.http, err = httpClient(config.RootFile); err != nil {
		return nil, err
	}
	if a.store, err = newStore(config.DataDir, directory); err != nil {
		return nil, err
	}
	if a.account, err = a.store.account(); err != nil {
		return nil, err
	}
	for _, name := range names {
		due := clock.Now()
		switch certificate, err := a.store.certificate(name); {
		case err == nil:
			a.certificates[name] = certificate
			due = renewal(certificate.Leaf)
		case errors.Is(err, errExposed):
			return nil, fmt.Errorf("the key of a certificate: %w", err)
		case !errors.Is(err, fs.ErrNotExist):
			config.Logger.Warn("a certificate that was kept cannot be used, and is asked for again", "name", name, "error", err)
		}
		a.hosts = append(a.hosts, &host{name: name, due: due})
	}
	return a, nil
}

// maxAnswer bounds what is read of one answer of the CA, in bytes: a chain has
// about 6 KiB, a directory or an order 1.
const maxAnswer = 1 << 20

// httpClient returns a client that trusts the roots in a file, or the system's.
func httpClient(rootFile string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if rootFile != "" {
		text, _, err := read(rootFile)
		if err != nil {
			return nil, fmt.Errorf("reading the root certificates of the CA's server: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", rootFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: bounded{transport}, Timeout: requestTime}, nil
}

// bounded cuts answers off after maxAnswer; what is cut off is malformed.
type bounded struct{ *http.Transport }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.Transport.RoundTrip(request)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxAnswer), response.Body}
	}
	return response, err
}

// Config implements [Source]. A handshake for a name that is not served, or for
// none, ends with the alert unrecognized_name. A name whose certificate has yet
// to come ends with internal_error: there is nothing wrong with the name.
func (a *ACME) Config() *tls.Config {
	config := base()
	config.GetCertificate = a.certificate
	config.GetConfigForClient = a.proof
	return config
}

// certificate finds what is to be shown in a handshake.
func (a *ACME) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if !slices.Contains(a.names, name) {
		a.config.Logger.Debug("a TLS handshake for a name that is not served was refused", "name", name, "remote", hello.Conn.RemoteAddr())
		return nil, nil // crypto/tls has no error that says so; without one, it sends the alert
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if certificate := a.certificates[name]; certificate != nil {
		return certificate, nil
	}
	return nil, fmt.Errorf("there is no certificate for %s yet", name)
}

// proof recognizes the CA that looks for the answer to TLS-ALPN-01, which alone
// asks for acme-tls/1 and nothing else (RFC 8737, 4). That protocol is offered to
// nobody else, so that no other connection can end up with it.
func (a *ACME) proof(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		return nil, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	certificate := a.proofs[strings.ToLower(hello.ServerName)]
	if certificate == nil {
		return nil, nil // there is no protocol in common, then
	}
	config := base()
	config.NextProtos = []string{acme.ALPNProto}
	config.Certificates = []tls.Certificate{*certificate}
	config.SessionTicketsDisabled = true
	return config, nil
}

// Handler answers HTTP-01, for a listener that the CA reaches as port 80 of every
// name. What is not asked by a CA goes to rest, which may be nil.
func (a *ACME) Handler(rest http.Handler) http.Handler {
	if rest == nil {
		rest = http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
			rest.ServeHTTP(w, r)
			return
		}
		a.mu.Lock()
		answer, is := a.tokens[r.URL.Path]
		a.mu.Unlock()
		if !is {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream") // as RFC 8555, 8.3, has it
		_, _ = io.WriteString(w, answer)                           // whoever does not read it has gone
	})
}

// Names implements [Source].
func (a *ACME) Names() []string { return slices.Clone(a.names) }

// Expires implements [Source].
func (a *ACME) Expires() (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.names {
		certificate := a.certificates[name]
		if certificate == nil {
			return time.Time{}
		}
		if end := certificate.Leaf.NotAfter; first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// Reload implements [Source]: the names that failed are tried again now.
func (a *ACME) Reload() {
	select {
	case a.reload <- struct{}{}:
	default:
	}
}

// Run implements [Source]. The listener is to be served beside it: the CA connects
// to it before there is any certificate.
func (a *ACME) Run(ctx context.Context) {
	for ctx.Err() == nil {
		a.round(ctx)
		wait := a.wait()
		if wait <= 0 {
			continue // something fell due while the round was under way
		}
		select {
		case <-ctx.Done():
		case <-a.clock.After(wait):
		case <-a.reload:
			a.unreached, a.told, a.notBefore = 0, false, time.Time{}
			for _, h := range a.hosts {
				if h.failures > 0 {
					h.due, h.failures, h.told = a.clock.Now(), 0, nil
				}
			}
		}
	}
}

// wait is how long there is nothing to do.
func (a *ACME) wait() time.Duration {
	first := a.hosts[0].due
	for _, h := range a.hosts {
		if h.due.Before(first) {
			first = h.due
		}
	}
	if first.Before(a.notBefore) {
		first = a.notBefore
	}
	return min(first.Sub(a.clock.Now()), longestWait)
}

// round tries all names that are due, one after the other.
func (a *ACME) round(ctx context.Context) {
	now := a.clock.Now()
	var due []*host
	for _, h := range a.hosts {
		if !h.due.After(now) {
			due = append(due, h)
		}
	}
	if len(due) == 0 || a.notBefore.After(now) {
		return
	}
	defer a.http.CloseIdleConnections() // the next round may be weeks away
	ca, err := a.connect(ctx)
	if err != nil {
		a.notReached(ctx, err)
		return
	}
	a.unreached, a.told = 0, false
	for _, h := range due {
		if ctx.Err() != nil {
			return
		}
		certificate, err := a.obtain(ctx, ca, h)
		if err != nil {
			a.failed(ctx, h, err)
			continue
		}
		a.obtained(h, certificate)
	}
}

// obtained serves and keeps a new certificate.
func (a *ACME) obtained(h *host, certificate *tls.Certificate) {
	a.mu.Lock()
	a.certificates[h.name] = certificate
	a.mu.Unlock()
	a.config.Logger.Info("a certificate was obtained", "name", h.name, "expires", certificate.Leaf.NotAfter,
		"issuer", certificate.Leaf.Issuer.CommonName, "failures_before", h.failures)
	if err := a.store.keep(h.name, certificate); err != nil {
		a.config.Logger.Error("a certificate is served but could not be kept: the next start will ask for it again", "name", h.name, "error", err)
	}
	h.failures, h.told = 0, nil
	h.due = renewal(certificate.Leaf)
	if soonest := a.clock.Now().Add(shortestLife); h.due.Before(soonest) {
		h.due = soonest
	}
}

// failed sees to it that a name is tried again. Each kind of failure is told
// once, until the name has its certificate: the challenges fail for reasons of their own.
func (a *ACME) failed(ctx context.Context, h *host, err error) {
	if ctx.Err() != nil {
		return // the mediator is about to end, and that is why
	}
	kind := ""
	var refusal *challengeError
	if errors.As(err, &refusal) {
		kind = refusal.challenge
		h.next++
	}
	h.due = a.clock.Now().Add(backOff(firstRetry, h.failures, err))
	h.failures++
	level := slog.LevelDebug
	if !slices.Contains(h.told, kind) {
		h.told = append(h.told, kind)
		level = slog.LevelError
	}
	a.config.Logger.Log(ctx, level, "no certificate was obtained; it is tried again until there is one",
		"name", h.name, "ca", a.directory, "error", err, "next", h.due, "valid_until", a.validUntil(h.name))
}

// notReached puts off all that is due, and tells it once until the CA is reached.
func (a *ACME) notReached(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // likewise
	}
	a.notBefore = a.clock.Now().Add(backOff(firstReconnect, a.unreached, err))
	a.unreached++
	level := slog.LevelDebug
	if !a.told {
		a.told = true
		level = slog.LevelError
	}
	a.config.Logger.Log(ctx, level, "the CA gives no account; it is tried again until it does",
		"ca", a.directory, "error", err, "next", a.notBefore)
}

// validUntil says how long there is time, for people.
func (a *ACME) validUntil(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if certificate := a.certificates[name]; certificate != nil {
		return certificate.Leaf.NotAfter.Format(time.RFC3339)
	}
	return "none"
}

// backOff is how long to wait after an attempt that failed, and so many before it:
// what the CA asks for, if that is longer.
func backOff(first time.Duration, failures int, err error) time.Duration {
	wait := min(first<<min(failures, 16), maxRetry) // 16: far beyond maxRetry, and no overflow
	var answer *acme.Error
	if errors.As(err, &answer) {
		if asked, is := acme.RateLimit(answer); is {
			wait = min(max(wait, asked), longestRetry)
		}
	}
	return wait
}

// renewal is when a certificate is to be renewed: a month before its end, where
// it is valid for three, which leaves a volunteer on holiday the time to come back.
func renewal(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}
