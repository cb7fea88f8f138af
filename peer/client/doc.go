// Package client is the engine of a peer: it ties the rooms together. It keeps a line
// to a mediator (package signaling), connections to other peers (package rtc) and
// content on disk (package store), and carries out what a swarm per content decides.
//
// # One goroutine
//
// All decisions are made by one goroutine, which owns every share, link and
// swarm (Client.run). It never waits for anything: what takes time is done
// elsewhere and reported back through its inbox.
//
//	reader of each link   decodes frames                            → inbox
//	uploader of each link reads blocks from the store, sends pieces
//	jobs                  verify and write pieces, commit, close    → inbox
//
// The inbox is bounded, so a peer that sends faster than frames are handled is
// slowed down by its own channel. Pieces that wait to be written are bounded by the swarm.
//
// # Shares
//
// A [Share] is a content that takes part: from a source (Seed) or into a target (Get). A
// leecher serves what it has from its first verified piece on, and announces itself then.
//
//	searching ⇄ connecting ⇄ downloading → complete
//	                                     ↘ failed      seeding → failed
//
// # Links
//
// A link is a connection to a remote peer, one for all contents in common. The
// peers that a mediator names are offered a connection, at most [Config.MaxLeech] per
// share. Offers of others are answered as long as there are connections, of which so
// many are kept for our own; a share that has [Config.MaxServe] peers sends away, with a
// goodbye, who comes for it. A link without content in common is closed after
// [Config.IdleAfter]. Over one link we begin to fetch at most eight contents at a time,
// so that the requests of all stay within what the other side keeps; the rest wait for their turn.
package client
