// Package latency is an instrument: it measures how long peers take to come together. It brings fresh pairs of peers
// together, again and again, and tells of each how long each phase took, as a row of package timeline. What is made of the
// rows is the concern of the rooms below it: report (statistics) and draw (pictures).
//
// # Introduction
//
// A seeder, on the first mediator, announces contents that were never there before, and waits until that is
// confirmed. Then a leecher, on the last mediator, is started, and asks for the first of them; when it is there,
// for the next, and so on. Both peers are new: a WebSocket, a peer id and connections of their own, that nothing is left in
// from an earlier introduction. The leecher's clock begins (started) before it dials its mediator. It may also be
// introduced to seeders that run elsewhere, of which it has links; see [Serve].
//
// What a leecher is told of a content is what a link says (see package content), or with [Config.Dictionaries] what an
// info dictionary says: with the piece hashes, which it asks the seeder for otherwise.
//
// # Flows
//
// The flow "fast" is that of every peer of this project (package client). The flow "prototype" is that of the
// prototype before it, rebuilt on the same rooms (packages signaling and rtc), so that the two differ in
// nothing but what is said when:
//
//	handshake, and nothing else before established
//	get_peers, again each second until peers are named. Names are taken whenever they come: also between two polls
//	the offer, once every candidate is gathered, with all of them in it; the answer likewise
//	a data channel that is opened in-band
//	the handshake of the wire protocol; the other's is waited for; then everything is asked for at once
//	a new connection for each content, over the same line to the mediator
//
// Its seeder is an ordinary one that answers as late as that: it announces when it is established anyway.
//
// # What goes wrong
//
// is a row, too, with what was reached until then, and the run goes on. An introduction that needs more than
// [Config.Timeout] fails, for each content anew. A mediator that cannot be reached is not tried again by the same
// peer: a second attempt would not be the latency of anything.
package latency
