package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// errUnreachable says that no stream with the mediator could be established.
var errUnreachable = errors.New("the mediator is not reached")

// protectTag keeps the connection manager from closing connections that carry a
// mediation stream.
const protectTag = "p2pcdn/mediation"

// stream is one mediation stream.
type stream struct {
	relay *Relay
	link  *link
	raw   network.Stream

	// The reader's alone:
	reader  *bufio.Reader // of raw
	patient bool          // the deadline for reading is that of a stream on which nothing is said
	until   time.Time     // the deadline for reading

	used atomic.Int64 // when the last message was read or written, in Unix nanoseconds

	writing sync.Mutex // held while a message is written
	broken  bool       // a message was written in part; guarded by writing

	greeted chan struct{} // closed when the opener's handshake was answered, or not in time; nil: this side did not open it

	// What follows is guarded by Relay.mu.
	ending      bool     // nothing is sent on it any more
	established bool     // of one that this side opened: the handshake was answered
	early       []*early // what was written before that; bounded by maxEarly
}

func (r *Relay) newStream(l *link, raw network.Stream) *stream {
	s := &stream{relay: r, link: l, raw: raw, reader: bufio.NewReaderSize(raw, 4<<10)}
	s.touch()
	return s
}

// isTimeout reports whether a deadline passed; each transport has its own error for that.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *stream) touch() { s.used.Store(time.Now().UnixNano()) }

// tired is when the stream will not have been used for IdleTimeout.
func (s *stream) tired() time.Time {
	return time.Unix(0, s.used.Load()).Add(s.relay.config.IdleTimeout)
}

// write writes one message within MessageTimeout.
func (s *stream) write(message mediation.Message) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.broken {
		return io.ErrClosedPipe
	}
	_ = s.raw.SetWriteDeadline(time.Now().Add(s.relay.config.MessageTimeout))
	if err := s.relay.ctx.Err(); err != nil { // Close has set a deadline of its own, which must stay
		return err
	}
	return s.writeNow(message)
}

// writeNow writes under the deadline that is set; writing is held. What it refuses is counted.
func (s *stream) writeNow(message mediation.Message) error {
	if refusal, is := message.(*mediation.Error); is {
		s.relay.config.Refused(refusal.Code)
	}
	err := mediation.WriteTo(s.raw, message)
	switch {
	case err == nil:
		s.touch()
	case !errors.Is(err, &mediation.Error{Code: mediation.CodeMessageTooBig}):
		s.broken = true
	}
	return err
}

// readNow reads one message that must end within limit.
func (s *stream) readNow(limit time.Duration) (mediation.Message, error) {
	if err := s.readUntil(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	return s.take()
}

// readUntil sets the deadline for reading.
func (s *stream) readUntil(deadline time.Time) error {
	s.patient, s.until = false, deadline
	_ = s.raw.SetReadDeadline(deadline)
	return s.relay.ctx.Err() // Close has set a deadline of its own, which must stay
}

// take reads one message under the deadline that is set.
func (s *stream) take() (mediation.Message, error) {
	message, err := mediation.ReadFrom(s.reader)
	if err == nil {
		s.touch()
	}
	return message, err
}

// refuse says what is wrong and closes. Close and not Reset, which would
// overtake the message.
func (s *stream) refuse(code mediation.ErrorCode, text string) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	if s.broken || s.writeNow(&mediation.Error{Code: code, Message: text}) != nil {
		_ = s.raw.Reset()
		return
	}
	_ = s.raw.Close()
}

// enter counts a stream in; false where there is no room, or the Relay is closed.
func (r *Relay) enter(raw network.Stream, limit int) (room, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, false
	}
	room = !limits.Reached(len(r.live), limit)
	r.live[raw] = struct{}{} // a refused one too, until it is told
	return room, true
}

func (r *Relay) exit(raw network.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, raw)
}

// open opens a stream and makes it one of the link's.
func (r *Relay) open(l *link) error {
	id, err := peer.Decode(l.mediator.String())
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.config.OpenTimeout)
	defer cancel()
	raw, err := r.host.NewStream(ctx, id, mediation.StreamProtocol)
	if err != nil {
		r.log.Debug("a mediator is not reached", "mediator", l.mediator.Short(), "error", err)
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	room, open := r.enter(raw, r.config.MaxStreams)
	if !room || !open {
		r.exit(raw)
		_ = raw.Reset()
		return fmt.Errorf("%w: too many streams", errUnreachable)
	}
	s := r.newStream(l, raw)
	if err := s.write(mediation.Replication{MediatorID: r.self}); err != nil {
		r.exit(raw)
		_ = raw.Reset()
		return fmt.Errorf("%w: greeting: %w", errUnreachable, err)
	}
	s.greeted = make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.out == nil {
		l.out = s
	}
	l.users++
	r.wg.Go(func() { // send, which calls, is counted too: Close cannot have returned
		defer r.done(s)
		if err := s.greet(); err != nil {
			r.refusedBy(s, err)
			return
		}
		r.add(s)
		s.serve()
		r.remove(s)
	})
	return nil
}

// refusedBy ends a stream whose handshake was not answered as it should be: what was written behind it
// was not read.
func (r *Relay) refusedBy(s *stream, err error) {
	r.abandon(s)
	_ = s.raw.Reset()
	r.log.Debug("a mediator refused the handshake", "mediator", s.link.mediator.Short(), "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kept := range s.early {
		r.giveBack(s.link, kept.message)
	}
	s.early = nil
}

// greet waits for the answer to the opener's handshake. What is to be said is said meanwhile.
func (s *stream) greet() error {
	defer func() {
		s.relay.mu.Lock()
		s.ending = s.ending || !s.established
		s.relay.mu.Unlock()
		close(s.greeted)
	}()
	answer, err := s.readNow(s.relay.config.HandshakeTimeout)
	if err != nil {
		return fmt.Errorf("waiting for established: %w", err)
	}
	switch answer := answer.(type) {
	case mediation.Established:
		s.relay.mu.Lock()
		defer s.relay.mu.Unlock()
		s.early, s.established = nil, true
		return nil
	case *mediation.Error:
		return answer
	}
	return fmt.Errorf("got %s instead of established", answer.Type())
}

// accept serves a stream that another mediator opened, in libp2p's goroutine.
func (r *Relay) accept(raw network.Stream) {
	mediator, err := ident.ParseMediatorID(raw.Conn().RemotePeer().String())
	room, open := r.enter(raw, r.config.MaxStreams-max(0, r.config.MaxStreams/4))
	defer r.exit(raw)
	if err != nil || !open {
		_ = raw.Reset()
		return
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		_ = raw.Reset()
		return
	}
	r.wg.Add(1)
	defer r.wg.Done()
	l := r.use(mediator)
	room = room && !limits.Reached(l.inbound, r.config.MaxStreamsPerMediator)
	l.inbound++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		l.inbound--
		r.release(l)
	}()
	s := r.newStream(l, raw)
	if !room {
		s.refuse(mediation.CodeOverloaded, "too many streams")
		return
	}
	if !s.admit() {
		return
	}
	r.add(s)
	s.serve()
	r.remove(s)
}

// admit is the other side's handshake; it ends the stream where it fails.
func (s *stream) admit() bool {
	deadline := time.Now().Add(s.relay.config.HandshakeTimeout)
	for range maxErrors {
		message, err := s.readNow(time.Until(deadline))
		var wrong *mediation.Error
		switch {
		case s.relay.ctx.Err() != nil:
			s.refuse(mediation.CodeGoingAway, "the mediator shuts down")
			return false
		case errors.As(err, &wrong):
		case isTimeout(err):
			s.refuse(mediation.CodeHandshakeTimeout, "no handshake in time")
			return false
		case err != nil:
			_ = s.raw.Reset()
			return false
		default:
			handshake, ok := message.(mediation.Replication)
			if ok && handshake.MediatorID == s.link.mediator {
				if s.write(mediation.Established{}) != nil {
					_ = s.raw.Reset()
					return false
				}
				return true
			}
			if ok {
				s.refuse(mediation.CodeReplicationRefused, "peer_id is not the id that the stream is authenticated for")
				return false
			}
			wrong = &mediation.Error{Code: mediation.CodeHandshakeRequired, Message: "a handshake with \"replication\" comes first"}
		}
		if wrong.Code == mediation.CodeMessageTooBig {
			s.refuse(wrong.Code, wrong.Message)
			return false
		}
		if s.write(wrong) != nil {
			_ = s.raw.Reset()
			return false
		}
	}
	s.refuse(mediation.CodeTooManyErrors, "nothing but wrong messages")
	return false
}

// unexpected is what is wrong with a message that has no place between
// mediators after the handshake; nil where nothing is.
func unexpected(message mediation.Message) *mediation.Error {
	switch message.(type) {
	case mediation.GetPeers, mediation.Peers, mediation.Signal, mediation.Finish, *mediation.Error:
		return nil
	case mediation.Replication:
		return &mediation.Error{Code: mediation.CodeAlreadyEstablished, Message: "a second handshake"}
	}
	return &mediation.Error{Code: mediation.CodeUnexpectedType, Message: "a mediator does not send " + message.Type() + " here"}
}

// add makes the stream one of its link's.
func (r *Relay) add(s *stream) {
	s.link.calls.Lock()
	defer s.link.calls.Unlock()
	r.mu.Lock()
	s.link.streams[s] = struct{}{}
	first := len(s.link.streams) == 1
	r.choose(s.link)
	r.mu.Unlock()
	if first {
		r.host.ConnManager().Protect(s.raw.Conn().RemotePeer(), protectTag)
	}
}

// remove takes the stream out of its link, and says so if it was the last one.
func (r *Relay) remove(s *stream) {
	s.link.calls.Lock()
	defer s.link.calls.Unlock()
	r.mu.Lock()
	s.ending = true
	delete(s.link.streams, s)
	r.choose(s.link)
	last := len(s.link.streams) == 0
	r.mu.Unlock()
	if last {
		r.host.ConnManager().Unprotect(s.raw.Conn().RemotePeer(), protectTag)
		r.handler.MediatorGone(s.link.mediator)
	}
}

// done ends a stream that this side opened.
func (r *Relay) done(s *stream) {
	r.exit(s.raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release(s.link)
}

// serve reads messages until the stream ends, and ends it on this side.
func (s *stream) serve() {
	wrongs := 0 // in a row
	for {
		message, err := s.next()
		var wrong *mediation.Error
		switch {
		case s.relay.ctx.Err() != nil:
			s.relay.abandon(s)
			s.refuse(mediation.CodeGoingAway, "the mediator shuts down")
			return
		case errors.As(err, &wrong):
		case errors.Is(err, io.EOF):
			s.relay.abandon(s)
			s.writing.Lock() // what is being written is still read over there
			_ = s.raw.Close()
			s.writing.Unlock()
			return
		case err != nil:
			_ = s.raw.Reset()
			return
		default:
			wrong = unexpected(message)
			if wrong == nil && !s.link.allowance.Allow() {
				if !s.limit(message) {
					return
				}
				continue
			}
		}
		if wrong == nil {
			wrongs = 0
			s.link.calls.Lock()
			s.relay.handler.HandleMediator(s.link.mediator, message)
			s.link.calls.Unlock()
			continue
		}
		if wrong.Code == mediation.CodeMessageTooBig { // where the next one begins is not known
			s.relay.abandon(s)
			s.refuse(wrong.Code, wrong.Message)
			return
		}
		if wrongs++; wrongs >= maxErrors {
			s.relay.log.Info("a mediator sends nothing but wrong messages", "mediator", s.link.mediator.Short(), "last", wrong)
			s.relay.abandon(s)
			s.refuse(mediation.CodeTooManyErrors, "nothing but wrong messages")
			return
		}
		if s.write(wrong) != nil {
			_ = s.raw.Reset()
			return
		}
	}
}

// limit answers a message that came too fast, which is dropped; false where the stream broke.
// What it was about is named, so that whoever waits for an answer need not.
func (s *stream) limit(message mediation.Message) bool {
	refusal := &mediation.Error{Code: mediation.CodeRateLimited, Message: "too many messages; this one was dropped"}
	switch m := message.(type) {
	case mediation.GetPeers:
		refusal = refusal.About(m.FullHash)
	case mediation.Signal:
		refusal = refusal.About(m.FullHash).With(m.PeerID)
		refusal.SenderID = m.SenderID
	default: // an error is never answered, and nobody waits for an answer to the others
		s.relay.config.Refused(refusal.Code)
		return true
	}
	if s.write(refusal) != nil {
		_ = s.raw.Reset()
		return false
	}
	return true
}

// next reads a message. Where nothing was said for IdleTimeout it closes this
// side's half and reads what the other side may still have under way.
//
// A deadline is set as seldom as can be: once for many messages that come as a whole.
func (s *stream) next() (mediation.Message, error) {
	for {
		if !s.patient {
			if err := s.readUntil(s.tired()); err != nil {
				return nil, err
			}
			s.patient = true
		}
		_, err := s.reader.Peek(1) // takes nothing: a deadline that passes here leaves the stream whole
		switch {
		case err == nil && mediation.Whole(s.reader):
			return s.take()
		case err == nil:
			return s.readNow(s.relay.config.MessageTimeout)
		case !isTimeout(err) || time.Now().Before(s.until): // a connection that nothing is heard on ends with a timeout too
			return nil, err
		}
		s.patient = false
		if time.Now().Before(s.tired()) { // something was said since it was set
			continue
		}
		s.relay.abandon(s)
		s.writing.Lock()
		_ = s.raw.CloseWrite()
		s.broken = true
		s.writing.Unlock()
		if err := s.readUntil(time.Now().Add(s.relay.config.MessageTimeout)); err != nil {
			return nil, err
		}
		if _, err := s.reader.Peek(1); err != nil {
			return nil, err
		}
		return s.readNow(s.relay.config.MessageTimeout)
	}
}
