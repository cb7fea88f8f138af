package wsserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// door counts who is in, in all and by [limits.Source].
type door struct {
	all, each int // limits

	mu      sync.Mutex           // guards everything below
	total   int                  // bounded by all
	sources map[netip.Prefix]int // those that are in; bounded by total
}

func newDoor(all, each int) *door {
	return &door{all: all, each: each, sources: make(map[netip.Prefix]int)}
}

// enter lets one more in, and returns "", or says why not. Whoever was let in must
// leave. The bound of each source does not hold for one that brings others: a proxy.
func (d *door) enter(source netip.Prefix, brings bool) mediation.ErrorCode {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case limits.Reached(d.total, d.all):
		return mediation.CodeOverloaded
	case !brings && limits.Reached(d.sources[source], d.each):
		return mediation.CodeTooManyConnections
	}
	d.total++
	d.sources[source]++
	return ""
}

func (d *door) leave(source netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total--
	if d.sources[source]--; d.sources[source] == 0 {
		delete(d.sources, source)
	}
}

// address is where a connection comes from.
func address(remote string) netip.Addr {
	from, err := netip.ParseAddrPort(remote)
	if err != nil { // not TCP: all of these are one source
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// client is the address that a request counts for: the connection's, or, where that
// is a trusted proxy, the last one in X-Forwarded-For that is none. What stands before it
// could be anybody's invention.
func (s *Server) client(r *http.Request) netip.Addr {
	from := address(r.RemoteAddr)
	if !s.trusted(from) {
		return from
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return from // a proxy that says nothing, or nonsense
		}
		if from = hop.Unmap(); !s.trusted(from) {
			return from
		}
	}
	return from
}

func (s *Server) trusted(address netip.Addr) bool {
	for _, proxy := range s.TrustedProxies {
		if address.IsValid() && proxy.Contains(address.WithZone("")) {
			return true
		}
	}
	return false
}

// admits reports whether pages of the request's origin may use the mediator. Who
// says none is no page: a header keeps nobody out but pages.
func (s *Server) admits(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(s.AllowOrigins) == 0 {
		return true
	}
	for _, allowed := range s.AllowOrigins {
		if strings.EqualFold(origin, allowed) {
			return true
		}
	}
	return false
}

// connState counts the connections that are no WebSockets (yet): each has buffers
// and a goroutine before its first byte has come.
func (s *Server) connState(conn net.Conn, state http.ConnState) {
	from := address(conn.RemoteAddr().String())
	switch state {
	case http.StateNew:
		if refusal := s.visitors.enter(limits.Source(from), s.trusted(from)); refusal != "" {
			s.Session.Observer.Refused(refusal)
			s.turnedAway.Store(conn, struct{}{})
			_ = conn.Close() // without a word: it has asked for nothing yet
		}
	case http.StateHijacked, http.StateClosed:
		if _, away := s.turnedAway.LoadAndDelete(conn); !away {
			s.visitors.leave(limits.Source(from))
		}
	}
}

// ParseProxy reads an address or a network (CIDR) of proxies.
func ParseProxy(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("a proxy is an IP address or a network as 10.0.0.0/8, not %q", text)
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}
