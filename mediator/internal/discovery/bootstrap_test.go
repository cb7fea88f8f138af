package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
)

const someID = "12D3KooWGTQsqPEnydcQKVQNd6RghYHiVeUJ14wd9YGvBKrkFPV4"

func TestParseBootstrap(t *testing.T) {
	for text, want := range map[string]string{ // the URL of /id; "multiaddr"; or "" for an error
		"/ip4/192.0.2.1/tcp/4001/p2p/" + someID:           "multiaddr",
		"/ip6/2001:db8::1/udp/4001/quic-v1/p2p/" + someID: "multiaddr",
		"/dns/example.org/tcp/4001/p2p/" + someID:         "multiaddr",
		"example.org:8080":                                "http://example.org:8080/id",
		"localhost:1":                                     "http://localhost:1/id",
		"127.0.0.1:65535":                                 "http://127.0.0.1:65535/id",
		"[2001:db8::1]:8080":                              "http://[2001:db8::1]:8080/id",
		"http://example.org":                              "http://example.org/id",
		"http://example.org/":                             "http://example.org/id",
		"https://example.org:8443/cdn/":                   "https://example.org:8443/cdn/id",
		"https://example.org/id":                          "https://example.org/id",
		"":                                                "",
		"8080":                                            "",
		"example.org":                                     "",
		":8080":                                           "",
		"example.org:":                                    "",
		"example.org:0":                                   "",
		"example.org:65536":                               "",
		"example.org:http":                                "",
		"a b:80":                                          "",
		"2001:db8::1":                                     "",
		"2001:db8::1:8080":                                "",
		"/":                                               "",
		"/ip4/192.0.2.1/tcp/4001":                         "",
		"/p2p/" + someID:                                  "",
		"/ip4/192.0.2.1/tcp/4001/p2p/x":                   "",
		"/ip4/192.0.2/tcp/4001/p2p/" + someID:             "",
		"ws://example.org/mediation":                      "",
		"ftp://example.org":                               "",
		"http://":                                         "",
		"http://user:secret@example.org":                  "",
		"http://example.org/?a=b":                         "",
		"http://example.org/#a":                           "",
		"http://example.org:99999":                        "",
		"--help":                                          "",
	} {
		bootstrap, err := ParseBootstrap(text)
		got := ""
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
				t.Errorf("the error does not name %q: %v", text, err)
			}
		case bootstrap.info != nil:
			got = "multiaddr"
		default:
			got = bootstrap.id.String()
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
		if err == nil && bootstrap.String() != text {
			t.Errorf("%q became %q", text, bootstrap)
		}
	}
}

// logs collects what is logged at info and above.
type logs struct {
	slog.Handler
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *logs) Handle(ctx context.Context, record slog.Record) error {
	text := record.Message
	record.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	if record.Level >= slog.LevelInfo {
		l.mu.Lock()
		l.lines = append(l.lines, text)
		l.mu.Unlock()
	}
	return l.Handler.Handle(ctx, record)
}

func (l *logs) WithAttrs([]slog.Attr) slog.Handler { return l }

// count returns how many lines contain the text.
func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}

func logged(t *testing.T, c *Config) *logs {
	l := &logs{Handler: slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})}
	c.Logger = slog.New(l)
	return l
}

func wantLogged(t *testing.T, l *logs, text string) {
	t.Helper()
	eventually(t, func() error {
		if l.count(text) == 0 {
			return fmt.Errorf("%q was never logged", text)
		}
		return nil
	})
}

func wantPeers(t *testing.T, d *Discovery, want int) {
	t.Helper()
	eventually(t, func() error {
		if have := d.Status().Peers; have != want {
			return fmt.Errorf("%d peers, want %d", have, want)
		}
		return nil
	})
}

// idOf is the handler of /id of a mediator.
func idOf(d *Discovery) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/id" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(idAnswer{ID: d.ID().String(), Addresses: append(d.Addrs(), "/martian/1/p2p/x")})
	}
}

func TestBootstrapOverHTTP(t *testing.T) {
	first := start(t, nil)
	server := httptest.NewServer(idOf(first))
	defer server.Close()
	moved := httptest.NewServer(http.RedirectHandler(server.URL+"/id", http.StatusFound))
	defer moved.Close()
	for name, text := range map[string]string{
		"URL": server.URL, "host:port": strings.TrimPrefix(server.URL, "http://"), "redirect": moved.URL,
	} {
		t.Run(name, func(t *testing.T) {
			var log *logs
			d := start(t, func(c *Config) {
				log = logged(t, c)
				c.Bootstrap = []string{text}
			})
			wantPeers(t, d, 1)
			wantLogged(t, log, "bootstrap reached")
		})
	}
}

func TestBootstrapAppearsLaterAndComesBack(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	port := reservePort(t)
	var log *logs
	waiting := start(t, func(c *Config) {
		log = logged(t, c)
		c.Bootstrap = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", port, id)}
	})
	announce(t, waiting, hashOf("x"))
	wantLogged(t, log, "bootstrap not reached")
	for round := 1; round <= 2; round++ {
		late := start(t, func(c *Config) { c.Key, c.ListenPort = key, port })
		wantPeers(t, waiting, 1)
		eventually(t, func() error {
			if log.count("bootstrap reached") != round {
				return errors.New("not told once that it is reached")
			}
			return nil
		})
		eventually(t, func() error {
			if len(find(t, late, hashOf("x"))) == 0 {
				return errors.New("not found")
			}
			return nil
		})
		if err := late.Close(); err != nil {
			t.Fatal(err)
		}
		wantPeers(t, waiting, 0)
		eventually(t, func() error {
			if log.count("bootstrap not reached") != round+1 {
				return errors.New("not told once that it is gone")
			}
			return nil
		})
	}
}

// reservePort returns a port that was free for TCP a moment ago.
func reservePort(t *testing.T) int {
	t.Helper()
	port, err := freePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestBootstrapIsNoMediator(t *testing.T) {
	self := func(addresses ...string) string {
		text, err := json.Marshal(idAnswer{ID: someID, Addresses: addresses})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	many := make([]string, maxIDAddresses+1)
	for i := range many {
		many[i] = "/ip4/192.0.2.1/tcp/1/p2p/" + someID
	}
	for name, serve := range map[string]http.HandlerFunc{
		"not found":        http.NotFound,
		"a web page":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html><html></html>") },
		"nothing":          func(http.ResponseWriter, *http.Request) {},
		"other JSON":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"hello":"world"}`) },
		"a list":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[]`) },
		"no addresses":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, self()) },
		"too many":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, self(many...)) },
		"others addresses": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, self("/ip4/192.0.2.1/tcp/1", "x")) },
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat(" ", maxIDBody)+self(many[0]))
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
		"redirects for ever": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/id", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(serve)
			defer server.Close()
			var log *logs
			d := start(t, func(c *Config) {
				log = logged(t, c)
				c.Bootstrap = []string{server.URL}
			})
			wantLogged(t, log, "is no mediator")
			_, err := d.reach(testContext(t), mustParse(t, server.URL))
			if !errors.Is(err, errNoMediator) {
				t.Errorf("the error is %v", err)
			}
			if got := log.count("is no mediator"); got != 1 {
				t.Errorf("told %d times", got)
			}
		})
	}
}

func mustParse(t *testing.T, text string) Bootstrap {
	t.Helper()
	bootstrap, err := ParseBootstrap(text)
	if err != nil {
		t.Fatal(err)
	}
	return bootstrap
}

func TestBootstrapSpeaksOtherProtocols(t *testing.T) {
	other, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ForceReachabilityPublic())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var log *logs
	d := start(t, func(c *Config) {
		log = logged(t, c)
		c.Bootstrap = []string{other.Addrs()[0].String() + "/p2p/" + other.ID().String()}
	})
	wantLogged(t, log, "is no mediator")
	if got := d.Status().Peers; got != 0 {
		t.Errorf("%d peers", got)
	}
}

func TestBootstrapIsStarting(t *testing.T) {
	first := start(t, nil)
	ready := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ready:
			idOf(first)(w, r)
		default:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var log *logs
	d := start(t, func(c *Config) {
		log = logged(t, c)
		c.Bootstrap = []string{server.URL}
	})
	wantLogged(t, log, "bootstrap not reached")
	close(ready)
	wantPeers(t, d, 1)
}

func TestBootstrapNeverAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d := start(t, func(c *Config) { c.Bootstrap = []string{silent.Addr().String()} })
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if _, err := d.reach(ctx, mustParse(t, silent.Addr().String())); err == nil || errors.Is(err, errNoMediator) {
		t.Errorf("the error is %v", err)
	}
	announce(t, d, hashOf("x")) // nothing else waits for it
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}

func TestBootstrapIsItself(t *testing.T) {
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	port := reservePort(t)
	var log *logs
	start(t, func(c *Config) {
		log = logged(t, c)
		c.Key, c.ListenPort = key, port
		c.Bootstrap = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", port, id)}
	})
	wantLogged(t, log, "it is this mediator itself")
	if log.count("no mediator")+log.count("not reached") != 0 {
		t.Errorf("also told: %v", log.lines)
	}
}

func TestAddressesThroughTheHost(t *testing.T) {
	info := mustParse(t, "/ip4/10.0.0.1/tcp/4001/p2p/"+someID).info
	quic := mustParse(t, "/ip6/fe80::1/udp/4001/quic-v1/p2p/"+someID).info
	addresses := append(append(info.Addrs, info.Addrs...), quic.Addrs...)
	for host, want := range map[string]string{
		"example.org": "[/dns/example.org/tcp/4001 /dns/example.org/udp/4001/quic-v1]",
		"192.0.2.1":   "[/ip4/192.0.2.1/tcp/4001 /ip4/192.0.2.1/udp/4001/quic-v1]",
		"2001:db8::1": "[/ip6/2001:db8::1/tcp/4001 /ip6/2001:db8::1/udp/4001/quic-v1]",
	} {
		if got := fmt.Sprint(throughHost(host, addresses)); got != want {
			t.Errorf("through %s: %s, want %s", host, got, want)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add([]byte(`{"id":"` + someID + `","addresses":["/ip4/192.0.2.1/tcp/4001/p2p/` + someID + `"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		info, err := parseID(body)
		if err != nil {
			return
		}
		if err := info.ID.Validate(); err != nil || len(info.Addrs) == 0 || len(info.Addrs) > maxIDAddresses {
			t.Errorf("got %v, %v", info, err)
		}
		throughHost("example.org", info.Addrs)
	})
}
