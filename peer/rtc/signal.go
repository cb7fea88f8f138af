package rtc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"p2pcdn/common/mediation"
	"p2pcdn/common/wire"
)

// Kind is the type of a Signal.
type Kind string

// The kinds of signals.
const (
	Offer     Kind = "offer"
	Answer    Kind = "answer"
	Candidate Kind = "candidate"
)

// ErrBadSignal is returned for a text that is no signal of this project.
var ErrBadSignal = errors.New("not a session description or a candidate")

// Signal is what one peer says to the other by way of the mediators.
type Signal struct {
	Kind      Kind
	SDP       string        // of an Offer or an Answer
	To        string        // of an Answer: the ICE user name fragment of the offer that it is for; "": it does not say
	Candidate *ICECandidate // of a Candidate; nil: there are no more
}

// ICECandidate is an RTCIceCandidateInit (W3C WebRTC, section 4.8.1).
type ICECandidate struct {
	Candidate        string  `json:"candidate"`
	SDPMid           *string `json:"sdpMid"`
	SDPMLineIndex    *uint16 `json:"sdpMLineIndex"`
	UsernameFragment *string `json:"usernameFragment,omitempty"`
}

// maxCandidate bounds a candidate's text, in bytes: a host name of 255 and the
// fixed fields, with room for extensions.
const maxCandidate = 1024

// ParseSignal parses signal_data. Every failure wraps [ErrBadSignal].
func ParseSignal(text string) (Signal, error) {
	if len(text) > mediation.MaxSignalData {
		return Signal{}, fmt.Errorf("%w: %d bytes", ErrBadSignal, len(text))
	}
	var fields struct {
		Type      Kind            `json:"type"`
		SDP       string          `json:"sdp"`
		To        json.RawMessage `json:"to"`
		Candidate json.RawMessage `json:"candidate"`
	}
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return Signal{}, fmt.Errorf("%w: %w", ErrBadSignal, err)
	}
	switch fields.Type {
	case Offer, Answer:
		if !strings.Contains(fields.SDP, "m=application") {
			return Signal{}, fmt.Errorf("%w: a description without a data channel", ErrBadSignal)
		}
		signal := Signal{Kind: fields.Type, SDP: fields.SDP}
		if fields.Type == Answer {
			_ = json.Unmarshal(fields.To, &signal.To) // of another type: as if it were not there
		}
		return signal, nil
	case Candidate:
		candidate, err := parseCandidate(fields.Candidate)
		return Signal{Kind: Candidate, Candidate: candidate}, err
	}
	return Signal{}, fmt.Errorf("%w: type %.40q", ErrBadSignal, fields.Type)
}

// parseCandidate returns nil for null and for the empty candidate, with which
// older browsers say that there are no more.
func parseCandidate(raw json.RawMessage) (*ICECandidate, error) {
	if len(raw) == 0 {
		return nil, fmt.Errorf("%w: a candidate without a candidate", ErrBadSignal)
	}
	var candidate *ICECandidate
	if err := json.Unmarshal(raw, &candidate); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignal, err)
	}
	if candidate == nil || candidate.Candidate == "" {
		return nil, nil
	}
	if len(candidate.Candidate) > maxCandidate {
		return nil, fmt.Errorf("%w: a candidate of %d bytes", ErrBadSignal, len(candidate.Candidate))
	}
	return candidate, nil
}

// String returns the signal as signal_data.
func (s Signal) String() string {
	var fields any = struct {
		Type Kind   `json:"type"`
		SDP  string `json:"sdp"`
		To   string `json:"to,omitempty"`
	}{s.Kind, s.SDP, s.To}
	if s.Kind == Candidate {
		fields = struct {
			Type      Kind          `json:"type"`
			Candidate *ICECandidate `json:"candidate"`
		}{s.Kind, s.Candidate}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // a description is full of < and >
	if err := encoder.Encode(fields); err != nil {
		panic(err) // every field is a string or a number
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// With returns a description with candidates in it, the first ones, as many as there is room for, and how many
// these are: their receiver handles them like those that come alone. nil, the end of candidates, is passed over.
func (s Signal) With(candidates []*ICECandidate) (with Signal, taken int) {
	var lines strings.Builder
	for _, candidate := range candidates {
		if candidate != nil {
			if len(s.SDP)+lines.Len()+len(candidate.Candidate) >= maxDescription {
				break
			}
			lines.WriteString("a=" + candidate.Candidate + "\r\n")
		}
		taken++
	}
	s.SDP += lines.String() // the data channel's is the only section
	return s, taken
}

// maxDescription bounds a description that candidates are added to, in bytes: half of what signal_data may have.
const maxDescription = mediation.MaxSignalData / 2

const (
	// defaultMessageSize holds where a description says nothing (RFC 8841, 6.1).
	defaultMessageSize = 64 << 10

	// ownSendLimit is what pion/sctp sends in one message: its default, which
	// pion/webrtc v3 gives no way to raise.
	ownSendLimit = 64 << 10

	messageSizeLine = "a=max-message-size:"
)

// announceMessageSize adds to a description how long a message may be that its
// receiver sends. The data channel's is the only section, so it stands at the end.
func announceMessageSize(sdp string) string {
	if strings.Contains(sdp, messageSizeLine) {
		return sdp
	}
	return sdp + messageSizeLine + strconv.Itoa(wire.MaxFrame) + "\r\n"
}

// maxFrame is the largest frame, in bytes, that we can send, given the description that
// the other side sent.
func maxFrame(remoteSDP string) int {
	remote := defaultMessageSize
	if value, found := sdpValue(remoteSDP, messageSizeLine); found {
		if size, err := strconv.ParseUint(value, 10, 31); err == nil {
			remote = int(size)
		}
	}
	if remote == 0 { // RFC 8841: any size
		remote = wire.MaxFrame
	}
	return min(remote, ownSendLimit, wire.MaxFrame)
}

const candidateLine = "a=candidate:"

// splitCandidates takes the candidates out of a description, so that they are
// handled like those that come alone.
func splitCandidates(sdp string) (description string, candidates []*ICECandidate) {
	var rest strings.Builder
	line := uint16(0) // of the only section
	for text := range strings.Lines(sdp) {
		if candidate, found := strings.CutPrefix(text, candidateLine); found {
			candidates = append(candidates, &ICECandidate{
				Candidate: "candidate:" + strings.TrimRight(candidate, "\r\n"), SDPMLineIndex: &line,
			})
			continue
		}
		rest.WriteString(text)
	}
	return rest.String(), candidates
}

// tcpPassive is the type of a TCP candidate that others connect to (RFC 6544).
const tcpPassive = "passive"

// tcpPort returns the port of a candidate over TCP (RFC 8839, 5.1:
// "candidate:foundation component transport priority address port …").
func tcpPort(candidate string) (port int, isTCP bool) {
	fields := strings.Fields(candidate)
	if len(fields) < 6 || !strings.EqualFold(fields[2], "tcp") {
		return 0, false
	}
	port, _ = strconv.Atoi(fields[5]) // what is no port is refused as 0
	return port, true
}

// OfferID tells one offer from another, however many candidates stand in each: the ICE user name fragment of its description
// (RFC 8839, 5.4), or all of it where it has none.
func (s Signal) OfferID() string { return offerID(s.SDP) }

func offerID(sdp string) string {
	if fragment, found := sdpValue(sdp, "a=ice-ufrag:"); found {
		return fragment
	}
	return sdp
}

// sdpValue returns what follows the prefix on its first line.
func sdpValue(sdp, prefix string) (value string, found bool) {
	for line := range strings.Lines(sdp) {
		if value, found := strings.CutPrefix(strings.TrimRight(line, "\r\n"), prefix); found {
			return value, true
		}
	}
	return "", false
}
