// Package rtc connects two peers by WebRTC. It is the only room that knows
// pion/webrtc; what it offers in return is small: a [Conn] takes signals in, gives
// signals out, and carries frames.
//
// # Connection
//
// There is one peer connection per remote peer, with one reliable, ordered data
// channel labelled [wire.ChannelLabel]. The offerer opens it in-band (RFC 8832);
// the answerer closes a channel of another label. Session descriptions and
// candidates travel as [Signal] texts, in the form in which a browser gives them
// (see "signal_data" in package mediation); candidates are trickled, and remote ones
// that come before the remote description wait for it.
//
// The offerer speaks first (see "Transport" in package wire): the answerer's
// connection counts as open when the first frame has come.
//
// # Glare
//
// When both sides offer at once, the offer of the lower peer id stands: its
// sender ignores the other offer, and the side with the higher id drops its own and
// answers. Both sides then use one connection.
//
// # Message sizes
//
// An SCTP message may be as long as the receiver's a=max-message-size says (RFC
// 8841), 64 KiB where it says nothing. pion says nothing, so that line is added to every
// description that leaves here: [wire.MaxFrame]. What pion itself sends is bounded to 64 KiB.
// [Handler.Opened] says what both directions carry.
//
// # Networks that drop UDP
//
// A Transport with a [Config.TCP] also takes connections over TCP (RFC 6544: passive
// candidates) at that port, those of all its connections. Every Transport connects to
// those who do (active candidates), and so do browsers. UDP is the first choice: candidates over TCP are
// told only when the checks have lasted for [Config.TCPAfter] without success.
//
// Strangers can connect to the port. One that does not soon name a connection
// that there is, by the secret of an ICE check, is sent away; how many may try at a time is
// bounded. In the other direction a peer cannot make us connect to whatever it likes: ports below 1024 other
// than 80 and 443 are refused, as in browsers, and the number of its candidates is bounded.
//
// # Ending
//
// A connection that does not open within [Config.ConnectTimeout] fails. A peer
// that dies without a word is noticed by ICE (RFC 7675, consent freshness). However
// a connection ends, [Handler.Closed] says so exactly once, last of all calls, when every
// goroutine of the connection is gone.
package rtc
