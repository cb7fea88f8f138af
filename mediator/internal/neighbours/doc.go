// Package neighbours knows which other mediators are alive, and at which public
// WebSocket URL peers reach them: where a mediator sends its peers when it ends, and
// what it names to them in case it ends without a word. It is also what people are
// shown of the network.
//
// # Protocol
//
// Whoever wants to know about a mediator opens a libp2p stream of protocol [Protocol] to it:
//
//	asker                                answerer
//	1 byte, 0x01 ──────────────────────▶
//	             ◀────────────────────── length  uint16, big-endian, 1 to 4096
//	                                     answer  so many bytes, one JSON object
//
// and both close. The byte is there so that the time between it and the answer is a
// round trip, however the stream was negotiated. JSON is read by the rules of package
// strict; a field that is not named here is ignored.
//
//	public_url  the WebSocket URL at which it takes peers, in the form that
//	            [content.CheckMediatorURL] wants; left out where it has none, or
//	            takes no more peers now
//	version     of its program, for people: at most 64 bytes, all of them printable
//	peers       how many are connected, an integer from 0 on
//	swarms      how many contents they have or want, an integer from 0 on
//
// The answerer resets the stream of one who asks too often, who sends another byte,
// or none in time; the asker that of one who does not answer as above in time. Either
// has five seconds. A later version may add fields.
//
// # Who is a neighbour
//
// Those in the routing table of the DHT are asked: newcomers at once, then each about
// every minute, and soon also when the connection to it was lost or the routing table
// dropped it. One that does not answer is none from then on, and is asked again at
// growing intervals while it is in the routing table.
//
// # What is told to peers
//
// Everything in an answer is what a stranger says. The numbers are shown to people and
// decide nothing. The URL would be worth a lie: all peers of all mediators would knock where it
// leads. So it is told to nobody before it was checked:
//
//   - GET /id at the URL's origin must answer {"id": …} (see package wsserver) with the
//     libp2p id that named the URL: nobody can name the server of another. It is
//     asked again about every hour. A mediator that is served below a path, or one of
//     several behind one origin, can therefore not be told.
//   - The host is looked up here, and each of its addresses must be public. Those of a
//     private network count only if our own connection to the mediator goes there or to
//     this machine, and loopback ones only if it stays on this machine: a LAN and a test may name
//     what is theirs, but nobody on the internet can make this mediator, or browsers, knock
//     at what they alone reach. All others (link-local, multicast, reserved) never count.
//     No redirect is followed. Where a proxy in front of the libp2p port makes everybody
//     seem near, a near host must still answer, here, with the id of the one who named it.
//   - At most three of those that are told have addresses in one network (/24 in IPv4, /48
//     in IPv6): identities and names cost nothing, networks do. The same networks bound
//     how often somebody is asked for /id because strangers say so.
//
// What remains: a name can mean one address here and another one elsewhere, or later.
// Whoever owns a name can so send peers anywhere, with a request for a WebSocket that has his
// own name in it; and to a wss URL without the request, for there is no certificate for the name.
package neighbours
