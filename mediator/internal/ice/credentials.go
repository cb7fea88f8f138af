package ice

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// secretSize is the size of the key of the passwords, in bytes. It lives as long as the
// process: with it end all credentials.
const secretSize = 32

// realm is the protection space of RFC 8489, section 9.2. It is short since it is in
// every challenge, which is sent to whoever asks.
const realm = "p2pcdn"

// maxHost bounds the name of a host, in bytes (RFC 1035, section 2.3.4).
const maxHost = 253

// errBadUsername is returned for anything but what username gives.
var errBadUsername = errors.New("a name is <unix time>:<peer id>")

// username is the name of draft-uberti-behave-turn-rest-00, section 2.2: when it ends, and whose it is.
func username(expiry time.Time, peer ident.PeerID) string {
	return strconv.FormatInt(expiry.Unix(), 10) + ":" + peer.String()
}

// parseUsername takes apart what username put together, and nothing else.
func parseUsername(text string) (expiry time.Time, peer ident.PeerID, err error) {
	seconds, id, _ := strings.Cut(text, ":")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, ident.PeerID{}, errBadUsername
	}
	if peer, err = ident.ParsePeerID(id); err != nil {
		return time.Time{}, ident.PeerID{}, fmt.Errorf("%w: %w", errBadUsername, err)
	}
	expiry = time.Unix(unix, 0)
	if username(expiry, peer) != text { // +1, 007
		return time.Time{}, ident.PeerID{}, errBadUsername
	}
	return expiry, peer, nil
}

// password is that of a name. SHA-1 is the draft's; a MAC needs no more of its hash
// than that it looks random (RFC 6151 says so even of MD5).
func (s *Server) password(name string) string {
	mac := hmac.New(sha1.New, s.secret[:])
	mac.Write([]byte(name))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Credentials returns the name and the password by which the peer may allocate, from
// now on until they expire.
func (s *Server) Credentials(peer ident.PeerID, now time.Time) (name, password string) {
	name = username(now.Add(s.config.Limits.CredentialLifetime), peer)
	return name, s.password(name)
}

// Servers returns what a peer is told in established: STUN, and TURN if this Server
// relays. host is the name or address by which the peer reached the mediator, without
// a port. It may be anybody's invention; of one that is neither a name nor an
// address comes nothing.
func (s *Server) Servers(host string, peer ident.PeerID, now time.Time) []mediation.ICEServer {
	host, ok := uriHost(host)
	if !ok {
		return nil
	}
	at := host + ":" + strconv.Itoa(int(s.port))
	servers := []mediation.ICEServer{{URLs: []string{"stun:" + at}}} // RFC 7064
	if s.config.Turn {
		name, password := s.Credentials(peer, now)
		urls := []string{"turn:" + at + "?transport=udp"} // RFC 7065
		if s.config.TCP != nil {
			urls = append(urls, "turn:"+at+"?transport=tcp")
		}
		servers = append(servers, mediation.ICEServer{URLs: urls, Username: name, Credential: password})
	}
	return servers
}

// uriHost returns a host as it stands in a URI.
func uriHost(host string) (text string, ok bool) {
	bare := host
	if inside, bracket := strings.CutPrefix(host, "["); bracket {
		if bare, ok = strings.CutSuffix(inside, "]"); !ok {
			return "", false
		}
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		if ip = ip.Unmap().WithZone(""); ip.Is6() { // a zone means nothing elsewhere
			return "[" + ip.String() + "]", true
		}
		return ip.String(), true
	}
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_')
	}
	if bare != host || bare == "" || len(bare) > maxHost || strings.ContainsFunc(bare, odd) {
		return "", false
	}
	return bare, true
}
