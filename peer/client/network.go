package client

import (
	"context"
	"net"
	"net/url"

	"p2pcdn/common/content"
	"p2pcdn/common/mediation"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
	"p2pcdn/peer/store"
)

// Start returns a Client on the real network: with a line to one of the
// mediators, and with WebRTC. The config's Line and Connect are filled in.
func Start(mediators []string, config Config) *Client {
	config.Guess = guess(mediators[0])
	return StartOn(nil, nil, mediators, config)
}

// rtc returns the configuration of WebRTC, on a network or, for nil, the system's.
func (c Config) rtc(network rtc.Network) rtc.Config {
	return rtc.Config{
		Log: c.Log, Network: network, TCP: c.ICETCP, NoTrickle: c.NoTrickle,
		Nomination: c.leavesOut(CutPair), Cookie: c.leavesOut(CutCookie),
	}
}

// signaling returns the configuration of the line. dial may be nil.
func (c Config) signaling(mediators []string, dial signaling.Dial) signaling.Config {
	return signaling.Config{URLs: mediators, Dial: dial, Patient: c.leavesOut(CutPipelining)}
}

// StartOn is [Start] on another network than the system's.
func StartOn(network rtc.Network, dial signaling.Dial, mediators []string, config Config) *Client {
	transport := rtc.New(config.rtc(network))
	config.Line = signaling.Start(config.signaling(mediators, dial))
	config.Connect = func(peering rtc.Peering) Conn { return transport.Connect(peering) }
	c := New(config)
	c.transport = transport
	return c
}

// guess returns where a mediator serves STUN, if it does, before it says so: at the UDP port of the same number.
func guess(mediator string) []mediation.ICEServer {
	address, err := url.Parse(mediator)
	if err != nil || address.Hostname() == "" {
		return nil // the line says what is wrong with it
	}
	port := address.Port()
	switch {
	case port != "":
	case address.Scheme == "wss":
		port = "443"
	default:
		port = "80"
	}
	return []mediation.ICEServer{{URLs: []string{"stun:" + net.JoinHostPort(address.Hostname(), port)}}}
}

// OpenFile hashes a file and returns it as a source for Seed; see [store.Open].
func OpenFile(ctx context.Context, path string, pieceLength int64, progress func(done, total int64)) (Source, error) {
	source, err := store.Open(ctx, path, pieceLength, progress)
	if err != nil {
		return nil, err
	}
	return source, nil
}

// FileOptions are those of CreateFile.
type FileOptions = store.Options

// File is what [FileOptions] may replace.
type File = store.File

// CreateFile begins a file, or goes on with it, and returns it as a target for Get; see [store.Create].
func CreateFile(path string, info content.Info, options FileOptions) (Target, error) {
	target, err := store.Create(path, info, options)
	if err != nil {
		return nil, err
	}
	return target, nil
}

// CreateTemporary begins a file that nobody else sees, for content that is read with
// [Share.NewReader] alone; see [store.CreateTemporary].
func CreateTemporary(info content.Info, options FileOptions) (Target, error) {
	target, err := store.CreateTemporary(info, options)
	if err != nil {
		return nil, err
	}
	return target, nil
}
