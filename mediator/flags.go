package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"p2pcdn/mediator/internal/node"
)

// settings is what the flags say, before it is checked.
type settings struct {
	config      node.Config
	iceServers  []string
	proxies     []string
	stun        bool
	turnAddress string
	level       string
	format      string
}

// group is some flags under a heading of the help.
type group struct {
	title string
	flags *pflag.FlagSet
}

// groups defines every flag.
func groups(s *settings) []group {
	s.config.Limits = node.DefaultLimits()
	c, l := &s.config, &s.config.Limits
	set := func(title string, define func(*pflag.FlagSet)) group {
		flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
		flags.SortFlags = false
		define(flags)
		return group{title, flags}
	}
	return []group{
		set("Where it is", func(f *pflag.FlagSet) {
			f.StringVar(&c.DataDir, "data-dir", node.DefaultDataDir(), "`directory` that keeps the mediator's key; one mediator each")
			f.StringVar(&c.Listen, "listen", "", "IP `address` to listen on (default all)")
			f.BoolVar(&c.PortMap, "port-map", true, "the router is asked, by UPnP or NAT-PMP, to forward the DHT port")
			f.StringVar(&c.PublicURL, "public-url", "", "WebSocket `URL` at which peers reach this mediator, as wss://host/mediation;\nother mediators tell it to their peers, to go there when they end")
			f.StringArrayVar(&s.iceServers, "ice-server", nil, "another STUN or TURN `URL` that peers are told to use, as stun:host:port or\nturn:host:port,username,credential; may be repeated")
		}),
		set("Who may use it", func(f *pflag.FlagSet) {
			f.StringArrayVar(&c.AllowOrigins, "allow-origin", nil, "`origin` of pages that may use it, as https://site.example; may be repeated\n(default every page; programs that are no pages are not concerned)")
			f.StringArrayVar(&s.proxies, "trust-proxy", nil, "`address` or network of a reverse proxy whose X-Forwarded-For says who a\nclient is; may be repeated")
			f.StringVar(&c.AllowList, "allow-list", "", "`file` of the only full hashes that it has to do with, one a line; SIGHUP has\nit read again")
			f.StringVar(&c.DenyList, "deny-list", "", "`file` of full hashes that it has nothing to do with, likewise")
		}),
		set("STUN and TURN (for peers behind NATs, on the UDP port of the same number as port)", func(f *pflag.FlagSet) {
			f.BoolVar(&s.stun, "stun", true, "it tells peers the address from which they come")
			f.BoolVar(&c.TURN.Relay, "turn", false, "it relays what two peers cannot send each other directly, over UDP, and\nover TCP on the port itself: that is traffic, see the limits")
			f.StringVar(&s.turnAddress, "turn-address", "", "public IPv4 `address` at which it can be reached from elsewhere, where it is\nbehind a NAT itself (default its own)")
			f.BoolVar(&c.TURN.AllowPrivate, "turn-allow-private", false, "it relays to private and loopback addresses, too: for a network of your own")
			f.Var((*timeout)(&l.ICE.CredentialLifetime), "turn-lifetime", "how long what a peer is told lets it relay")
		}),
		set("TLS (pages that came by https need wss)", func(f *pflag.FlagSet) {
			f.StringVar(&c.TLSCert, "tls-cert", "", "PEM `file` of its certificate, read again when it changes and on SIGHUP")
			f.StringVar(&c.TLSKey, "tls-key", "", "PEM `file` of the key of that")
			f.StringArrayVar(&c.ACME.Domains, "acme-domain", nil, "host `name` for which it gets a certificate from a CA itself, and renews it;\nthe CA must reach it at port 443 of that name, or see --acme-http; may be\nrepeated")
			f.StringVar(&c.ACME.Email, "acme-email", "", "`address` to which the CA may write (default nobody)")
			f.StringVar(&c.ACME.HTTP, "acme-http", "", "`address` (host:port, as :80) for the CA to look at by plain HTTP, at which\neverybody else is sent to https (default none)")
			f.StringVar(&c.ACME.Directory, "acme-directory", "", "`URL` of another CA (default Let's Encrypt)")
			f.StringVar(&c.ACME.RootFile, "acme-root", "", "PEM `file` of the roots that the CA's own server is known by\n(default the system's)")
		}),
		set("Operation", func(f *pflag.FlagSet) {
			f.StringVar(&c.Admin, "admin", "", "`address` (host:port) of profiles and metrics for yourself alone, as\nlocalhost:6060 (default none)")
			f.StringVar(&s.level, "log-level", "info", "what is logged: debug, info, warn or error, as `level`")
			f.StringVar(&s.format, "log-format", "auto", "how: text, json, or auto, which is text on a terminal and JSON elsewhere,\nas `format`")
		}),
		set("Limits (0 switches one off; what is refused is told with a code, and counted in /metrics)", func(f *pflag.FlagSet) {
			limit(f, &l.Connections, "max-connections", "open WebSockets")
			limit(f, &l.PerAddress, "max-connections-per-address", "open WebSockets of one address (IPv6: of one /64)")
			f.Var((*timeout)(&l.Session.HandshakeTimeout), "handshake-timeout", "from the opening of a WebSocket to its handshake")
			limit(f, &l.MessageLength, "max-message-size", "bytes of one message of a peer; at most the default, the protocol's")
			limit(f, &l.Session.Messages, "max-messages", "messages a second of one peer; those of 20 s may come at once")
			limit(f, &l.Session.Lookups, "max-lookups", "get_peers a second of one peer, likewise")
			limit(f, &l.Session.Signals, "max-signals", "signals a second of one peer, likewise")
			limit(f, &l.Session.SignalBytes, "max-signal-bytes", "bytes of signals a second of one peer, likewise")
			limit(f, &l.Session.MaxQueued, "max-queued-bytes", "bytes that wait to be read by one peer; above that it is cut off")
			limit(f, &l.Router.MaxAnnounces, "max-announces", "contents that one peer announces")
			limit(f, &l.Router.MaxLookups, "max-waiting", "contents that one peer waits for")
			limit(f, &l.Router.MaxNamed, "max-named", "peers that are named to one get_peers")
			limit(f, &l.Router.MaxContents, "max-contents", "contents that anybody seeds or waits for here")
			limit(f, &l.Router.MaxPending, "max-pending", "operations of the DHT that wait for a place")
			limit(f, &l.Router.Concurrency, "max-operations", "operations of the DHT at a time")
			limit(f, &l.Relay.MaxStreams, "max-streams", "streams with other mediators")
			limit(f, &l.Relay.MaxStreamsPerMediator, "max-streams-per-mediator", "streams that one other mediator opens")
			limit(f, &l.Relay.MessagesPerMediator, "max-mediator-messages", "messages a second of one other mediator; those of 20 s may come at once")
			limit(f, &l.Router.MaxSubscriptions, "max-mediator-waiting", "contents that one other mediator waits for")
			limit(f, &l.ICE.PeerRate, "max-relay-rate", "bytes a second relayed for one peer, both ways")
			limit(f, &l.ICE.TotalRate, "max-relay-total-rate", "bytes a second relayed in all")
			limit(f, &l.ICE.PeerAllocations, "max-relays-per-peer", "relayed addresses of one peer")
			limit(f, &l.ICE.TotalAllocations, "max-relays", "relayed addresses in all")
			limit(f, &l.ICE.Requests, "max-stun-requests", "STUN requests a second of one address (IPv6: of one /64)")
			limit(f, &l.Records.Total, "max-records", "records of the DHT kept for other mediators")
			limit(f, &l.Records.PerMediator, "max-records-per-mediator", "of these, records of one mediator")
			limit(f, &l.Records.PerHash, "max-records-per-content", "of these, records of one content")
		}),
	}
}

func limit(flags *pflag.FlagSet, n *int, name, help string) {
	flags.Var((*number)(n), name, help)
}

// number is a limit as people give it.
type number int

func (n *number) Type() string { return "number" }

func (n *number) String() string {
	if *n == node.Off {
		return "0"
	}
	return strconv.Itoa(int(*n))
}

func (n *number) Set(text string) error {
	value, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("it is a number from 0, which is none, to %d", 1<<31-1)
	}
	if *n = number(value); value == 0 {
		*n = node.Off
	}
	return nil
}

// timeout is a limit in time as people give it.
type timeout time.Duration

func (d *timeout) Type() string { return "time" }

func (d *timeout) String() string {
	if *d == node.Off {
		return "0s"
	}
	return time.Duration(*d).String()
}

func (d *timeout) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil || value < 0 {
		return fmt.Errorf("it is a time as 10s or 1m30s, or 0, which is none")
	}
	if *d = timeout(value); value == 0 {
		*d = node.Off
	}
	return nil
}

// showGroups has the help show the flags by their groups.
func showGroups(command *cobra.Command, groups []group) {
	command.SetUsageFunc(func(command *cobra.Command) error {
		var text strings.Builder
		fmt.Fprintf(&text, "Usage:\n  %s [flags]\n\nExamples:\n%s\n", command.Use, command.Example)
		for _, g := range groups {
			fmt.Fprintf(&text, "\n%s:\n%s", g.title, g.flags.FlagUsages())
		}
		text.WriteString("\nAbout itself:\n  -h, --help      this text\n  -v, --version   which version it is\n")
		_, err := fmt.Fprint(command.OutOrStdout(), text.String())
		return err
	})
}
