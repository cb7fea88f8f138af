package rtc

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v3"

	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
)

// session is one pion peer connection. A Conn has one, and a second one after
// it lost a glare. Its fields and methods are owned by the Conn's run, but for post's callers.
type session struct {
	conn  *Conn
	pc    *webrtc.PeerConnection
	latch *latch // of its sockets

	held      Signal          // without trickling: our description, which waits for the candidates
	described bool            // our description was sent: candidates may follow
	local     []*ICECandidate // that wait for our description to be sent; nil entry: the end
	late      []*ICECandidate // over TCP, and the end, that wait to be needed
	lateTold  bool            // they were
	remoteSDP string          // "" before it came
	tried     int             // remote candidates
	triedTCP  int             // those of them over TCP
	mid       string          // of the data channel's section, from our description
	fragment  string          // our ICE user name fragment
	controls  atomic.Bool     // it is of our offer, so that we nominate (RFC 8445, 6.1.1)
	password  atomic.Value    // string: the remote ICE password; "" before it came
	watching  atomic.Bool     // there is a channel, or will be: one is enough
}

// event is what happened to a session.
type event struct {
	session   *session
	candidate *candidateEvent
	channel   *channel
	phase     timeline.Phase // set: it was reached
	err       error          // set: the session is over
}

type candidateEvent struct{ candidate *webrtc.ICECandidate }

// channel is an open data channel. Its reader owns buffer and first.
type channel struct {
	*webrtc.DataChannel
	raw    datachannel.ReadWriteCloser
	buffer []byte // one byte longer than the longest frame, so that a longer one is noticed
	first  []byte // of an answerer's: the frame that came already
}

// next waits for a frame, which is in the buffer, until the next call.
func (c *channel) next() ([]byte, error) {
	n, isText, err := c.raw.ReadDataChannel(c.buffer)
	switch {
	case errors.Is(err, io.ErrShortBuffer) || n > wire.MaxFrame:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBadFrame, wire.MaxFrame)
	case err != nil: // io.EOF, or whatever pion met while it closed its own side
		return nil, ErrClosedByPeer
	case isText:
		return nil, fmt.Errorf("%w: a text", ErrBadFrame)
	}
	return c.buffer[:n], nil
}

// newSession makes the peer connection; an offerer's offer is sent by offer.
func newSession(conn *Conn) (*session, error) {
	s := &session{conn: conn}
	pc, latch, err := conn.transport.newPeerConnection(configurationOf(conn.peering.ICEServers), s.controls.Load, func() string { return s.password.Load().(string) })
	if err != nil {
		return nil, fmt.Errorf("preparing a connection: %w", err)
	}
	s.pc, s.latch = pc, latch
	s.password.Store("")
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		s.post(event{candidate: &candidateEvent{candidate}})
	})
	pc.OnICEConnectionStateChange(func(state webrtc.ICEConnectionState) {
		if state == webrtc.ICEConnectionStateConnected {
			s.post(event{phase: timeline.ICEConnected})
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			s.post(event{phase: timeline.DTLSConnected})
		case webrtc.PeerConnectionStateFailed:
			s.post(event{err: ErrLost})
		case webrtc.PeerConnectionStateClosed:
			s.post(event{err: ErrClosedByPeer})
		}
	})
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		reliable := dc.Ordered() && dc.MaxRetransmits() == nil && dc.MaxPacketLifeTime() == nil
		if dc.Label() != wire.ChannelLabel || !reliable || !s.watching.CompareAndSwap(false, true) {
			dc.OnOpen(func() { s.refuse(dc) })
			return
		}
		s.watch(dc, true)
	})
	return s, nil
}

// post hands an event to the Conn's run. It waits for its turn, but not beyond
// the end of the Conn.
func (s *session) post(e event) {
	e.session = s
	select {
	case s.conn.events <- e:
	case <-s.conn.ended:
	}
}

// watch waits for the channel to open; an answerer's is open once the offerer has
// spoken.
func (s *session) watch(dc *webrtc.DataChannel, answering bool) {
	dc.OnOpen(func() { // in a goroutine of its own, which ends with the session
		raw, err := dc.Detach()
		if err != nil {
			s.post(event{err: fmt.Errorf("opening the data channel: %w", err)})
			return
		}
		opened := &channel{DataChannel: dc, raw: raw, buffer: make([]byte, wire.MaxFrame+1)}
		if answering {
			if opened.first, err = opened.next(); err != nil {
				s.post(event{err: err})
				return
			}
		}
		s.post(event{channel: opened})
	})
}

func (s *session) refuse(dc *webrtc.DataChannel) {
	if raw, err := dc.Detach(); err == nil {
		_ = raw.Close() // whatever became of it, it is not ours
	}
}

// offer opens the channel and sends our offer.
func (s *session) offer() error {
	s.controls.Store(true)
	dc, err := s.pc.CreateDataChannel(wire.ChannelLabel, nil)
	if err != nil {
		return fmt.Errorf("creating the data channel: %w", err)
	}
	s.watching.Store(true)
	s.watch(dc, false)
	description, err := s.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("making an offer: %w", err)
	}
	return s.describe(Offer, description)
}

// answer takes a remote offer and sends our answer.
func (s *session) answer(sdp string) error {
	if setup, _ := sdpValue(sdp, "a=setup:"); setup == "active" {
		return errors.New("the peer's offer wants to begin DTLS, which the answerer does")
	}
	if err := s.setRemote(webrtc.SDPTypeOffer, sdp); err != nil {
		return err
	}
	description, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("making an answer: %w", err)
	}
	return s.describe(Answer, description)
}

// describe makes the description ours, which starts the gathering, and sends it.
func (s *session) describe(kind Kind, description webrtc.SessionDescription) error {
	if err := s.pc.SetLocalDescription(description); err != nil {
		return fmt.Errorf("using our %s: %w", kind, err)
	}
	s.mid, _ = sdpValue(description.SDP, "a=mid:")
	s.fragment, _ = sdpValue(description.SDP, "a=ice-ufrag:")
	signal := Signal{Kind: kind, SDP: announceMessageSize(description.SDP)}
	if kind == Answer {
		signal.To, _ = sdpValue(s.remoteSDP, "a=ice-ufrag:")
	}
	if s.conn.transport.noTrickle {
		s.held = signal
		return nil
	}
	s.send(signal)
	s.told()
	return nil
}

// told says that our description was sent: what was gathered follows it.
func (s *session) told() {
	s.described = true
	for _, candidate := range s.local {
		s.send(Signal{Kind: Candidate, Candidate: candidate})
	}
	s.local = nil
}

// tellWhole sends our description with every candidate that was gathered.
func (s *session) tellWhole() {
	whole, _ := s.held.With(s.local)
	whole.SDP += "a=end-of-candidates\r\n"
	s.local = nil
	s.send(whole)
	s.told()
}

func (s *session) send(signal Signal) {
	s.conn.peering.Handler.Signal(signal.String())
	switch signal.Kind {
	case Offer:
		s.conn.peering.Handler.Reached(timeline.OfferSent)
	case Answer:
		s.conn.peering.Handler.Reached(timeline.AnswerSent)
	}
}

// gathered sends a candidate of ours, after our description; one over TCP not before it is needed.
func (s *session) gathered(found *webrtc.ICECandidate) {
	var candidate *ICECandidate
	if found != nil {
		// Not ToJSON, which names no section: browsers want one.
		line := uint16(0)
		candidate = &ICECandidate{Candidate: found.ToJSON().Candidate, SDPMLineIndex: &line, SDPMid: &s.mid, UsernameFragment: &s.fragment}
	}
	isTCP := found != nil && found.Protocol == webrtc.ICEProtocolTCP
	switch {
	case isTCP && found.TCPType != tcpPassive: // of a connection that we open: nobody could use it
	case (isTCP || found == nil && len(s.late) > 0) && !s.lateTold:
		s.late = append(s.late, candidate)
		if found == nil && s.held.Kind != "" && !s.described {
			s.tellWhole()
		}
	case found == nil && s.held.Kind != "" && !s.described:
		s.tellWhole()
	case !s.described:
		s.local = append(s.local, candidate)
	default:
		s.send(Signal{Kind: Candidate, Candidate: candidate})
	}
}

// tellTCP sends the candidates over TCP, now that those over UDP had their time.
func (s *session) tellTCP() {
	s.lateTold = true
	for _, candidate := range s.late {
		s.send(Signal{Kind: Candidate, Candidate: candidate})
	}
	s.late = nil
}

// setRemote takes the remote description, and the candidates that waited for it.
// From here on pion checks candidates.
func (s *session) setRemote(kind webrtc.SDPType, sdp string) error {
	if maxFrame(sdp) < wire.MinFrame {
		return fmt.Errorf("the peer takes frames of %d bytes, but %d are needed", maxFrame(sdp), wire.MinFrame)
	}
	description, candidates := splitCandidates(sdp)
	password, _ := sdpValue(sdp, "a=ice-pwd:")
	s.password.Store(password)
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: description}); err != nil {
		return fmt.Errorf("using the peer's %s: %w", kind, err)
	}
	s.remoteSDP = sdp
	for _, candidate := range append(candidates, s.conn.waiting...) {
		s.add(candidate)
	}
	s.conn.waiting = nil
	s.conn.fallback.Reset(s.conn.transport.tcpAfter)
	if s.conn.other != nil {
		s.conn.anew.Reset(s.conn.transport.anewAfter)
	}
	return nil
}

// accept takes the answer to our offer. A second answer is ignored, and one to another offer.
func (s *session) accept(signal Signal) error {
	if !s.described || s.remoteSDP != "" || signal.To != "" && signal.To != s.fragment {
		return nil
	}
	s.conn.peering.Handler.Reached(timeline.AnswerReceived)
	return s.setRemote(webrtc.SDPTypeAnswer, signal.SDP)
}

// add hands a candidate to pion. One that cannot be used (of a kind that pion does
// not know, of an offer that lost a glare) leaves the others as they are.
func (s *session) add(candidate *ICECandidate) {
	if fragment, _ := sdpValue(s.remoteSDP, "a=ice-ufrag:"); candidate.UsernameFragment != nil && *candidate.UsernameFragment != fragment {
		return
	}
	if err := s.allow(candidate.Candidate); err != nil {
		s.notUsed(candidate, err)
		return
	}
	err := s.pc.AddICECandidate(webrtc.ICECandidateInit{
		Candidate: candidate.Candidate, SDPMid: candidate.SDPMid, SDPMLineIndex: candidate.SDPMLineIndex,
	})
	if err != nil {
		s.notUsed(candidate, err)
	}
}

func (s *session) notUsed(candidate *ICECandidate, err error) {
	s.conn.transport.log.Debug("a candidate was not used", "candidate", candidate.Candidate, "err", err)
}

// allow counts a remote candidate, and says why it is not to be tried.
func (s *session) allow(candidate string) error {
	if s.tried >= maxCandidates {
		return errTooManyCandidates
	}
	s.tried++
	port, isTCP := tcpPort(candidate)
	switch {
	case !isTCP:
		return nil
	case s.triedTCP >= maxTCPCandidates:
		return errTooManyCandidates
	case port < 1024 && port != 80 && port != 443:
		return errServicePort
	}
	s.triedTCP++
	return nil
}

// Why a candidate is not tried.
var (
	errTooManyCandidates = errors.New("the peer has more candidates than anybody needs")
	errServicePort       = errors.New("this port is another service's") // a peer must not send us there; browsers have the same rule
)

// close ends the peer connection and waits for its goroutines.
func (s *session) close() error {
	s.latch.close()
	if err := s.pc.GracefulClose(); err != nil && !errors.Is(err, webrtc.ErrConnectionClosed) {
		return fmt.Errorf("closing a connection: %w", err)
	}
	return nil
}
