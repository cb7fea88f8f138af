package certs

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testFiles is a Files of a.example.org in a directory of its own.
type testFiles struct {
	*Files
	clock     *testClock
	cert, key string
	writes    int // of the pair; each is a second later than the one before
}

func newTestFiles(t *testing.T) (*testFiles, *journal) {
	t.Helper()
	dir := t.TempDir()
	f := &testFiles{clock: newTestClock(), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	f.replace(t, "a.example.org")
	said := new(journal)
	files, err := newFiles(f.cert, f.key, said.logger(t), f.clock)
	if err != nil {
		t.Fatal(err)
	}
	f.Files = files
	return f, said
}

// replace writes a new pair in the place of the one before.
func (f *testFiles) replace(t *testing.T, name string) {
	t.Helper()
	now := f.clock.Now()
	certText, keyText := signed(t, name, now.Add(-time.Hour), now.Add(time.Hour))
	f.put(t, f.cert, certText)
	f.put(t, f.key, keyText)
}

// put writes one of the files, and gives it a time of its own: what the
// tests write within a tick of the system's clock is hours apart in the world.
func (f *testFiles) put(t *testing.T, path string, text []byte) {
	t.Helper()
	write(t, path, text)
	f.writes++
	at := f.clock.Now().Add(time.Duration(f.writes) * time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// poll has Run look at the files, and waits until it has.
func (f *testFiles) poll(t *testing.T, p pause) pause {
	t.Helper()
	if p.length != pollInterval {
		t.Errorf("the files are looked at after %v, want %v", p.length, pollInterval)
	}
	f.clock.pass(p, p.length)
	return f.clock.idle(t)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreServed(t *testing.T) {
	f, _ := newTestFiles(t)
	listener := listen(t)
	serve(t, listener, f)
	text, err := os.ReadFile(f.cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	state, err := shake(listener, &tls.Config{ServerName: "a.example.org", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	if end := state.PeerCertificates[0].NotAfter; !f.Expires().Equal(end) {
		t.Errorf("expires %v, want %v", f.Expires(), end)
	}
	if want := []string{"a.example.org", "::1"}; !slices.Equal(f.Names(), want) {
		t.Errorf("names %v, want %v", f.Names(), want)
	}
	for _, name := range []string{"", "b.example.org"} {
		if got := shown(t, listener, name).DNSNames[0]; got != "a.example.org" {
			t.Errorf("%q is shown %s", name, got)
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	f, said := newTestFiles(t)
	listener := listen(t)
	serve(t, listener, f)
	run(t, f)
	is := func(want string) {
		t.Helper()
		if got := shown(t, listener, "a.example.org").DNSNames[0]; got != want {
			t.Errorf("the certificate is of %s, want %s", got, want)
		}
	}
	p := f.poll(t, f.clock.idle(t))
	is("a.example.org")
	if lines := said.at(slog.LevelInfo); len(lines) != 0 {
		t.Errorf("nothing has changed, and yet: %v", lines)
	}

	f.replace(t, "b.example.org")
	f.poll(t, p)
	is("b.example.org")

	f.replace(t, "c.example.org")
	f.Reload()
	f.clock.idle(t)
	is("c.example.org")

	if lines := said.at(slog.LevelInfo); len(lines) != 2 || !strings.Contains(lines[1], "c.example.org") {
		t.Errorf("two changes are told as %v", lines)
	}
	said.told(t, 0)
}

func TestFilesThatDoNotFitAreNotUsed(t *testing.T) {
	f, said := newTestFiles(t)
	listener := listen(t)
	serve(t, listener, f)
	run(t, f)
	p := f.clock.idle(t)
	old := shown(t, listener, "").SerialNumber
	same := func() {
		t.Helper()
		if shown(t, listener, "").SerialNumber.Cmp(old) != 0 {
			t.Error("the certificate before is not kept")
		}
	}

	now := f.clock.Now()
	certText, keyText := signed(t, "b.example.org", now, now.Add(time.Hour))
	f.put(t, f.cert, certText) // and not yet the key
	p = f.poll(t, p)
	same()
	said.told(t, 1, f.cert, f.key, "private key does not match")
	f.poll(t, f.poll(t, p))
	said.told(t, 1)
	f.Reload() // whoever asks is told
	p = f.clock.idle(t)
	said.told(t, 2, "private key does not match")

	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	p = f.poll(t, p)
	same()
	said.told(t, 3, f.key, "no such file")

	f.put(t, f.key, keyText)
	f.poll(t, p)
	if got := shown(t, listener, "").DNSNames[0]; got != "b.example.org" {
		t.Errorf("the certificate is of %s, after both are there", got)
	}
	said.told(t, 3)
}

func TestFilesThatVanishAreKept(t *testing.T) {
	f, said := newTestFiles(t)
	run(t, f)
	p := f.clock.idle(t)
	if err := os.Remove(f.cert); err != nil {
		t.Fatal(err)
	}
	f.poll(t, f.poll(t, p))
	said.told(t, 1, f.cert, "no such file")
	if f.Names()[0] != "a.example.org" || f.Expires().IsZero() {
		t.Error("the certificate before is not kept")
	}
}

func TestFilesThatCannotBeUsedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	certText, keyText := signed(t, "a.example.org", time.Now(), time.Now().Add(time.Hour))
	_, otherKey := signed(t, "a.example.org", time.Now(), time.Now().Add(time.Hour))
	for name, text := range map[string][]byte{
		"cert": certText, "key": keyText, "other": otherKey, "empty": nil, "garbage": []byte("garbage"), "huge": make([]byte, maxFile+1),
	} {
		write(t, path(name), text)
	}
	for _, test := range []struct {
		cert, key string
		want      []string
	}{
		{"cert", "other", []string{path("cert"), path("other"), "private key does not match", "--tls-cert", "--tls-key"}},
		{"key", "cert", []string{path("cert"), path("key"), "--tls-cert"}},
		{"cert", "missing", []string{path("missing"), "no such file"}},
		{"missing", "key", []string{path("missing"), "no such file"}},
		{"empty", "key", []string{path("empty")}},
		{"cert", "garbage", []string{path("garbage")}},
		{"huge", "key", []string{path("huge"), "larger"}},
		{".", "key", []string{"regular file"}},
	} {
		_, err := NewFiles(path(test.cert), path(test.key), nil)
		if err == nil {
			t.Errorf("%s and %s are taken", test.cert, test.key)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s and %s: nothing of %q in: %v", test.cert, test.key, want, err)
			}
		}
	}
	for _, pair := range [][2]string{{"", path("key")}, {path("cert"), ""}} {
		if _, err := NewFiles(pair[0], pair[1], nil); err == nil || !strings.Contains(err.Error(), "go together") {
			t.Errorf("%q: %v", pair, err)
		}
	}
}

func TestFilesThatHaveExpiredAreServedWithAWarning(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	certText, keyText := signed(t, "a.example.org", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	write(t, cert, certText)
	write(t, key, keyText)
	said := new(journal)
	if _, err := NewFiles(cert, key, said.logger(t)); err != nil {
		t.Fatal(err)
	}
	if lines := said.at(slog.LevelWarn); len(lines) != 1 || !strings.Contains(lines[0], "expired") {
		t.Errorf("an expired certificate is told as %v", lines)
	}
}

// Handshakes go on while the files change.
func TestFilesChangeUnderLoad(t *testing.T) {
	f, said := newTestFiles(t)
	listener := listen(t)
	serve(t, listener, f)
	run(t, f)
	f.clock.idle(t)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := shake(listener, &tls.Config{InsecureSkipVerify: true}); err != nil {
					t.Errorf("a handshake failed: %v", err)
				}
				_, _ = f.Names(), f.Expires()
			}
		})
	}
	for range 20 {
		f.replace(t, "b.example.org")
		f.Reload()
		f.clock.idle(t)
	}
	close(stop)
	clients.Wait()
	said.told(t, 0)
}
