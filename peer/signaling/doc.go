// Package signaling is a peer's line to its mediator: the mediation protocol
// (package mediation) over a WebSocket. It is the only room of the peer that knows
// github.com/coder/websocket.
//
// A [Client] is told what is wanted (Announce, GetPeers, Finish) and keeps to it: it
// connects, and after a lost connection it connects again, to another mediator, with a
// fresh peer id, and says again what is announced and wanted. Signals are
// not kept: they are of no use under another id.
//
// There is no list of mediators in one place. A Client begins with those that the user
// named, and remembers those that they name in turn, as package mediation says (roster.go): whoever was
// connected once finds others when that one dies. It does not go back to an earlier one
// while the present one works: every move costs announces and lookups, and gains nothing.
//
// Everything that comes is an [Event], in order, on one channel that must be
// read: whoever does not read it stops the line.
package signaling
