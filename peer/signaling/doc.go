// Package signaling is a peer's line to its mediator: the mediation protocol
// (package mediation) over a WebSocket. It is the only room of the peer that knows
// nhooyr.io/websocket.
//
// A [Client] is told what is wanted (Announce, GetPeers, Finish) and keeps to it: it
// connects, and after a lost connection it connects again, to the next mediator of its
// list, with a fresh peer id, and says again what is announced and wanted. Signals are
// not kept: they are of no use under another id.
//
// Everything that comes is an [Event], in order, on one channel that must be
// read: whoever does not read it stops the line.
package signaling
