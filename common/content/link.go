package content

import (
	"net/url"
	"strconv"
	"strings"
)

// Scheme is the URI scheme of a link.
const Scheme = "p2pcdn"

const (
	maxLink      = 8 << 10 // bytes; what browsers and chat programs still carry
	maxMediators = 16      // m= parameters; more is a list, not a hint
	maxSafe      = 1<<53 - 1
)

// Link names a content in one line of text:
//
//	p2pcdn:<full_hash>?xl=<total length>&dn=<file name>&ct=<content type>&pl=<piece length>&m=<mediator URL>…
//
// On a preview page the same text stands after #, without the scheme. xl is
// required (see "Safety" in the package comment), all else is optional; unknown
// parameters are ignored. pl is left out where it is DefaultPieceLength.
type Link struct {
	FullHash    FullHash
	TotalLength int64    // bytes
	FileName    string   // may be ""
	ContentType string   // may be ""
	PieceLength int64    // bytes; ParseLink fills in the default
	Mediators   []string // WebSocket URLs
}

// Link returns the link to the content, by way of the mediators.
func (i Info) Link(mediators ...string) Link {
	return Link{i.FullHash, i.TotalLength, i.FileName, i.ContentType, i.PieceLength, mediators}
}

// Info returns what the link says, as a dictionary without piece hashes.
func (l Link) Info() Info {
	return Info{
		FullHash: l.FullHash, FileName: l.FileName, ContentType: l.ContentType,
		TotalLength: l.TotalLength, PieceLength: l.PieceLength,
	}
}

// String prints the link with its scheme. Printing what was parsed from a
// printed link gives the same text.
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

// ParseLink parses a link: with its scheme, without it, or as a whole URL that
// has it as its fragment. Every failure is an [*Error].
func ParseLink(text string) (Link, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxLink {
		return Link{}, fail(CodeBadLink, "a link has at most %d bytes, not %d", maxLink, len(text))
	}
	if _, fragment, found := strings.Cut(text, "#"); found {
		text = fragment
	}
	text = strings.TrimPrefix(text, Scheme+":")
	hash, query, found := strings.Cut(text, "?")
	if !found {
		if _, err := ParseFullHash(hash); err != nil {
			return Link{}, fail(CodeBadLink, "a link has the form %s:<full hash>?xl=<total length>&dn=<file name>", Scheme)
		}
		return Link{}, fail(CodeLinkWithoutLen, "the link has no xl=<total length>, and content of unknown length is never accepted")
	}
	var link Link
	var err error
	if link.FullHash, err = ParseFullHash(hash); err != nil {
		return Link{}, err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Link{}, fail(CodeBadLink, "the link's parameters are malformed")
	}
	if !values.Has("xl") {
		return Link{}, fail(CodeLinkWithoutLen, "the link has no xl=<total length>, and content of unknown length is never accepted")
	}
	var ok bool
	if link.TotalLength, ok = parseLength(values.Get("xl")); !ok {
		return Link{}, fail(CodeBadTotalLength, "xl must be a number of bytes")
	}
	link.FileName, link.ContentType = values.Get("dn"), values.Get("ct")
	link.PieceLength = DefaultPieceLength(link.TotalLength)
	if values.Has("pl") {
		if link.PieceLength, ok = parseLength(values.Get("pl")); !ok {
			return Link{}, fail(CodeBadPieceLength, "pl must be a number of bytes")
		}
	}
	link.Mediators = values["m"]
	if len(link.Mediators) > maxMediators {
		return Link{}, fail(CodeBadLink, "a link names at most %d mediators", maxMediators)
	}
	for _, mediator := range link.Mediators {
		if err := CheckMediatorURL(mediator); err != nil {
			return Link{}, err
		}
	}
	return link, link.Info().Validate()
}

// CheckMediatorURL checks that the text is the WebSocket URL of a mediator:
// ws:// or wss:// with a host, no user, no fragment. A failure is an [*Error]
// with code [CodeBadMediatorURL].
func CheckMediatorURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fail(CodeBadMediatorURL, "a mediator's URL has the form ws://host:port/mediation or wss://…, not %q", text)
	}
	return nil
}

// parseLength parses decimal digits alone: no sign, no spaces, at most what a
// JavaScript number holds exactly.
func parseLength(text string) (n int64, ok bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n <= maxSafe
}
