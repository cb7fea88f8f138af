package client

import "slices"

// Cut is one of the ways in which round trips are saved, by its name. Each can be left out ([Config.Without]), so that what
// it saves can be measured; there is no other reason to.
type Cut string

// The cuts, in the order of the phases in which they save.
const (
	CutPipelining Cut = "pipelining" // what is wanted is said behind the handshake, before it is answered
	CutOffer      Cut = "offer"      // an offer travels with the question for peers
	CutPair       Cut = "pair"       // the first pair of addresses that works is used, before its nomination
	CutCookie     Cut = "cookie"     // DTLS does not ask for a cookie
	CutEarly      Cut = "early"      // a peer is asked for blocks and hashes with our handshake, before its own
	CutJoin       Cut = "join"       // the next content is asked of peers that are connected, before others are named
)

// Cuts are all of them, each with what it does.
var Cuts = []struct {
	Cut  Cut
	Does string
}{
	{CutPipelining, "says what it wants behind the handshake, before that is answered"},
	{CutOffer, "sends an offer along with the question for peers"},
	{CutPair, "uses the first pair of addresses that works, before its nomination"},
	{CutCookie, "answers DTLS without asking for a cookie"},
	{CutEarly, "asks for blocks and hashes with its handshake, before it has heard the other's"},
	{CutJoin, "asks peers that are connected for the next content, before others are named"},
}

// leavesOut reports whether a cut is left out.
func (c Config) leavesOut(cut Cut) bool { return slices.Contains(c.Without, cut) }
