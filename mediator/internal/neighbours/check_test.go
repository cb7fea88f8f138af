package neighbours

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"p2pcdn/common/ident"
)

// Two ids as libp2p makes them.
var (
	alice = parseID("12D3KooWGzxzKZYveHXtpG6AsrUJBcWfHBFS2HsEoGTxrMLvKXtF")
	bob   = parseID("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
)

func parseID(text string) ident.MediatorID {
	id, err := ident.ParseMediatorID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// saysID serves /id as wsserver does; id may return the zero value: then it serves nothing.
func saysID(id func() ident.MediatorID) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id().IsZero() || r.Method != http.MethodGet || r.URL.RequestURI() != "/id" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":%q,"addresses":["/ip4/127.0.0.1/tcp/4001/p2p/%s"],"version":"test"}`+"\n", id(), id())
	})
}

func is(id ident.MediatorID) http.Handler { return saysID(func() ident.MediatorID { return id }) }

// internet is what a checker sees of the world: names, and addresses that one server has.
type internet struct {
	names  map[string][]string
	down   map[string]bool // addresses, without the port
	server *httptest.Server
	dials  atomic.Int32
}

func (i *internet) lookup(_ context.Context, host string) (addresses []netip.Addr, err error) {
	texts, there := i.names[host]
	if !there {
		return nil, errors.New("no such host")
	}
	for _, text := range texts {
		addresses = append(addresses, netip.MustParseAddr(text))
	}
	return addresses, nil
}

func (i *internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	i.dials.Add(1)
	if host, _, err := net.SplitHostPort(address); err != nil || i.down[host] {
		return nil, fmt.Errorf("%s does not answer", address)
	}
	return new(net.Dialer).DialContext(ctx, network, i.server.Listener.Addr().String())
}

func (i *internet) checker(t *testing.T) *checker {
	t.Cleanup(i.server.Close)
	return &checker{
		lookup: i.lookup, dial: i.dial, timeout: 30 * time.Second,
		networks: newAllowances[netip.Prefix](time.Hour, checksBurst),
	}
}

func names() map[string][]string {
	return map[string][]string{
		"a.example": {"9.9.9.1"}, "both.example": {"2620:fe::1", "9.9.9.1"}, "lan.example": {"192.168.1.1"},
		"mixed.example": {"9.9.9.1", "192.168.1.1"}, "cloud.example": {"169.254.169.254"}, "localhost": {"127.0.0.1", "::1"},
		"none.example": {}, "many.example": strings.Fields(strings.Repeat("9.9.9.1 ", maxAddresses+1)),
	}
}

func TestCheck(t *testing.T) {
	world := &internet{names: names(), server: httptest.NewServer(is(alice))}
	c := world.checker(t)
	for _, test := range []struct {
		url  string
		from reach
		want proof // without the URL; zero: it is refused
	}{
		{"ws://a.example/mediation", anywhere, proof{network: netip.MustParsePrefix("9.9.9.0/24"), reach: anywhere}},
		{"ws://a.example:8080/mediation", here, proof{network: netip.MustParsePrefix("9.9.9.0/24"), reach: anywhere}},
		{"ws://both.example/", anywhere, proof{network: netip.MustParsePrefix("2620:fe::/48"), reach: anywhere}},
		{"ws://8.8.8.8/", anywhere, proof{network: netip.MustParsePrefix("8.8.8.0/24"), reach: anywhere}},
		{"ws://lan.example/", nearby, proof{reach: nearby}},
		{"ws://lan.example/", here, proof{reach: nearby}},
		{"ws://mixed.example/", nearby, proof{network: netip.MustParsePrefix("9.9.9.0/24"), reach: nearby}},
		{"ws://localhost:8080/", here, proof{reach: here}},
		{"ws://[::1]:8080/", here, proof{reach: here}},

		{"ws://lan.example/", anywhere, proof{}},
		{"ws://lan.example/", nowhere, proof{}},
		{"ws://mixed.example/", anywhere, proof{}},
		{"ws://localhost:8080/", anywhere, proof{}},
		{"ws://localhost:8080/", nearby, proof{}},
		{"ws://127.0.0.1:8080/", anywhere, proof{}},
		{"ws://192.168.1.1/", anywhere, proof{}},
		{"ws://cloud.example/", here, proof{}},
		{"ws://none.example/", anywhere, proof{}},
		{"ws://many.example/", anywhere, proof{}},
		{"ws://unheard.example/", anywhere, proof{}},
		{"wss://a.example/", anywhere, proof{}}, // it speaks no TLS
	} {
		before := world.dials.Load()
		got, err := c.check(t.Context(), toCheck{alice, test.url, test.from})
		if test.want != (proof{}) {
			test.want.url = test.url
		}
		if got != test.want || (err == nil) != (test.want != proof{}) {
			t.Errorf("%s from %d: %+v, %v", test.url, test.from, got, err)
		}
		if errors.Is(err, errTooNear) && world.dials.Load() != before {
			t.Errorf("%s from %d was dialled", test.url, test.from)
		}
	}
	if _, err := c.check(t.Context(), toCheck{bob, "ws://a.example/", anywhere}); !errors.Is(err, errNotTheirs) {
		t.Errorf("another one's server: %v", err)
	}
}

func TestCheckTriesFurtherAddresses(t *testing.T) {
	world := &internet{names: names(), server: httptest.NewServer(is(alice)), down: map[string]bool{"2620:fe::1": true}}
	c := world.checker(t)
	got, err := c.check(t.Context(), toCheck{alice, "ws://both.example/", anywhere})
	if err != nil || got.network != netip.MustParsePrefix("9.9.9.0/24") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCheckOverTLS(t *testing.T) {
	world := &internet{
		names:  map[string][]string{"example.com": {"9.9.9.1"}, "other.example": {"9.9.9.1"}},
		server: httptest.NewUnstartedServer(is(alice)),
	}
	world.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that we end
	world.server.StartTLS()
	c := world.checker(t)
	check := toCheck{alice, "wss://example.com/mediation", anywhere}
	var unknown *tls.CertificateVerificationError
	if _, err := c.check(t.Context(), check); !errors.As(err, &unknown) {
		t.Errorf("an unknown certificate: %v", err)
	}
	c.tls = world.server.Client().Transport.(*http.Transport).TLSClientConfig
	if got, err := c.check(t.Context(), check); err != nil || got.url != check.url {
		t.Errorf("%+v, %v", got, err)
	}
	check.url = "wss://other.example/mediation"
	if _, err := c.check(t.Context(), check); !errors.As(err, &unknown) {
		t.Errorf("another one's certificate: %v", err)
	}
}

func TestCheckOfWhatIsNoMediator(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for name, handler := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/id" {
				http.Redirect(w, r, "/id2", http.StatusFound)
				return
			}
			fmt.Fprintf(w, `{"id":%q}`, alice)
		},
		"another status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprintf(w, `{"id":%q}`, alice) },
		"a web page":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html>") },
		"no id":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"addresses":[]}`) },
		"a number":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":1}`) },
		"nothing":        func(http.ResponseWriter, *http.Request) {},
		"a long answer": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"id":%q,"x":%q}`, alice, strings.Repeat("x", maxIDAnswer))
		},
		"a long head": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", maxIDAnswer))
			fmt.Fprintf(w, `{"id":%q}`, alice)
		},
		"an endless body": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"no HTTP": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n"))
				_ = conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			world := &internet{names: names(), server: httptest.NewServer(handler)}
			if got, err := world.checker(t).check(t.Context(), toCheck{alice, "ws://a.example/", anywhere}); err == nil || got != (proof{}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		world := &internet{names: names(), server: httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))}
		c := world.checker(t)
		c.timeout = 100 * time.Millisecond
		if _, err := c.check(t.Context(), toCheck{alice, "ws://a.example/", anywhere}); err == nil {
			t.Error("it held")
		}
	})
}

func TestChecksOfOneNetworkAreBounded(t *testing.T) {
	world := &internet{names: map[string][]string{"other.example": {"8.8.8.8"}}, server: httptest.NewServer(is(alice))}
	for i := range 2 * checksBurst { // many names, one victim
		world.names[fmt.Sprintf("n%d.example", i)] = []string{fmt.Sprintf("9.9.9.%d", i)}
	}
	c := world.checker(t)
	for i := range 2 * checksBurst {
		_, err := c.check(t.Context(), toCheck{bob, fmt.Sprintf("ws://n%d.example/", i), anywhere})
		want := errNotTheirs
		if i >= checksBurst {
			want = errTooMany
		}
		if !errors.Is(err, want) {
			t.Errorf("number %d: %v", i, err)
		}
	}
	if got := world.dials.Load(); got != checksBurst {
		t.Errorf("the victim was asked %d times", got)
	}
	if _, err := c.check(t.Context(), toCheck{alice, "ws://other.example/", anywhere}); err != nil {
		t.Errorf("another network: %v", err)
	}
}
