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
//	store kept a block     ── Kept ────────▶   have to all / the liar is dropped
//	store was looked at    ── Checked ─────▶   what is there is not fetched
//	a reader waits         ── Urge ────────▶   its pieces first
//	time passed            ── Tick ────────▶   who is silent is not waited for
//	                       ◀── Actions ──      Send, Load, Unload, Keep, Check, Verified, Drop, Break,
//	                                           Described, Complete
//
// # Storage
//
// No piece is held in memory. A block goes to the store as it comes (Keep), not verified
// yet; the driver answers with the hashes of its leaves. When the last leaf of a piece is kept, they are folded
// to the piece's hash. Only what was Verified is ever read or served.
//
// # Selection
//
// What readers wait for comes first (Urge). Then the first piece is chosen at random, so that
// leechers who start together have something to exchange; later ones rarest first
// (ties at random). Small pieces are fetched from one peer each, several at once; pieces of 1 MiB and
// more by all peers together. What was asked of a peer that has everything goes over to the first
// other one that says it has it, so that a seeder sends each piece about once, whatever crowd came.
//
// How much a peer may owe follows its bandwidth-delay product, as it is measured (file
// pace.go). It is a few blocks, so that those of a slow peer are short and those of a fast one
// long, several of which are asked for in one frame. In the endgame, when every missing leaf is asked for, a peer is asked for what another one
// owes and would need much longer for; who comes second is sent a cancel.
//
// A peer that owes a block and delivers nothing for a second is stalled: others may be
// asked for the same. After its patience, 3 to 10 s by what it did before, it is silent: its requests are
// cancelled, and its pieces go to others, with the blocks that came. It is asked again once it delivers
// something, or where nobody else has the piece. A piece of which a peer rejects a block is not asked of it for a while.
//
// # Trust
//
// Nothing counts before it is verified. When a piece fails, and one peer sent all of it,
// that peer lied: it is dropped and never asked again for this content. When several sent
// it, the hashes of its leaves are kept as evidence and the piece is fetched anew from a single
// peer; the right piece then tells who of them lied. Whatever else a liar sent and is not verified yet is
// fetched anew. Piece hashes that a bare link lacks are asked for first and checked
// against the full hash; no content is fetched before they are complete.
package swarm
