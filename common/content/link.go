package content

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"p2pcdn/common/strict"
)

// Scheme is the URI scheme of a link.
const Scheme = "p2pcdn"

const (
	maxMediators   = 16       // m= parameters; more is a list, not a hint
	maxMediatorURL = 255      // bytes; a long host name, a port and a path
	maxLink        = 16 << 10 // bytes; the longest link fits, with every byte of it escaped
	linkWhiteSpace = " \t\r\n"
)

// Link names a content in one line of text:
//
//	p2pcdn:<full_hash>?xl=<total length>&dn=<file name>&ct=<content type>&pl=<piece length>&m=<mediator URL>…
//
// On a preview page the same text stands after #, without the scheme. xl is
// required (see "Safety" in the package comment), all else is optional.
//
// The parameters are read by the rules of RFC 3986 and of decodeURIComponent,
// not by those of HTML forms: they are separated by &, name and value by the first =,
// both with percent escapes that give UTF-8; + is a plus sign and ; a semicolon.
// Unknown parameters and empty ones (&&) are ignored. Each but m stands at most
// once. Lengths are decimal digits alone. pl is left out where it is
// DefaultPieceLength; at most 16 mediators are named.
type Link struct {
	FullHash    FullHash
	TotalLength int64    // bytes
	FileName    string   // may be ""
	ContentType string   // may be ""
	PieceLength int64    // bytes; ParseLink fills in the default
	Mediators   []string // WebSocket URLs
}

// Link returns the link to the content, by way of the mediators: of the first
// 16, where there are more, since a link holds no more.
func (i Info) Link(mediators ...string) Link {
	mediators = mediators[:min(len(mediators), maxMediators)]
	return Link{i.FullHash, i.TotalLength, i.FileName, i.ContentType, i.PieceLength, mediators}
}

// Info returns what the link says, as a dictionary without piece hashes.
func (l Link) Info() Info {
	return Info{
		FullHash: l.FullHash, FileName: l.FileName, ContentType: l.ContentType,
		TotalLength: l.TotalLength, PieceLength: l.PieceLength,
	}
}

// String prints the link with its scheme. What ParseLink returned, printed and
// parsed again, is the same link, and printed again the same text.
func (l Link) String() string { return Scheme + ":" + l.Fragment() }

// Fragment prints the link without its scheme: what stands after # on a page.
func (l Link) Fragment() string {
	var b strings.Builder
	b.WriteString(l.FullHash.String())
	b.WriteString("?xl=" + strconv.FormatInt(l.TotalLength, 10))
	parameter := func(name, value string) {
		if value != "" {
			b.WriteString("&" + name + "=" + escape(value))
		}
	}
	parameter("dn", l.FileName)
	parameter("ct", l.ContentType)
	if l.PieceLength != 0 && l.PieceLength != DefaultPieceLength(l.TotalLength) {
		parameter("pl", strconv.FormatInt(l.PieceLength, 10))
	}
	for _, mediator := range l.Mediators {
		parameter("m", mediator)
	}
	return b.String()
}

// escape escapes everything but the unreserved characters of RFC 3986, so that
// Go and JavaScript print the same text.
func escape(value string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; strings.IndexByte(unreserved, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(hexDigits[c>>4]) + string(hexDigits[c&15]))
		}
	}
	return b.String()
}

// ParseLink parses a link: with its scheme (in lower case), without it, or as a
// whole URL that has it as its fragment, behind the first #. Spaces, tabs and line
// ends around it are dropped. Every failure is an [*Error]; where several things are
// wrong, it is the first of: the size and the encoding of the text, its form, the
// full hash, the form of the parameters, xl, pl, each m, and then what
// [Info.Validate] checks.
func ParseLink(text string) (Link, error) {
	text = strings.Trim(text, linkWhiteSpace)
	if len(text) > maxLink || !utf8.ValidString(text) {
		return Link{}, fail(CodeBadLink, "a link is text of at most %d bytes", maxLink)
	}
	if _, fragment, found := strings.Cut(text, "#"); found {
		text = fragment
	}
	hash, query, hasQuery := strings.Cut(strings.TrimPrefix(text, Scheme+":"), "?")
	full, err := ParseFullHash(hash)
	switch {
	case err != nil && !hasQuery:
		return Link{}, fail(CodeBadLink, "a link has the form %s:<full hash>?xl=<total length>&dn=<file name>", Scheme)
	case err != nil:
		return Link{}, err
	}
	given, err := parseParameters(query)
	if err != nil {
		return Link{}, err
	}
	link, err := given.link(full)
	if err != nil {
		return Link{}, err
	}
	if err := link.Info().Validate(); err != nil {
		return Link{}, err
	}
	return link, nil
}

// parameters are those of a link, by name.
type parameters map[string][]string

func parseParameters(query string) (parameters, error) {
	found := parameters{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, ok := unescape(name)
		value, ok2 := unescape(value)
		if !ok || !ok2 {
			return nil, fail(CodeBadLink, "the link's parameters hold a malformed percent escape")
		}
		found[name] = append(found[name], value)
	}
	for _, name := range []string{"xl", "dn", "ct", "pl"} {
		if len(found[name]) > 1 {
			return nil, fail(CodeBadLink, "the link says %s more than once", name)
		}
	}
	if len(found["m"]) > maxMediators {
		return nil, fail(CodeBadLink, "a link names at most %d mediators", maxMediators)
	}
	return found, nil
}

// get returns the value of a parameter that stands at most once, "" for none.
func (p parameters) get(name string) (value string, there bool) {
	if len(p[name]) == 0 {
		return "", false
	}
	return p[name][0], true
}

// link reads the known parameters; it leaves what Info.Validate checks.
func (p parameters) link(full FullHash) (Link, error) {
	link := Link{FullHash: full, Mediators: p["m"]}
	length, there := p.get("xl")
	if !there {
		return Link{}, fail(CodeLinkWithoutLen, "the link has no xl=<total length>, and content of unknown length is never accepted")
	}
	var ok bool
	if link.TotalLength, ok = parseLength(length); !ok {
		return Link{}, fail(CodeBadTotalLength, "xl must be a number of bytes")
	}
	link.PieceLength = DefaultPieceLength(link.TotalLength)
	if length, there := p.get("pl"); there {
		if link.PieceLength, ok = parseLength(length); !ok {
			return Link{}, fail(CodeBadPieceLength, "pl must be a number of bytes")
		}
	}
	for _, mediator := range link.Mediators {
		if err := CheckMediatorURL(mediator); err != nil {
			return Link{}, err
		}
	}
	link.FileName, _ = p.get("dn")
	link.ContentType, _ = p.get("ct")
	return link, nil
}

// unescape is decodeURIComponent: every % begins an escape of two hex digits,
// and the result is UTF-8.
func unescape(text string) (plain string, ok bool) {
	plain, err := url.PathUnescape(text) // and not QueryUnescape: a + is a plus sign
	return plain, err == nil && utf8.ValidString(plain)
}

// mediatorURL is the form of a mediator's URL, in the characters of RFC 3986:
// scheme, host (a name, or an IPv6 address in brackets), port, path and query. A
// pattern, and not a URL parser, because no two of those agree on what they let pass.
var mediatorURL = regexp.MustCompile(`^wss?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}))?([/?]([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$`)

// CheckMediatorURL checks that the text has the form of a mediator's WebSocket
// URL: ws:// or wss:// in lower case, a host in ASCII, perhaps a port (1 to 65535), path
// and query; no user, no fragment; at most 255 bytes. Whether anything is there
// shows when it is dialled. A failure is an [*Error] with code [CodeBadMediatorURL].
func CheckMediatorURL(text string) error {
	parts := mediatorURL.FindStringSubmatch(text)
	if parts == nil || len(text) > maxMediatorURL || !possiblePort(parts[3]) {
		return fail(CodeBadMediatorURL, "a mediator's URL has the form ws://host:port/mediation or wss://…, not %.100q", text)
	}
	return nil
}

// possiblePort takes the digits of a port, or "" for none.
func possiblePort(digits string) bool {
	port, ok := parseLength(digits)
	return digits == "" || ok && port >= 1 && port <= 65535
}

// parseLength parses decimal digits alone: no sign, no spaces, at most what a
// JavaScript number holds exactly.
func parseLength(text string) (n int64, ok bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n <= strict.MaxInt
}
