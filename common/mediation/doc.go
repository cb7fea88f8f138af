// Package mediation is the mediation protocol: how a peer talks to its mediator,
// and how mediators talk to each other. This comment is its specification; the
// vectors in testdata/vectors hold every implementation to it.
//
// # Transport
//
// Between a peer and a mediator: a WebSocket at /mediation, one JSON object
// (RFC 8259) per text frame, in UTF-8, at most [MaxMessageSize] bytes.
//
// Between mediators: a libp2p stream of protocol [StreamProtocol]; each message
// is one such JSON object behind its length in bytes, four bytes, big-endian.
// Either side may open it; it is kept and serves both directions.
//
// JSON is read by the rules of package strict: names match to the letter, a name
// twice counts as its last, null is no value of any type, escaped surrogates come
// in pairs, and nothing is nested deeper than [strict.MaxDepth]. A field that a type
// does not name is ignored. Limits in bytes count UTF-8.
//
// # Protocol flow
//
//	peer                          mediator A             mediator B       peer
//	handshake ───────────────────▶
//	◀─────────────── established
//	announce ────────────────────▶ (stored in the DHT)
//	◀───────────────── announced
//	                                                ◀───────────── get_peers
//	                               ◀───── get_peers (found A in the DHT)
//	                               peers ─────────▶
//	                                                peers ──────────────▶
//	                                                ◀─────── signal (offer)
//	                               ◀──────── signal
//	◀───────────── signal (offer)
//	signal (answer) ─────────────▶
//	                               signal ────────▶
//	                                                signal (answer) ────▶
//	finish ──────────────────────▶ (withdrawn from the DHT)
//
// Then content flows between the peers alone; see package wire.
//
// # Messages
//
// Every object has "type". FullHash is 64, PeerID is 40 lower-case hex digits.
//
//	type         direction            fields
//	handshake    peer → mediator      peer_id: PeerID, connection_type: "mediation"
//	             mediator → mediator  peer_id: libp2p id, connection_type: "replication"
//	established  mediator →           ice_servers: [{urls: [string], username?, credential?}] (optional),
//	                                  mediators: [WebSocket URL] (optional)
//	get_peers    → mediator           full_hash, offer: a signal_data (optional);
//	                                  between mediators also sender_id: PeerID (with offer)
//	peers        mediator →           full_hash, peers: [PeerID], at most MaxPeers, offered: PeerID (optional);
//	                                  between mediators also gone: [PeerID] (optional), at most MaxPeers
//	signal       both ways            full_hash, peer_id, signal_data: string, at most MaxSignalData bytes;
//	                                  between mediators also sender_id: PeerID
//	announce     peer → mediator      full_hash
//	announced    mediator → peer      full_hash
//	finish       peer → mediator      full_hash
//	ping         peer → mediator      (nothing)
//	pong         mediator → peer      (nothing)
//	error        mediator →           code, message, full_hash (optional), peer_id (optional);
//	                                  between mediators also sender_id: PeerID (optional);
//	                                  with going_away: mediators: [WebSocket URL] (optional)
//
// Where several things are wrong, the first is told: the size, the form of the
// text, the type, and then each field in the order above (in a handshake
// connection_type first, because it decides what peer_id is). signal_data, and offer, must
// also fit, as JSON in its shortest form and with its quotes, in 2 × MaxSignalData
// + 2 bytes. Lists of URLs have at most MaxURLs entries, ice_servers at most
// MaxICEServers, and each other text has at most MaxText bytes. A receiver passes
// over a URL that it cannot use. Zeros stand for no peer: where a
// PeerID is optional they say that there is none, and a handshake with them gets bad_peer_id.
//
// handshake comes first, once. A peer chooses its id at random for each
// connection. The mediator answers established or an error; after an error the
// peer may try again on the same connection.
//
// get_peers is answered at once with the seeders that this mediator has, if it
// has any, and again whenever more are found: on other mediators, or because
// they announce later. Each seeder is named once. An empty list says that the
// search ended and there is nobody now; it is not the end of the interest. The
// interest ends with finish or with the connection. Asking again starts afresh:
// all known seeders are named again.
//
// signal carries an opaque text to another peer. Towards a mediator, peer_id is
// the receiver; towards a peer it is the sender. The mediator delivers it to a
// peer of its own, or hands it to the mediator through which it learnt of that
// peer, once: what came from a mediator is delivered here or refused with
// peer_not_found, never forwarded again.
//
// announce says that the peer seeds the content, wholly or in part. announced
// follows once the announce is stored in the DHT, so that any mediator finds it;
// if that fails, the error announce_failed comes first and the mediator keeps trying.
// Announcing again changes nothing; announced follows at once where the announce is stored.
//
// finish ends both the announce and the interest. A closed connection does the
// same for all contents of the peer. It is right also where there is nothing to end.
//
// ping asks whether the mediator is there, and is answered with pong at once. A page has no pings of the
// WebSocket, and a mediator that was cut off ends no connection: who has heard nothing for a while asks, and
// goes on to another mediator where nothing comes back. Whatever comes is an answer, unknown_type
// of an older mediator, too.
//
// # Fewer round trips
//
// A peer need not wait for established: it may send all that it has to say right behind
// handshake, since the mediator reads in order. Where handshake is refused, what came behind it
// is answered with handshake_required, and is said again behind the next one.
//
// A get_peers may carry an offer: what its sender would signal to the first peer that is
// named. The mediator hands it to one seeder, as a signal from the sender, and says to whom in
// offered, which is one of peers. So the seeder's answer comes after one round trip and not after
// two. Where the mediator has no seeder, the offer travels on with its own get_peers to one of the mediators that
// it asks, with sender_id, and that one hands it to a seeder of its own, or not. An offer is not kept beyond the
// search that it came with. A mediator that does not know offers, or has no room for one, names peers
// without offered: then the sender signals the offer itself. So get_peers with an offer is as good as
// get_peers and a signal to the peer in offered. Of several that are named in offered, the first one counts. (One
// mediator hands an offer out once. Where it travelled to a mediator that takes its time, and another one names
// seeders meanwhile, two may get it. So an answer says which offer it is for, see below.)
//
// A mediator that serves STUN does so at the UDP port of the same number, too, so that a peer can ask
// for its address there while it still connects; established says what there really is.
//
// # Other mediators
//
// A mediator names others to its peers, in established and in the error going_away, so that
// a peer needs no list that somebody keeps in one place. A peer remembers some dozens of them, the newest
// first, behind those that it was given itself, which it never forgets. When a connection
// ends or cannot be made, it goes on to another mediator, with a fresh id, and says there what
// it announces and asks for; at going_away it does so at once, and does not wait for the
// close. All peers of a mediator lose it in the same moment: so among those that it was
// told of each chooses at random, and lets a random time pass, of a second at most, before
// it connects. Longer waits, which grow, come only when all were tried in vain. A peer stays
// where it works. Connections between peers go on meanwhile: nothing in them depends on a mediator.
//
// A mediator is a stranger, and what it names is followed only as [MayName] allows.
//
// # Between mediators
//
// The side that opens the stream sends handshake with "replication" and its
// libp2p id, which must be the one that the stream is authenticated for; the
// other side answers established. get_peers is answered at once with peers, the
// local seeders only, an empty list included; it also asks to be told, with
// further peers messages on the same stream, of seeders that announce later, and with gone of those that were
// named and seed no more, for
// as long as the stream lives or until finish. A message with gone and without peers is no answer to get_peers. signal carries the receiver in peer_id and the sender in
// sender_id. A signal that cannot be delivered is answered with error
// peer_not_found, or overloaded where the receiver has too many waiting, or rate_limited
// where its mediator is told too much by this one, with full_hash, peer_id and sender_id of
// the signal; a get_peers that comes too fast is answered with rate_limited and full_hash; other errors are not passed on
// to peers. Where several mediators name one peer, signals go to each of them, and
// peer_not_found counts when the last of them said it: a mediator that names
// others' peers takes nobody's place.
//
// # signal_data
//
// Mediators never look into it. The peers of this project write JSON, as a
// browser gives it: {"type":"offer","sdp":…}, {"type":"answer","sdp":…} or
// {"type":"candidate","candidate":{"candidate":…,"sdpMid":…,"sdpMLineIndex":…}}.
// The end of candidates is {"type":"candidate","candidate":null}. An answer has "to": the offer's
// ICE user name fragment (optional); one to another offer than the present is ignored. Candidates that are known when a
// description is sent may stand in it. Whoever reads them ignores fields that it does not know.
//
// # Errors and closing
//
// Whatever is wrong is answered with error and one of the codes below, and leaves the
// connection as it was. The mediator closes the connection, after the error,
// only for handshake_timeout, message_too_big, too_many_errors and going_away, and,
// without one, for slow_reader and overloaded (no place for another peer); the
// WebSocket's close status and reason say the same. What is dropped with
// rate_limited is not kept: the peer says it again later. A peer that
// does not know a code treats it as an error about the named content or peer,
// and stays connected.
//
// # Versions
//
// New optional fields and new message types may be added; a receiver ignores the
// former and answers the latter with unknown_type. What is named here does not change.
package mediation
