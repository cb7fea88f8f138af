// Package swarm is the heart of a peer: what happens between it and all others
// about one content. It decides which block is asked of whom, what is told to whom,
// and whom to believe.
//
// It is pure. Events go in by method calls that carry the time, and what is to be done
// comes out as a list of actions; there is no I/O, no goroutine, no clock and no
// hashing in it. So whole swarms run in one deterministic test.
//
//	driver (package client)                    Swarm
//	channel open           ── Connected ──▶    handshake, what we have, first requests
//	channel closed         ── Disconnected ─▶  its blocks are asked of others
//	frame arrived          ── Received ────▶   …
//	store answered a Save  ── Saved/Wrong ─▶   have to all / the liar is dropped
//	time passed            ── Tick ────────▶   who is silent is not waited for
//	                       ◀── Actions ──      Send, Load, Unload, Save, Drop, Break, Described, Complete
//
// # Selection
//
// The first piece is chosen at random, so that leechers who start together
// have something to exchange; later ones rarest first (ties at random). A piece is asked
// of one peer at a time, in blocks as long as both sides' frames allow, with a bounded
// number of bytes in flight per peer; several peers fetch several pieces at once.
//
// A peer that owes a block and delivers nothing for [Config.Patience] is silent:
// its requests are cancelled and its pieces go to others, with the blocks that
// came. It is asked again once it delivers something, or where nobody else has the piece.
// A piece of which a peer rejects a block is not asked of it for as long.
//
// # Trust
//
// Nothing counts before it is verified. When a piece fails, and one peer sent
// all of it, that peer lied: it is dropped and never asked again for this
// content. When several sent it, nobody can be blamed, so the piece is fetched anew
// from a single peer. Piece hashes that a bare link lacks are asked for first and
// checked against the full hash; no content is fetched before they are complete.
package swarm
