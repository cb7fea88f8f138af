// Package session is one peer's connection, from the moment the WebSocket is open
// to its end: it reads one message after the other and hands it to the router,
// and writes what the router queues.
//
// One goroutine reads: the one that calls [Session.Run]. One writes: it is started
// when there is something to write, and gone when there is nothing. What is to be
// written waits in a bounded queue, and a peer that lets it overflow is cut off as a slow
// reader, as is one that takes nothing for too long. While more than half of the queue is in use
// nothing more is read: a flood comes as fast as its sender takes the answers, and
// the other half is for what others cause.
//
// A session ends once, for one reason; the first counts. Where the mediator ends it,
// the peer is told: the reason as an error message, then as the WebSocket's
// close status and reason. (A slow reader is told by the latter alone: there is
// no room for the former.)
package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// The defaults of Config.
const (
	// DefaultHandshakeTimeout is ample for one message, also from a phone that
	// wakes up.
	DefaultHandshakeTimeout = 10 * time.Second

	// DefaultPingInterval and DefaultPingTimeout find out a peer that vanished
	// without a word within 50 seconds. Home routers forget idle TCP connections
	// after minutes, so the pings keep them open, too.
	DefaultPingInterval = 30 * time.Second
	DefaultPingTimeout  = 20 * time.Second

	// DefaultWriteTimeout bounds how long one message may take to be written.
	DefaultWriteTimeout = 10 * time.Second

	// DefaultMaxQueued bounds the messages that wait to be written, in
	// bytes ([mediation.Room]): a few full signals.
	DefaultMaxQueued = 512 << 10

	// DefaultMaxErrors is how many malformed messages may come in a row.
	DefaultMaxErrors = 32

	// DefaultMessages bounds what a peer says, in messages a second, of which it may
	// save up those of [limits.BurstSeconds]: a page that seeds a thousand assets announces
	// them all at its start, and connects to dozens of peers with some ten
	// signals each.
	DefaultMessages = 100

	// DefaultLookups bounds get_peers, a second: a page looks for all its
	// assets at once, and for each again now and then. Each may cost a search of the DHT.
	DefaultLookups = 25

	// DefaultSignals and DefaultSignalBytes bound signals, a second: the 48 connections
	// of a page take up to a thousand signals and 400 KiB when all begin at once.
	DefaultSignals     = 50
	DefaultSignalBytes = 64 << 10
)

// Observer counts what happens, for the metrics. Its methods may be called
// together, and do not block.
type Observer interface {
	Received(mediation.Message)
	Refused(mediation.ErrorCode) // an error was sent, or the connection closed, for this
}

// Config is what all sessions have in common. Zero values mean the defaults, [limits.Off] no limit.
type Config struct {
	Observer         Observer // nil: none
	Logger           *slog.Logger
	HandshakeTimeout time.Duration
	PingInterval     time.Duration
	PingTimeout      time.Duration
	WriteTimeout     time.Duration
	MaxQueued        int // bytes
	MaxErrors        int // malformed messages in a row
	Messages         int // a second
	Lookups          int // get_peers a second
	Signals          int // a second
	SignalBytes      int // of signal_data, a second
}

// WithDefaults returns the configuration with no zero value left.
func (c Config) WithDefaults() Config {
	limits.Fill(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	limits.Fill(&c.PingInterval, DefaultPingInterval)
	limits.Fill(&c.PingTimeout, DefaultPingTimeout)
	limits.Fill(&c.WriteTimeout, DefaultWriteTimeout)
	limits.Fill(&c.MaxQueued, DefaultMaxQueued)
	limits.Fill(&c.MaxErrors, DefaultMaxErrors)
	limits.Fill(&c.Messages, DefaultMessages)
	limits.Fill(&c.Lookups, DefaultLookups)
	limits.Fill(&c.Signals, DefaultSignals)
	limits.Fill(&c.SignalBytes, DefaultSignalBytes)
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	return c
}

type unobserved struct{}

func (unobserved) Received(mediation.Message)  {}
func (unobserved) Refused(mediation.ErrorCode) {}

// Transport is the WebSocket. Read is called by one goroutine, Write by one at a
// time; Ping and Close may be called at any time.
type Transport interface {
	// Read waits for the next text frame and hands it to take, which must not keep it. A
	// [*mediation.Error] says that something else came, which is to be told; unless its code is
	// [mediation.CodeMessageTooBig], Read can be called again. Any other error
	// says that the connection has ended.
	Read(take func(text []byte)) error

	// Write writes one text frame. An error says that it could not, or not within
	// the time, and that the connection is of no use any more.
	Write(text []byte, within time.Duration) error

	// Ping asks whether the other side is there, and waits for its answer. Read
	// must be under way.
	Ping(ctx context.Context) error

	// Close ends the connection with a reason, which the other side is told if it
	// can be within about a second. Read and Write then return. "" means that
	// there is nobody to tell.
	Close(reason mediation.ErrorCode)
}

// Peer is the peer's place in the router.
type Peer interface {
	Receive(mediation.Message)
	Established() bool // called by the goroutine that calls Receive
	Detach()
}

// Session is described in the package comment.
type Session struct {
	Config
	transport Transport
	flushed   chan struct{} // closed when, after the end, nothing is left to be written

	mu      sync.Mutex // guards everything below
	queue   []waiting
	queued  int         // the room of what waits and what is being written, in bytes; bounded by MaxQueued
	writing bool        // a goroutine writes
	ended   bool        // no more messages are taken, nothing new is started
	pinger  *time.Timer // nil before Run
	drained sync.Cond   // of mu: queued has become less, or the session has ended
	held    int         // how often the reader waited for that

	work sync.WaitGroup // the writer, the ping, the end; added to under mu and before ended
}

// waiting is a message that waits to be written. Nobody changes it any more.
type waiting struct {
	message mediation.Message
	room    int // of it, in bytes
}

// New returns a session over an open connection. Run must be called.
func New(transport Transport, config Config) *Session {
	s := &Session{Config: config.WithDefaults(), transport: transport, flushed: make(chan struct{})}
	s.drained.L = &s.mu
	return s
}

// Run serves the connection until it ends, for whatever reason, and returns
// when everything that it started is over. attach makes the peer's place in the
// router, to which the session is what messages to the peer go through.
func (s *Session) Run(attach func(*Session) Peer) {
	ctx, cancel := context.WithCancel(context.Background()) // of the ping that is under way
	defer s.work.Wait()
	defer cancel()
	s.mu.Lock()
	if !s.ended { // End may have come first
		s.armPing(ctx)
	}
	s.mu.Unlock()
	handshake := s.deadline()
	defer handshake.Stop()

	peer := attach(s)
	s.read(peer, handshake)
	peer.Detach()
	s.abort("") // it is the peer that ended it, if End was not called
}

// deadline ends the session where no handshake comes in time.
func (s *Session) deadline() *time.Timer {
	if s.HandshakeTimeout < 0 { // there is none: a timer that is over
		never := time.NewTimer(0)
		never.Stop()
		return never
	}
	return time.AfterFunc(s.HandshakeTimeout, func() {
		s.End(&mediation.Error{Code: mediation.CodeHandshakeTimeout, Message: "no handshake came in time"})
	})
}

// read hands in messages until the connection ends.
func (s *Session) read(peer Peer, handshake *time.Timer) {
	allowance := newAllowance(s.Config)
	var message mediation.Message
	var malformed error
	decode := func(text []byte) { message, malformed = mediation.Decode(text) }
	for wrong := 0; ; {
		message, malformed = nil, nil // an idle peer's last signal is not kept
		s.drain()
		err := s.transport.Read(decode)
		if err == nil {
			err = malformed
		}
		allowed := true
		if err == nil {
			message, allowed = allowance.allows(message)
		}
		var refusal *mediation.Error
		switch {
		case !allowed:
			s.Send(limited(message))
		case err == nil:
			wrong = 0
			s.Observer.Received(message)
			if peer.Established() {
				peer.Receive(message)
			} else if aside(func() { peer.Receive(message) }); peer.Established() {
				handshake.Stop()
			}
		case !errors.As(err, &refusal):
			return
		case refusal.Code == mediation.CodeMessageTooBig:
			s.End(refusal)
			return
		default:
			s.Logger.Debug("a malformed message", "code", refusal.Code, "error", refusal.Message)
			s.Send(refusal)
			if wrong++; limits.Reached(wrong, s.MaxErrors) {
				s.End(&mediation.Error{Code: mediation.CodeTooManyErrors, Message: "nothing but malformed messages"})
				return
			}
		}
	}
}

// aside calls f in a goroutine that is gone afterwards, and waits for it: what a handshake needs of
// a stack would stay with the reader's for as long as the connection lives, and is as much as all else of an idle peer.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// limited is the answer to a message that came too fast: it names what it is about.
func limited(message mediation.Message) *mediation.Error {
	err := &mediation.Error{Code: mediation.CodeRateLimited, Message: "too many messages; this one was dropped"}
	switch m := message.(type) {
	case mediation.GetPeers:
		return err.About(m.FullHash)
	case mediation.Announce:
		return err.About(m.FullHash)
	case mediation.Finish:
		return err.About(m.FullHash)
	case mediation.Signal:
		return err.About(m.FullHash).With(m.PeerID)
	}
	return err
}

// armPing sees to it that the peer is asked in a while whether it is there; unless it
// is not read from then, so that its answer would not be heard: that it takes what is written, within WriteTimeout, is the
// same answer. mu is held.
func (s *Session) armPing(ctx context.Context) {
	s.pinger = time.AfterFunc(s.PingInterval, func() {
		s.mu.Lock()
		switch {
		case s.ended:
			s.mu.Unlock()
			return
		case s.full():
			s.armPing(ctx)
			s.mu.Unlock()
			return
		}
		held := s.held
		s.work.Add(1)
		s.mu.Unlock()
		defer s.work.Done()

		patience, cancel := context.WithTimeout(ctx, s.PingTimeout)
		defer cancel()
		err := s.transport.Ping(patience)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.ended:
		case err != nil && s.held == held && !s.full():
			s.queue = nil
			s.finish("", 0)
		default:
			s.armPing(ctx)
		}
	})
}

// full reports whether more than half of the queue is in use. mu is held.
func (s *Session) full() bool { return s.MaxQueued > 0 && s.queued > s.MaxQueued/2 }

// Send queues a message, which must not be changed any more, and never blocks. A peer whose queue
// is full is cut off with slow_reader; after the end, messages are dropped.
func (s *Session) Send(message mediation.Message) {
	w := s.prepare(message)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
	case s.MaxQueued > 0 && s.queued+w.room > s.MaxQueued:
		s.cutOff()
	default:
		s.push(w)
	}
}

// prepare sees what room a message takes, and counts it where it refuses something.
func (s *Session) prepare(message mediation.Message) waiting {
	if refusal, is := message.(*mediation.Error); is {
		s.Observer.Refused(refusal.Code)
	}
	return waiting{message, mediation.Room(message)}
}

// Offer queues a message unless half of the queue is in use already, never
// blocks, and reports whether it did (or the session has ended, so that nobody is
// there to care): what strangers want to tell a peer must not have it cut off.
func (s *Session) Offer(message mediation.Message) (taken bool) {
	w := s.prepare(message)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return true
	case s.MaxQueued > 0 && s.queued+w.room > s.MaxQueued/2:
		return false
	}
	s.push(w)
	return true
}

// End ends the session, if it has not ended: the peer is told the reason, behind
// what is queued already. It returns at once; Run returns when it is done.
func (s *Session) End(reason *mediation.Error) {
	w := s.prepare(reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.push(w)
		s.finish(reason.Code, flushTime)
	}
}

// flushTime bounds how long the end waits for what is queued.
const flushTime = time.Second

// abort ends the session, if it has not ended, without a word.
func (s *Session) abort(reason mediation.ErrorCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.queue = nil
		s.finish(reason, 0)
	}
}

// finish takes no more messages, and closes the connection when what is queued is
// written, or after patience. mu is held.
func (s *Session) finish(reason mediation.ErrorCode, patience time.Duration) {
	s.startWriter() // it says when all is flushed
	s.work.Go(func() {
		impatient := time.NewTimer(patience)
		defer impatient.Stop()
		select {
		case <-s.flushed:
		case <-impatient.C:
		}
		s.transport.Close(reason)
	})
	s.ended = true
	s.drained.Broadcast()
	if s.pinger != nil {
		s.pinger.Stop()
	}
}

// stuck ends the session, if it has not ended, where a message could not be written.
func (s *Session) stuck(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.abort("")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.cutOff()
	}
}

// cutOff ends the session of a peer that does not read. mu is held.
func (s *Session) cutOff() {
	s.Logger.Info("a peer does not read what it asked for, and is cut off", "bytes_waiting", s.queued)
	s.Observer.Refused(mediation.CodeSlowReader)
	s.queue = nil
	s.finish(mediation.CodeSlowReader, 0)
}

// drain waits until no more than half of the queue is in use, or the session has ended; the writer
// has a bounded time for each message.
func (s *Session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && s.full() {
		s.held++
		s.drained.Wait()
	}
}

// push queues a message and sees to it that someone writes it. mu is held.
func (s *Session) push(w waiting) {
	s.queue = append(s.queue, w)
	s.queued += w.room
	s.startWriter()
}

// startWriter starts the writer unless it runs. mu is held.
func (s *Session) startWriter() {
	if !s.writing {
		s.writing = true
		s.work.Go(s.write)
	}
}

// usualText is the length of most messages, in bytes, a signal with some candidates among them.
const usualText = 4 << 10

// texts are those of messages that are being written; what does not fit one of them has its own.
var texts = sync.Pool{New: func() any { return new([usualText]byte) }}

// write writes what is queued, and is gone when nothing is.
func (s *Session) write() {
	text := texts.Get().(*[usualText]byte)
	defer texts.Put(text)
	for {
		w, more := s.next()
		if !more {
			return
		}
		err := s.transport.Write(mediation.Append(text[:0], w.message), s.WriteTimeout)
		s.mu.Lock()
		s.queued -= w.room
		s.drained.Broadcast()
		s.mu.Unlock()
		if err != nil {
			s.stuck(err)
			s.mu.Lock()
			s.queue = nil // also where it had ended before
			s.mu.Unlock()
		}
	}
}

func (s *Session) next() (w waiting, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		if s.ended {
			close(s.flushed) // and writing stays true: there is no other writer after this one
		} else {
			s.writing = false
		}
		return waiting{}, false
	}
	w, s.queue[0] = s.queue[0], waiting{}
	s.queue = s.queue[1:]
	return w, true
}
