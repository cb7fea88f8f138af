package mediation

// StreamProtocol is the libp2p protocol id of the stream between mediators.
const StreamProtocol = "/p2pcdn/mediation/1.0.0"

// Path is where a mediator serves the WebSocket.
const Path = "/mediation"

const (
	// MaxSignalData bounds signal_data, in bytes of UTF-8. A session description
	// with dozens of candidates has 4 to 8 KiB.
	MaxSignalData = 64 << 10

	// MaxMessageSize bounds a message in bytes: a full signal_data of which
	// every byte needs one escaping backslash, and an envelope. What was decoded
	// and is sent on, with a sender_id, fits again.
	MaxMessageSize = 2*MaxSignalData + 4<<10

	// maxQuotedSignalData bounds signal_data as JSON in its shortest form, in bytes
	// with its quotes: control characters take six bytes each, and a text full
	// of them would not fit in a message.
	maxQuotedSignalData = 2*MaxSignalData + 2

	// MaxPeers bounds the list in a peers message. More seeders are named in
	// further messages.
	MaxPeers = 64

	// MaxICEServers, MaxURLs and MaxText bound what established and error carry.
	MaxICEServers = 16
	MaxURLs       = 16
	MaxText       = 1024 // bytes of one URL, name, credential or error message
)

// ErrorCode is the code of an error message: stable, for programs.
type ErrorCode string

// The codes that a decoder gives, whoever reads.
const (
	CodeBadMessage        ErrorCode = "bad_message"         // not a text frame with one JSON object, or a field is missing or of the wrong type
	CodeUnknownType       ErrorCode = "unknown_type"        // "type" names no message
	CodeBadFullHash       ErrorCode = "bad_full_hash"       // not 64 lower-case hex digits
	CodeBadPeerID         ErrorCode = "bad_peer_id"         // not 40 lower-case hex digits
	CodeBadConnectionType ErrorCode = "bad_connection_type" // neither "mediation" nor "replication"
	CodeMessageTooBig     ErrorCode = "message_too_big"     // over MaxMessageSize; the connection is closed
	CodeSignalTooBig      ErrorCode = "signal_too_big"      // signal_data over MaxSignalData, or twice that when escaped
)

// The codes that a mediator gives.
const (
	CodeUnexpectedType     ErrorCode = "unexpected_type"      // a message that only a mediator sends
	CodeHandshakeRequired  ErrorCode = "handshake_required"   // anything before the handshake
	CodeHandshakeTimeout   ErrorCode = "handshake_timeout"    // no handshake in time; the connection is closed
	CodeAlreadyEstablished ErrorCode = "already_established"  // a second handshake; the first one stands
	CodePeerIDInUse        ErrorCode = "peer_id_in_use"       // the id is connected; ids are never taken over
	CodeReplicationRefused ErrorCode = "replication_refused"  // "replication" on a WebSocket, or an id that is not the stream's
	CodePeerNotFound       ErrorCode = "peer_not_found"       // the receiver of a signal is not connected, or not known here
	CodeSignalToSelf       ErrorCode = "signal_to_self"       // the receiver of a signal is its sender
	CodeTooManyAnnounces   ErrorCode = "too_many_announces"   // the peer announced as many contents as it may
	CodeTooManyLookups     ErrorCode = "too_many_lookups"     // the peer waits for as many contents as it may
	CodeAnnounceFailed     ErrorCode = "announce_failed"      // the DHT did not take the announce; it is tried again
	CodeRateLimited        ErrorCode = "rate_limited"         // too many messages; this one was dropped
	CodeTooManyErrors      ErrorCode = "too_many_errors"      // nothing but malformed messages for a while; the connection is closed
	CodeSlowReader         ErrorCode = "slow_reader"          // the peer does not read what it asked for; the connection is closed
	CodeTooManyConnections ErrorCode = "too_many_connections" // the peer's address has as many connections as it may; instead of a WebSocket
	CodeOriginRefused      ErrorCode = "origin_refused"       // pages of this origin may not use the mediator; instead of a WebSocket
	CodeTooManyContents    ErrorCode = "too_many_contents"    // the mediator holds as many contents as it may
	CodeContentRefused     ErrorCode = "content_refused"      // the mediator's volunteer does not want to have to do with this content
	CodeGoingAway          ErrorCode = "going_away"           // the mediator shuts down, and may name others; the connection is closed
	CodeOverloaded         ErrorCode = "overloaded"           // the mediator, or the receiver of a signal, has no room for this now
)
