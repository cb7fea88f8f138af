// Package memnet is a network of libp2p hosts in memory, for tests and
// simulations. No program imports it.
//
// It takes the place of QUIC: a [Host] has a public IPv4 address and makes a
// libp2p transport for /ip4/…/udp/…/quic-v1, on which everything above runs as it
// does in the world: swarm, dials and their back-off, identify, connection
// manager, relay, AutoNAT, DHT. Streams are native, so that neither encryption
// nor a multiplexer takes processor time; identities are as certain as with TLS.
// A discovery.Config takes a host so:
//
//	network := memnet.New(memnet.Config{Latency: memnet.Earth(1)})
//	host := network.Host("first")
//	discovery.Config{Transport: host.Transport, ListenHosts: []string{host.IP()}, ListenPort: 4001, …}
//
// All time is that of package time: in a bubble of testing/synctest it is
// simulated time, and an hour of a network that sleeps takes no time at all.
// Nothing waits in a system call.
//
// # What takes how long
//
// Latency is the time that anything takes from one host to another, RTT twice
// that. There is no loss, no jitter and no limit of bandwidth.
//
//	dial                        returns after 1 RTT; the other side has the connection after 1½, with
//	                            whatever was sent at once. QUIC with client certificates does the same.
//	open a stream               nothing: it exists on the other side when the first of it arrives
//	write                       nothing, while the window of the stream has room: Config.Window bytes
//	                            that were not read yet. Then until the news that they were is back.
//	close, reset                nothing; the other side has it after the latency, behind what was written
//	dial to nobody, to a dead   until the context of the dial ends: UDP is not refused
//
// # Death and cuts
//
// [Host.Kill] takes a host off the network without a word, [Host.Cut] until
// [Host.Heal]. What is under way to it or from it is lost, for a killed one for
// ever; for a cut one it is sent anew when it is healed, as QUIC does (which,
// being in back-off, may take some seconds longer). Each side of a connection finds out as
// QUIC does: it waits Config.IdleTimeout from the first packet that is not
// acknowledged, which is data or, after Config.KeepAlive without anything, a ping. With the
// defaults, those of libp2p, that is 30 to 45 seconds after the last that was heard.
// Keep-alives are not sent here one by one, they would be most of the work; nor are they counted.
//
// A killed host is to be closed by whoever runs it: its goodbyes reach nobody.
package memnet
