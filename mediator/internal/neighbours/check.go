package neighbours

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/strict"
)

const (
	// maxIDAnswer bounds the answer of /id, in bytes with its head. A mediator on ten
	// interfaces has forty addresses of a hundred bytes.
	maxIDAnswer = 64 << 10

	// maxAddresses bounds those that a host may have: nobody needs as many, and each is judged.
	maxAddresses = 16

	// maxTried is how many addresses of a host are dialled: IPv6, IPv4, and one that may be down.
	maxTried = 3

	// checksBurst and checkEvery bound the requests to one network: five times what is told of it
	// can be checked at once, and then checked again every hour. A victim that
	// strangers name hears from each mediator ten times an hour, with a request of 200 bytes.
	checksBurst = 15
	checkEvery  = 6 * time.Minute
)

// verdict is what became of a check.
type verdict int

const (
	holds   verdict = iota
	refuted         // or not to be had
	putOff          // it would be one too many for that network
)

var (
	errTooNear    = errors.New("it lies nearer than the mediator that names it")
	errTooMany    = errors.New("too many checks of this network")
	errNotTheirs  = errors.New("it is not the mediator's that names it")
	errNoMediator = errors.New("it answers, but is no mediator")
)

// checker asks the mediator at a URL who it is. Fields without a note never change.
//
// It makes each connection and the one request on it itself: an HTTP client that looks up and
// dials on its own, and follows redirects, could be led to an address that nobody judged.
type checker struct {
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config
	timeout time.Duration

	mu       sync.Mutex
	networks *allowances[netip.Prefix] // guarded by mu
}

// check returns the proof that the URL is that of the mediator which named it.
func (c *checker) check(ctx context.Context, check toCheck) (proof, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	to, err := parseTarget(check.url)
	if err != nil {
		return proof{}, err
	}
	addresses, near, err := c.resolve(ctx, to, check.from)
	if err != nil {
		return proof{}, err
	}
	conn, address, err := c.connect(ctx, addresses, to.port)
	if err != nil {
		return proof{}, err
	}
	defer conn.Close()
	id, err := c.readID(ctx, conn, to)
	if err != nil {
		return proof{}, err
	}
	if id != check.id {
		return proof{}, fmt.Errorf("%w: %s is that of %s", errNotTheirs, to.id(), id.Short())
	}
	return proof{url: check.url, network: networkOf(address), reach: near}, nil
}

// resolve returns the addresses of a host, and how near the nearest of them is. One that may not be
// named spoils them all: which of them a browser would take is not known.
func (c *checker) resolve(ctx context.Context, to target, from reach) ([]netip.Addr, reach, error) {
	var addresses []netip.Addr
	if address, err := netip.ParseAddr(to.host); err == nil {
		addresses = []netip.Addr{address}
	} else if addresses, err = c.lookup(ctx, to.host); err != nil {
		return nil, nowhere, fmt.Errorf("looking up %s: %w", to.host, err)
	}
	if len(addresses) == 0 || len(addresses) > maxAddresses {
		return nil, nowhere, fmt.Errorf("%s has %d addresses, not 1 to %d", to.host, len(addresses), maxAddresses)
	}
	near := anywhere
	for _, address := range addresses {
		if !from.mayName(reachOf(address)) {
			return nil, nowhere, fmt.Errorf("%w: %s", errTooNear, address)
		}
		near = min(near, reachOf(address))
	}
	return addresses, near, nil
}

// connect dials one address after the other, each with its share of the time.
func (c *checker) connect(ctx context.Context, addresses []netip.Addr, port string) (net.Conn, netip.Addr, error) {
	err := error(errTooMany)
	for _, address := range addresses[:min(len(addresses), maxTried)] {
		if !c.allowed(networkOf(address)) {
			continue
		}
		conn, failure := c.dialOne(ctx, net.JoinHostPort(address.Unmap().String(), port))
		if failure == nil {
			return conn, address, nil
		}
		err = failure
	}
	return nil, netip.Addr{}, err
}

func (c *checker) dialOne(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout/(maxTried+1)) // the rest is for the answer
	defer cancel()
	return c.dial(ctx, "tcp", address)
}

func (c *checker) allowed(network netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.networks.take(network, time.Now())
}

// readID asks on an open connection.
func (c *checker) readID(ctx context.Context, conn net.Conn, to target) (ident.MediatorID, error) {
	fail := func(err error) (ident.MediatorID, error) {
		return ident.MediatorID{}, fmt.Errorf("asking for %s: %w", to.id(), err)
	}
	// A read knows no context.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if to.secure {
		config := c.tls.Clone()
		if config == nil {
			config = new(tls.Config)
		}
		config.ServerName, config.NextProtos = to.host, []string{"http/1.1"}
		conn = tls.Client(conn, config)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to.id(), nil)
	if err != nil {
		return fail(err)
	}
	request.Close = true
	request.Header.Set("User-Agent", "p2pcdn-mediator")
	if err := request.Write(conn); err != nil {
		return fail(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxIDAnswer)), request)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK { // a redirect is not followed
		return fail(fmt.Errorf("%w: status %d", errNoMediator, response.StatusCode))
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fail(err)
	}
	fields, ok := strict.Object(body)
	raw, _ := fields.Get("id")
	text, isText := strict.Text(raw)
	id, err := ident.ParseMediatorID(text)
	if !ok || !isText || err != nil {
		return fail(fmt.Errorf("%w: the answer has no id", errNoMediator))
	}
	return id, nil
}
