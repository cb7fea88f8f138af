package main

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"p2pcdn/peer/client"
)

// mostPeers bounds --max-peers: each connection costs up to 4 MiB, and the others wait for their turn.
const mostPeers = 1000

// networkFlags are the flags of seed and get that say how much of the network is used.
type networkFlags struct {
	upload, download, peerUpload byteRate
	slots, peers                 amount
	iceTCP                       tcpPort
}

func (n *networkFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.Var(&n.upload, "upload-limit", "send at most `RATE` bytes a second in all, such as 500K or 1.5MiB (0: no limit)")
	flags.Var(&n.download, "download-limit", "fetch at most `RATE` bytes a second in all")
	flags.Var(&n.peerUpload, "peer-upload-limit", "send at most `RATE` bytes a second to any one peer")
	n.slots.most, n.peers.most = mostPeers, mostPeers
	flags.Var(&n.slots, "upload-slots", "send to `N` peers at a time, in turn (default 8)")
	flags.Var(&n.peers, "max-peers", "deal with at most `N` peers for each content (default: fetch from 8, serve 32)")
	iceTCPFlag(command, &n.iceTCP)
}

// config returns what a Client is told of these flags. listener is that of --ice-tcp.
func (n *networkFlags) config(listener net.Listener, events *inbox) client.Config {
	config := client.Config{
		Observe: events.observe, ICETCP: listener,
		UploadLimit: int64(n.upload), DownloadLimit: int64(n.download), PeerUploadLimit: int64(n.peerUpload),
		UploadSlots: n.slots.n, MaxLeech: n.peers.n, MaxServe: n.peers.n,
	}
	if n.peers.n > 0 {
		config.MaxConnections = max(64, 2*n.peers.n) // so many are as good for both directions as by default
	}
	return config
}

// byteRate is the value of a limit, in bytes a second; 0: none.
type byteRate int64

// ratePattern is a number and perhaps a unit, with or without the B of bytes.
var ratePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?((?:[kKMG]i?)?)B?(?:/s)?$`)

// rateUnits are the units in bytes, in upper case.
var rateUnits = map[string]float64{"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}

func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }
func (r *byteRate) Type() string   { return "rate" }
func (r *byteRate) Set(text string) error {
	parts := ratePattern.FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("%q is no rate, such as 500K, 2M or 1.5MiB", text)
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if err != nil {
		return fmt.Errorf("%q is no rate: %w", text, err)
	}
	n *= rateUnits[strings.ToUpper(parts[2])]
	switch {
	case n != 0 && n < 1000:
		return fmt.Errorf("%s bytes a second are too few to fetch anything: is there a unit missing, as in 500K?", parts[1])
	case n >= math.MaxInt64:
		return fmt.Errorf("%q is too much", text)
	}
	*r = byteRate(n)
	return nil
}

// amount is the value of a flag that says how many; 0: the default.
type amount struct{ n, most int }

func (a *amount) String() string { return strconv.Itoa(a.n) }
func (a *amount) Type() string   { return "number" }
func (a *amount) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > a.most {
		return fmt.Errorf("%q is no number from 1 to %d", text, a.most)
	}
	a.n = n
	return nil
}
