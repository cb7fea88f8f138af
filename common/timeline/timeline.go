package timeline

// Phase is a moment; see the package comment.
type Phase string

// The phases, in their usual order.
const (
	Started        Phase = "started"
	MediatorOpen   Phase = "mediator_open"
	LookupSent     Phase = "lookup_sent"
	OfferSent      Phase = "offer_sent"
	Established    Phase = "established"
	Announced      Phase = "announced"
	PeersNamed     Phase = "peers_named"
	OfferReceived  Phase = "offer_received"
	AnswerSent     Phase = "answer_sent"
	AnswerReceived Phase = "answer_received"
	ICEConnected   Phase = "ice_connected"
	DTLSConnected  Phase = "dtls_connected"
	ChannelOpen    Phase = "channel_open"
	FirstPiece     Phase = "first_piece"
	Complete       Phase = "complete"
)

// Phases are all of them, in their usual order.
var Phases = []Phase{
	Started, MediatorOpen, LookupSent, OfferSent, Established, Announced, PeersNamed, OfferReceived, AnswerSent,
	AnswerReceived, ICEConnected, DTLSConnected, ChannelOpen, FirstPiece, Complete,
}

// Of returns which phases a peer of that role goes through, in their usual order.
func Of(role Role) []Phase {
	if role == Seeder {
		return []Phase{Started, MediatorOpen, Established, Announced, OfferReceived, AnswerSent, ICEConnected, DTLSConnected, ChannelOpen}
	}
	return []Phase{
		Started, MediatorOpen, LookupSent, OfferSent, Established, PeersNamed, AnswerReceived, ICEConnected, DTLSConnected, ChannelOpen,
		FirstPiece, Complete,
	}
}
