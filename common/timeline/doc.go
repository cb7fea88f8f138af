// Package timeline names the moments on the way to a content, from the call that asks for it
// to its last byte, and how they are written down: for people who watch, and for
// programs that compare. The peers in Go and in the browser take the same stamps, and write the
// same table; the vectors in testdata/vectors hold both to it.
//
// # Phases
//
// A stamp is taken by a monotonic clock when a phase is first reached. In the usual
// order, for who downloads (a leecher):
//
//	started         the content was asked for
//	mediator_open   the WebSocket to the mediator is open
//	lookup_sent     get_peers was handed to it
//	offer_sent      the first offer was handed to it: with the lookup, or to a peer that was named
//	established     the mediator answered the handshake
//	peers_named     it named the first peer
//	answer_received the first answer came
//	ice_connected   a pair of addresses was found that works
//	dtls_connected  the handshake of the encryption is done
//	channel_open    frames can be sent
//	first_piece     the first piece is there and verified: the first byte that can be used
//	complete        the whole content is there, verified
//
// and for who serves (a seeder):
//
//	started, mediator_open, established
//	announced       the announce is stored in the DHT: any mediator finds it
//	offer_received  the first offer came
//	answer_sent     and was answered
//	ice_connected, dtls_connected, channel_open
//
// A connection that was there already, of an earlier content, leaves out what it need not do again:
// these phases have no stamp.
package timeline
