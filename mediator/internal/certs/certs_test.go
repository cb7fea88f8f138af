package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	for name, value := range pebble {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m,
		// The CA of the tests validates for as long as the process lasts.
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"),
	)
}

// patience bounds what a test waits for; it is only used up where the test fails.
const patience = 30 * time.Second

// testClock stands still until it is told to go on.
type testClock struct {
	pauses chan pause // what Run waits for, one after the other

	mu  sync.Mutex
	now time.Time
}

// pause is one call of After.
type pause struct {
	length time.Duration
	end    chan time.Time
}

func newTestClock() *testClock { return &testClock{pauses: make(chan pause, 1000), now: time.Now()} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) After(d time.Duration) <-chan time.Time {
	end := make(chan time.Time, 1)
	c.pauses <- pause{d, end}
	return end
}

// idle waits until Run has nothing to do.
func (c *testClock) idle(t *testing.T) pause {
	t.Helper()
	select {
	case p := <-c.pauses:
		return p
	case <-time.After(patience):
		t.Fatal("Run does not get done")
		return pause{}
	}
}

// pass lets d of a pause pass, or what is left of it.
func (c *testClock) pass(p pause, d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	p.end <- c.Now()
}

// journal is a log that can be read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(text)
}

// logger logs to the journal, and to the test.
func (j *journal) logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(j, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// at returns the lines of one level.
func (j *journal) at(level slog.Level) (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, "level="+level.String()+" ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// told fails unless just so many errors were logged, the last one with all of the words.
func (j *journal) told(t *testing.T, times int, words ...string) {
	t.Helper()
	lines := j.at(slog.LevelError)
	if len(lines) != times {
		t.Fatalf("%d errors were logged, want %d:\n%s", len(lines), times, strings.Join(lines, ""))
	}
	for _, word := range words {
		if !strings.Contains(lines[times-1], word) {
			t.Errorf("nothing of %q in %s", word, lines[times-1])
		}
	}
}

// run runs a source until the end of the test, or until stop is called.
func run(t *testing.T, source Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		source.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// serve serves HTTP over TLS on a listener as the mediator does, until the end of the test.
func serve(t *testing.T, listener net.Listener, source Source) {
	t.Helper()
	serveHTTP(t, tls.NewListener(listener, source.Config()), http.NotFoundHandler())
}

func serveHTTP(t *testing.T, listener net.Listener, handler http.Handler) {
	t.Helper()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// shake does one handshake with whoever listens.
func shake(listener net.Listener, config *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", listener.Addr().String(), config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

// shown returns the certificate that is shown to whoever asks for a name.
func shown(t *testing.T, listener net.Listener, name string) *x509.Certificate {
	t.Helper()
	state, err := shake(listener, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("no handshake for %s: %v", name, err)
	}
	return state.PeerCertificates[0]
}

// signed returns a certificate for a name that signs itself, and its key, in PEM.
func signed(t *testing.T, name string, from, to time.Time) (certText, keyText []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv6loopback}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyText, err = encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyText
}

func TestConfigs(t *testing.T) {
	files, _ := newTestFiles(t)
	for name, source := range map[string]Source{"files": files.Files, "acme": newTestACME(t)} {
		t.Run(name, func(t *testing.T) {
			listener := listen(t)
			serve(t, listener, source)
			offer := func(change func(*tls.Config)) (tls.ConnectionState, error) {
				config := &tls.Config{ServerName: "a.example.org", InsecureSkipVerify: true}
				change(config)
				return shake(listener, config)
			}
			for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
				_, err := offer(func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
				switch old := version < tls.VersionTLS12; {
				case old && (err == nil || !strings.Contains(err.Error(), "protocol version")):
					t.Errorf("%s: %v, want a refusal of the version", tls.VersionName(version), err)
				case !old && err != nil:
					t.Errorf("%s: %v", tls.VersionName(version), err)
				}
			}
			for _, test := range []struct {
				offered []string
				want    string
				refused bool
			}{
				{[]string{"h2", "http/1.1"}, "http/1.1", false},
				{[]string{"http/1.1"}, "http/1.1", false},
				{nil, "", false},
				{[]string{"h2"}, "", true},
				{[]string{"acme-tls/1"}, "", true},
				{[]string{"acme-tls/1", "http/1.1"}, "http/1.1", false},
			} {
				state, err := offer(func(c *tls.Config) { c.NextProtos = test.offered })
				switch {
				case test.refused && (err == nil || !strings.Contains(err.Error(), "no application protocol")):
					t.Errorf("%v: %v, want a refusal of the protocol", test.offered, err)
				case !test.refused && (err != nil || state.NegotiatedProtocol != test.want):
					t.Errorf("%v: got %q, %v; want %q", test.offered, state.NegotiatedProtocol, err, test.want)
				}
			}
		})
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		size int
		want string
	}{"as large as can be": {maxFile, ""}, "too large": {maxFile + 1, "larger than 256 KiB"}} {
		path := dir + "/" + name
		write(t, path, make([]byte, test.size))
		text, _, err := read(path)
		if test.want == "" && (err != nil || len(text) != test.size) {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, _, err := read(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory: %v", err)
	}
}
