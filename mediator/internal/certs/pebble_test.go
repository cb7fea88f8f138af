package certs

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// authority is a CA: Pebble, the one that Let's Encrypt tests clients with. It
// finds every name at 127.0.0.1.
type authority struct {
	Directory string         // its URL
	RootFile  string         // what its server is verified by
	Issued    *x509.CertPool // what its certificates are verified by
	Itself    http.Handler   // what answers

	mu      sync.Mutex
	counts  map[string]int   // requests by path
	instead http.HandlerFunc // answers in its place; nil: it answers itself
}

// pebble are the settings that Pebble reads from the environment: it is not to wait
// before it proves a name, nor forget nonces, nor remember proofs at random.
var pebble = map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}

// newAuthority starts a CA that proves names on these ports.
func newAuthority(t *testing.T, tlsPort, httpPort int) *authority {
	t.Helper()
	logger := log.New(io.Discard, "", 0)
	records := db.NewMemoryStore()
	issuer := ca.New(logger, records, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	prover := va.New(logger, httpPort, tlsPort, true, nameServer(t), records)
	const requireContract, afterAuthorization, afterOrder = false, 0, 0
	front := wfe.New(logger, records, prover, issuer, []string{"ca.example.org"}, true, requireContract, afterAuthorization, afterOrder)

	a := &authority{counts: make(map[string]int), Itself: front.Handler()}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.counts[r.URL.Path]++
		instead := a.instead
		a.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		a.Itself.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = logger
	server.StartTLS()
	t.Cleanup(server.Close)
	a.Directory = server.URL + wfe.DirectoryPath
	a.RootFile = filepath.Join(t.TempDir(), "root.pem")
	write(t, a.RootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	a.Issued = x509.NewCertPool()
	a.Issued.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// Answer has all requests answered by another handler; nil: by the CA.
func (a *authority) Answer(instead http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instead = instead
}

// AnswerFor has the requests below one path answered by another handler.
func (a *authority) AnswerFor(path string, instead http.HandlerFunc) {
	a.Answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, path) {
			instead(w, r)
			return
		}
		a.Itself.ServeHTTP(w, r)
	})
}

// Orders is how many certificates were asked for.
func (a *authority) Orders() int { return a.count("/order-plz") }

// Visits is how often somebody came for a certificate.
func (a *authority) Visits() int { return a.count(wfe.DirectoryPath) }

func (a *authority) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[path]
}

// vanish ends the connection without an answer.
func vanish(w http.ResponseWriter, _ *http.Request) {
	panic(http.ErrAbortHandler)
}

// nameServer starts a DNS server for which every name is at 127.0.0.1.
func nameServer(t *testing.T) (address string) {
	t.Helper()
	listener := listen(t)
	started := make(chan struct{})
	server := &dns.Server{Listener: listener, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		if asked := question.Question[0]; asked.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
			answer.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(answer)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return listener.Addr().String()
}
