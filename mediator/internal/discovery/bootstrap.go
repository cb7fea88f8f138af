package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

const (
	// reachTimeout bounds one attempt to reach a bootstrap, over HTTP and libp2p
	// together: two slow round trips around the world and a name lookup.
	reachTimeout = 10 * time.Second

	// maxIDBody and maxIDAddresses bound the answer of /id. A mediator on ten
	// interfaces has forty addresses of a hundred bytes.
	maxIDBody      = 64 << 10
	maxIDAddresses = 64

	// maxRedirects: http to https, and one more.
	maxRedirects = 3
)

var (
	errNoMediator = errors.New("it answers, but is no mediator")
	errSelf       = errors.New("it is this mediator itself")
)

// Bootstrap is a parsed bootstrap argument: a mediator of the DHT to join.
type Bootstrap struct {
	text string
	info *peer.AddrInfo // from a multiaddr; else nil
	id   *url.URL       // where to read the addresses; nil with info
}

// String returns the argument as it was given.
func (b Bootstrap) String() string { return b.text }

// ParseBootstrap reads a bootstrap argument: a multiaddr that ends in
// /p2p/<id>, or host:port or an http(s) URL of a mediator's HTTP side. It looks
// at the syntax only and asks nobody.
func ParseBootstrap(text string) (Bootstrap, error) {
	fail := func(why string) (Bootstrap, error) {
		return Bootstrap{}, fmt.Errorf("bootstrap %q: %s", text, why)
	}
	if strings.HasPrefix(text, "/") {
		info, err := peer.AddrInfoFromString(text)
		if err != nil || len(info.Addrs) == 0 {
			return fail("a multiaddr has the form /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…")
		}
		return Bootstrap{text: text, info: info}, nil
	}
	address := text
	if !strings.Contains(text, "://") {
		address = "http://" + text
		if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
			return fail("it is neither a multiaddr nor host:port nor an http URL")
		}
	}
	parsed, err := url.Parse(address)
	switch {
	case err != nil || parsed.Hostname() == "":
		return fail("it is neither a multiaddr nor host:port nor an http URL")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return fail("a URL is that of the mediator's HTTP side: http or https")
	case parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "":
		return fail("a URL has a host, a port and a path only")
	}
	if port := parsed.Port(); port != "" {
		if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
			return fail("a port is 1 to 65535")
		}
	}
	if !strings.HasSuffix(parsed.Path, "/id") {
		parsed = parsed.JoinPath("id")
	}
	return Bootstrap{text: text, id: parsed}, nil
}

// join keeps trying to reach one bootstrap until it is part of the DHT, and
// again whenever wake says that the routing table is empty, or the bootstrap is
// neither there nor connected: the network may have fallen apart, and this part
// of it be the one without the bootstrap. It runs until ctx is done, or at once
// ends where the bootstrap is this mediator.
func (d *Discovery) join(ctx context.Context, bootstrap Bootstrap, wake <-chan struct{}) {
	log := d.log.With("bootstrap", bootstrap.String())
	told := "" // what was logged last; the same is not logged twice in a row
	tell := func(level func(string, ...any), text string, args ...any) {
		if told != text {
			level(text, args...)
			told = text
		}
	}
	pause := d.timing.BootstrapMin
	for {
		select {
		case <-wake: // it is about a time before this attempt
		default:
		}
		id, err := d.reach(ctx, bootstrap)
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(err, errSelf):
			tell(log.Info, "bootstrap ignored: it is this mediator itself")
			return
		case errors.Is(err, errNoMediator):
			tell(log.Warn, "bootstrap answers but is no mediator; trying on", "error", err)
			pause = d.timing.BootstrapMax
		case err != nil:
			tell(log.Warn, "bootstrap not reached; trying on", "error", err)
		default:
			tell(log.Info, "bootstrap reached")
			if d.dht.RoutingTable().Size() > 0 { // the first one kad-dht looks around from itself
				d.meet(id)
			}
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, d.timing.BootstrapMax)
		if err != nil {
			continue
		}
		if d.dht.RoutingTable().Size() > 0 {
			pause = d.timing.BootstrapMin
		}
		for reached := true; reached; {
			check, cancel := context.WithTimeout(ctx, jitter(d.timing.Rejoin))
			select {
			case <-wake:
				reached = false
			case <-check.Done():
				reached = d.present(id)
			}
			cancel()
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// reach connects to a bootstrap once. Without an error the bootstrap is
// connected and speaks our DHT.
func (d *Discovery) reach(ctx context.Context, bootstrap Bootstrap) (peer.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	info := bootstrap.info
	if info == nil {
		var err error
		if info, err = d.readID(ctx, bootstrap.id); err != nil {
			return "", err
		}
	}
	if info.ID == d.self {
		return "", errSelf
	}
	// The swarm's own back-off grows to minutes, and would make ours pointless.
	d.swarm.Backoff().Clear(info.ID)
	if err := d.raw.Connect(ctx, *info); err != nil {
		return "", fmt.Errorf("connecting: %w", err)
	}
	protocols, err := d.raw.Peerstore().SupportsProtocols(info.ID, kadProtocol, WithdrawProtocol)
	if err != nil || len(protocols) < 2 {
		_ = d.raw.Network().ClosePeer(info.ID)
		return "", fmt.Errorf("%w: a libp2p node without the protocol %s", errNoMediator, WithdrawProtocol)
	}
	if err := d.messenger.Ping(ctx, info.ID); err != nil { // a connection outlives a cut
		return "", fmt.Errorf("it does not answer: %w", err)
	}
	return info.ID, nil
}

// idAnswer is what a mediator serves at /id.
type idAnswer struct {
	ID        string   `json:"id"`
	Addresses []string `json:"addresses"` // multiaddrs with /p2p/<id>
}

func (d *Discovery) readID(ctx context.Context, address *url.URL) (*peer.AddrInfo, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", address, err)
	}
	client := http.Client{
		Transport: d.http.Transport,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", errNoMediator, maxRedirects)
			}
			return nil
		},
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", address, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxIDBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", address, err)
	}
	if response.StatusCode >= 500 { // a proxy before a mediator that starts
		return nil, fmt.Errorf("asking for %s: status %s", address, response.Status)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s has the status %s", errNoMediator, address, response.Status)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "text/html" {
		return nil, fmt.Errorf("%w: %s is a web page", errNoMediator, address)
	}
	info, err := parseID(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errNoMediator, address, err)
	}
	info.Addrs = append(info.Addrs, throughHost(address.Hostname(), info.Addrs)...)
	return info, nil
}

// parseID reads the body of /id. Addresses that this version cannot read are
// passed over, for a later one may have more kinds.
func parseID(body []byte) (*peer.AddrInfo, error) {
	if len(body) > maxIDBody {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxIDBody)
	}
	var answer idAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, errors.New("the answer is not the JSON of a mediator's /id")
	}
	id, err := peer.Decode(answer.ID)
	if err != nil {
		return nil, errors.New("the answer has no libp2p id")
	}
	if len(answer.Addresses) > maxIDAddresses {
		return nil, fmt.Errorf("the answer has more than %d addresses", maxIDAddresses)
	}
	info := &peer.AddrInfo{ID: id}
	for _, text := range answer.Addresses {
		one, err := peer.AddrInfoFromString(text)
		if err == nil && one.ID == id {
			info.Addrs = append(info.Addrs, one.Addrs...)
		}
	}
	if len(info.Addrs) == 0 {
		return nil, errors.New("the answer has no libp2p address")
	}
	return info, nil
}

// throughHost returns the addresses again with the host under which the HTTP
// side was reached: behind a forwarded port a mediator knows only addresses
// that nobody outside can dial. Wrong guesses are harmless, the id is checked.
func throughHost(host string, addresses []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	prefix := "/dns/" + host
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		prefix = "/ip4/" + host
	} else if err == nil {
		prefix = "/ip6/" + ip.WithZone("").String()
	}
	seen := make(map[string]bool)
	var out []multiaddr.Multiaddr
	for _, address := range addresses {
		_, rest := multiaddr.SplitFirst(address)
		if rest == nil || relayed(address) { // the host is the relay's
			continue
		}
		text := prefix + rest.String()
		guess, err := multiaddr.NewMultiaddr(text)
		if err == nil && !seen[text] {
			seen[text] = true
			out = append(out, guess)
		}
	}
	return out
}

// jitter draws from d ± a quarter, so that mediators that started together do
// not stay in step.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}

// sleep reports whether d passed before ctx was done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
