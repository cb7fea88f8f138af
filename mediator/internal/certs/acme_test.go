package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// world is a listener, a CA that proves names there, and a data directory.
type world struct {
	listener net.Listener
	ca       *authority
	config   ACMEConfig
	clock    *testClock
	said     *journal
}

// newWorld lets the test run in parallel with others: it is the CA's client that
// waits for a second before it asks whether a name is proved.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{listener: listen(t), clock: newTestClock(), said: new(journal)}
	w.ca = newAuthority(t, port(w.listener), nowhere(t))
	w.config = ACMEConfig{
		Domains: []string{"a.example.org"}, Directory: w.ca.Directory, RootFile: w.ca.RootFile,
		DataDir: filepath.Join(t.TempDir(), "data"), Logger: w.said.logger(t),
	}
	return w
}

// nowhere is a port on which nobody listens.
func nowhere(t *testing.T) int {
	t.Helper()
	listener := listen(t)
	defer listener.Close()
	return port(listener)
}

// source makes a source of the world as it is.
func (w *world) source(t *testing.T) *ACME {
	t.Helper()
	a, err := newACME(w.config, w.clock)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start starts a mediator's TLS, and waits until it has nothing to do.
func (w *world) start(t *testing.T) (a *ACME, stop func(), p pause) {
	t.Helper()
	a = w.source(t)
	serve(t, w.listener, a)
	stop = run(t, a)
	return a, stop, w.clock.idle(t)
}

// restart is start after a mediator that was stopped, on a port of its own.
func (w *world) restart(t *testing.T) (a *ACME, stop func(), p pause) {
	t.Helper()
	w.listener, w.clock = listen(t), newTestClock()
	return w.start(t)
}

// pass lets time go on until a name may be due, and waits for what comes of it.
func (w *world) pass(t *testing.T, p pause, d time.Duration) pause {
	t.Helper()
	w.clock.pass(p, d)
	return w.clock.idle(t)
}

// verified does a handshake that only a certificate of the CA for the name passes.
func (w *world) verified(t *testing.T, name string) {
	t.Helper()
	if _, err := shake(w.listener, &tls.Config{ServerName: name, RootCAs: w.ca.Issued}); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// refused does a handshake that must fail with an alert.
func (w *world) refused(t *testing.T, name, alert string) {
	t.Helper()
	_, err := shake(w.listener, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err == nil || !strings.Contains(err.Error(), alert) {
		t.Errorf("a handshake for %q: %v, want the alert %q", name, err, alert)
	}
}

// newTestACME returns a source that has a certificate for a.example.org already, and no CA.
func newTestACME(t *testing.T) *ACME {
	t.Helper()
	a, err := newACME(ACMEConfig{Domains: []string{"a.example.org"}, DataDir: t.TempDir()}, newTestClock())
	if err != nil {
		t.Fatal(err)
	}
	a.certificates["a.example.org"] = pairOf(t, "a.example.org", 90*24*time.Hour)
	return a
}

// pairOf returns a certificate that is valid for so long, since now.
func pairOf(t *testing.T, name string, life time.Duration) *tls.Certificate {
	t.Helper()
	certText, keyText := signed(t, name, time.Now().Add(life-90*24*time.Hour), time.Now().Add(life))
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

func TestCertificateIsObtainedAndKept(t *testing.T) {
	w := newWorld(t)
	w.config.Domains = []string{"a.example.org", "Bücher.example.org."}
	w.config.Email = "you@example.org"
	a := w.source(t)
	if !a.Expires().IsZero() {
		t.Errorf("expires %v, without a certificate", a.Expires())
	}
	serve(t, w.listener, a)
	w.refused(t, "a.example.org", "internal error") // it is one of ours, but has yet to come
	stop := run(t, a)
	if p := w.clock.idle(t); p.length != longestWait {
		t.Errorf("it waits %v at once, want %v", p.length, longestWait)
	}

	if want := []string{"a.example.org", "xn--bcher-kva.example.org"}; !slices.Equal(a.Names(), want) {
		t.Errorf("names %v, want %v", a.Names(), want)
	}
	for _, name := range a.Names() {
		w.verified(t, name)
		w.verified(t, strings.ToUpper(name))
	}
	first := shown(t, w.listener, "a.example.org")
	if !a.Expires().Equal(first.NotAfter) {
		t.Errorf("expires %v, want %v", a.Expires(), first.NotAfter)
	}
	for _, name := range []string{"", "b.example.org", "example.org", "x.a.example.org"} {
		w.refused(t, name, "unrecognized name")
	}
	if a.proofs["a.example.org"] != nil || len(a.tokens) != 0 {
		t.Error("answers to the CA are left")
	}
	w.said.told(t, 0)
	if text := strings.Join(w.said.at(slog.LevelInfo), ""); strings.Count(text, "terms") != 2 || strings.Count(text, "was obtained") != 2 {
		t.Errorf("an account and two certificates are told as:\n%s", text)
	}
	stop()
	private(t, filepath.Join(w.config.DataDir, "acme"), 3)

	before := w.ca.Visits()
	a, _, _ = w.restart(t)
	w.verified(t, "a.example.org")
	if again := shown(t, w.listener, "a.example.org"); again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("the certificate after a restart is another one")
	}
	if w.ca.Visits() != before {
		t.Error("a restart asks the CA")
	}
	if !a.Expires().Equal(first.NotAfter) {
		t.Errorf("expires %v after a restart, want %v", a.Expires(), first.NotAfter)
	}
}

// private checks the modes of all that is in a directory, and how many files there are.
func private(t *testing.T, dir string, files int) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o700)
		if !entry.IsDir() {
			found++
			want = 0o600
		}
		if mode := info.Mode().Perm(); mode != want && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %04o, want %04o", path, mode, want)
		}
		return nil
	})
	if err != nil || found != files {
		t.Errorf("%s holds %d files (%v), want %d", dir, found, err, files)
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	w := newWorld(t)
	_, stop, p := w.start(t)
	first := shown(t, w.listener, "a.example.org")

	// Pebble's are valid for 90 days: they are renewed after 60.
	p = w.pass(t, p, renewal(first).Sub(w.clock.Now())-time.Minute)
	if p.length != time.Minute || w.ca.Orders() != 1 {
		t.Errorf("a minute before it is due: it waits %v, after %d orders", p.length, w.ca.Orders())
	}
	p = w.pass(t, p, p.length)
	w.verified(t, "a.example.org")
	second := shown(t, w.listener, "a.example.org")
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the certificate is not renewed")
	}
	if first.PublicKeyAlgorithm == second.PublicKeyAlgorithm && string(first.RawSubjectPublicKeyInfo) == string(second.RawSubjectPublicKeyInfo) {
		t.Error("the key is not renewed")
	}
	// The new one is from today and not from the clock's day, and so due at once.
	if p.length != shortestLife {
		t.Errorf("a certificate that is due at once is renewed after %v, want %v", p.length, shortestLife)
	}
	if text := strings.Join(w.said.at(slog.LevelInfo), ""); strings.Count(text, "terms") != 2 {
		t.Errorf("a second account was made:\n%s", text)
	}
	w.said.told(t, 0)
	stop()

	w.restart(t)
	if third := shown(t, w.listener, "a.example.org"); third.SerialNumber.Cmp(second.SerialNumber) != 0 {
		t.Error("it is not the renewed one that is kept")
	}
}

// What is near its end when the mediator starts is served until there is another one.
func TestCertificateNearItsEndIsServedAndRenewed(t *testing.T) {
	w := newWorld(t)
	a := w.source(t)
	old := pairOf(t, "a.example.org", time.Hour)
	if err := a.store.keep("a.example.org", old); err != nil {
		t.Fatal(err)
	}
	w.ca.Answer(vanish)
	a, _, p := w.start(t)
	if got := shown(t, w.listener, "a.example.org"); got.SerialNumber.Cmp(old.Leaf.SerialNumber) != 0 {
		t.Error("what was kept is not served")
	}
	if !a.Expires().Equal(old.Leaf.NotAfter) {
		t.Errorf("expires %v, want %v", a.Expires(), old.Leaf.NotAfter)
	}
	w.ca.Answer(nil)
	w.pass(t, p, p.length)
	w.verified(t, "a.example.org")
}

func TestCertificateByHTTP(t *testing.T) {
	w := newWorld(t)
	plain := listen(t)
	w.ca = newAuthority(t, nowhere(t), port(plain))
	w.config.Directory, w.config.RootFile, w.config.HTTP01 = w.ca.Directory, w.ca.RootFile, true
	a := w.source(t)
	serve(t, w.listener, a)
	serveHTTP(t, plain, a.Handler(http.RedirectHandler("https://a.example.org/", http.StatusFound)))
	run(t, a)
	w.clock.idle(t)
	w.verified(t, "a.example.org")
	w.said.told(t, 0)

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/": http.StatusFound, "/.well-known/acme-challenge/x": http.StatusNotFound} {
		response, err := client.Get("http://" + plain.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s is answered with %s, want %d", path, response.Status, want)
		}
	}
}

// Where one challenge fails, the other is tried; each failure is told once.
func TestChallengesTakeTurns(t *testing.T) {
	w := newWorld(t)
	w.ca = newAuthority(t, nowhere(t), nowhere(t))
	w.config.Directory, w.config.RootFile, w.config.HTTP01 = w.ca.Directory, w.ca.RootFile, true
	_, _, p := w.start(t)
	w.said.told(t, 1, "http-01", "port 80", "a.example.org", "valid_until=none")
	if p.length != firstRetry {
		t.Errorf("it is tried again after %v, want %v", p.length, firstRetry)
	}
	p = w.pass(t, p, p.length)
	w.said.told(t, 2, "tls-alpn-01", "port 443")
	if p.length != 2*firstRetry {
		t.Errorf("it is tried again after %v, want %v", p.length, 2*firstRetry)
	}
	p = w.pass(t, p, p.length)
	w.pass(t, p, p.length)
	w.said.told(t, 2)
	w.refused(t, "a.example.org", "internal error")
}

// A name that leads elsewhere is no harm to the others.
func TestNamesFailAlone(t *testing.T) {
	w := newWorld(t)
	w.config.Domains = []string{"blocked.example.org", "a.example.org"}
	a := w.source(t)
	proof := a.Config()
	deaf := proof.Clone()
	deaf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == "blocked.example.org" {
			return nil, errors.New("it leads elsewhere")
		}
		return proof.GetConfigForClient(hello)
	}
	serveHTTP(t, tls.NewListener(w.listener, deaf), http.NotFoundHandler())
	run(t, a)
	if p := w.clock.idle(t); p.length != firstRetry {
		t.Errorf("it waits %v, want %v", p.length, firstRetry)
	}
	w.verified(t, "a.example.org")
	w.said.told(t, 1, "blocked.example.org", "tls-alpn-01")
	if !a.Expires().IsZero() {
		t.Error("a name without a certificate does not show")
	}
}

func TestUnreachableCAIsToldOnceAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.ca.Answer(vanish)
	a, _, p := w.start(t)
	want := firstReconnect
	for try := range 14 {
		if p.length != min(want, longestWait) {
			t.Fatalf("after %d failures it waits %v, want %v", try+1, p.length, want)
		}
		left := want - p.length // of a pause of more than longestWait
		p = w.pass(t, p, p.length)
		for ; left > 0; left -= longestWait {
			p = w.pass(t, p, p.length)
		}
		want = min(2*want, maxRetry)
	}
	w.said.told(t, 1, "gives no account", w.ca.Directory)
	w.refused(t, "a.example.org", "internal error") // and it still serves

	a.Reload() // whoever asks is told
	p = w.clock.idle(t)
	w.said.told(t, 2)
	if p.length != firstReconnect {
		t.Errorf("it waits %v after Reload, want %v", p.length, firstReconnect)
	}

	w.ca.Answer(nil)
	w.pass(t, p, p.length)
	w.verified(t, "a.example.org")
	w.said.told(t, 2)
}

func TestCAThatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	for name, answer := range map[string]http.HandlerFunc{
		"is no CA": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<p>hello") },
		"is busy":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) },
		"has no end": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"newNonce":"`+strings.Repeat("x", 2*maxAnswer)+`"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.ca.Answer(answer)
			w.listener, w.clock, w.said = listen(t), newTestClock(), new(journal)
			w.config.Logger = w.said.logger(t)
			w.start(t)
			w.said.told(t, 1, "gives no account")
		})
	}
	t.Run("is not trusted", func(t *testing.T) {
		w.ca.Answer(nil)
		w.listener, w.clock, w.said = listen(t), newTestClock(), new(journal)
		w.config.Logger, w.config.RootFile = w.said.logger(t), ""
		w.start(t)
		w.said.told(t, 1, "certificate")
	})
}

// A CA may forget nonces at any time: the request is repeated at once.
func TestCAThatForgetsNonces(t *testing.T) {
	w := newWorld(t)
	var requests atomic.Int32
	w.ca.Answer(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || requests.Add(1)%3 == 0 {
			w.ca.Itself.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `{"type":"urn:ietf:params:acme:error:badNonce","detail":"what was it again"}`)
	})
	w.start(t)
	w.verified(t, "a.example.org")
	w.said.told(t, 0)
}

// A CA that says when to come again is not asked before.
func TestCAThatAsksForPatience(t *testing.T) {
	w := newWorld(t)
	slow := 30 * time.Minute
	w.ca.Answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", fmt.Sprint(int(slow.Seconds())))
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"come again"}`)
	})
	_, _, p := w.start(t)
	w.said.told(t, 1, "rateLimited", "come again")
	if p.length != slow {
		t.Errorf("it waits %v, want %v", p.length, slow)
	}
}

// What goes wrong once there is an account is told with the name that it is about.
func TestOrderThatFails(t *testing.T) {
	problem := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusForbidden) }
	another, _ := signed(t, "a.example.org", time.Now(), time.Now().Add(time.Hour))
	for path, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"/order-plz":       {problem, "ordering"},
		"/authZ/":          {problem, "reading what is to be proved"},
		"/chalZ/":          {problem, "tls-alpn-01"},
		"/finalize-order/": {problem, "finishing the order: 403"},
		"/certZ/":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(another) }, "another key"},
	} {
		t.Run(strings.Trim(path, "/"), func(t *testing.T) {
			w := newWorld(t)
			w.ca.AnswerFor(path, test.answer)
			w.start(t)
			w.said.told(t, 1, "name=a.example.org", test.want)
		})
	}
}

// A renewal that fails leaves what is there, and says how long that lasts.
func TestRenewalThatFails(t *testing.T) {
	w := newWorld(t)
	w.ca.AnswerFor("/order-plz", vanish)
	old := pairOf(t, "a.example.org", time.Hour)
	if err := w.source(t).store.keep("a.example.org", old); err != nil {
		t.Fatal(err)
	}
	a, _, p := w.start(t)
	valid := "valid_until=" + old.Leaf.NotAfter.Format(time.RFC3339)
	w.said.told(t, 1, "ordering", valid)
	if got := shown(t, w.listener, "a.example.org"); got.SerialNumber.Cmp(old.Leaf.SerialNumber) != 0 {
		t.Error("what was kept is not served")
	}
	w.pass(t, p, p.length)
	w.said.told(t, 1)
	a.Reload() // whoever asks is told
	if p = w.clock.idle(t); p.length != firstRetry {
		t.Errorf("it waits %v after Reload, want %v", p.length, firstRetry)
	}
	w.said.told(t, 2, "ordering", valid)
}

// The end of the mediator does not wait for a CA, and nothing is told of it.
func TestRunEndsWhileTheCAIsAsked(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/dir", "/order-plz"} {
		asked := make(chan struct{})
		w.ca.AnswerFor(path, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
			close(asked)
			<-r.Context().Done()
		})
		stop := run(t, w.source(t))
		<-asked
		stop()
		w.said.told(t, 0)
	}
}

func TestKeptCertificateThatCannotBeUsed(t *testing.T) {
	w := newWorld(t)
	store := w.source(t).store
	if err := store.keep("a.example.org", pairOf(t, "a.example.org", time.Hour)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(string(store), "a.example.org.pem")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, cert := pem.Decode(good)
	_, otherKey := signed(t, "a.example.org", time.Now(), time.Now().Add(time.Hour))
	otherCert, itsKey := signed(t, "b.example.org", time.Now(), time.Now().Add(time.Hour))
	for name, text := range map[string][]byte{
		"empty": nil, "cut short": good[:len(good)/3], "garbage": []byte("garbage"), "another key": append(otherKey, cert...), "another name": append(itsKey, otherCert...),
	} {
		w.said = new(journal)
		w.config.Logger = w.said.logger(t)
		write(t, path, text)
		if a := w.source(t); !a.Expires().IsZero() {
			t.Errorf("%s: it is served", name)
		}
		if lines := w.said.at(slog.LevelWarn); len(lines) != 1 || !strings.Contains(lines[0], path) {
			t.Errorf("%s: it is told as %v", name, lines)
		}
	}
	w.start(t) // asks for another one
	w.verified(t, "a.example.org")

	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := NewACME(w.config); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "0600") {
			t.Errorf("a key that others may read: %v", err)
		}
	}
}

func TestAccountKeyIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	a := w.source(t)
	if again := w.source(t); !a.account.(*ecdsa.PrivateKey).Equal(again.account) {
		t.Error("the second start has another account")
	}
	path := filepath.Join(string(a.store), accountFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"empty": nil, "cut short": good[:40], "garbage": []byte("garbage")} {
		write(t, path, text)
		if _, err := NewACME(w.config); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		after, err := os.ReadFile(path)
		if err != nil || string(after) != string(text) {
			t.Errorf("%s: the file has changed", name)
		}
	}
}

// What a staging CA has signed is not served in the name of another one.
func TestEachCAHasItsOwn(t *testing.T) {
	w := newWorld(t)
	a := w.source(t)
	if err := a.store.keep("a.example.org", pairOf(t, "a.example.org", 90*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if a = w.source(t); a.Expires().IsZero() {
		t.Fatal("what is kept is not used")
	}
	w.config.Directory = strings.Replace(w.config.Directory, "/dir", "/dir/2", 1)
	b := w.source(t)
	if !b.Expires().IsZero() {
		t.Error("the certificate of another CA is used")
	}
	if a.account.(*ecdsa.PrivateKey).Equal(b.account) {
		t.Error("two CAs know the same account")
	}
}

func TestCertificateThatCannotBeKeptIsServed(t *testing.T) {
	w := newWorld(t)
	a := w.source(t)
	if err := os.RemoveAll(string(a.store)); err != nil {
		t.Fatal(err)
	}
	serve(t, w.listener, a)
	run(t, a)
	w.clock.idle(t)
	w.verified(t, "a.example.org")
	w.said.told(t, 1, "could not be kept", "a.example.org")
}

func TestACMEConfig(t *testing.T) {
	good := ACMEConfig{Domains: []string{"a.example.org"}, DataDir: t.TempDir()}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	many := make([]string, MaxDomains+1)
	for i := range many {
		many[i] = fmt.Sprintf("%d.example.org", i)
	}
	for name, test := range map[string]struct {
		change func(*ACMEConfig)
		want   string
	}{
		"no domain":           {func(c *ACMEConfig) { c.Domains = nil }, "1 to 32 domains"},
		"too many domains":    {func(c *ACMEConfig) { c.Domains = many }, "not 33"},
		"an empty domain":     {func(c *ACMEConfig) { c.Domains = []string{""} }, "host name"},
		"a wildcard":          {func(c *ACMEConfig) { c.Domains = []string{"*.example.org"} }, "DNS"},
		"an IP address":       {func(c *ACMEConfig) { c.Domains = []string{"192.0.2.1"} }, "IP address"},
		"an IPv6 address":     {func(c *ACMEConfig) { c.Domains = []string{"2001:db8::1"} }, "IP address"},
		"a port":              {func(c *ACMEConfig) { c.Domains = []string{"a.example.org:443"} }, "host name"},
		"a URL":               {func(c *ACMEConfig) { c.Domains = []string{"https://a.example.org"} }, "host name"},
		"a path":              {func(c *ACMEConfig) { c.Domains = []string{"../../etc"} }, "host name"},
		"a domain twice":      {func(c *ACMEConfig) { c.Domains = []string{"a.example.org", "A.example.org."} }, "twice"},
		"a directory by http": {func(c *ACMEConfig) { c.Directory = "http://ca.example.org/" }, "https"},
		"a directory's path":  {func(c *ACMEConfig) { c.Directory = "/directory" }, "https"},
		"no data directory":   {func(c *ACMEConfig) { c.DataDir = "" }, "data directory"},
		"no address":          {func(c *ACMEConfig) { c.Email = "you" }, "you@example.org"},
		"two addresses":       {func(c *ACMEConfig) { c.Email = "a@example.org,b@example.org" }, "you@example.org"},
		"no roots":            {func(c *ACMEConfig) { c.RootFile = filepath.Join(c.DataDir, "missing") }, "no such file"},
		"no data directory's place": {func(c *ACMEConfig) {
			c.DataDir = filepath.Join(c.DataDir, "file")
			write(t, c.DataDir, nil)
		}, "directory of certificates"},
		"empty roots": {func(c *ACMEConfig) {
			c.RootFile = filepath.Join(c.DataDir, "empty")
			write(t, c.RootFile, nil)
		}, "no certificate"},
	} {
		config := good
		test.change(&config)
		if _, err := NewACME(config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestRunHasNothingToDoOnceItEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, source := range []Source{newTestACME(t), func() Source { f, _ := newTestFiles(t); return f }()} {
		source.Reload()
		source.Reload() // nobody is there, and it does not wait
		source.Run(ctx)
	}
}
